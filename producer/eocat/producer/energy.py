"""Energy counters of the machine: RAPL for processors (Linux powercap), NVML for NVIDIA GPUs.

RAPL counts microjoules of each package, and of its memory where that stands apart. It wraps around, and since
2020 mostly root alone may read it. NVML counts millijoules of a GPU since the driver was loaded.
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
        self._before = read()

    def used_mj(self) -> int:
        """Millijoules since the last call, or since the counter was made. A wrap in between is seen once."""
        now = self._read()
        used = now - self._before
        if used < 0 and self._wrap:
            used += self._wrap
        self._before = now
        return max(0, used) // self._per_mj


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
        except (OSError, ValueError):  # not for us to read: then it is not stated
            continue
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
    if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy)):
        return None  # older than Volta

    def read() -> int:
        library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy))
        return int(energy.value)

    return Counter("nvml", read)
