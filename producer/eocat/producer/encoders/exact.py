"""The default encoder: MOSAIKS in integers, so that anyone who recomputes a vector gets the same bits.

Random convolutional features (Rolf et al. 2021, doi:10.1038/s41467-021-24638-z) as DESIGN section 3 has them:
each band shifted to 15 bits, int8 filters from ZCA-whitened patches, the positive and the negative part of
every response summed over the chip, square root, L2 norm, float16. All up to the pooled sums is in whole
numbers, exact in any order, so that batch, threads, blocks and device cannot show. The rest is one correctly
rounded float64 operation after the other on each number. Patches come from `fit_bank.py`, banks by `bank.py`.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from eocat.verify.errors import ConfigError, InputError

from .bank import Bank, Weights
from .device import choose_device
from .precision import Precision, tolerance_of

Kernel = Literal["int8", "float64"]

LOW_BITS = 7  # x = 128·high + low
X_MAX = (1 << 14) - 1  # x is a signed 15-bit integer: -16384..16383
ROW_MULTIPLE = 64  # of a block: CUDA's int8 GEMM wants over 16 rows, and `_sum_rows` a power of two
CUDA_BLOCK_ROWS = 1 << 16
CPU_BLOCK_ROWS: dict[Kernel, int] = {"int8": 2048, "float64": 512}  # their responses stay in the cache


@lru_cache(maxsize=1)
def int8_is_quick() -> bool:
    """Whether the CPU multiplies int8 faster than float64; without VNNI or AMX it takes 20 times as long."""
    eight = torch.ones((256, 128), dtype=torch.int8)
    sixty_four = eight.double()
    try:
        int8 = _least_seconds(lambda: torch._int_mm(eight, eight.t()))
    except RuntimeError:  # torch has no such product here
        return False
    return int8 < _least_seconds(lambda: torch.mm(sixty_four, sixty_four.t()))


def _least_seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


class ExactEncoder:
    """Integer MOSAIKS with one filter bank; passes the contract `Encoder`.

    device: "auto", "cpu", "cuda", "cuda:N". kernel: the product in int8, of two halves of the pixels, or in
    float64, where every partial sum is a whole number below 2^53; by default the quicker here that gives the
    bank's known answer (int8 saturated silently on some CPUs). block_rows: pixels per product. None of these
    changes a bit of any vector. Threads: torch's, set by the caller.
    """

    dtype = "float16"
    precision: Precision = "exact"
    tolerance: dict[str, Any] = tolerance_of("exact")

    def __init__(
        self, bank: Bank, *, device: str = "auto", kernel: Kernel | None = None, block_rows: int | None = None
    ) -> None:
        self.name = bank.name
        self.version: str = bank.facts["version"]
        self.licence: str = bank.facts["licence"]
        self.bands = bank.bands
        self.min_size: int = bank.filters.shape[0]
        self.dimension: int = 2 * bank.filters.shape[3]
        self.weights: tuple[Weights, ...] = (bank.file,)
        self.device = choose_device(device)
        self._eight_bits = bank.facts["depth"] == 8
        self._signed = bool(bank.facts.get("signed", False))
        self._load_filters(bank)
        self._choose_kernel(bank, kernel, block_rows)

    def _load_filters(self, bank: Bank) -> None:
        count = bank.filters.shape[3]
        flat = torch.from_numpy(bank.filters.reshape(-1, count).T.copy())
        depth = -(-flat.shape[1] // 8) * 8  # CUDA's int8 GEMM wants multiples of 8; the padding is zero
        self._filters = torch.zeros((count, depth), dtype=torch.int8, device=self.device)
        self._filters[:, : flat.shape[1]] = flat.to(self.device)
        self._bank = bank
        self._offsets = torch.from_numpy(bank.offsets.copy()).to(self.device)[:, None, None]
        shifts = torch.from_numpy(bank.shifts.astype(np.int32)).to(self.device)[:, None, None]
        self._factors, self._right = 1 << shifts.clamp(min=0), (-shifts).clamp(min=0)
        heaviest = int(flat.to(torch.int64).abs().sum(1).max())  # largest L1 norm of a filter
        response = heaviest * (X_MAX + 1)  # bound of |y|
        if response >= 2**31:
            raise InputError(f"filters of bank {bank.name} are too large for exact sums")
        self._group = 1  # rows that can be summed in int32 before int64 is needed
        while self._group < ROW_MULTIPLE and 2 * self._group * response < 2**31:
            self._group *= 2

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architecture": "MOSAIKS random convolutional features, integer",
            "filters": len(self._filters),
            "filter_size": self.min_size,
            "arithmetic": "int15 pixels, int7 filters, int64 sums",
            "pooling": "sums of the positive and of the negative parts over all valid positions",
            "normalisation": "sqrt(sum / total) in float64, rounded once to float16",
            "dimension": self.dimension,
        }

    @property
    def preprocess(self) -> dict[str, Any]:
        return {
            "bands": list(self.bands),
            "input": self._input(),
            "offsets": self._bank.offsets.tolist(),
            "shifts": self._bank.shifts.tolist(),
            "clip": [-X_MAX - 1, X_MAX],
        }

    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        """(N, 512) float16 of chips (N, C, H, W); see `Encoder.encode`.

        InputError for pixels of another shape or depth, and for a chip whose pooled sums are all zero (every
        response is 0, as in a constant chip at the bank's offsets): it has no direction, so no vector. Chips
        without data are the pipeline's to drop before this.
        """
        self._check(pixels, offset)
        vectors = np.empty((len(pixels), self.dimension), np.float16)
        for row, chip in enumerate(pixels):
            sums = self.pooled_sums(chip, offset=offset)
            if not sums.any():
                raise InputError(
                    f"chip in row {row} has no vector: every filter response is zero",
                    hint="drop chips that are constant or without data before encoding",
                )
            vectors[row] = normalise(sums)
        return vectors

    def _check(self, pixels: NDArray[np.integer[Any]], offset: int) -> None:
        channels = len(self.bands)
        if pixels.ndim != 4 or pixels.shape[1] != channels or min(pixels.shape[2:]) < self.min_size:
            raise InputError(
                f"pixels for {self.name} must be (N, {channels}, H, W) with H, W ≥ {self.min_size}, "
                f"found {pixels.shape}"
            )
        if (pixels.dtype == np.uint8) != self._eight_bits or not (
            np.issubdtype(pixels.dtype, np.integer) and np.can_cast(pixels.dtype, np.int32)
        ):
            expected = "uint8" if self._eight_bits else "uint16, int16 or int32"
            raise InputError(f"pixels for {self.name} must be {expected}, found {pixels.dtype}")
        if not 0 <= offset <= 10_000 or (offset and self._signed):
            raise InputError(f"DN offset must lie in 0..10000, and be 0 for decibels, found {offset}")

    def _input(self) -> str:
        if self._signed:
            return "backscatter in 0.01 dB"
        return "uint8" if self._eight_bits else "DN after max(0, DN - scene offset)"

    def pooled_sums(self, chip: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.int64]:
        """int64 (2F,): Σ max(y, 0) of every filter over the chip (C, H, W), then Σ max(-y, 0).

        Σ y is linear in the pixels and comes from their sums alone, so the responses are summed once.
        """
        x = self._shift(chip, offset)
        positive = self._by_int8(x) if self.kernel == "int8" else self._by_float64(x)
        total = self._window_sums(x) @ self._bank.filters.reshape(-1, len(positive)).astype(np.int64)
        found: NDArray[np.int64] = positive.cpu().numpy()
        return np.concatenate([found, found - total])

    def _by_int8(self, x: torch.Tensor) -> torch.Tensor:
        """int64 (F,): sums of the positive responses to x int32 (C, H, W), by VNNI, AMX or CUDA."""
        high, low = _split(x)
        filters = self._filters.t()
        patches, (lower, upper) = self._memory(x, torch.int8, torch.int32, products=2)
        positive = torch.zeros(len(self._filters), dtype=torch.int64, device=self.device)
        for top, shape, used in self._blocks(x):
            torch._int_mm(self._fill_patches(patches[:used], low, top, shape), filters, out=lower[:used])
            torch._int_mm(self._fill_patches(patches[:used], high, top, shape), filters, out=upper[:used])
            y = lower[:used].add_(upper[:used], alpha=1 << LOW_BITS)
            positive += self._sum_rows(y.clamp_(min=0))
        return positive

    def _by_float64(self, x: torch.Tensor) -> torch.Tensor:
        """The same on any machine."""
        plane = x.permute(1, 2, 0).contiguous().to(torch.float64)
        filters = self._filters.t().to(torch.float64)
        patches, (responses,) = self._memory(x, torch.float64, torch.float64, products=1)
        positive = torch.zeros(len(self._filters), dtype=torch.int64, device=self.device)
        for top, shape, used in self._blocks(x):
            self._fill_patches(patches[:used], plane, top, shape)
            y = torch.mm(patches[:used], filters, out=responses[:used])
            positive += y.clamp_(min=0).sum(0).to(torch.int64)
        return positive

    def _blocks(self, x: torch.Tensor) -> Iterator[tuple[int, tuple[int, int], int]]:
        """(first row, (rows, columns), padded number) of the filters' places, block by block."""
        rows, columns = (edge - self.min_size + 1 for edge in x.shape[1:])
        step = min(rows, max(1, self._block_rows // columns))
        for top in range(0, rows, step):
            shape = (min(step, rows - top), columns)
            yield top, shape, _padded(shape[0] * shape[1])

    def _memory(
        self, x: torch.Tensor, patch: torch.dtype, response: torch.dtype, *, products: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of patches and responses, one for all blocks: fresh memory costs more than the product."""
        _, _, rows = next(self._blocks(x))
        count, depth = self._filters.shape
        patches = torch.zeros((rows, depth), dtype=patch, device=self.device)
        return patches, torch.empty((products, rows, count), dtype=response, device=self.device)

    def _shift(self, chip: NDArray[np.integer[Any]], offset: int) -> torch.Tensor:
        """The 15-bit pixels x, int32 (C, H, W)."""
        x = torch.from_numpy(chip.astype(np.int32, order="C")).to(self.device)
        low, high = (-(1 << 15), (1 << 15) - 1) if self._signed else (0, (1 << 16) - 1)
        x = x.sub_(offset).clamp_(low, high).sub_(self._offsets)
        return x.mul_(self._factors).bitwise_right_shift_(self._right).clamp_(-X_MAX - 1, X_MAX)

    def _window_sums(self, x: torch.Tensor) -> NDArray[np.int64]:
        """int64 (k·k·C,): for each place of a filter, the sum of the pixels that it meets over all positions.

        It is the sum of the whole chip less the rows and columns at its borders that the place never meets.
        """
        k = self.min_size

        def inner(sums: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            """(…, k) of sums over the last axis of `values` without the first i and the last k-1-i."""
            ends = values.shape[-1] - k + 1
            parts = [sums - values[..., :i].sum(-1) - values[..., ends + i :].sum(-1) for i in range(k)]
            return torch.stack(parts, -1)

        fits = x.shape[2] * (X_MAX + 1) < 2**31  # summing in int64 would first copy all of x
        rows = x.sum(2, dtype=torch.int32 if fits else torch.int64).to(torch.int64)
        columns = inner(rows, x).transpose(1, 2)  # (C, k of columns, H)
        both = inner(columns.sum(2), columns)  # (C, k of columns, k of rows)
        windows: NDArray[np.int64] = both.permute(2, 1, 0).reshape(-1).cpu().numpy()
        return windows

    def _fill_patches(
        self, patches: torch.Tensor, plane: torch.Tensor, top: int, shape: tuple[int, int]
    ) -> torch.Tensor:
        """im2col into `patches`: (R, K) of the k×k×C windows of rows top…, R and K zero-padded.

        A zero row adds 0. Rows beyond a shorter last block still hold the block before, and are cleared.
        """
        (rows, columns), k, depth = shape, self.min_size, self._filters.shape[1]
        _, width, channels = plane.shape
        patches[rows * columns :].zero_()
        run, line = k * channels, width * channels
        source = plane.as_strided((rows, columns, k, run), (line, channels, line, 1), top * line)
        patches.as_strided((rows, columns, k, run), (columns * depth, depth, run, 1)).copy_(source)
        return patches

    def _sum_rows(self, y: torch.Tensor) -> torch.Tensor:
        """int64 (F,) sums of int32 (R, F): first groups of rows that cannot overflow int32, much faster."""
        groups = y.view(self._group, -1, y.shape[1]).sum(0, dtype=torch.int32)
        return groups.sum(0, dtype=torch.int64)

    def _choose_kernel(self, bank: Bank, kernel: Kernel | None, block_rows: int | None) -> None:
        chip, refused = known_chip(len(bank.bands), bank.facts["depth"]), []
        cuda = self.device.type == "cuda"
        order: tuple[Kernel, ...] = ("int8", "float64") if cuda or int8_is_quick() else ("float64", "int8")
        for name in (kernel,) if kernel else order:
            self.kernel = name
            self._block_rows = block_rows or (CUDA_BLOCK_ROWS if cuda else CPU_BLOCK_ROWS[name])
            try:
                answer = answer_digest(self.encode(chip[None], offset=0))
            except RuntimeError as error:  # torch has no such product for this device
                refused.append(f"{name} is not available ({str(error).splitlines()[0]})")
                continue
            if answer == bank.facts["known_answer"]:
                return
            refused.append(f"{name} gives wrong sums")
        raise ConfigError(
            f"exact arithmetic fails on {self.device}: {'; '.join(refused)}",
            hint="try --device cpu, or another build of torch",
        )


def _split(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(high, low) int8 (H, W, C) of x = 128·high + low (C, H, W), low in 0..127."""
    pixels = x.to(torch.int16).permute(1, 2, 0).contiguous()
    return (pixels >> LOW_BITS).to(torch.int8), (pixels & ((1 << LOW_BITS) - 1)).to(torch.int8)


def _padded(rows: int) -> int:
    return -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE


def normalise(sums: NDArray[np.int64]) -> NDArray[np.float16]:
    """float16 sqrt(s / Σ s) of pooled sums (not all zero): a unit vector.

    The squared L2 norm of the roots is the integer Σ s, so there is no float sum whose order could matter.
    Conversion, division, root and rounding to float16 are each correctly rounded (IEEE 754), on any machine.
    numpy rounds float64 to float16 once; torch would go through float32 and round twice.
    """
    total = np.float64(int(sums.sum()))
    return np.sqrt(sums.astype(np.float64) / total).astype(np.float16)


def answer_digest(vectors: NDArray[np.float16]) -> str:
    """SHA-256 (hex) of the little-endian bytes of float16 vectors."""
    return hashlib.sha256(vectors.astype("<f2").tobytes()).hexdigest()


def known_chip(channels: int, depth: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The chip (C, 40, 40) of the known-answer test: a fixed sequence, with extremes."""
    index = np.arange(channels * 40 * 40, dtype=np.uint64)
    noise = (index * 6364136223846793005 + 1442695040888963407) >> 48  # 16 bits; uint64 wraps, as meant
    pixels = np.where(index % 5 == 0, 0, np.where(index % 5 == 1, 65535, noise >> 2))
    chip = pixels.astype(np.uint16).reshape(channels, 40, 40)
    return (chip >> 6).clip(0, 255).astype(np.uint8) if depth == 8 else chip
