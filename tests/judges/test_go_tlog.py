"""Go's note and tlog libraries (Debian: golang-golang-x-mod-dev) judge our notes, trees and tiles."""

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from debian_judges import judge
from make_notes import LOG, W1, W2, Signer, checkpoint, cosigned
from published_notes import GOOD, PETER, PUBLIC, PUBLIC_LOG, PUBLIC_WITNESSES

from eocat.catalog.prefix import cache_folder
from eocat.verify.errors import Malformed
from eocat.verify.log.checkpoint import format_checkpoint
from eocat.verify.log.note import ED25519, format_vkey, parse_note, parse_vkey, signed_by
from eocat.verify.log.tiles import Tile, parse_tile_path, tiles_between
from eocat.verify.merkle import Tree, build_tiles, leaf_hash, tree_of

LIBRARIES = Path("usr/share/gocode")  # where Debian keeps the sources of Go libraries
SIZE = 70
GROW = [
    (0, 1),
    (0, 256),
    (255, 256),
    (256, 257),
    (250, 600),
    (0, 70_000),
    (65_535, 65_537),
    (1 << 30, (1 << 30) + 300),
]
ENTRIES = [b"entry %d" % index for index in range(SIZE)]

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """The judge, compiled from the sources beside this file without a network."""
    tool = judge("go")
    roots = (Path("/"), *tool.parents)  # the system's, else beside the compiler that was fetched
    found = [root / LIBRARIES for root in roots if (root / LIBRARIES / "src/golang.org/x/mod/sumdb").is_dir()]
    if not found:
        pytest.skip("NOT RUN: Go's note and tlog (apt install golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("go")
    settings = {
        "GO111MODULE": "off",
        "GOPATH": str(found[0]),
        "GOCACHE": str(cache_folder() / "judges/go-build"),
        "GOFLAGS": "",
    }
    binary = folder / "judge"
    source = Path(__file__).with_name("go_tlog") / "main.go"
    built = subprocess.run(
        [str(tool), "build", "-p", "2", "-o", str(binary), str(source)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr

    def ask(questions: dict[str, Any]) -> dict[str, Any]:
        asked = json.dumps(questions).encode()
        answers: dict[str, Any] = json.loads(
            subprocess.run([binary], input=asked, capture_output=True, check=True).stdout
        )
        return answers

    return ask


def opening(data: bytes, *vkeys: str) -> dict[str, Any]:
    return {"Note": base64.b64encode(data).decode(), "Vkeys": list(vkeys)}


def hashes(values: list[str] | None) -> tuple[bytes, ...]:
    return tuple(base64.b64decode(value) for value in values or ())


def tree(size: int) -> Tree:
    return tree_of(build_tiles(b"".join(map(leaf_hash, ENTRIES[:size]))), size)


def test_go_opens_our_checkpoints_and_refuses_our_forgeries(go: Ask) -> None:
    log, w1, w2 = (format_vkey(signer.key) for signer in (LOG, W1, W2))
    made = cosigned(checkpoint(), [W1, W2])
    public = [format_vkey(key) for key in (PUBLIC_LOG, *PUBLIC_WITNESSES)]
    good = [opening(made, log), opening(made, log, w1, w2), opening(PUBLIC.encode(), *public)]
    bad = [
        opening(made.replace(b"\n7\n", b"\n8\n"), log),
        opening(made, format_vkey(Signer("x", ED25519, 9).key)),
    ]
    told = go({"Open": good + bad})["Open"]
    assert told[: len(good)] == [""] * len(good)
    assert all(told[len(good) :])


def test_we_read_what_go_signs(go: Ask) -> None:
    """Under the key of Go's own tests: a checkpoint of ours, a text with empty lines, one beyond ASCII."""
    skey = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    texts = [format_checkpoint(checkpoint()), "one\n\n\ntwo\n", "é — ٣\n"]
    told = go({"Sign": [{"Text": text, "Skey": skey} for text in texts]})["Signed"]
    for text, signed in zip(texts, told, strict=True):
        note = parse_note(base64.b64decode(signed))
        assert note.text == text
        assert [format_vkey(key) for key, _ in signed_by(note, [LOG.key, parse_vkey(PETER)]).valid] == [PETER]


def test_go_takes_every_note_that_we_take(go: Ask) -> None:
    """One byte of a good note put in, taken out or changed: where we see a valid note, Go sees the same."""
    good = GOOD.encode()
    variants = [
        good[:at] + splice + good[at + cut :]
        for at in range(0, len(good), 3)
        for splice in (b"", b"\n", b"=", b" ", b"A", b"\xc2\x85")
        for cut in (0, 1)
    ]
    told = go({"Open": [opening(data, PETER) for data in variants]})["Open"]
    both = 0
    for data, why in zip(variants, told, strict=True):
        try:
            signed = signed_by(parse_note(data), [parse_vkey(PETER)])
        except Malformed:
            continue
        assert (bool(signed.valid) and not signed.forged) == (why == ""), (data, why)
        both += why == ""
    assert both > 20


def test_our_roots_and_paths_are_gos(go: Ask) -> None:
    """Every inclusion and consistency path of every tree up to 70 entries, byte for byte."""
    told = go({"Records": [base64.b64encode(entry).decode() for entry in ENTRIES]})
    assert hashes(told["Roots"]) == tuple(tree(size).root() for size in range(1, SIZE + 1))
    for size in range(1, SIZE + 1):
        for index in range(size):
            assert hashes(told["Paths"][f"{size}/{index}"]) == tree(size).prove(index)
            assert hashes(told["Paths"][f"{index + 1}<{size}"]) == tree(size).prove_consistency(index + 1)


def test_our_tiles_are_gos(go: Ask) -> None:
    """Which tiles a growing log writes, and where: Go names the height in the path, C2SP does not.

    Go's older releases list every width that a growing tile may pass through, and the last tile of a level
    that has not grown: what counts is the widest of each.
    """
    told = go({"Grow": GROW})["Tiles"]
    for old, new in GROW:
        ours = {tile for tile in tiles_between(old, new) if tile.level is not None}
        theirs: dict[tuple[int, int], Tile] = {}
        for tile in sorted(map(parse_tile_path, told[f"{old}-{new}"]), key=lambda tile: tile.width):
            shift = 8 * (tile.level or 0)
            if old >> shift < new >> shift:
                theirs[tile.level or 0, tile.index] = tile
        assert ours == set(theirs.values()), (old, new)
