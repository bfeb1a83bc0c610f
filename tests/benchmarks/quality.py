"""What the vectors know: the exact encoder, float MOSAIKS and trivial baselines on four tasks.

    python tests/benchmarks/quality.py [--data ../shared/data] [--task eurosat|burned|disturbance|moisture]

Nothing is chosen by a test half: strengths of probes come from inside the training half, the encoders are the
banks that ship, chip sizes and splits stand below. A task whose data is absent prints NOT RUN.

eurosat      10 classes; of each the first half by file number trains, the second tests (neighbours share
             scenes)
burned       64-pixel patches of a burned island, under 20 % cloud; leave one quarter of the picture out
disturbance  dated forest loss in a series of Sentinel-1 against stable points; no training at all
moisture     live fuel moisture of single pixels over three months; the published split by site
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
import torch
from mosaiks import mosaiks_filters, mosaiks_vectors
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from eocat.producer.encoders import load_encoder
from eocat.producer.encoders.bank import bands_of

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # C of scikit-learn: inverse of the L2 penalty
WEAK = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C where there are few patches
NEIGHBOURS = 5
PATCH = 64  # of the burned picture
AROUND = 4  # pixels around a point of the Sentinel-1 series: chips of 9 × 9
Floats = NDArray[np.float64]
Images = NDArray[np.uint8]


def exact(name: str, images: NDArray[np.integer]) -> Floats:
    return load_encoder(name, bands_of(name), device="cpu").encode(images, offset=0).astype(np.float64)


# --- eurosat


def read_eurosat(folder: Path) -> tuple[Images, NDArray[np.int64], NDArray[np.int64]]:
    """(images (N, 3, 64, 64), class numbers, quarters 0..3 of each class by file number)."""
    images, classes, quarters = [], [], []
    for number, kind in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        files = sorted(kind.glob("*.jpg"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))
        for place, file in enumerate(files):
            images.append(np.asarray(Image.open(file)).transpose(2, 0, 1))
            classes.append(number)
            quarters.append(4 * place // len(files))
    return np.stack(images), np.array(classes), np.array(quarters)


def color_statistics(images: Images) -> Floats:
    """32 numbers: mean, standard deviation, minimum, maximum and the 5 %, 25 %, 50 %, 75 % and 95 % quantiles
    of each channel (27), the three correlations between channels, and mean and standard deviation of the
    absolute difference of neighbours in the grey image."""
    flat = images.reshape(len(images), 3, -1).astype(np.float64)
    quantiles = np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=2).transpose(1, 0, 2)
    moments = np.stack([flat.mean(2), flat.std(2), flat.min(2), flat.max(2)], axis=1)
    unit = flat - flat.mean(2, keepdims=True)
    unit /= np.linalg.norm(unit, axis=2, keepdims=True) + 1e-9
    pairs = np.stack([(unit[:, a] * unit[:, b]).sum(1) for a, b in ((0, 1), (0, 2), (1, 2))], axis=1)
    steps = np.abs(np.diff(images.mean(1), axis=2)).reshape(len(images), -1)
    edges = np.stack([steps.mean(1), steps.std(1)], axis=1)
    return np.concatenate(
        [moments.reshape(len(images), -1), quantiles.reshape(len(images), -1), pairs, edges], 1
    )


def thumbnails(images: Images) -> Floats:
    """8 × 8 means of blocks."""
    n, c, height, width = images.shape
    blocks = images.reshape(n, c, 8, height // 8, 8, width // 8)
    return blocks.mean((3, 5)).reshape(n, -1).astype(np.float64)


def probe(
    features: Floats, classes: NDArray[np.int64], quarters: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Accuracy of a linear probe on the test half and inside the training half, of k-NN on the test half."""

    def fit(train: NDArray[np.bool_], test: NDArray[np.bool_], strength: float) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        return float(model.fit(features[train], classes[train]).score(features[test], classes[test]))

    first, second, train = quarters == 0, quarters == 1, quarters < 2
    inside = {c: (fit(first, second, c) + fit(second, first, c)) / 2 for c in STRENGTHS}
    best = max(inside, key=lambda c: inside[c])
    scaled = normalize(StandardScaler().fit(features[train]).transform(features))
    neighbours = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(scaled[train], classes[train])
    return fit(train, ~train, best), inside[best], float(neighbours.score(scaled[~train], classes[~train]))


