"""A bundle is made: of an item's documents, a folder of sources and the trust that its maker has pinned."""

from collections.abc import Mapping
from pathlib import Path

from .. import canonical
from ..bundle import Bundle, with_local_names
from ..claims import ManifestClaim, claim_of
from ..dsse import parse_envelope
from ..errors import Malformed
from ..events import parse_event
from ..evidence import Evidence
from ..lineage.gather import gather
from ..lineage.manifest import MAX_BYTES, NAME
from ..lineage.product import open_product, read_whole
from ..statement import Create, Source, Statement
from ..trust_store import TrustStore


def bundle_of(evidence: Evidence, sources: Path | None, trust: TrustStore) -> Bundle:
    """The bundle of an item, unjudged. sources: a folder of source scenes, whose evidence goes along."""
    roots, policy = trust.documents()
    manifests: Mapping[str, bytes] = {}
    traces: Mapping[str, bytes] = {}
    if sources is not None and evidence.envelopes:
        create = _create(evidence.envelopes[0])
        found = {source.name: gather(sources, source) for source in create.scenes}
        traces = {name: one.traces for name, one in found.items() if one.traces is not None}
        manifests = {
            source.name: data
            for source in create.scenes
            if (product := found[source.name].product) and (data := _manifest(product, source)) is not None
        }
    proof = evidence.log_proof
    return Bundle(
        with_local_names(evidence.item),
        evidence.envelopes or (),
        canonical.encode(canonical.parse(proof, what="log proof", limit_bytes=len(proof))) if proof else None,
        roots,
        policy,
        manifests,
        traces,
    )


def _create(envelope: bytes) -> Create:
    statement = parse_event(parse_envelope(envelope).payload)
    if not isinstance(statement, Statement):
        raise Malformed(f"the first event is {statement.predicate.event}, not CREATE")
    return statement.predicate


def _manifest(product: Path, source: Source) -> bytes | None:
    """The product's manifest, where the statement claims one of this source."""
    if claim_of(source.evidence, ManifestClaim) is None:
        return None
    with open_product(product) as opened:
        return read_whole(opened, NAME, limit_bytes=MAX_BYTES) if NAME in opened.sizes else None
