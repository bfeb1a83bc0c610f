"""shard.py and layout.py: a Parquet file is read within what was signed, whatever it says of itself."""

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_shard import leaves_of, make_rows, table_of, write_parquet

from eocat.verify import thrift
from eocat.verify.errors import Malformed
from eocat.verify.layout import check_pages, read_pages, read_row_groups
from eocat.verify.shard import ROW_GROUP_ROWS, Shard
from eocat.verify.statement import Rows

LIMIT_MIB = 512


def signed(count: int, dimension: int = 4, dtype: str = "float16") -> Rows:
    return Rows.model_validate({
        "count": count, "root": "00" * 32, "leaf": "eocat-row/v1", "dtype": dtype, "dimension": dimension,
        "crs": "OGC:CRS84", "inputDigests": True,
    })  # fmt: skip


def read(path: Path, rows: Rows) -> int:
    return sum(len(batch.leaf_hashes()) // 32 for batch in Shard.open(path, rows).batches())


def plain(count: int, dimension: int = 4) -> pa.Table:
    """A table in a shard's columns, made without a row at a time."""
    return pa.concat_tables([table_of(make_rows(1, dimension=dimension))] * count).combine_chunks()


def with_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, pa.field(name, column.type), column)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "embeddings.parquet"


@pytest.mark.parametrize(
    "options",
    [
        {}, {"compression": "snappy"}, {"compression": "none"}, {"use_dictionary": True},
        {"row_group_size": 7}, {"data_page_size": 64, "write_batch_size": 1}, {"data_page_version": "2.0"},
        {"write_statistics": False},
        {"column_encoding": {"embedding.list.element": "BYTE_STREAM_SPLIT"}}, {"write_page_index": True},
    ],
    ids=str,
)  # fmt: skip
def test_the_same_rows_in_any_usual_encoding_have_the_same_leaves(
    path: Path, options: dict[str, object]
) -> None:
    rows = make_rows(20)
    write_parquet(rows, path, **options)
    batches = list(Shard.open(path, signed(20)).batches())
    assert b"".join(batch.leaf_hashes() for batch in batches) == leaves_of(rows)
    assert [row for batch in batches for row in batch.rows()] == rows
    assert [batch.first for batch in batches] == list(range(0, 20, len(batches[0])))


def test_the_layout_is_what_pyarrow_says_it_is(path: Path) -> None:
    write_parquet(make_rows(20), path, row_group_size=8, use_dictionary=["source"])
    metadata = pq.ParquetFile(path).metadata
    with path.open("rb") as stream:
        groups = read_row_groups(stream)
        for index, group in enumerate(groups):
            theirs = metadata.row_group(index)
            assert (group.rows, group.decoded_bytes) == (theirs.num_rows, theirs.total_byte_size)
            for number, column in enumerate(group.columns):
                chunk = theirs.column(number)
                assert (column.name, column.values) == (chunk.path_in_schema, chunk.num_values)
                pages = list(read_pages(stream, column))
                assert sum(page.values for page in pages if page.kind != 2) == chunk.num_values
                headers = chunk.total_compressed_size - sum(page.stored_bytes for page in pages)
                decoded = check_pages(stream, column, values=column.values, limit_bytes=1 << 20)
                assert decoded == chunk.total_uncompressed_size - headers
    assert len(groups) == metadata.num_row_groups == 3


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"compression": "gzip"}, "codec 2"),
        ({"compression": "brotli"}, "codec 4"),
        ({"compression": "lz4"}, "codec 7"),
        ({"column_encoding": {"id": "DELTA_BYTE_ARRAY"}}, "encoding 7"),
    ],
)
def test_attack_63_another_codec_or_encoding(path: Path, options: dict[str, object], match: str) -> None:
    write_parquet(make_rows(20), path, **options)
    with pytest.raises(Malformed, match=match):
        read(path, signed(20))


@pytest.mark.parametrize(
    "rows", [signed(21), signed(19), signed(20, 8), signed(20, 4, "float32"), signed(20, 2)]
)
def test_a_file_of_other_rows_than_signed(path: Path, rows: Rows) -> None:
    write_parquet(make_rows(20), path)
    with pytest.raises(Malformed):
        read(path, rows)


