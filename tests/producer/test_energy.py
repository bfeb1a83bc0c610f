"""Measured energy: RAPL on a made powercap tree, NVML by a library of the same functions, and receipts."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eocat.producer import receipt
from eocat.producer.encoders import load_encoder
from eocat.producer.energy import Counter, counters

WRAP = 262_143_328_850  # µJ, of a real package
UUID = "2f0d5b5e-0d8f-5c0e-9a0c-3c1f5a2d7b11"


def zone(tree: Path, number: str, name: str, energy: int | str, *, wrap: int = WRAP) -> Path:
    """A zone as Linux shows it, such as /sys/class/powercap/intel-rapl:0; its energy_uj."""
    folder = tree / f"intel-rapl:{number}"
    folder.mkdir()
    for file, content in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", wrap)):
        (folder / file).write_text(f"{content}\n")
    return folder / "energy_uj"


def used(found: list[Counter]) -> list[int | None]:
    return [counter.used_mj() for counter in found]


def test_packages_and_memory_are_counted_and_cores_are_part_of_their_package(tmp_path: Path) -> None:
    files = [
        zone(tmp_path, "0", "package-0", 5_000_000),
        zone(tmp_path, "0:0", "core", 1),
        zone(tmp_path, "0:1", "dram", 7_000_000),
        zone(tmp_path, "1", "package-1", 0),
        zone(tmp_path, "2", "psys", 9),
    ]
    (tmp_path / "intel-rapl-mmio:0").mkdir()  # the same package by another way: it would count twice
    found = counters("cpu", tmp_path)
    assert [counter.name for counter in found] == ["rapl package-0", "rapl dram", "rapl package-1"]
    for file, energy in zip(files, (6_500_000, 999, 7_250_000, 4_000, 10**9), strict=True):
        file.write_text(f"{energy}\n")
    assert used(found) == [1500, 250, 4]
    assert used(found) == [0, 0, 0]


def test_a_counter_that_starts_again_is_followed_around(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", WRAP - 2_000_000)
    found = counters("cpu", tmp_path)
    file.write_text("3000000")
    assert used(found) == [5000]
    file.write_text("4000000")
    assert used(found) == [1000]


def test_less_than_a_millijoule_is_not_lost(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 0)
    found = counters("cpu", tmp_path)
    laps = []
    for energy in range(700, 7001, 700):
        file.write_text(str(energy))
        laps += used(found)
    assert sum(lap for lap in laps if lap) == 7
    assert all(lap in (0, 1) for lap in laps)


def unreadable(tree: Path) -> None:
    (tree / "intel-rapl:1" / "energy_uj").unlink()


def no_number(tree: Path) -> None:
    (tree / "intel-rapl:1" / "energy_uj").write_text("not now")


def no_range(tree: Path) -> None:
    (tree / "intel-rapl:0" / "max_energy_range_uj").unlink()


@pytest.mark.parametrize("damage", [unreadable, no_number, no_range])
def test_one_package_that_cannot_be_read_leaves_none_to_state(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Half of the machine's energy would pass for all of it."""
    for number in "01":
        zone(tmp_path, number, f"package-{number}", 0)
    damage(tmp_path)
    assert counters("cpu", tmp_path) == []


def test_a_machine_without_rapl_has_no_counter(tmp_path: Path) -> None:
    assert counters("cpu", tmp_path) == []
    assert counters("cpu", tmp_path / "nowhere") == []


def test_what_fails_or_is_set_back_meanwhile_is_not_stated_and_goes_on_from_there(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 0, wrap=0)
    found = counters("cpu", tmp_path)
    file.write_text("2000000")
    assert used(found) == [2000]
    file.unlink()
    assert used(found) == [None]
    file.write_text("9000000")
    assert used(found) == [None], "the time that it covers is not this lap's alone"
    file.write_text("9500000")
    assert used(found) == [500]
    file.write_text("1000")
    assert used(found) == [None], "set back, with no range to add"
    file.write_text("4000")
    assert used(found) == [3]


class Nvml:
    """libnvidia-ml's three functions, as ctypes calls them; 0 is success."""

    def __init__(self) -> None:
        self.energy, self.error, self.asked = 40_000, 0, b""

    def nvmlInit_v2(self) -> int:  # noqa: N802 - its name
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        self.asked = uuid
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, energy: Any) -> int:  # noqa: N802
        energy._obj.value = self.energy
        return self.error


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    library = Nvml()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
    return library


def test_a_gpu_s_total_is_read_in_millijoules_beside_the_processor_s(tmp_path: Path, nvml: Nvml) -> None:
    zone(tmp_path, "0", "package-0", 0)
    found = counters("cuda:1", tmp_path)
    assert [counter.name for counter in found] == ["rapl package-0", "nvml"]
    assert nvml.asked == f"GPU-{UUID}".encode(), "by UUID: NVML numbers GPUs otherwise than CUDA"
    nvml.energy += 1234
    assert used(found) == [0, 1234]
    nvml.error = 999
    assert used(found) == [0, None]


def test_a_gpu_that_counts_no_energy_has_no_counter(tmp_path: Path, nvml: Nvml) -> None:
    nvml.error = 3  # not supported: older than Volta
    assert counters("cuda", tmp_path) == []


def test_a_receipt_states_the_sum_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (zone(tmp_path, number, f"package-{number}", 0) for number in "01")
    monkeypatch.setattr(receipt, "counters", lambda device: counters(device, tmp_path))
    meter = receipt.Meter(load_encoder("exact-s1", ("VV", "VH")))
    first.write_text("3000000")
    second.write_text("500000")
    stated = meter.lap()
    assert (stated.energy_mj, stated.energy_source) == (3500, "rapl package-0, rapl package-1")
    assert stated.item_field()["energy_kwh"] == 3500 / 3.6e9
    second.unlink()
    silent = meter.lap()
    assert (silent.energy_mj, silent.energy_source) == (None, None)
    assert "energy_mj" not in silent.statement_fields()
    assert "energy_kwh" not in silent.item_field()
