"""The commands of the verify room: `eocat verify` and `eocat trust`."""

# Heavy imports (cryptography, pyarrow, pydantic) stand inside the commands, so that `--help` is quick.

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import ConfigError, Malformed, Unavailable, UsageError
from .home import home, policy_path
from .terminal import answer, answer_json, note

if TYPE_CHECKING:
    from .evidence import Evidence
    from .keys import PublicKey

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Check what a catalogue says, trusting nobody."
)
trust_app = typer.Typer(no_args_is_help=True, help="The keys that you trust, and for what.")
app.add_typer(trust_app, name="trust")

DEFAULT_API = "http://127.0.0.1:8765"

Trust = Annotated[
    Path | None, typer.Option("--trust", help="Trust policy (default: trust/policy.json of the home folder).")
]
Json = Annotated[bool, typer.Option("--json", help="The same facts as JSON.")]


@app.command()
def verify(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET…", help="collection/item, a URL, an Item file, a folder, or a saved hit."
        ),
    ],
    trust: Trust = None,
    require: Annotated[int, typer.Option(min=1, max=5, help="The level that is needed to pass.")] = 2,
    rows_only: Annotated[
        bool, typer.Option("--rows-only", help="Accept the signed rows in any encoding of the file.")
    ] = False,
    api: Annotated[
        str, typer.Option(help="The catalogue that collection/item is asked from.", envvar="EOCAT_API")
    ] = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Check items, shards or hits against their signed history. Exit 0 only if every one is VERIFIED."""
    from .check import check
    from .hit import check_hit
    from .policy import read_policy
    from .report import PRECEDENCE, Outcome, Report, Step

    now = datetime.now(UTC)
    policy = read_policy(trust or policy_path())
    reports = []
    for target in targets:
        try:
            with _gathered(target, api) as found:
                if isinstance(found, bytes):
                    report = check_hit(found, policy, target=target, now=now, require=require)
                else:
                    report = check(found, policy, now=now, require=require, rows_only=rows_only)
        except (Malformed, Unavailable) as error:
            outcome = Outcome(error.exit_code)
            report = Report(target, now, require, 0, (Step("evidence", str(error), outcome),))
            if error.hint:
                note(f"hint: {error.hint}")
        reports.append(report)
        if not as_json:
            answer(report.to_text())
    if as_json:
        answer_json([report.to_json() for report in reports])
    outcomes = {report.outcome for report in reports}
    raise typer.Exit(next(outcome for outcome in PRECEDENCE if outcome in outcomes).value)


@contextmanager
def _gathered(target: str, api: str) -> Iterator["Evidence | bytes"]:
    """The evidence that `target` names, or a saved hit's bytes; downloads last as long as the context."""
    from . import canonical
    from .evidence import read_folder, read_item_file, read_limited
    from .fetch import fetch_item
    from .hit import MAX_HIT_BYTES, is_hit

    path = Path(target)
    if target.startswith(("http://", "https://")):
        url = target
    elif path.is_dir():
        yield read_folder(path)
        return
    elif path.is_file():
        data = read_limited(path, MAX_HIT_BYTES)
        yield (
            data
            if is_hit(canonical.parse(data, what=target, limit_bytes=MAX_HIT_BYTES))
            else read_item_file(path)
        )
        return
    elif target.count("/") == 1 and not target.startswith((".", "/")):
        collection, item = target.split("/")
        url = f"{api.rstrip('/')}/collections/{collection}/items/{item}"
    else:
        raise Unavailable(
            f"{target} is no file or folder here",
            hint="name collection/item, a URL, an Item file, a folder or a saved hit",
        )
    with TemporaryDirectory(prefix="eocat-verify-") as folder:
        yield fetch_item(url, Path(folder))


@trust_app.command("init")
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
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write (default: trust/policy.json of the home folder)."),
    ] = None,
) -> None:
    """Write a policy that trusts these keys as producers. Compare each key id with its owner first."""
    from .policy import draft_policy

    target = out or policy_path()
    if target.exists():
        raise ConfigError(f"{target} exists already", hint="remove it first, or write elsewhere with --out")
    trusted = dict(_read_public_key(name) for name in keys)
    data = draft_policy(trusted, collection, datetime.now(UTC).replace(microsecond=0), days)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from None
    for name, key in trusted.items():
        note(f"trusting {name}: key id {key.key_id}")
    answer(str(target))


@trust_app.command("show")
def trust_show(trust: Trust = None, as_json: Json = False) -> None:
    """Show the policy in force: keys, roles, collections, validity."""
    from .policy import read_policy

    policy = read_policy(trust or policy_path())
    if as_json:
        answer_json(policy.model_dump())
        return
    answer(f"policy {trust or policy_path()}, version {policy.version}, expires {policy.expires}")
    for key in policy.keys:
        answer(
            f" {key.name}  {'/'.join(key.roles)} for {', '.join(key.collections)}  "
            f"{key.notBefore} to {key.notAfter}  {key.public.key_id}"
        )


def _read_public_key(name: str) -> "tuple[str, PublicKey]":
    """(name, key) of a `.pub` file, or of a key in the home folder by its name."""
    from .keys import parse_key

    path = Path(name)
    if not path.is_file() and path.name == name:
        path = home() / "keys" / f"{name}.pub"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"public key {path} cannot be read: {error}", hint="eocat keys new makes one"
        ) from None
    key, _, owner = text.removesuffix("\n").partition(" ")
    if not owner or "\n" in owner:
        raise UsageError(f"public key {path} is not one line 'ed25519:<base64> <name>'")
    return owner, parse_key(key)
