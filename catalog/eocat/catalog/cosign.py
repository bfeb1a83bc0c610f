"""Asking witnesses for their cosignatures over a new checkpoint (C2SP tlog-witness, version 1; the client).

    HOME/catalogue-keys/witnesses.txt   a C2SP tlog-policy; its witnesses with a URL are asked

All are asked at once, and publishing waits for none longer than BOUND_S: a witness that is down costs its
line, not the catalogue. What a witness remembers is read off the checkpoint that is published: who cosigned
it knows its size. For others the first answer says it (409), and the second request carries the right proof.
"""

import logging
import queue
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Literal

from eocat.verify.errors import ConfigError, Malformed, Unavailable
from eocat.verify.log.checkpoint import parse_checkpoint
from eocat.verify.log.cosignature import cosignature_time
from eocat.verify.log.note import (
    MAX_SIGNATURES,
    Signature,
    VerifierKey,
    format_vkey,
    parse_note,
    signed_by,
)
from eocat.verify.log.quorum import CLOCK_SKEW_S, LogPolicy, Witness, parse_log_policy
from eocat.verify.log.tiles import tree_from_tiles
from eocat.verify.merkle import Tree

from .keyring import keys_folder
from .log_files import LogFolder
from .witness_request import PATH, SIZE_TYPE, AddCheckpoint, format_request, parse_size

BOUND_S = 10.0
MAX_ANSWER_BYTES = 1 << 14
MAX_ATTEMPTS = 3  # the second has the size that the first was told; a third is for what happened in between

log = logging.getLogger("eocat.log")


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking one witness. refused: it said no; unavailable: it said nothing of use."""

    name: str
    outcome: Literal["cosigned", "refused", "unavailable"]
    detail: str = ""
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The witnesses of one log, whose tiles are in `folder`."""

    policy: LogPolicy
    key: VerifierKey
    folder: LogFolder
    bound_s: float = BOUND_S

    def cosign(self, note: bytes) -> Sequence[Signature]:
        """The hook of `log.advance`: valid cosignatures over the checkpoint; who gave none is logged."""
        asked = self.ask(note)
        for one in asked:
            if one.outcome != "cosigned":
                log.warning("witness %s: %s: %s", one.name, one.outcome, one.detail)
        if not self.is_quorum(asked):
            log.warning(
                "the checkpoint is published without the quorum %s; eocat log cosign asks again",
                self.policy.quorum,
            )
        return [one.signature for one in asked if one.signature]

    def is_quorum(self, asked: Sequence[Asked]) -> bool:
        return self.policy.met_by({one.name for one in asked if one.signature})

    def have_signed(self, note: bytes) -> bool:
        """Whether the cosignatures on a published checkpoint are a quorum."""
        signed = signed_by(parse_note(note), [each.key for each in self.policy.witnesses])
        keys = {key for key, _ in signed.valid}
        return self.policy.met_by({each.name for each in self.policy.witnesses if each.key in keys})

    def ask(self, note: bytes) -> tuple[Asked, ...]:
        """What came of asking every witness, in the policy's order, after `bound_s` seconds at most."""
        deadline = time.monotonic() + self.bound_s
        answers: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        sizes = self._remembered()
        for witness in self.policy.witnesses:
            request = _Request(witness, note, self.folder, deadline)
            threading.Thread(  # a daemon: one that hangs in a slow answer does not keep the process
                target=lambda r=request, w=witness: answers.put(r.send(sizes.get(w.name, 0))), daemon=True
            ).start()
        found: dict[str, Asked] = {}
        while len(found) < len(self.policy.witnesses):
            try:
                one = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            found[one.name] = one
        late = f"no answer in {self.bound_s:g} s"
        return tuple(
            found.get(each.name, Asked(each.name, "unavailable", late)) for each in self.policy.witnesses
        )

    def _remembered(self) -> Mapping[str, int]:
        """Witness → the size of the published checkpoint, if it cosigned that."""
        published = self.folder.read_checkpoint()
        if published is None:
            return {}
        note = parse_note(published)
        size = parse_checkpoint(note.text).size
        signers = {key for key, _ in signed_by(note, [each.key for each in self.policy.witnesses]).valid}
        return {each.name: size for each in self.policy.witnesses if each.key in signers}


def read_witnesses(home: Path, key: VerifierKey) -> Witnesses | None:
    """The witnesses that this home's log has; None if it has no file of them.

    Raises ConfigError if the file cannot be used, or is for another log.
    """
    path = witnesses_path(home)
    try:
        policy = parse_log_policy(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"the witnesses in {path} cannot be read: {error.strerror}") from None
    except Malformed as error:
        raise ConfigError(f"the witnesses in {path} cannot be used: {error}", hint=error.hint) from None
    if policy.logs and key not in [each.key for each in policy.logs]:
        raise ConfigError(
            f"the witnesses in {path} are for another log than {key.name}", hint=f"log {format_vkey(key)}"
        )
    if len(policy.witnesses) >= MAX_SIGNATURES:
        raise ConfigError(f"{path} names {len(policy.witnesses)} witnesses, at most {MAX_SIGNATURES - 1}")
    for witness in policy.witnesses:
        if witness.url is not None:
            _check_url(witness.url, path)
    return Witnesses(policy, key, LogFolder(home / "log"))


