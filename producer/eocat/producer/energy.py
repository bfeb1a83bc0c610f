"""Energy counters of the machine: RAPL for processors (Linux powercap), NVML for NVIDIA GPUs.

RAPL counts microjoules of each package, and of its memory where that stands apart. It wraps around, and since
2020 mostly root alone may read it. NVML counts millijoules of a GPU since the driver was loaded. RAPL of some
packages alone is not stated: half of a machine's energy would pass for all of it.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

POWERCAP: Final = Path("/sys/class/powercap")


class Counter:
    """A counter of energy. read: its state, `per_mj` units a millijoule; wrap: where it starts again."""

    def __init__(
        self, name: str, read: Callable[[], int], *, per_mj: int = 1, wrap: int | None = None
    ) -> None:
        self.name, self._read, self._per_mj, self._wrap = name, read, per_mj, wrap
        self._before: int | None = read()

    def used_mj(self) -> int | None:
        """Millijoules since the last call, or since the counter was made; None if they cannot be told.

        A wrap in between is seen once. What is less than a millijoule is counted by the next call.
        """
        before, self._before = self._before, None
        try:
            now = self._read()
        except (OSError, ValueError):
            return None
        self._before = now
        if before is None:
            return None
        used = now - before + (self._wrap or 0) * (now < before)
        if used < 0:  # it was set back
            return None
        millijoules, rest = divmod(used, self._per_mj)
        self._before = now - rest
        return millijoules


def counters(device: str, powercap: Path = POWERCAP) -> list[Counter]:
    """Those that can be read here: the processor's always, the GPU's if the device is one."""
    found = _rapl(powercap)
    if device != "cpu" and (gpu := _nvml(device)):
        found.append(gpu)
    return found


def _rapl(powercap: Path) -> list[Counter]:
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text("ascii").strip()
            if not name.startswith(("package", "dram")):  # cores are part of their package
                continue
            wrap = int((zone / "max_energy_range_uj").read_text("ascii"))
            found.append(Counter(f"rapl {name}", _file_reader(zone / "energy_uj"), per_mj=1000, wrap=wrap))
        except (OSError, ValueError):  # not for us to read
            return []
    return found


def _file_reader(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text("ascii"))


def _nvml(device: str) -> Counter | None:
    """The GPU that torch calls `device`, found by its UUID: the order of NVML is another."""
    import torch

    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    handle, energy = ctypes.c_void_p(), ctypes.c_ulonglong()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
        return None

    def read() -> int:
        if error := library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy)):
            raise OSError(f"NVML gives no energy: error {error}")
        return int(energy.value)

    try:
        return Counter("nvml", read)
    except OSError:  # older than Volta
        return None