def eurosat(data: Path) -> Iterator[tuple[str, str]]:
    images, classes, quarters = read_eurosat(data / "eurosat_rgb")
    training = list(images[quarters < 2])
    small = mosaiks_filters(training, size=3, count=256)
    large = mosaiks_filters(training, size=6, count=256)
    features: dict[str, Callable[[], Floats]] = {
        "mean RGB": lambda: images.mean((2, 3)),
        "8×8 thumbnail": lambda: thumbnails(images),
        "32 colour statistics": lambda: color_statistics(images),
        "float MOSAIKS, 256 of 3×3": lambda: mosaiks_vectors(images, *small),
        "float MOSAIKS, 256 of 6×6": lambda: mosaiks_vectors(images, *large),
        "exact-rgb": lambda: exact("exact-rgb", images),
    }
    for name, make in features.items():
        test, inside, neighbours = probe(make(), classes, quarters)
        yield name, f"linear {test:.3f} (inside training {inside:.3f}), {NEIGHBOURS}-NN {neighbours:.3f}"


# --- burned patches


def read_burned(folder: Path) -> tuple[Images, NDArray[np.bool_], NDArray[np.int64]]:
    """(patches (N, 3, 64, 64), seen and clear; more than half burned or not; quarter of the picture)."""
    stem = folder / "EMSR382_AOI01_01"
    picture = np.asarray(Image.open(f"{stem}_S2L2A.png").convert("RGB")).transpose(2, 0, 1)
    masks = {}
    for name in ("DEL", "CM"):
        with rasterio.open(f"{stem}_{name}.tif") as raster:
            masks[name] = raster.read(1) > 0
    patches, burned, quarters = [], [], []
    _, height, width = picture.shape
    for top in range(0, height - PATCH + 1, PATCH):
        for left in range(0, width - PATCH + 1, PATCH):
            place = np.s_[top : top + PATCH, left : left + PATCH]
            patch = picture[(slice(None), *place)]
            if masks["CM"][place].mean() >= 0.2 or (patch == 0).all(0).mean() > 0.5:
                continue
            patches.append(patch)
            burned.append(masks["DEL"][place].mean() > 0.5)
            quarters.append(2 * (2 * top >= height) + (2 * left >= width))
    return np.stack(patches), np.array(burned), np.array(quarters)


def left_out_scores(
    features: Floats, burned: NDArray[np.bool_], quarters: NDArray[np.int64], strength: float | None
) -> Floats:
    """Logistic regression, each quarter scored by a model that has not seen it.

    strength None: the C that scores best when each of the other three is left out in turn.
    """
    scores = np.zeros(len(features))
    for quarter in np.unique(quarters):
        inside = quarters == quarter
        seen = features[~inside], burned[~inside], quarters[~inside]
        chosen = strength or max(WEAK, key=lambda c: roc_auc_score(seen[1], left_out_scores(*seen, c)))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=chosen, max_iter=2000))
        scores[inside] = model.fit(seen[0], seen[1]).decision_function(features[inside])
    return scores


def burned(data: Path) -> Iterator[tuple[str, str]]:
    patches, labels, quarters = read_burned(data / "cems_wildfire_emsr382")
    yield "patches", f"{len(patches)}, {labels.sum()} burned"
    yield "darkness, no training", f"AUC {roc_auc_score(labels, -patches.mean((1, 2, 3))):.3f}"
    filters = mosaiks_filters(list(patches), size=6, count=256)
    features = {
        "mean RGB": patches.mean((2, 3)),
        "32 colour statistics": color_statistics(patches),
        "float MOSAIKS, 256 of 6×6": mosaiks_vectors(patches, *filters),
        "exact-rgb": exact("exact-rgb", patches),
    }
    for name, vectors in features.items():
        yield name, f"AUC {roc_auc_score(labels, left_out_scores(vectors, labels, quarters, None)):.3f}"


# --- Sentinel-1 disturbance


