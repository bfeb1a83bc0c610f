"""What a similarity search compares: partitions of one embedding space, with what is known of them."""

from dataclasses import dataclass, field
from datetime import datetime

from .nearest import Index
from .partitions import Partition


class NotFound(Exception):
    """The catalogue has no such collection, item or row (404)."""


class Gone(Exception):
    """The catalogue had it, and it has been withdrawn (410)."""


class TwoSpaces(Exception):
    """The collections asked, or the row given, are of different embedding spaces (409)."""


@dataclass(frozen=True, slots=True)
class Recall:
    """The share of the k nearest rows that the index found, over `queries` rows, when last measured."""

    k: int
    queries: int
    recall: float
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class Space:
    """rows: how many each partition holds. encoder: of the collections, its name and version."""

    digest: bytes
    dtype: str
    dimension: int
    rows: dict[Partition, int]
    encoder: str = ""
    indexes: dict[Partition, Index] = field(default_factory=dict)
    recalls: dict[Partition, Recall] = field(default_factory=dict)

    @property
    def collections(self) -> list[str]:
        return [partition.collection for partition in self.rows]

    @property
    def partition(self) -> Partition:
        """Any: column and type are the same in all."""
        return next(iter(self.rows))
