"""Whose trace it is, and what the traces of a product amount to. Design of provenance, section 9; attack 57.

One trace, in this order (`judge_trace`):

    1 it is signed                                                       else UNSIGNED
    2 the signed message is, byte for byte, what the trace shows          else TAMPERED
    3 the signature is valid, by a strong key, in the algorithm it names  else FORGED
    4 policy pins the key, or the authority that certified it             else UNTRUSTED
    5 the pin holds at a time that the service did not choose             else UNTRUSTED
    6 the claimed origin is one that the pin may speak for                else UNTRUSTED
    7 the service's own time is not after that time                       else LINEAGE_FAILED

The service's own client skips 4 and 6, takes 1 for success, wants only hash and event in 2, and reads the
time of 5 from the unsigned trace. There is no chain and no log behind traces: that none was withheld is
never proven, only noticed where an earlier answer had more (`seen`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..certificate import parse_certificate
from ..errors import Malformed
from ..pins import Pin
from ..report import PRECEDENCE, Outcome
from .trace import HashAlgorithm, Registration, Trace


@dataclass(frozen=True, slots=True)
class TraceVerdict:
    """outcome None: authentic. signer: the pin whose key signed, also where it was too late to count.

    `trace.unsigned` holds what nobody signed.
    """

    trace: Trace
    outcome: Outcome | None
    text: str
    signer: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The file whose traces were asked for. size in bytes; hashes: algorithm → lower-case hex."""

    name: str
    size: int
    hashes: Mapping[HashAlgorithm, str]


@dataclass(frozen=True, slots=True)
class ProductVerdict:
    """What the traces say of a product. outcome None: traced. notices: what was left out of account."""

    outcome: Outcome | None
    text: str
    traces: tuple[TraceVerdict, ...]
    notices: tuple[str, ...]


def judge_trace(trace: Trace, pins: Sequence[Pin], moment: datetime) -> TraceVerdict:
    """The verdict on one trace, by the steps above.

    moment: an aware time at which the trace is known to have been there. It comes from the caller (the
    witnessed time of the log entry that names the trace, else now), never from the trace.
    """
    if not trace.is_signed:
        return TraceVerdict(trace, Outcome.UNSIGNED, "the trace is not signed")
    if trace.signature.message != trace.message:
        text = "the trace shows something else than the message that was signed"
        return TraceVerdict(trace, Outcome.TAMPERED, text)
    if (fault := signature_fault(trace)) is not None:
        return TraceVerdict(trace, Outcome.FORGED, fault)
    certificate = parse_certificate(trace.signature.certificate_der)
    pin = next((pin for pin in pins if pin.vouches(certificate)), None)
    if pin is None:
        text = f"no pin vouches for the key {certificate.spki[:16]}… of {certificate.subject[:80]!r}"
        return TraceVerdict(trace, Outcome.UNTRUSTED, text)
    if not pin.valid_at(moment, certificate):
        text = (
            f"the key of {pin.name} does not count at {moment:%Y-%m-%d}: its certificate is of "
            f"{certificate.start:%Y-%m-%d} to {certificate.end:%Y-%m-%d}"
        )
        return TraceVerdict(trace, Outcome.UNTRUSTED, text, pin.name)
    if trace.origin not in pin.origins:
        text = f"{pin.name} may not speak for the origin {trace.origin[:80]!r} (unsigned)"
        return TraceVerdict(trace, Outcome.UNTRUSTED, text)
    if trace.claimed_time > moment:
        text = f"the service's time {trace.timestamp} (unsigned) is after {moment:%Y-%m-%dT%H:%M:%SZ}"
        return TraceVerdict(trace, Outcome.LINEAGE_FAILED, text)
    return TraceVerdict(trace, None, f"{trace.event} of {trace.product.name}, signed by {pin.name}", pin.name)


