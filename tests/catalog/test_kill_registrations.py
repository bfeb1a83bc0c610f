"""A short run of kill_registrations.py: some registrations, some `kill -9`, nothing lost or doubled."""

from pathlib import Path

from kill_registrations import begun, findings, run


def test_kills_at_random_moments_lose_and_double_nothing(short_home: Path) -> None:
    with begun(short_home, seed=3) as killing:
        run(killing, shards=8, kills=4)
        found = findings(killing, 8, short_home / "fetched")
    assert killing.kills
    assert not any(found.values()), found