EDITS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "a column missing": lambda table: table.drop_columns(["source"]),
    "a column more": lambda table: table.append_column("extra", pa.array([1] * 5)),
    "columns in another order": lambda table: table.select(table.schema.names[::-1]),
    "a column renamed": lambda table: table.rename_columns(["Id", *table.schema.names[1:]]),
    "time in milliseconds": lambda table: with_column(
        table, "end_datetime", table["end_datetime"].cast(pa.timestamp("ms", "UTC"))
    ),
    "time without zone": lambda table: with_column(
        table, "end_datetime", table["end_datetime"].cast(pa.timestamp("us"))
    ),
    "null id": lambda table: with_column(table, "id", pa.array(["a", "b", None, "c", "d"])),
    "null geometry": lambda table: with_column(table, "geometry", pa.array([None] * 5, pa.binary())),
    "null vector": lambda table: with_column(
        table, "embedding", pa.array([None, *[[1, 2, 3, 4]] * 4], table.schema.field("embedding").type)
    ),
    "id that is not UTF-8": lambda table: with_column(
        table, "id", pa.array([b"\xff\xfe", b"b", b"c", b"d", b"e"]).view(pa.string())
    ),
    "variable lists": lambda table: with_column(
        table, "embedding", table["embedding"].cast(pa.list_(pa.float16())).combine_chunks()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_a_table_of_another_shape_is_refused(path: Path, name: str) -> None:
    table = EDITS[name](table_of(make_rows(5)))
    pq.write_table(table, path)
    with pytest.raises(Malformed, match="^(shard|row)"):
        read(path, signed(5))


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + bytes(4) + b"PAR1", b"PAR1" + b"\xff" * 4 + b"PAR1", b"x" * 100],
)
def test_what_is_no_parquet_file_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(Malformed, match="shard"):
        read(path, signed(1))


def test_attack_63_an_encrypted_footer(path: Path) -> None:
    write_parquet(make_rows(5), path)
    path.write_bytes(path.read_bytes()[:-4] + b"PARE")
    with pytest.raises(Malformed, match="unencrypted"):
        read(path, signed(5))


def test_a_row_group_of_too_many_rows_is_refused(path: Path) -> None:
    pq.write_table(plain(ROW_GROUP_ROWS + 1), path)
    with pytest.raises(Malformed, match=f"expected 1 to {ROW_GROUP_ROWS}"):
        read(path, signed(ROW_GROUP_ROWS + 1))


# --- bombs: each is refused, in little memory, in a process of its own


JUDGE = """
import sys
from pathlib import Path
from eocat.verify.errors import Malformed
from eocat.verify.shard import Shard
from eocat.verify.statement import Rows
try:
    for batch in Shard.open(Path(sys.argv[1]), Rows.model_validate_json(sys.argv[2])).batches():
        batch.leaf_hashes()
    print("accepted")
except Malformed as error:
    print(error)
status = Path("/proc/self/status")  # ru_maxrss would begin at the parent's peak
lines = status.read_text().splitlines() if status.exists() else []
print(sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024)
"""


