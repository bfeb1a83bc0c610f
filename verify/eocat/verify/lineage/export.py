"""Traces of our own products, in the format of the Copernicus service. Keys stay with the signer.

A signer is a callable: the message's bytes in, signature and certificate out. It can be an agent or a
hardware key; this room never sees a private key, and checks what came back before it is used.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import Malformed
from ..statement import validated
from .cdse import signature_fault
from .trace import (
    MAX_TRACES,
    Event,
    HashAlgorithm,
    Product,
    Registration,
    SignatureAlgorithm,
    signed_message,
)


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """What a signer gives back: certificate in DER; signature by PKCS#1 v1.5, or ECDSA in DER."""

    algorithm: SignatureAlgorithm
    certificate: bytes
    signature: bytes


Signer = Callable[[bytes], SignedMessage]


def sign_trace(
    product: Product,
    event: Event,
    signer: Signer,
    *,
    hash_algorithm: HashAlgorithm = "BLAKE3",
    reason: str | None = None,
) -> Registration:
    """A signed trace to register, its contents in order of path, so that they have one order.

    reason: why the product is obsolete, for an OBSOLETE alone; the format leaves it unsigned.
    Raises Malformed where the format has no such trace, or the signature is not over its message.
    """
    contents = None if product.contents is None else sorted(product.contents, key=lambda c: c.path.encode())
    ordered = product.model_copy(update={"contents": contents})
    message = signed_message(ordered, event)
    signed = signer(message.encode())
    trace = {
        "product": ordered.model_dump(),
        "event": event,
        "obsolescence": reason,
        "hash_algorithm": hash_algorithm,
        "signature": {
            "algorithm": signed.algorithm,
            "certificate": base64.b64encode(signed.certificate).decode(),
            "message": message,
            "signature": base64.b64encode(signed.signature).decode(),
        },
    }
    registration = validated(Registration, trace, what="trace")
    if (fault := signature_fault(registration)) is not None:
        raise Malformed(f"the signer's answer cannot be registered: {fault}")
    return registration


def format_registrations(traces: Sequence[Registration]) -> bytes:
    """The JSON body that registers the traces: 1 to 50, all of one event, no product hash twice."""
    if not 1 <= len(traces) <= MAX_TRACES:
        raise Malformed(f"{len(traces)} traces cannot be registered at once, 1 to {MAX_TRACES} can")
    if len({trace.event for trace in traces}) != 1:
        raise Malformed("traces of different events cannot be registered at once")
    if len({trace.product.hash for trace in traces}) != len(traces):
        raise Malformed("two traces of one product hash cannot be registered at once")
    body = [trace.model_dump(exclude_none=True) for trace in traces]
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
