"""On a CUDA device: are the bits of `exact` those of the CPU, and how many chips a second go through.

    python tests/benchmarks/gpu.py [--seconds 5] [--image 224]

Prints NOT RUN where torch sees no CUDA device. What is measured:

bits       every shipped bank and both kernels on 64 chips: the vectors' SHA-256 on CPU and CUDA must be equal
exact      chips of 224×224×13 per second through `encode`, from host memory to host memory
ViT-B/16   random weights, 13 bands, classes fp32 and bf16: the net alone on chips that are there already, and
           the whole of `encode` from uint16 in host memory (pinned double buffering); ResNet50 likewise
copies     bytes per second of that double buffering with nothing to compute
"""

import argparse
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from eocat.producer.encoders.bank import BANKS, Weights, read_bank
from eocat.producer.encoders.contract import draw_pixels
from eocat.producer.encoders.device import device_batches
from eocat.producer.encoders.exact import ExactEncoder, Kernel
from eocat.producer.encoders.nets import build_net
from eocat.producer.encoders.precision import Precision
from eocat.producer.encoders.published import DTYPES, PublishedEncoder
from eocat.producer.encoders.registry import find_entry

NO_FILE = Weights("random", "0" * 64, "0" * 64, 1)
KERNELS: tuple[Kernel, ...] = ("int8", "float64")
CHIPS = 1024


def check_bits() -> bool:
    same = True
    for name in sorted(BANKS):
        cpu = ExactEncoder(read_bank(name), device="cpu")
        pixels = draw_pixels(cpu, 64, 96)
        expected = hashlib.sha256(cpu.encode(pixels, offset=0).tobytes()).hexdigest()
        for kernel in KERNELS:
            found = ExactEncoder(read_bank(name), device="cuda", kernel=kernel).encode(pixels, offset=0)
            equal = hashlib.sha256(found.tobytes()).hexdigest() == expected
            same &= equal
            print(f"bits: {name}, {kernel}: {'the same' if equal else 'DIFFERENT'} ({expected[:16]}…)")
    return same


def rate(work: Callable[[], object], chips: int, seconds: float) -> float:
    """Chips per second of wall time, after one round to warm up; ends with the device idle."""
    work()
    torch.cuda.synchronize()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        torch.cuda.synchronize()
        rounds += 1
    return rounds * chips / (time.perf_counter() - began)


def random_encoder(name: str, precision: Precision) -> PublishedEncoder:
    """The registry's encoder with random weights: its rate does not depend on them."""
    entry = find_entry(name)
    torch.manual_seed(0)
    net = build_net(entry.model.architecture, dict(entry.model.parameters))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return PublishedEncoder(replace(entry), net, NO_FILE, device="cuda", precision=precision)


def nets(pixels: NDArray[np.uint16], seconds: float) -> None:
    names = {"ViT-B/16": "ssl4eo-s12-vitb16-mae-s2", "ResNet50": "ssl4eo-s12-resnet50-moco-s2"}
    classes: tuple[Precision, ...] = ("fp32", "bf16")
    for title, name in names.items():
        for precision in classes:
            encoder = random_encoder(name, precision)
            images = torch.randn(256, len(encoder.bands), 224, 224, device="cuda", dtype=DTYPES[precision])
            if title == "ResNet50":
                images = images.to(memory_format=torch.channels_last)

            def forward(net: torch.nn.Module = encoder.net, images: torch.Tensor = images) -> None:
                with torch.inference_mode():
                    net(images)

            alone = rate(forward, len(images), seconds)
            whole = rate(lambda encoder=encoder: encoder.encode(pixels, offset=0), len(pixels), seconds)
            print(f"{title}, {precision}: net alone {alone:,.0f} chips/s, encode {whole:,.0f} chips/s")


def copies(pixels: NDArray[np.uint16], seconds: float) -> None:
    device = torch.device("cuda")
    chips = rate(lambda: [None for _ in device_batches(pixels, 128, device)], len(pixels), seconds)
    print(f"copies: {chips:,.0f} chips/s, {chips * pixels[0].nbytes / 1e9:.1f} GB/s of uint16")


def main() -> None:
    parser = argparse.ArgumentParser(description="bits and rates on a CUDA device")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    parser.add_argument("--image", type=int, default=224, help="edge of the chips in host memory")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"NOT RUN: torch {torch.__version__} sees no CUDA device")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    same = check_bits()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 6000, (CHIPS, 13, args.image, args.image)).astype(np.uint16)
    exact = ExactEncoder(read_bank("exact-s2-l1c"), device="cuda")
    chips = rate(lambda: exact.encode(pixels, offset=0), CHIPS, args.seconds)
    print(f"exact-s2-l1c, {exact.kernel}: {chips:,.0f} chips/s")
    nets(pixels, args.seconds)
    copies(pixels, args.seconds)
    if not same:
        raise SystemExit("the bits of exact differ between CPU and CUDA")


if __name__ == "__main__":
    main()
