"""The load test of load_run.py, short: no wrong answer and no lost write across a restart of the database."""

from pathlib import Path

from load_run import begun, judged, run


def test_a_restart_of_the_database_under_load(short_home: Path, tmp_path: Path) -> None:
    with begun(short_home, shards=12) as load:
        run(load, clients=4, writers=2, seconds=16, away_s=2)
        findings = judged(load, tmp_path)
    assert not any(findings.values()), findings
    assert load.faults  # the restart was felt
    assert all(load.took_s[kind] for kind in ("search", "similar", "proof", "register"))
    assert len(load.acknowledged) > 3
