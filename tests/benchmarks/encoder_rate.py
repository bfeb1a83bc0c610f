"""Chips of 224×224×13 per core-second: the exact encoder beside a ResNet50 (docs/benchmarks.md).

    python tests/benchmarks/encoder_rate.py

All run on one thread in turns in one process, and the CPU time of the process is counted, so that other load
on the machine weighs on both alike. The ResNet50 has random weights: only its shape matters here.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from eocat.producer.encoders.bank import read_bank
from eocat.producer.encoders.exact import ExactEncoder


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut (He et al. 2016, table 1)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(inputs, width, 1, 1), nn.ReLU(True),
            convolution(width, width, 3, stride), nn.ReLU(True),
            convolution(width, 4 * width, 1, 1),
        )  # fmt: skip
        reshapes = stride > 1 or inputs != 4 * width
        self.shortcut = convolution(inputs, 4 * width, 1, stride) if reshapes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    """Without batch norm, which folds into the convolution at inference: the faster, fairer rival."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


def resnet50(channels: int) -> nn.Module:
    layers: list[nn.Module] = [convolution(channels, 64, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for place in range(depth):
            layers.append(Bottleneck(inputs, width, stride if place == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def core_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="chips of 224×224×13 per core-second")
    parser.add_argument("--chips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 6000, (args.chips, 13, 224, 224)).astype(np.uint16)
    images = torch.from_numpy(pixels.astype(np.float32) / 10000)
    bank = read_bank("exact-s2-l1c")
    exact = {f"{bank.name}, int8": ExactEncoder(bank, device="cpu", kernel="int8")}
    exact[f"{bank.name}, float64"] = ExactEncoder(bank, device="cpu", kernel="float64")
    works: dict[str, Callable[[], object]] = {
        name: partial(encoder.encode, pixels, offset=0) for name, encoder in exact.items()
    }
    for dtype in (torch.bfloat16, torch.float32):  # what is faster depends on the CPU
        network = resnet50(13).eval().to(dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it
        works[f"resnet50, {dtype}, channels_last"] = partial(
            network, images.to(dtype=dtype, memory_format=torch.channels_last)
        )
    with torch.inference_mode():
        rounds = [{name: core_seconds(work) for name, work in works.items()} for _ in range(args.rounds + 1)]
    for name in works:  # the first round warms up
        print(
            f"{name}: {args.chips / statistics.median(r[name] for r in rounds[1:]):.1f} chips per core-second"
        )


if __name__ == "__main__":
    main()
