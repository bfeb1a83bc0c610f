"""The commands `eocat encoders`: which there are, what they take, and whether weights keep the contract."""

# Heavy imports stand inside the functions, so that `--help` is quick.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs, note
from eocat.verify.errors import ConfigError, InputError

if TYPE_CHECKING:
    from .encoders import Encoder
    from .encoders.registry import Entry

app = typer.Typer(no_args_is_help=True, help="The encoders: which there are, and a check of your weights.")

Json = Annotated[bool, typer.Option("--json", help="The same facts as JSON.")]
Name = Annotated[str, typer.Argument(help="As 'eocat encoders list' names it.")]
Weights = Annotated[Path | None, typer.Option(help="The file with the model's weights.")]
Sha256 = Annotated[
    str | None, typer.Option("--sha256", help="SHA-256 of that file, where eocat does not know all of it.")
]


@app.command("list")
def list_encoders(as_json: Json = False) -> None:
    """Name, dimension, bands, licence and where the weights come from."""
    rows = _rows()
    if as_json:
        answer_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        bands = ", ".join(row["bands"]) if len(row["bands"]) < 4 else f"{len(row['bands'])} bands"
        answer(
            f"{row['name']:{width}}  {row['dimension']:4}  {bands:16}  {row['licence']:12}  {row['weights']}"
        )


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Bands, preprocessing, architecture, licence, citation and weights of one encoder."""
    with needs("producer"):
        from .encoders.bank import BANKS

    if name in BANKS:
        facts = _bank_facts(name)
    else:
        from .encoders.registry import find_entry

        facts = _entry_facts(find_entry(name))
    if as_json:
        answer_json(facts)
        return
    for key, value in facts.items():
        if key in {"steps", "notes"}:
            answer(f"{key}:")
            for member in value:
                answer(f"  {_plain(member)}")
        else:
            answer(f"{key}: {_plain(value)}")


@app.command()
def check(
    name: Name,
    weights: Weights = None,
    sha256: Sha256 = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16 (default: fp32, on CUDA bf16).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load an encoder, put it through the contract, and print the digest of its space."""
    with needs("producer"):
        import torch

        from .encoders.contract import check_encoder
    from .run import space_of

    encoder = _load(name, weights, sha256, device, precision)
    findings = check_encoder(encoder)
    broken = [finding.name for finding in findings if not finding.passed]
    if as_json:
        answer_json(
            {
                "name": encoder.name,
                "version": encoder.version,
                "space": space_of(encoder),
                "device": str(encoder.device),
                "precision": encoder.precision,
                "torch": torch.__version__,
                "weights": [{"name": part.name, "sha256": part.sha256} for part in encoder.weights],
                "findings": [{"name": f.name, "passed": f.passed, "seen": f.seen} for f in findings],
            }
        )
    else:
        for part in encoder.weights:
            answer(f"weights           {part.name}, sha256 {part.sha256}")
        for finding in findings:
            answer(f"{finding.name:16}  {'ok    ' if finding.passed else 'BROKEN'} {finding.seen}")
        answer(f"space             {space_of(encoder)}")
    if broken:
        raise InputError(f"encoder {name} breaks {len(broken)} of its promises: {', '.join(broken)}")