def witnesses_path(home: Path) -> Path:
    return keys_folder(home) / "witnesses.txt"


def _check_url(url: str, path: Path) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        fine = fine and not parts.query and not parts.fragment and (parts.port or 1) and url.isascii()
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"{path} has the address {url[:120]!r}, expected http(s)://HOST[:PORT][/PREFIX]")


@dataclass(frozen=True, slots=True)
class _Request:
    """One checkpoint for one witness."""

    witness: Witness
    note: bytes
    folder: LogFolder
    deadline: float

    def send(self, old: int) -> Asked:
        """Ask until the old size is the one that the witness remembers."""
        try:
            return self._send(old)
        except (Malformed, Unavailable) as error:
            return self._asked("unavailable", str(error))
        except TimeoutError:
            return self._asked("unavailable", "no answer in time")
        except (OSError, HTTPException) as error:
            return self._asked("unavailable", f"cannot be reached: {error or type(error).__name__}")

    def _send(self, old: int) -> Asked:
        if self.witness.url is None:
            return self._asked("unavailable", "the policy has no address of it")
        size = parse_checkpoint(parse_note(self.note).text).size
        for _ in range(MAX_ATTEMPTS):
            status, kind, answer = self._post(self.witness.url, old, size)
            match status:
                case 200:
                    return self._checked(answer)
                case 409 if kind == SIZE_TYPE:
                    told = parse_size(answer)
                    if told > size:
                        return self._asked("refused", f"it has seen size {told} of this log, here is {size}")
                    if told == old:
                        return self._asked("refused", f"it has cosigned another tree of size {told}")
                    old = told
                case _ if status in _REFUSALS:
                    return self._asked("refused", _REFUSALS[status])
                case _:
                    return self._asked("unavailable", f"it answered {status}")
        return self._asked("unavailable", f"its size was another one {MAX_ATTEMPTS} times")

    def _post(self, url: str, old: int, size: int) -> tuple[int, str, bytes]:
        """(status, content type, body) of one request."""
        proof: tuple[bytes, ...] = ()
        if 0 < old < size:
            proof = self._tree(size).prove_consistency(old)
        parts = urllib.parse.urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=self._left())
        try:
            connection.request(
                "POST",
                parts.path.rstrip("/") + PATH,
                format_request(AddCheckpoint(old, proof, self.note)),
                {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "eocat"},
            )
            response = connection.getresponse()
            body = b""
            while block := response.read1(MAX_ANSWER_BYTES + 1 - len(body)):
                body += block
                if len(body) > MAX_ANSWER_BYTES:
                    raise Malformed(f"its answer has more than {MAX_ANSWER_BYTES} bytes")
                self._left()
            return response.status, response.headers.get("Content-Type", ""), body
        finally:
            connection.close()

    def _tree(self, size: int) -> Tree:
        return tree_from_tiles(size, self.folder.read_tile)

    def _left(self) -> float:
        """Seconds until the deadline; TimeoutError after it."""
        if (left := self.deadline - time.monotonic()) <= 0:
            raise TimeoutError
        return left

    def _checked(self, lines: bytes) -> Asked:
        """The witness's own cosignature among the lines of its answer, and only if it is valid and of now."""
        text = parse_note(self.note).text
        answered = parse_note(f"{text}\n".encode() + lines)
        valid = [line for _, line in signed_by(answered, [self.witness.key]).valid]
        if not valid:
            return self._asked(
                "unavailable", f"its answer has no valid cosignature of {self.witness.key.name}"
            )
        newest = max(valid, key=lambda line: cosignature_time(line.body) or 0)
        ahead = (cosignature_time(newest.body) or 0) - time.time()
        if abs(ahead) > CLOCK_SKEW_S:
            return self._asked("unavailable", f"its clock is {ahead:+.0f} s from ours")
        return Asked(self.witness.name, "cosigned", signature=newest)

    def _asked(self, outcome: Literal["refused", "unavailable"], detail: str) -> Asked:
        return Asked(self.witness.name, outcome, detail)


_REFUSALS = {
    400: "it cannot read the request (400)",
    403: "it knows another key of this log (403)",
    404: "it does not follow this log (404)",
    409: "it has cosigned another tree of this size (409)",
    422: "it finds that the tree does not begin with the one it cosigned (422)",
}
