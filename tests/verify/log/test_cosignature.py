"""log/cosignature.py: cosignatures, held to a checkpoint that public witnesses cosigned."""

import pytest
from make_notes import NOW_S, W1, checkpoint
from published_notes import PUBLIC, PUBLIC_LOG, PUBLIC_WITNESSES

from eocat.verify.log.checkpoint import format_checkpoint, parse_checkpoint
from eocat.verify.log.cosignature import (
    check_cosignature,
    cosignature_time,
    cosigned_message,
    format_cosignature,
)
from eocat.verify.log.note import format_note, parse_note, signed_by


def test_a_checkpoint_of_the_public_witness_network() -> None:
    """A real log's signature and four real witnesses'; the log's older type 0x05 line is a stranger's."""
    note = parse_note(PUBLIC.encode())
    assert format_note(note) == PUBLIC.encode()
    assert parse_checkpoint(note.text).size == 1432088532
    signed = signed_by(note, [PUBLIC_LOG, *PUBLIC_WITNESSES])
    assert len(signed.valid) == 5
    assert signed.forged == ()
    assert {cosignature_time(line.body) for key, line in signed.valid if key != PUBLIC_LOG} == {1779573024}
    clobbered = parse_note(PUBLIC.replace("1432088532", "1432088533").encode())
    assert signed_by(clobbered, [PUBLIC_LOG, *PUBLIC_WITNESSES]).valid == ()


def test_the_message_is_the_specifications() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert cosigned_message(1679315147, text) == b"cosignature/v1\ntime 1679315147\n" + text.encode()


TEXT = format_checkpoint(checkpoint())


def test_a_cosignature_gives_its_time() -> None:
    assert check_cosignature(W1.key.public, W1.sign(TEXT).body, TEXT) == NOW_S
    assert check_cosignature(W1.key.public, W1.sign(TEXT, 0).body, TEXT) == 0


def test_attack_53_a_cosignature_is_of_one_time_one_size_one_text() -> None:
    body = W1.sign(TEXT).body
    for other in (checkpoint(8), checkpoint(7, fork="other")):
        assert check_cosignature(W1.key.public, body, format_checkpoint(other)) is None
    assert check_cosignature(W1.key.public, body, TEXT + "extension\n") is None
    later = (NOW_S + 1).to_bytes(8, "big") + body[8:]
    assert check_cosignature(W1.key.public, later, TEXT) is None
    for at in (0, 8, 71):
        flipped = bytearray(body)
        flipped[at] ^= 1
        assert check_cosignature(W1.key.public, bytes(flipped), TEXT) is None


@pytest.mark.parametrize("length", [0, 1, 8, 64, 71, 73, 2428])
def test_a_body_of_another_length_is_no_cosignature(length: int) -> None:
    body = (W1.sign(TEXT).body * 40)[:length]
    assert cosignature_time(body) is None
    assert check_cosignature(W1.key.public, body, TEXT) is None


def test_a_time_above_2_63_is_no_time() -> None:
    """The specification's limit, even where the witness signed it."""
    for time_s, expected in ((2**63 - 1, 2**63 - 1), (2**63, None), (2**64 - 1, None)):
        body = format_cosignature(time_s, W1.private.sign(cosigned_message(time_s, TEXT)))
        assert check_cosignature(W1.key.public, body, TEXT) == expected