@app.command()
def convert(
    name: Name,
    weights: Annotated[Path, typer.Option(help="The published file.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    sha256: Sha256 = None,
    as_json: Json = False,
) -> None:
    """Write a torch file's tensors as safetensors, the form that levels 4 and 5 need."""
    with needs("producer"):
        import torch  # noqa: F401 - what is missing is said here, not below

    from eocat.verify.digest import digest_bytes

    from .encoders import Checkpoint
    from .encoders.checkpoint import convert as convert_bytes
    from .encoders.checkpoint import read_checkpoint
    from .encoders.registry import find_entry

    if out.exists():
        raise ConfigError(f"{out} exists already", hint="name another file")
    model = find_entry(name).model
    data, file = read_checkpoint(Checkpoint(weights, sha256), pinned=model.sha256, prefix=model.prefix)
    converted = convert_bytes(data, file.name, file.sha256)
    try:
        out.write_bytes(converted)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}") from None
    digest = digest_bytes(converted).sha256
    if as_json:
        answer_json({"path": str(out), "sha256": digest, "convertedFrom": file.sha256})
    else:
        answer(f"{digest}  {out}")


@app.command("text")
def embed_text(
    name: Name,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT…", help='In English, such as "a harbour".')],
    weights: Annotated[Path, typer.Option(help="The weights file of the image encoder.")],
    sha256: Sha256 = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="CLIP's vocabulary, else that of the installed open_clip_torch.")
    ] = None,
) -> None:
    """Vectors of texts in the space of an image encoder, one JSON object a line."""
    import json

    with needs("producer"):
        from .encoders.text import load_text_encoder
    from .encoders import Checkpoint
    from .encoders.registry import find_entry

    encoder = load_text_encoder(find_entry(name), Checkpoint(weights, sha256), tokenizer=tokenizer)
    for text, vector in zip(texts, encoder.encode(texts), strict=True):
        answer(json.dumps({"text": text, "space": encoder.space, "vector": vector.tolist()}))


def _load(
    name: str, weights: Path | None, sha256: str | None, device: str, precision: str | None
) -> "Encoder":
    from .encoders import Checkpoint, load_encoder
    from .encoders.bank import BANKS, bands_of
    from .encoders.registry import find_entry

    bands = bands_of(name) if name in BANKS else find_entry(name).bands
    checkpoint = None if weights is None else Checkpoint(weights, sha256)
    if checkpoint is None and sha256 is not None:
        note("hint: --sha256 without --weights says nothing")
    return load_encoder(name, bands, device=device, checkpoint=checkpoint, precision=precision)


def _rows() -> list[dict[str, Any]]:
    with needs("producer"):
        from .encoders.bank import BANKS
    from .encoders.registry import entry_names, find_entry

    facts = [*map(_bank_facts, sorted(BANKS)), *(_entry_facts(find_entry(name)) for name in entry_names())]
    return [{key: f[key] for key in ("name", "dimension", "bands", "licence", "weights")} for f in facts]


def _bank_facts(name: str) -> dict[str, Any]:
    from .encoders.bank import read_bank

    bank = read_bank(name)
    size, _, _, count = bank.filters.shape
    return {
        "name": name,
        "family": "MOSAIKS in integers (eocat)",
        "dimension": 2 * count,
        "bands": list(bank.bands),
        "filters": f"{count} of {size}×{size}",
        "precision": "exact: the same bits everywhere",
        "licence": bank.facts["licence"],
        "citation": "Rolf et al. 2021, doi:10.1038/s41467-021-24638-z",
        "weights": "in this package",
        "sha256": bank.file.sha256,
        "fitted_on": bank.facts["sources"]["description"],
    }


def _entry_facts(entry: "Entry") -> dict[str, Any]:
    from .encoders.registry import INPUTS

    model = entry.model
    known = "--weights FILE --sha256 HEX"
    if model.sha256:
        known = "--weights FILE"
    elif model.prefix:
        known += f", begins with {model.prefix}"
    return {
        "name": entry.name,
        "family": entry.family.title,
        "dimension": model.dimension,
        "bands": list(entry.bands),
        "input": INPUTS[entry.input],
        "size": entry.size,
        "steps": [dict(step) for step in entry.steps],
        "architecture": model.architecture,
        "parameters": dict(model.parameters),
        "pooling": model.pooling,
        "text": entry.text is not None,
        "licence": entry.family.licence,
        "licence_note": entry.family.licence_note,
        "citation": entry.family.citation,
        "doi": entry.family.doi,
        "repository": entry.family.repository,
        "read_in": entry.family.read_in,
        "url": model.url,
        "sha256": model.sha256,
        "sha256_source": model.source,
        "sha256_prefix": model.prefix,
        "weights": known,
        "notes": list(entry.notes),
    }


def _plain(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {_plain(member)}" for key, member in value.items())
        case list():
            return ", ".join(_plain(member) for member in value)
        case bool():
            return "yes" if value else "no"
        case None:
            return "not public"
    return str(value)