def read_series(folder: Path) -> tuple[NDArray[np.int16], NDArray[np.bool_], list[tuple[int, int]]]:
    """(series (T, 2, H, W) in 0.01 dB, whether a point was disturbed, its row and column)."""
    bands = []
    for name in ("VV", "VH"):
        with rasterio.open(folder / f"S1_{name}_db100.tif") as raster:
            bands.append(raster.read())
            transform = raster.transform
    places, disturbed = [], []
    with (folder / "reference_points.csv").open() as stream:
        for row in csv.DictReader(stream):
            x, y = ~transform * (float(row["x"]), float(row["y"]))
            places.append((int(y), int(x)))
            disturbed.append(bool(row["disturbance_date"] and row["disturbance_date"] != "NA"))
    return np.stack(bands, 1), np.array(disturbed), places


def largest_shift(series: Floats) -> float:
    """Of vectors (T, D) in order of time: the largest distance of the means before and after a cut."""
    count, sums = len(series), series.cumsum(0)
    shifts = [
        sums[cut - 1] / cut - (sums[-1] - sums[cut - 1]) / (count - cut) for cut in range(10, count - 10)
    ]
    return float(np.linalg.norm(shifts, axis=1).max())


def disturbance(data: Path) -> Iterator[tuple[str, str]]:
    series, disturbed, places = read_series(data / "s1_disturbance_series")
    _, _, height, width = series.shape
    scores: dict[str, list[float]] = {name: [] for name in ("VH mean", "VV and VH mean", "exact-s1")}
    for row, column in places:
        top, left = (
            min(max(c - AROUND, 0), edge - 2 * AROUND - 1) for c, edge in ((row, height), (column, width))
        )
        chips = series[:, :, top : top + 2 * AROUND + 1, left : left + 2 * AROUND + 1]
        chips = chips[(chips > -32768).all((1, 2, 3))]
        means = chips.mean((2, 3)).astype(np.float64)
        scores["VH mean"].append(largest_shift(means[:, 1:]))
        scores["VV and VH mean"].append(largest_shift(means))
        scores["exact-s1"].append(largest_shift(exact("exact-s1", chips)))
    yield "points", f"{len(places)}, {disturbed.sum()} disturbed; chips of {2 * AROUND + 1} pixels of 30 m"
    odd = np.arange(len(places)) % 2 == 1  # the filters' size of exact-s1 was chosen by the even points
    for name, values in scores.items():
        seen = roc_auc_score(disturbed[odd], np.array(values)[odd])
        yield name, f"AUC {roc_auc_score(disturbed, values):.3f} (odd points {seen:.3f})"


# --- fuel moisture


def moisture(data: Path) -> Iterator[tuple[str, str]]:
    """Channels: VV, VH, B02 … B09 (8, B8A in place), B11, B12, weather, terrain, NDVI; three months each."""
    folder = data / "presto_fuel_moisture"
    series, target, test = (np.load(folder / f"{n}.npy") for n in ("s1_s2_era5_srtm", "target", "is_test"))
    held = test == 1
    optical = series[:, :, [2, 3, 4, 8]].clip(0, 20_000).round().astype(np.uint16)  # B02, B03, B04, B08
    chips = np.broadcast_to(optical.reshape(-1, 4, 1, 1), (len(optical) * 3, 4, 8, 8)).copy()
    features = {
        "raw channels (18 × 3)": series.reshape(len(series), -1),
        "raw B02, B03, B04, B08 (4 × 3)": optical.reshape(len(series), -1).astype(np.float64),
        "exact-s2-10m on constant chips (512 × 3)": exact("exact-s2-10m", chips).reshape(len(series), -1),
    }
    for name, x in features.items():
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 5, 15)))
        predicted = model.fit(x[~held], target[~held]).predict(x[held])
        yield name, f"R² {r2_score(target[held], predicted):.3f}"


TASKS: dict[str, tuple[str, Callable[[Path], Iterator[tuple[str, str]]]]] = {
    "eurosat": ("eurosat_rgb", eurosat),
    "burned": ("cems_wildfire_emsr382", burned),
    "disturbance": ("s1_disturbance_series", disturbance),
    "moisture": ("presto_fuel_moisture", moisture),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="quality of vectors on four tasks")
    parser.add_argument("--data", type=Path, default=BESIDE)
    parser.add_argument("--task", choices=sorted(TASKS), action="append")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for task in args.task or TASKS:
        folder, run = TASKS[task]
        if not (args.data / folder).is_dir():
            print(f"{task}: NOT RUN, there is no {args.data / folder}")
            continue
        print(f"{task}")
        for name, result in run(args.data):
            print(f"  {name:44} {result}", flush=True)


if __name__ == "__main__":
    main()
