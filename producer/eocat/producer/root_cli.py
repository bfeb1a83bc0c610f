"""The commands `eocat root`: make, rotate and sign a trust root and the policy under it, with offline keys.

They only write files, which a verifier takes with `eocat trust pin` and `eocat trust update` (docs/format.md,
section 6).
"""

# Heavy imports stand inside the commands, so that `--help` is quick.

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eocat.verify.edge.terminal import answer, note
from eocat.verify.edge.trust_cli import policy_lines, read_public_key, root_lines
from eocat.verify.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from eocat.verify.keys import PublicKey
    from eocat.verify.policy import Policy
    from eocat.verify.root import Root, RootRole

    from .signer import Signer

app = typer.Typer(no_args_is_help=True, help="Trust roots and signed policies for others, by offline keys.")

Days = Annotated[int, typer.Option(min=1, max=3660, help="How long the root is valid.")]
PolicyKeys = Annotated[
    list[str] | None,
    typer.Option("--policy-key", metavar="KEY", help="Who may sign the policy. Repeatable."),
]
PolicyThreshold = Annotated[
    int | None, typer.Option("--policy-threshold", min=1, help="How many of those must sign a policy.")
]


@app.command("new")
def root_new(
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY…", help="Root keys: names of own ones, or KEY.pub files.")
    ],
    threshold: Annotated[int, typer.Option(min=1, help="How many of the root keys must sign a root.")],
    policy_key: PolicyKeys = None,
    policy_threshold: PolicyThreshold = None,
    days: Days = 365,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("1.root.json"),
) -> None:
    """Write the first root, unsigned. Without --policy-key the root keys sign the policy too."""
    holders = _public_keys(keys)
    policy_holders = _public_keys(policy_key) if policy_key else holders
    _draft(
        1,
        days,
        {
            "root": (holders, threshold),
            "policy": (policy_holders, policy_threshold or (1 if policy_key else threshold)),
        },
        out,
    )


@app.command("rotate")
def root_rotate(
    root: Annotated[Path, typer.Argument(metavar="ROOT.json", help="The newest root.")],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY", help="The root keys from now on, all of them. Repeatable."),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="How many of the root keys must sign a root.")
    ] = None,
    policy_key: PolicyKeys = None,
    policy_threshold: PolicyThreshold = None,
    days: Days = 365,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write (default: VERSION.root.json beside)."),
    ] = None,
) -> None:
    """Write the root that follows, unsigned; what is not named stays as it is.

    It needs the signatures of a threshold of the old root keys and of the new ones.
    """
    old = _read_root(root)
    changes: dict[RootRole, tuple[list[str] | None, int | None]] = {
        "root": (key, threshold),
        "policy": (policy_key, policy_threshold),
    }
    roles = {
        role: (_public_keys(names) if names else list(old.keys(role).values()), count or old.threshold(role))
        for role, (names, count) in changes.items()
    }
    version = old.version + 1
    _draft(version, days, roles, out or root.with_name(f"{version}.root.json"))


@app.command("sign")
def root_sign(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A root, a policy, or a policy signed before.")
    ],
    key: Annotated[str, typer.Option(help="Name of the signing key.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Default: FILE itself; for a bare policy, policy.signed.json beside."
        ),
    ] = None,
) -> None:
    """Show what the file says and add a signature to it. Each holder signs it in turn."""
    from eocat.verify import canonical
    from eocat.verify.dsse import MAX_ENVELOPE_BYTES
    from eocat.verify.evidence import read_limited

    from .passphrase import open_key

    data = read_limited(file, MAX_ENVELOPE_BYTES)
    match canonical.parse(data, what=str(file), limit_bytes=MAX_ENVELOPE_BYTES):
        case {"signed": _}:
            target, signed = file, _sign_root(data, open_key(key))
        case {"payload": _}:
            target, signed = file, _sign_policy_again(data, open_key(key))
        case {"type": "eocat-policy/v1"}:
            target, signed = file.with_name("policy.signed.json"), _sign_policy(data, open_key(key))
            if out is None and target.exists():
                raise ConfigError(
                    f"{target} exists already",
                    hint=f"sign it instead, or name another file than {target.name}",
                )
        case _:
            raise UsageError(
                f"{file} is no trust root and no policy", hint="eocat root new; eocat trust init"
            )
    _write(out or target, signed)


def _sign_root(data: bytes, signer: "Signer") -> bytes:
    from eocat.verify.root import add_signature, format_root, parse_root

    root = parse_root(data)
    for line in root_lines(root):
        note(line)
    holders = {holder.key_id for holder in root.keys("root").values()}
    if signer.public.key_id not in holders:
        note(f"note: {signer.name} holds no root key of version {root.version}: good for a rotation only")
    return format_root(add_signature(root, signer.public, signer.sign(root.message)))


def _sign_policy(data: bytes, signer: "Signer") -> bytes:
    from eocat.verify import canonical
    from eocat.verify.dsse import format_envelope
    from eocat.verify.policy import parse_policy
    from eocat.verify.root import POLICY_TYPE

    from .signer import sign_payload

    _tell(parse_policy(data))
    payload = canonical.encode(canonical.parse(data, what="policy"))
    return format_envelope(sign_payload(payload, signer, POLICY_TYPE))


def _sign_policy_again(data: bytes, signer: "Signer") -> bytes:
    from dataclasses import replace

    from eocat.verify.dsse import format_envelope, parse_envelope
    from eocat.verify.policy import parse_policy
    from eocat.verify.root import POLICY_TYPE

    from .signer import sign_payload

    envelope = parse_envelope(data)
    if envelope.payload_type != POLICY_TYPE:
        raise UsageError(f"the envelope holds {envelope.payload_type[:80]!r}, not a policy")
    _tell(parse_policy(envelope.payload))
    fresh = sign_payload(envelope.payload, signer, POLICY_TYPE).signatures
    ids = {signature.key_id for signature in fresh}
    others = tuple(signature for signature in envelope.signatures if signature.key_id not in ids)
    return format_envelope(replace(envelope, signatures=(*others, *fresh)))


def _tell(policy: "Policy") -> None:
    for line in policy_lines(policy):
        note(line)


def _draft(version: int, days: int, roles: "dict[RootRole, tuple[list[PublicKey], int]]", out: Path) -> None:
    from eocat.verify.root import draft_root, format_root

    if out.exists():
        raise ConfigError(f"{out} exists already", hint="name another file with --out")
    root = draft_root(version, datetime.now(UTC) + timedelta(days=days), roles)
    _write(out, format_root(root))
    note(f"root version {version}, digest {root.digest}, expires {root.signed.expires}, not signed yet")
    note(f"hint: each holder runs 'eocat root sign {out} --key NAME'")


def _read_root(path: Path) -> "Root":
    from eocat.verify.evidence import read_limited
    from eocat.verify.root import MAX_ROOT_BYTES, parse_root

    return parse_root(read_limited(path, MAX_ROOT_BYTES))


def _public_keys(names: list[str]) -> "list[PublicKey]":
    return [read_public_key(name)[1] for name in names]


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    answer(str(path))