def judge_product(
    traces: Sequence[Trace],
    subject: Subject,
    pins: Sequence[Pin],
    moment: datetime,
    *,
    seen: Collection[str] = (),
) -> ProductVerdict:
    """Traced, if every authentic trace is about exactly this file and one is its CREATE or a COPY.

    seen: `Trace.digest` of traces that an earlier answer had; a lost one means that traces are withheld.
    A forged, altered or falsely labelled trace beside a good one fails the product, and so does an
    authentic OBSOLETE, whatever its (unsigned) reason. Unsigned traces, and those of strangers under their
    own name, prove nothing in either direction: they are noted.
    """
    verdicts = tuple(judge_trace(trace, pins, moment) for trace in traces)
    bad = [found for found in verdicts if found.outcome is not None]
    noise = [found for found in bad if _is_noise(found, pins)]

    def verdict(outcome: Outcome | None, text: str) -> ProductVerdict:
        return ProductVerdict(outcome, text, verdicts, tuple(f"left out: {found.text}" for found in noise))

    if lost := set(seen) - {trace.digest for trace in traces}:
        return verdict(Outcome.LINEAGE_FAILED, f"{len(lost)} traces seen before are withheld now")
    authentic = [found.trace for found in verdicts if found.outcome is None]
    if not authentic:
        return verdict(*_worst(bad, subject))
    if false := [found for found in bad if found not in noise]:
        return verdict(
            Outcome.LINEAGE_FAILED, f"beside an authentic trace stands a false one: {false[0].text}"
        )
    if faults := [fault for trace in authentic if (fault := _mismatch(trace, subject))]:
        return verdict(Outcome.LINEAGE_FAILED, faults[0])
    events = [trace.event for trace in authentic]
    if "OBSOLETE" in events:
        return verdict(Outcome.LINEAGE_FAILED, f"{subject.name} is obsolete by an authentic trace")
    if not {"CREATE", "COPY"} & set(events):
        return verdict(Outcome.LINEAGE_FAILED, f"no authentic trace says that {subject.name} was made")
    return verdict(
        None, f"{subject.name}: {', '.join(events)}, {len(authentic)} of {len(traces)} traces count"
    )


def signature_fault(trace: Registration) -> str | None:
    """None if the signature is its own certificate's over the rebuilt message, else the fault in words.

    Says nothing about whose certificate it is.
    """
    signature = trace.signature
    try:
        certificate = parse_certificate(signature.certificate_der)
    except Malformed as error:
        return str(error)
    if signature.algorithm != certificate.algorithm:
        return (
            f"the signature says {signature.algorithm or 'nothing'}, its key is for {certificate.algorithm}"
        )
    if not certificate.verifies(signature.raw, trace.message.encode()):
        return "the signature is not this certificate's over the message"
    return None


def _worst(bad: Sequence[TraceVerdict], subject: Subject) -> tuple[Outcome, str]:
    """The outcome where no trace is authentic: the first of the bad ones in the order of precedence."""
    for outcome in PRECEDENCE:
        for found in bad:
            if found.outcome is outcome:
                return outcome, found.text
    return Outcome.UNAVAILABLE, f"there is no trace of {subject.name}"


def _is_noise(found: TraceVerdict, pins: Sequence[Pin]) -> bool:
    """Whether a trace that does not count may stand beside one that does.

    Unsigned; by a stranger under a name that no pin speaks for; or by a pinned key after its time, unless
    it is an OBSOLETE, which then fails the product: a warning is not ignored for its age.
    """
    if found.outcome is not Outcome.UNTRUSTED:
        return found.outcome is Outcome.UNSIGNED
    if found.signer is not None:
        return found.trace.event != "OBSOLETE"
    return not any(found.trace.origin in pin.origins for pin in pins)


def _mismatch(trace: Trace, subject: Subject) -> str | None:
    """None if the trace is about the subject: as the product itself, or as a file at that path inside it.

    The algorithm of the hash is unsigned and has no say: the hash must be one of the file's.
    """
    product, hashes = trace.product, set(subject.hashes.values())
    if product.name != subject.name:
        inside = [content for content in product.contents or () if content.path == subject.name]
        if inside and inside[0].hash in hashes:
            return None
        return f"the trace is of {product.name} and lists no {subject.name} with this file's hash"
    if product.hash not in hashes:
        named = f"{trace.hash_algorithm} {product.hash[:16]}…"
        return f"the trace of {product.name} has the {named}, which is not this file's"
    if product.size != subject.size:
        return f"the trace of {product.name} says {product.size} bytes, the file has {subject.size}"
    return None
