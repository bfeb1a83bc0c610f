"""Thrift's compact protocol, as far as Parquet's footers and page headers need it: a strict reader.

A struct becomes a table (field id, wire type) → value, so that a field of another type than the reader asks
for is absent, as it is for Arrow. A field that stands twice is refused: two readers would differ on it.
"""

from typing import Any

from .errors import Malformed

BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = 3, 4, 5, 6, 7, 8, 9, 10, 12
_BOOLEANS = (1, 2)  # as a field, the type is the value
_WIDTH = {I16: 16, I32: 32, I64: 64}
_MAX_DEPTH = 16

Struct = dict[tuple[int, int], Any]


class Reader:
    """A cursor over `data`; Malformed wherever it ends early or a number does not fit its type."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data = data
        self.what = what  # names the data in an error
        self.position = 0

    def struct(self, depth: int = 0) -> Struct:
        fields: Struct = {}
        seen: set[int] = set()
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            field = field + delta if delta else self._integer(I16)
            if field in seen:
                raise Malformed(f"{self.what} has a field twice")
            seen.add(field)
            fields[field, kind] = kind == 1 if kind in _BOOLEANS else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise Malformed(f"{self.what} is nested too deep")
        match kind:
            case 4 | 5 | 6:
                return self._integer(kind)
            case 3:
                return self._byte()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return self._list(depth)
            case 12:
                return self.struct(depth + 1)
        raise Malformed(f"{self.what} has a value of Thrift type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        kind, count = head & 15, head >> 4
        if count == 15:
            count = self._varint()
        if count > len(self.data) - self.position:  # an element has at least a byte
            raise Malformed(f"{self.what} has a list that is longer than its data")
        return [self._byte() if kind in _BOOLEANS else self._value(kind, depth + 1) for _ in range(count)]

    def _integer(self, kind: int) -> int:
        value = self._varint()
        if value >> _WIDTH[kind]:
            raise Malformed(f"{self.what} has a number beyond {_WIDTH[kind]} bits")
        return value >> 1 ^ -(value & 1)  # zigzag

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise Malformed(f"{self.what} has a number that does not end")

    def _bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.position:
            raise Malformed(f"{self.what} ends early")
        self.position += count
        return self.data[self.position - count : self.position]

    def _byte(self) -> int:
        return self._bytes(1)[0]
