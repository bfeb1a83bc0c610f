"""The commands `eocat trust`: whom the user trusts. No private keys; those sign under `eocat root`."""

# Heavy imports (cryptography, pydantic) stand inside the commands, so that `--help` is quick.

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, UsageError
from ..home import home, policy_path, trust_folder
from .terminal import answer, answer_json, note

if TYPE_CHECKING:
    from ..keys import PublicKey
    from ..policy import LogTrust, Policy
    from ..root import Root

app = typer.Typer(no_args_is_help=True, help="The keys that you trust, and for what.")

Trust = Annotated[
    Path | None,
    typer.Option(
        "--trust", help="Trust policy, or folder with a pinned root (default: trust of the home folder)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The same facts as JSON.")]


@app.command("init")
def trust_init(
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY…", help="Names of own keys, or KEY.pub files of others.")
    ],
    collection: Annotated[
        list[str], typer.Option("--collection", help="Collections they may sign for ('*': any). Repeatable.")
    ],
    days: Annotated[
        int, typer.Option(min=1, max=3660, help="How long the policy and its keys are valid.")
    ] = 365,
    registrar: Annotated[
        list[str] | None, typer.Option("--registrar", help="KEY.pub of a catalogue's registrar. Repeatable.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="C2SP log policy: the log and witnesses that items must have."),
    ] = None,
    max_age: Annotated[
        int, typer.Option(min=1, help="Hours that the log's newest checkpoint may be old.")
    ] = 24,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write (default: trust/policy.json of the home folder)."),
    ] = None,
) -> None:
    """Write a policy that trusts these keys as producers. Compare each key id with its owner first."""
    from ..policy import draft_policy

    target = out or policy_path()
    if target.exists():
        raise ConfigError(f"{target} exists already", hint="remove it first, or write elsewhere with --out")
    found = {name: (key, partner) for name, key, partner in map(read_public_key, keys)}
    data = draft_policy(
        {name: key for name, (key, _) in found.items()},
        collection,
        datetime.now(UTC).replace(microsecond=0),
        days,
        partners={name: partner for name, (_, partner) in found.items() if partner},
        registrars={name: key for name, key, _ in map(read_public_key, registrar or [])},
        log=_read_log_trust(log, max_age) if log else None,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from None
    for name, (key, partner) in found.items():
        note(f"trusting {name}: key id {key.key_id}" + (f" with {partner.key_id}" if partner else ""))
    answer(str(target))


def _read_log_trust(path: Path, max_age_hours: int) -> "LogTrust":
    from ..policy import LogTrust
    from ..statement import validated

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"log policy {path} cannot be read: {error}") from None
    return validated(LogTrust, {"policy": text, "maxAgeHours": max_age_hours}, what=f"log policy {path}")


@app.command("pin")
def trust_pin(
    root: Annotated[Path, typer.Argument(metavar="ROOT.json", help="The first root to trust.")],
    digest: Annotated[
        str | None, typer.Option(help="Its SHA-256 as the publisher tells it; any other root is refused.")
    ] = None,
) -> None:
    """Trust a root from now on. Compare its digest with its publisher first: nothing else proves it."""
    from ..evidence import read_limited
    from ..root import MAX_ROOT_BYTES, parse_root
    from ..trust_store import TrustStore

    data = read_limited(root, MAX_ROOT_BYTES)
    if digest is not None and (found := parse_root(data).digest) != digest:
        raise UsageError(
            f"{root} has the digest {found}, not {digest[:64]}",
            hint="do not trust it; get the root from its publisher again",
        )
    pinned = TrustStore(trust_folder()).pin(data)
    for line in root_lines(pinned):
        answer(line)
    note(
        "hint: 'eocat trust update policy.signed.json' brings the policy that this root's policy keys signed"
    )


