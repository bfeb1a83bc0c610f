"""What a user asks with: likenesses and areas, as they are typed or lie in files."""

import base64
from pathlib import Path
from typing import Any

from eocat.verify import canonical
from eocat.verify.errors import InputError, UsageError
from eocat.verify.evidence import read_limited

MAX_AREA_BYTES = 8 << 20
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_PICTURE_BYTES = 700 << 10  # in base64 within a request of 1 MiB
GEOMETRIES = (
    "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection",
)  # fmt: skip


def read_like(text: str) -> dict[str, Any]:
    """The `like` of a similarity request: COLLECTION/ITEM#ROW, LON,LAT, a vector's file, or a picture."""
    if "#" in text:
        item, _, row = text.rpartition("#")
        collection, slash, name = item.partition("/")
        if slash and name and "/" not in name and row.isascii() and row.isdigit():
            return {"collection": collection, "item": name, "row": int(row)}
        raise UsageError(f"{text!r} is not COLLECTION/ITEM#ROW")
    path = Path(text)
    if path.suffix.lower() in PICTURES:
        return {"image": base64.b64encode(read_limited(path, MAX_PICTURE_BYTES)).decode()}
    if path.suffix in (".npy", ".json") or path.is_file():
        return {"vector": read_vector(path)}
    return {"point": read_numbers(text, "LIKE")}


def read_vector(path: Path) -> list[float]:
    """The numbers of a one-dimensional .npy array or JSON list."""
    from io import BytesIO

    import numpy as np

    try:
        data = path.read_bytes()
        value = np.load(BytesIO(data)) if path.suffix == ".npy" else canonical.parse(data, what=str(path))
        vector = np.asarray(value, np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"vector {path} cannot be read: {error}") from None
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise InputError(f"vector {path} has shape {vector.shape}, expected one list of finite numbers")
    return [float(number) for number in vector]


def read_area(path: Path) -> dict[str, Any]:
    """The geometry in a GeoJSON file: a Geometry, a Feature, or all of a FeatureCollection as one."""
    value = canonical.parse(read_limited(path, MAX_AREA_BYTES), what=str(path), limit_bytes=MAX_AREA_BYTES)
    match value:
        case {"type": "Feature", "geometry": dict(geometry)}:
            geometries = [geometry]
        case {"type": "FeatureCollection", "features": list(features)}:
            geometries = [one.get("geometry", {}) for one in features if isinstance(one, dict)]
        case _:
            geometries = [value]
    if not geometries or not all(
        isinstance(one, dict) and one.get("type") in GEOMETRIES for one in geometries
    ):
        raise InputError(
            f"{path} holds no GeoJSON geometry", hint="a Geometry, a Feature or a FeatureCollection with some"
        )
    if len(geometries) == 1:
        return dict(geometries[0])
    return {"type": "GeometryCollection", "geometries": geometries}


def read_numbers(text: str, what: str) -> list[float]:
    """Numbers with commas between."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{what}: {text!r} is not numbers with commas between") from None
