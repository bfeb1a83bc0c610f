"""An item's history: its events replayed, in order, by the rules (docs/format.md, section 3).

    (nothing) ─CREATE→ created ─REGISTER→ active ─COPY, UPDATE, ATTEST→ (same)
    active     ─SUPERSEDE→ superseded    ─OBSOLETE→ obsolete    ─WITHDRAW→ withdrawn
    superseded ─OBSOLETE→ obsolete       ─WITHDRAW→ withdrawn
    obsolete   ─SUPERSEDE→ superseded    ─WITHDRAW→ withdrawn

A gap, a fork, a replay of another item's event or an illegal transition breaks it. Who may sign which event
is in `ROLES`; whether they did is for `check.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .events import AnyStatement, Attest, LaterStatement, Obsolete, Supersede, Update, Withdraw
from .policy import Role
from .receipt import Recomputed
from .statement import Create, Projection, Statement


class Status(Enum):
    CREATED = "created"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    OBSOLETE = "obsolete"
    WITHDRAWN = "withdrawn"


ROLES: dict[str, tuple[Role, ...]] = {
    "CREATE": ("producer",),
    "REGISTER": ("registrar",),
    "COPY": ("mirror",),
    "UPDATE": ("producer", "curator"),
    "SUPERSEDE": ("producer", "curator"),
    "OBSOLETE": ("producer", "curator"),
    "WITHDRAW": ("producer", "curator"),
    "ATTEST": ("auditor",),
}
_LIVE = {
    "COPY": None,  # None: the status stays as it is
    "UPDATE": None,
    "ATTEST": None,
    "SUPERSEDE": Status.SUPERSEDED,
    "OBSOLETE": Status.OBSOLETE,
    "WITHDRAW": Status.WITHDRAWN,
}
TRANSITIONS: dict[Status, dict[str, Status | None]] = {
    Status.CREATED: {"REGISTER": Status.ACTIVE},
    Status.ACTIVE: _LIVE,
    Status.SUPERSEDED: {
        "COPY": None,
        "ATTEST": None,
        "OBSOLETE": Status.OBSOLETE,
        "WITHDRAW": Status.WITHDRAWN,
    },
    Status.OBSOLETE: {
        "COPY": None,
        "ATTEST": None,
        "SUPERSEDE": Status.SUPERSEDED,
        "WITHDRAW": Status.WITHDRAWN,
    },
    Status.WITHDRAWN: {},
}


class BrokenHistory(Exception):
    """The events are not a history: which one, and why."""


@dataclass(frozen=True, slots=True)
class History:
    """An item after its events. head: SHA-256 hex of the last payload, seq: its number.

    projection: what its Item must show now. successor, reason: of the event that ended its active life.
    """

    statement: Statement
    seq: int
    head: str
    status: Status
    projection: Projection
    successor: str | None = None
    reason: str | None = None
    origin: str = ""  # payload digest of the CREATE
    receipts: tuple[Recomputed, ...] = ()  # of the ATTESTs, in order

    @property
    def create(self) -> Create:
        return self.statement.predicate

    def then(self, digest: str, event: LaterStatement) -> "History":
        """The history with one more event, whose payload has this digest."""
        predicate, item = event.predicate, self.create.item
        if predicate.item != item or event.root != self.create.rows.root:
            raise BrokenHistory(f"event {self.seq + 1} is about {predicate.item}, not the rows of {item}")
        if predicate.seq != self.seq + 1:
            raise BrokenHistory(f"event {predicate.seq} stands where event {self.seq + 1} belongs")
        if predicate.prev != self.head:
            raise BrokenHistory(f"event {predicate.seq} follows another event than the one before it")
        legal = TRANSITIONS[self.status]
        if predicate.event not in legal:
            raise BrokenHistory(f"{predicate.event} cannot follow where the item is {self.status.value}")
        after = replace(self, seq=predicate.seq, head=digest, status=legal[predicate.event] or self.status)
        match predicate:
            case Supersede():
                return replace(after, successor=predicate.successor, reason=predicate.reason)
            case Obsolete() | Withdraw():
                return replace(after, reason=predicate.reason)
            case Attest():
                return replace(after, receipts=(*self.receipts, self._receipt(predicate)))
            case Update():
                return replace(after, projection=_updated(self.projection, predicate.projection))
        return after

    def _receipt(self, attest: Attest) -> Recomputed:
        if attest.create != self.origin:
            raise BrokenHistory(f"ATTEST {attest.seq} is about another CREATE")
        if (fault := attest.recompute.fault(self.create)) is not None:
            raise BrokenHistory(f"ATTEST {attest.seq} is no recomputation of the item: {fault}")
        return attest.recompute


def replay(events: Sequence[tuple[str, AnyStatement]]) -> History:
    """The history of (payload digest, statement) pairs in order; BrokenHistory names what is wrong."""
    digest, first = events[0]
    if not isinstance(first, Statement):
        raise BrokenHistory(f"the first event is {first.predicate.event}, not CREATE")
    history = History(first, 0, digest, Status.CREATED, first.predicate.projection, origin=digest)
    for digest, event in events[1:]:
        if isinstance(event, Statement):
            raise BrokenHistory("a second CREATE stands in the history")
        history = history.then(digest, event)
    return history


def _updated(old: Projection, new: Projection) -> Projection:
    """An UPDATE changes place and time of the Item alone: files, rows, space and name stay."""
    fixed = ("id", "collection", "assets", "rows", "space")
    changed = [name for name in fixed if getattr(old, name) != getattr(new, name)]
    if changed:
        raise BrokenHistory(f"an UPDATE changes {', '.join(changed)}, which only a new item may")
    return new