@app.command("update")
def trust_update(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…", help="Newer roots and a signed policy, or a folder or bundle that holds them."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Follow the pinned root: verify newer roots one by one, and the signed policy under the last."""
    from ..trust_store import SIGNED_POLICY, TrustStore

    store = TrustStore(trust_folder())
    if not store.pinned:
        raise ConfigError(f"no root is pinned in {trust_folder()}", hint="eocat trust pin ROOT.json")
    paths: list[Path] = []
    for file in files:
        names = [*sorted(file.glob("*root.json")), *file.glob(SIGNED_POLICY)] if file.is_dir() else [file]
        if not names:
            raise UsageError(f"folder {file} has no *root.json and no {SIGNED_POLICY}", hint="name the files")
        paths += names
    documents = [document for path in paths for document in _trust_documents(path)]
    policy = store.update(documents, datetime.now(UTC))
    _show(policy, store.root(), str(trust_folder()), as_json)


def _trust_documents(path: Path) -> list[bytes]:
    """A root or signed policy; of a bundle, those that it carries: all are verified under the pinned root."""
    from ..bundle import MAX_BUNDLE_BYTES, is_bundle, parse_bundle
    from ..dsse import MAX_ENVELOPE_BYTES
    from ..evidence import read_limited

    if not is_bundle(path):
        return [read_limited(path, MAX_ENVELOPE_BYTES)]
    bundle = parse_bundle(read_limited(path, MAX_BUNDLE_BYTES))
    return [*bundle.roots, *([bundle.policy] if bundle.policy else [])]


@app.command("show")
def trust_show(trust: Trust = None, as_json: Json = False) -> None:
    """Show the policy in force, with its root if one is pinned: keys, roles, collections, validity."""
    from ..trust_store import TrustStore, load_policy

    policy = load_policy(trust, datetime.now(UTC))
    store = TrustStore(trust or trust_folder())
    by_root = (trust is None or trust.is_dir()) and store.pinned
    where = str(store.folder if by_root else trust or policy_path())
    _show(policy, store.root() if by_root else None, where, as_json)


def read_public_key(name: str) -> "tuple[str, PublicKey, PublicKey | None]":
    """(owner, key, its ML-DSA partner or None) of a `.pub` file, or of a key in the home folder by its name.

    A `.pub` file is a line `ed25519:<base64> <name>`, and for a key with a partner a second line
    `ml-dsa-44:<base64> <name>`.
    """
    from ..keys import parse_key

    path = Path(name)
    if not path.is_file() and path.name == name:
        path = home() / "keys" / f"{name}.pub"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"public key {path} cannot be read: {error}", hint="eocat keys new makes one"
        ) from None
    lines = [line.partition(" ") for line in text.removesuffix("\n").split("\n")]
    owner = lines[0][2]
    if not owner or len(lines) > 2 or any(line[2] != owner for line in lines):
        raise UsageError(
            f"public key {path} is not one line 'ed25519:<base64> <name>', with or without a second line "
            f"'ml-dsa-44:<base64> <name>'"
        )
    keys = [parse_key(line[0]) for line in lines]
    return owner, keys[0], keys[1] if len(keys) == 2 else None


def _show(policy: "Policy", root: "Root | None", where: str, as_json: bool) -> None:
    if as_json:
        value: dict[str, Any] = policy.model_dump()
        answer_json(value | ({"root": root.signed.model_dump(by_alias=True)} if root else {}))
        return
    lines = policy_lines(policy)
    for line in [*(root_lines(root) if root else ()), f"policy {where}, {lines[0]}", *lines[1:]]:
        answer(line)


def policy_lines(policy: "Policy") -> list[str]:
    """A policy for the eyes: its version, then a line for each identity."""
    lines = [f"version {policy.version}, expires {policy.expires}"]
    for key in policy.keys:
        ids = " + ".join(half.key_id for half in key.public_keys)
        ended = "".join(
            f", {what} {when}"
            for what, when in (("retired", key.retiredAt), ("compromised since", key.compromisedSince))
            if when
        )
        lines.append(
            f" {key.name}  {'/'.join(key.roles)} for {', '.join(key.collections)}  "
            f"{key.notBefore} to {key.notAfter}{ended}  {ids}"
        )
    return lines


def root_lines(root: "Root") -> list[str]:
    """A root for the eyes: its version and digest, then a line for each role with the ids of its keys."""
    from ..root import ROOT_ROLES

    lines = [f"root version {root.version}, expires {root.signed.expires}, digest {root.digest}"]
    for role in ROOT_ROLES:
        keys = (key.key_id[:16] for key in root.keys(role).values())
        lines.append(f" {role}: {root.threshold(role)} of {', '.join(keys)}")
    return lines