def refused_within_limit(path: Path, rows: Rows) -> str:
    """The Malformed message for `path`, read in a fresh process whose peak memory is looked at."""
    command = [sys.executable, "-c", JUDGE, str(path), rows.model_dump_json()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    message, peak_mib = ran.stdout.splitlines()
    assert int(peak_mib) < LIMIT_MIB, f"{peak_mib} MiB for: {message}"
    return message


def test_attack_63_a_dictionary_that_spreads_out_to_16_gb(path: Path) -> None:
    count = ROW_GROUP_ROWS
    indices = pa.array(np.zeros(count, np.int32))
    bomb = with_column(plain(count), "source", pa.DictionaryArray.from_arrays(indices, ["x" * 1_000_000]))
    pq.write_table(bomb, path, compression="zstd")
    assert path.stat().st_size < 100_000
    assert "more than 4096 bytes per row" in refused_within_limit(path, signed(count))


def padded(number: int, length: int) -> bytes:
    """Zigzag varint of `number` ≥ 0 in `length` bytes, which Thrift reads as it does the shortest."""
    number <<= 1
    return bytes((number >> 7 * k & 127) | (128 if k < length - 1 else 0) for k in range(length))


def varint(number: int) -> bytes:
    return padded(number, max(-(-(number << 1).bit_length() // 7), 1))


def test_attack_63_a_page_that_is_larger_than_the_footer_says(path: Path) -> None:
    size = 64_000_000
    table = with_column(plain(1), "source", pa.array(["\x00" * size]))
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    data, metadata = path.read_bytes(), pq.ParquetFile(path).metadata
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    head, tail = data[:footer], data[footer:]
    group = metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    (source,) = [column for column in columns if column.path_in_schema == "source"]
    for number in (group.total_byte_size, source.total_uncompressed_size):
        assert tail.count(varint(number)) == 1
        tail = tail.replace(varint(number), padded(100, len(varint(number))))
    path.write_bytes(head + tail)
    assert pq.ParquetFile(path).metadata.row_group(0).total_byte_size == 100
    assert "column source decodes to more than" in refused_within_limit(path, signed(1))


def test_attack_63_vectors_of_runs_that_decode_to_gigabytes(path: Path) -> None:
    """Honest in all it says, signed so, and still too much for one row group."""
    dimension, count = 65_536, 600
    zeros = pa.array(np.zeros(count * dimension, np.float16))
    column = pa.FixedSizeListArray.from_arrays(zeros, type=plain(1, dimension).schema.field("embedding").type)
    pq.write_table(with_column(plain(count), "embedding", column), path, compression="zstd")
    assert path.stat().st_size < 50_000
    assert "at most" in refused_within_limit(path, signed(count, dimension))


def footer_file(path: Path, footer: bytes) -> None:
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def listed(kind: int, count: int, body: bytes) -> bytes:
    return bytes([0xF0 | kind]) + unsigned(count) + body


def unsigned(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("name", ["columns", "row groups", "schema", "lying list", "nested", "too long"])
def test_attack_63_a_footer_of_a_million_parts(path: Path, name: str) -> None:
    start = b"\x15\x04" + b"\x19\x1c\x48\x01a\x00" + b"\x16\x02"  # version, schema of one, one row
    match name:
        case "columns":
            chunks = listed(12, 300_000, b"\x26\x00\x00" * 300_000)
            footer = start + b"\x19\x1c" + b"\x19" + chunks + b"\x16\x00\x16\x02\x00" + b"\x00"
        case "row groups":
            footer = (
                start + b"\x19" + listed(12, 120_000, b"\x19\x0c\x16\x00\x16\x02\x00" * 120_000) + b"\x00"
            )
        case "schema":
            footer = b"\x15\x04\x19" + listed(12, 300_000, b"\x48\x00\x00" * 300_000) + b"\x00"
        case "lying list":
            footer = start + b"\x19" + listed(12, 1 << 30, b"") + b"\x00"
        case "nested":
            footer = start + b"\x1c" * 500_000 + b"\x00" * 500_000
        case _:
            footer = start + b"\x00" * 2_000_000
    footer_file(path, footer)
    assert refused_within_limit(path, signed(1)).startswith("shard")


def test_a_codec_that_would_end_the_process_is_refused(path: Path) -> None:
    """pyarrow's `ColumnChunkMetaData.compression` aborts on an unknown codec: it is never asked."""
    write_parquet(make_rows(5), path, compression="zstd")
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    refused = 0
    for place in range(footer, len(data) - 8):
        if data[place : place + 2] == b"\x15\x0c":  # i32 6: ZSTD, and some other things
            changed = bytearray(data)
            changed[place + 1] = 0x7F
            path.write_bytes(changed)
            try:
                read(path, signed(5))
            except Malformed as error:
                refused += "codec -64" in str(error)
    assert refused == 16  # columns, those of structs counted one by one


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_is_refused_and_never_an_error_of_another_kind(path: Path, seed: int) -> None:
    rows = make_rows(12)
    write_parquet(rows, path, use_dictionary=["source"], compression="zstd" if seed % 2 else "none")
    data, draw = path.read_bytes(), random.Random(seed)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for turn in range(250):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 2))):
            changed[draw.randrange(footer if turn % 2 else 0, len(data))] = draw.choice(
                (0, 0x7F, 0x80, 0xFF, draw.randrange(256))
            )
        path.write_bytes(changed)
        try:
            assert read(path, signed(12)) == 12
        except Malformed:
            continue


# --- thrift.py


def test_thrift_reads_what_the_protocol_says() -> None:
    data = (
        b"\x15\x02" + b"\x16\x01" + b"\x18\x02hi" + b"\x11" + b"\x12" + b"\x17" + struct.pack("<d", 1.5)
        + b"\x19\x25\x02\x04" + b"\x1c\x15\x06\x00" + b"\x05\xc8\x01\x08" + b"\x00"
    )  # fmt: skip
    assert thrift.Reader(data, "Thrift").struct() == {
        (1, thrift.I32): 1, (2, thrift.I64): -1, (3, thrift.BINARY): b"hi", (4, 1): True, (5, 2): False,
        (6, thrift.DOUBLE): struct.pack("<d", 1.5), (7, thrift.LIST): [1, 2],
        (8, thrift.STRUCT): {(1, thrift.I32): 3},
        (100, thrift.I32): 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "defect"),
    [
        (b"", "empty"), (b"\x15", "no value"), (b"\x15\x02", "no end"),
        (b"\x15" + b"\xff" * 11, "an endless number"), (b"\x15\xff\xff\xff\xff\x7f\x00", "beyond 32 bits"),
        (b"\x18\x05hi\x00", "text cut"), (b"\x1f\x00", "type 15"), (b"\x1b\x01\x55\x02\x02\x00", "a map"),
        (b"\x15\x02\x05\x02\x02\x00", "a field twice"), (b"\x1c" * 100, "nested"),
        (b"\x19\xfc\xff\xff\xff\x7f", "a list of 268 million"), (b"\x19\x19" * 100, "nested lists"),
    ],
)  # fmt: skip
def test_other_thrift_is_refused(data: bytes, defect: str) -> None:
    with pytest.raises(Malformed, match="Thrift"):
        thrift.Reader(data, "Thrift").struct()


def test_a_vector_is_where_the_stride_formula_says(path: Path) -> None:
    """docs/format.md, section 5: uncompressed, PLAIN, one page per row group, the last column."""
    rows = make_rows(20)
    write_parquet(rows, path, row_group_size=8, compression="none", data_page_size=1 << 30)
    data, metadata, seen = path.read_bytes(), pq.ParquetFile(path).metadata, 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        chunk = group.column(group.num_columns - 1)
        for i in range(group.num_rows):
            start = chunk.data_page_offset + chunk.total_compressed_size - (group.num_rows - i) * 4 * 2
            assert data[start : start + 8] == rows[seen].vector
            seen += 1
    assert seen == 20
