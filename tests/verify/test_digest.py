"""digest.py: both digests in one pass, and multihashes in their one spelling."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from eocat.verify.digest import (
    BLOCK_BYTES,
    digest_bytes,
    digest_file,
    digest_stream,
    format_multihash,
    parse_multihash,
)
from eocat.verify.errors import Malformed

SHA = "ab" * 32


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_a_file_is_digested_as_a_whole_whatever_its_blocks(size: int, tmp_path: Path) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = tmp_path / "file"
    path.write_bytes(data)
    found = digest_file(path)
    assert (found.sha256, found.blake3, found.size) == (
        hashlib.sha256(data).hexdigest(), blake3(data).hexdigest(), size,
    )  # fmt: skip
    assert found == digest_bytes(data) == digest_stream(io.BytesIO(data))


def test_the_four_hashes_that_catalogues_use_are_named() -> None:
    assert parse_multihash("1220" + SHA) == ("sha2-256", SHA)
    assert parse_multihash("1620" + SHA) == ("sha3-256", SHA)
    assert parse_multihash("1e20" + SHA) == ("blake3", SHA)
    assert parse_multihash("d50110" + "ab" * 16) == ("md5", "ab" * 16)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (SHA, "unknown code"),  # a bare SHA-256
        ("1220" + SHA[:-2], "holds 31"),
        ("1220" + SHA + "00", "holds 33"),
        ("1220" + SHA[:-1], r"holds 31\.5"),
        ("1114" + "ab" * 20, "unknown code"),  # SHA-1
        ("1340" + "ab" * 64, "unknown code"),  # SHA-512
        ("1210" + "ab" * 16, "unknown code"),  # truncated SHA-256
        ("d50120" + SHA, "MD5 has 16"),
        ("1220" + SHA.upper(), "lower-case hex"),
        ("0x1220" + SHA, "lower-case hex"),
        (" 1220" + SHA, "lower-case hex"),
        ("1220" + SHA + "\n", "lower-case hex"),
        ("922000" + SHA, "unknown code"),  # a varint in a second spelling
        ("", "lower-case hex"),
    ],
)
def test_a_multihash_of_another_spelling_is_refused(text: str, match: str) -> None:
    with pytest.raises(Malformed, match=match):
        parse_multihash(text)


def test_the_real_cdse_item_has_good_checksums_and_malformed_ones(shared_data: Path) -> None:
    """The Copernicus catalogue writes MD5's code before 32 bytes: named as what it is, never read."""
    (path,) = (shared_data / "cdse_stac").glob("S2A*.json")
    checksums = {
        key: a["file:checksum"]
        for key, a in json.loads(path.read_bytes())["assets"].items()
        if "file:checksum" in a
    }
    malformed = {key for key, text in checksums.items() if text.startswith("d50120")}
    assert "product_metadata" in malformed
    for key, text in checksums.items():
        if key in malformed:
            with pytest.raises(Malformed, match="MD5 before 32 bytes"):
                parse_multihash(text)
        else:
            assert parse_multihash(text)[0] in ("md5", "sha3-256")


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["sha2-256", "sha3-256", "blake3"]))
def test_what_is_formatted_is_parsed(digest: bytes, name: str) -> None:
    assert parse_multihash(format_multihash(name, digest.hex())) == (name, digest.hex())
