"""What an attacker shows: the files of a real item, edited, and the exit code that `eocat verify` gives."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rfc8785
from fuzz import UNEXPECTED, judge
from signed_world import State, World

Edit = Callable[[dict[str, bytes]], None]


@dataclass
class Shown:
    """A folder in which the command is run; the policy (JSON bytes) is by default the one with the log."""

    folder: Path
    world: World
    state: State

    def of(self, name: str) -> "Shown":
        """The same of another of the world's states, `<item> at first` or `<item> at last`."""
        states = {state.name: state for state in [*self.world.honest, *self.world.hostile]}
        return replace(self, state=states[name])

    def code(self, edit: Edit = lambda files: None, *, policy: bytes | None = None, **options: Any) -> int:
        """The exit code after `edit` of the files (name → bytes; what it takes out is not written)."""
        files = dict(self.state.files)
        edit(files)
        target = self.folder / "shown"
        target.mkdir(exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        for name, data in files.items():
            (target / name).write_bytes(data)
        return self.judged(target, policy, **options)

    def hit_code(self, hit: dict[str, Any], policy: bytes | None = None) -> int:
        (self.folder / "hit.json").write_text(json.dumps(hit))
        return self.judged(self.folder / "hit.json", policy)

    def judged(self, target: Path, policy: bytes | None = None, **options: Any) -> int:
        trust = self.folder / "policy.json"
        trust.write_bytes(policy or self.world.logged)
        [report] = judge([str(target)], trust=trust, **options)
        unexpected = [step["text"] for step in report["steps"] if step["text"].startswith(UNEXPECTED)]
        assert not unexpected, unexpected
        code: int = report["exitCode"]
        return code


def json_edit(name: str, change: Callable[[Any], object]) -> Edit:
    """An edit of one JSON file, written canonically afterwards."""

    def edit(files: dict[str, bytes]) -> None:
        value = json.loads(files[name])
        change(value)
        files[name] = rfc8785.dumps(value)

    return edit


def item(change: Callable[[Any], object]) -> Edit:
    return json_edit("item.json", change)


def log_proof(change: Callable[[Any], object]) -> Edit:
    return json_edit("log-proof.json", change)


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Edit:
    """An edit of the attestation's envelopes, one a line."""

    def edit(files: dict[str, bytes]) -> None:
        found = change(files["attestation.jsonl"].splitlines())
        files["attestation.jsonl"] = b"".join(line + b"\n" for line in found)

    return edit


def envelope(change: Callable[[Any], object], at: int = 0) -> Edit:
    """An edit of one envelope's JSON."""

    def edited(found: list[bytes]) -> list[bytes]:
        value = json.loads(found[at])
        change(value)
        return [*found[:at], rfc8785.dumps(value), *found[at + 1 :]]

    return lines(edited)


def payload(change: Callable[[Any], object], at: int = 0) -> Edit:
    """An edit inside the payload, under the signature as it was."""

    def edited(value: Any) -> None:
        inner = json.loads(base64.b64decode(value["payload"]))
        change(inner)
        value["payload"] = base64.b64encode(rfc8785.dumps(inner)).decode()

    return envelope(edited, at)


def note(change: Callable[[str], str], at: int = -1) -> Edit:
    """An edit of a checkpoint's text in the log proof, by default of the newest."""

    def edited(value: Any) -> None:
        value["checkpoints"][at]["note"] = change(value["checkpoints"][at]["note"])

    return log_proof(edited)
