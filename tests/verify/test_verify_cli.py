"""`python -m eocat.verify` as a program: with only the verify room on the path, and exit codes that hold."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from make_shard import PRODUCER, STRANGER, Made, entry, make_hit, make_rows, make_shard, policy_json

ROOM = Path(__file__).resolve().parents[2] / "verify"


def run(*arguments: object, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The verifier without site-packages' .pth files (-S): the other rooms are not to be found."""
    return subprocess.run(
        command(arguments),
        cwd=cwd,
        env=environment_of(cwd, environment),
        capture_output=True,
        text=True,
        timeout=60,
    )


def command(arguments: Sequence[object]) -> list[str]:
    return [sys.executable, "-S", "-W", "error", "-m", "eocat.verify", *map(str, arguments)]


def environment_of(cwd: Path, more: dict[str, str]) -> dict[str, str]:
    libraries = os.pathsep.join([str(ROOM), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return {"PYTHONPATH": libraries, "PATH": os.environ["PATH"], "EOCAT_HOME": str(cwd / "home"), **more}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "s2" / "scene")


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    path = tmp_path / "policy.json"
    entries = [entry(PRODUCER, notAfter="2100-01-01T00:00:00Z")]
    path.write_text(json.dumps(policy_json(*entries, expires="2100-01-01T00:00:00Z")))
    return path


def spoil(made: Made) -> None:
    made.file("thumbnail").write_bytes(b"another picture")


def test_folder_item_file_and_saved_hit_verify(made: Made, trust: Path, tmp_path: Path) -> None:
    (tmp_path / "hit.json").write_text(json.dumps(make_hit(made, 1)))
    for target in (made.folder, made.folder / "item.json", "hit.json"):
        ran = run("verify", target, "--trust", trust, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith(f"{target}")
        assert "VERIFIED  L2 of 5" in ran.stdout
        assert "not proven: search completeness" in ran.stdout


def unsign(made: Made) -> None:
    item = made.item
    del item["assets"]["attestation"]
    made.write_item(item)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


EXIT_CODES: dict[int, Callable[[Made, Path], object]] = {  # and how a good shard comes to it
    10: lambda made, trust: unsign(made),
    20: lambda made, trust: spoil(made),
    21: lambda made, trust: edit(made.attestation, '"sig":"', '"sig":"AAAA'),
    22: lambda made, trust: made.sign(STRANGER),
    23: lambda made, trust: edit(trust, "2024-01-01", "2099-01-01"),
    24: lambda made, trust: made.attestation.write_bytes(made.attestation.read_bytes() * 2),
    26: lambda made, trust: edit(trust, '"expires": "2100', '"expires": "2025'),
    50: lambda made, trust: made.attestation.write_bytes(b"{}\n"),
    60: lambda made, trust: made.file("thumbnail").unlink(),
}


@pytest.mark.parametrize("code", EXIT_CODES)
def test_attack_67_json_text_and_exit_code_say_the_same(
    made: Made, trust: Path, tmp_path: Path, code: int
) -> None:
    EXIT_CODES[code](made, trust)
    text = run("verify", made.folder, "--trust", trust, cwd=tmp_path)
    as_json = run("verify", made.folder, "--trust", trust, "--json", cwd=tmp_path)
    assert text.returncode == as_json.returncode == code
    (report,) = json.loads(as_json.stdout)
    assert report["exitCode"] == code
    assert report["outcome"] in text.stdout.splitlines()[0]
    assert "Traceback" not in text.stderr + as_json.stderr


def test_a_level_above_what_was_reached_is_incomplete(made: Made, trust: Path, tmp_path: Path) -> None:
    ran = run("verify", made.folder, "--trust", trust, "--require", "5", cwd=tmp_path)
    assert ran.returncode == 11
    assert "INCOMPLETE" in ran.stdout


def test_attack_67_one_bad_target_among_good_ones_is_never_zero(
    made: Made, trust: Path, tmp_path: Path
) -> None:
    bad = make_shard(tmp_path / "s2" / "bad", make_rows(3), item_id="bad")
    spoil(bad)
    for targets in (
        [made.folder, bad.folder],
        [bad.folder, made.folder],
        [made.folder, bad.folder, made.folder],
    ):
        ran = run("verify", *targets, "--trust", trust, cwd=tmp_path)
        assert ran.returncode == 20
        assert ran.stdout.count("VERIFIED") == len(targets) - 1
    ran = run("verify", made.folder, tmp_path / "none", bad.folder, "--trust", trust, "--json", cwd=tmp_path)
    assert ran.returncode == 20  # stands before 60
    assert [report["exitCode"] for report in json.loads(ran.stdout)] == [0, 60, 20]


def test_attack_67_control_characters_in_names_are_escaped(made: Made, trust: Path, tmp_path: Path) -> None:
    evil = tmp_path / "a\x1b[2Jb\u202ec\n signature  ok     producer x"
    made.folder.rename(evil)
    for ran in (
        run("verify", evil, "--trust", trust, cwd=tmp_path),
        run("verify", evil / "none", "--trust", trust, cwd=tmp_path),
    ):
        for raw in ("\x1b", "\u202e", "\n signature  ok     producer x"):
            assert raw not in ran.stdout + ran.stderr
        assert "\\x1b[2J" in ran.stdout


def test_attack_67_control_characters_from_the_item_are_escaped(
    made: Made, trust: Path, tmp_path: Path
) -> None:
    item = made.item
    item["assets"]["x\x1b[2J\n VERIFIED"] = item["assets"]["thumbnail"]
    made.write_item(item)
    ran = run("verify", made.folder, "--trust", trust, cwd=tmp_path)
    assert ran.returncode == 50
    assert "\x1b" not in ran.stdout
    assert not any(line.startswith(" VERIFIED") for line in ran.stdout.splitlines())


def test_attack_67_a_reader_that_has_gone_is_no_success(made: Made, trust: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        command(["verify", made.folder, "--trust", trust]), stdout=writer, stderr=subprocess.PIPE,
        env=environment_of(tmp_path, {}), cwd=tmp_path, text=True,
    ) as process:  # fmt: skip
        os.close(writer)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in errors


def test_attack_68_no_policy_is_taken_from_the_current_folder(
    made: Made, trust: Path, tmp_path: Path
) -> None:
    for folder in (tmp_path, made.folder):
        for name in ("policy.json", "trust/policy.json", ".eocat/policy.json", "eocat.toml", ".env"):
            (folder / name).parent.mkdir(exist_ok=True)
            if folder / name != trust:
                (folder / name).write_text(trust.read_text())
        ran = run("verify", made.folder, cwd=folder)
        assert ran.returncode == 5
        assert ran.stderr.startswith("eocat: error: trust policy")
        assert "hint: " in ran.stderr


def test_attack_68_there_is_no_way_to_be_lax(tmp_path: Path) -> None:
    told = run("verify", "--help", cwd=tmp_path).stdout
    assert not any(word in told.lower() for word in ("insecure", "skip", "no-check", "ignore"))
    for option in ("--insecure", "--no-verify", "--force", "--allow-unsigned"):
        assert run("verify", "x", option, cwd=tmp_path).returncode == 2


def test_the_policy_of_the_home_folder_is_the_default(made: Made, trust: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "trust").mkdir(parents=True)
    (tmp_path / "home" / "trust" / "policy.json").write_text(trust.read_text())
    assert run("verify", made.folder, cwd=tmp_path).returncode == 0


def test_a_bad_policy_is_malformed(made: Made, trust: Path, tmp_path: Path) -> None:
    trust.write_text("{}")
    ran = run("verify", made.folder, "--trust", trust, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (50, "")
    assert ran.stderr.startswith("eocat: error: policy:")


@pytest.mark.parametrize(
    "value",
    [
        [],
        5,
        None,
        "x",
        {"properties": 5},
        {"properties": ["eocat:proof"]},
        {"assets": {"a": {"href": "http://["}}},
    ],
)
def test_any_json_file_gets_an_outcome(value: Any, trust: Path, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps(value))
    ran = run("verify", "file.json", "--trust", trust, cwd=tmp_path)
    assert ran.returncode == 50
    assert "unexpected" not in ran.stderr


def test_no_target_is_a_wrong_call(tmp_path: Path) -> None:
    assert run("verify", cwd=tmp_path).returncode == 2
    assert run("verify", "x", "--require", "9", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("seed", ["0" * 63, "A" * 64, "Random", ""])
def test_a_seed_is_the_word_random_or_32_bytes(seed: str, made: Made, trust: Path, tmp_path: Path) -> None:
    ran = run("verify", made.folder, "--trust", trust, "--recompute", "3", "--seed", seed, cwd=tmp_path)
    assert ran.returncode == 2
    assert "64 lower-case hex digits" in ran.stderr


def test_a_seed_without_rows_to_draw_is_a_wrong_call(made: Made, trust: Path, tmp_path: Path) -> None:
    ran = run("verify", made.folder, "--trust", trust, "--seed", "random", cwd=tmp_path)
    assert ran.returncode == 2
    assert "--recompute" in ran.stderr
