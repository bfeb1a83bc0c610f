"""What making a shard took: device, precision, duration, and energy where the machine measures it.

The bytes of a shard do not depend on its receipt, which stands in the statement's `environment` and in the
Item's `emb:energy`. A run's time is dealt out to its shards without gap or overlap, from the end of one's
encoding to the end of the next one's, so that sums over shards are true. Energy is what counters of the
machine say of that time (energy.py), whatever else ran on it; where none can be read, none is stated.
"""

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .encoders import Encoder
from .energy import Counter, counters


@dataclass(frozen=True, slots=True)
class Receipt:
    """device: "cpu" or "cuda:0"; processor: its name. energy_mj: millijoules; None: not measured."""

    device: str
    processor: str
    precision: str
    milliseconds: int
    energy_mj: int | None = None
    energy_source: str | None = None

    def statement_fields(self) -> dict[str, Any]:
        """Members of the statement's `environment`: integers and text."""
        fields = {
            "device": self.device,
            "processor": self.processor,
            "precision": self.precision,
            "duration_ms": self.milliseconds,
        }
        if self.energy_mj is not None:
            fields |= {"energy_mj": self.energy_mj, "energy_source": self.energy_source}
        return fields

    def item_field(self) -> dict[str, Any]:
        """`emb:energy` of the embeddings extension."""
        seconds = self.milliseconds / 1000
        field: dict[str, Any] = {
            "device_type": "cpu" if self.device == "cpu" else "gpu",
            "name": self.processor,
            "platform": f"{platform.system()} {platform.machine()}",
            "inference_duration_s": seconds,
        }
        if self.energy_mj is not None:
            field["energy_kwh"] = self.energy_mj / 3.6e9
            if seconds:
                field["avg_power_w"] = round(self.energy_mj / 1000 / seconds, 3)
        return field


class Meter:
    """Clock and energy counters of a run with one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self._device, self._precision = str(encoder.device), encoder.precision
        self._processor = processor_name(self._device)
        self._counters: list[Counter] = counters(self._device)
        self._began = time.perf_counter()

    def lap(self) -> Receipt:
        """The receipt of what was done since the lap before, or since the start."""
        now = time.perf_counter()
        milliseconds, self._began = round(1000 * (now - self._began)), now
        used = [counter.used_mj() for counter in self._counters]
        told = [millijoules for millijoules in used if millijoules is not None]
        measured = bool(told) and len(told) == len(used)
        return Receipt(
            device=self._device,
            processor=self._processor,
            precision=self._precision,
            milliseconds=milliseconds,
            energy_mj=sum(told) if measured else None,
            energy_source=", ".join(counter.name for counter in self._counters) if measured else None,
        )


def processor_name(device: str) -> str:
    """The name that the device gives itself."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text("utf-8", "replace").splitlines() if cpuinfo.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()[:200]
    return platform.processor() or platform.machine()
