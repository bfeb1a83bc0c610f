"""Linear probe on EuroSAT RGB: what the exact encoder's 512 numbers know of land cover (docs/benchmarks.md).

    python tests/benchmarks/eurosat_probe.py ../shared/data/eurosat_rgb

Train: of each class the first half by file number; test: the second half. Neighbouring numbers can come from
one scene, so a random split would flatter. The RGB bank was fitted on the training half alone.
Probe: standardised on the training half, multinomial logistic regression; its C by two-fold
cross-validation inside the training half, by file number again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eocat.producer.encoders import load_encoder

STRENGTHS = (0.3, 1.0, 3.0)  # C of scikit-learn: inverse of the L2 penalty


def read_images(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """(images (N, 3, 64, 64), class numbers, quarters 0..3 of each class by file number)."""
    images, classes, quarters = [], [], []
    for number, kind in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        files = sorted(kind.glob("*.jpg"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))
        for place, file in enumerate(files):
            images.append(np.asarray(Image.open(file)).transpose(2, 0, 1))
            classes.append(number)
            quarters.append(4 * place // len(files))
    return np.stack(images), np.array(classes), np.array(quarters)


def color_statistics(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The trivial baseline, 32 numbers: mean, standard deviation, minimum, maximum and the 5 %, 25 %, 50 %,
    75 % and 95 % quantiles of each channel (27), the three correlations between channels, and mean and
    standard deviation of the absolute difference of neighbours in the grey image."""
    flat = images.reshape(len(images), 3, -1).astype(np.float64)
    quantiles = np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=2).transpose(1, 0, 2)
    moments = np.stack([flat.mean(2), flat.std(2), flat.min(2), flat.max(2)], axis=1)
    unit = flat - flat.mean(2, keepdims=True)
    unit /= np.linalg.norm(unit, axis=2, keepdims=True) + 1e-9
    pairs = np.stack([(unit[:, a] * unit[:, b]).sum(1) for a, b in ((0, 1), (0, 2), (1, 2))], axis=1)
    steps = np.abs(np.diff(images.mean(1), axis=2)).reshape(len(images), -1)
    edges = np.stack([steps.mean(1), steps.std(1)], axis=1)
    parts = (moments.reshape(len(images), -1), quantiles.reshape(len(images), -1), pairs, edges)
    return np.concatenate(parts, axis=1)


def accuracy(
    features: NDArray[np.float64], classes: NDArray[np.int64], train: NDArray[np.bool_],
    test: NDArray[np.bool_], strength: float,
) -> float:  # fmt: skip
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    model.fit(features[train], classes[train])
    return float(model.score(features[test], classes[test]))


def probe(features: NDArray[np.float64], classes: NDArray[np.int64], quarters: NDArray[np.int64]) -> str:
    """One line: the test accuracy at the C that is best inside the training half."""
    first, second, train = quarters == 0, quarters == 1, quarters < 2
    inside = {
        c: (accuracy(features, classes, first, second, c) + accuracy(features, classes, second, first, c)) / 2
        for c in STRENGTHS
    }
    best = max(inside, key=lambda c: inside[c])
    test = accuracy(features, classes, train, ~train, best)
    return f"test {test:.4f} (C {best:g}; inside the training half {inside[best]:.4f})"


BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data" / "eurosat_rgb"  # beside a checkout


def main() -> None:
    parser = argparse.ArgumentParser(description="linear probe on EuroSAT RGB")
    parser.add_argument("folder", type=Path, nargs="?", default=BESIDE)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if not args.folder.is_dir():
        print(f"NOT RUN: there is no EuroSAT RGB at {args.folder}; name its folder of classes")
        return
    torch.set_num_threads(args.threads)
    images, classes, quarters = read_images(args.folder)
    print(f"train {(quarters < 2).sum()}, test {(quarters >= 2).sum()}, classes {len(set(classes.tolist()))}")
    print(f"32 colour statistics: {probe(color_statistics(images), classes, quarters)}")
    encoder = load_encoder("exact-rgb", ("red", "green", "blue"), device="cpu")
    start = time.perf_counter()
    vectors = encoder.encode(images, offset=0).astype(np.float64)
    seconds = time.perf_counter() - start
    print(f"{encoder.name} {encoder.version}, {encoder.dimension}-d: {probe(vectors, classes, quarters)}")
    print(f"encoded {len(images)} images of 64×64 in {seconds:.1f} s on {args.threads} thread(s)")


if __name__ == "__main__":
    main()
