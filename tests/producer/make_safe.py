"""Makes a small true Sentinel-2 SAFE product: real JPEG 2000 bands and the metadata that the reader needs.

The names, tags and folders are those of FORMATS.md 4.6; a tile is 1.2 km instead of 110 km. Run it to look
at one: `python tests/producer/make_safe.py FOLDER`.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
METRES = dict.fromkeys(("B02", "B03", "B04", "B08"), 10) | {"B01": 60, "B09": 60, "B10": 60}
EXTENT = 1200  # metres a side
LEFT, TOP = 300000, 5100000

ROOT = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd">
 <n1:General_Info><Product_Info>
  <PRODUCT_START_TIME>2023-06-25T10:00:31.024Z</PRODUCT_START_TIME>
  <PRODUCT_STOP_TIME>2023-06-25T10:00:31.024Z</PRODUCT_STOP_TIME>
  <PRODUCT_URI>{uri}</PRODUCT_URI>
  <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
  <Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME></Datatake>
  <Product_Organisation><Granule_List><Granule>
{images}
  </Granule></Granule_List></Product_Organisation>
 </Product_Info>
 <Product_Image_Characteristics>
  <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
  </Special_Values>
  <{scale_tag} unit="none">10000</{scale_tag}>
{offsets}
 </Product_Image_Characteristics></n1:General_Info>
 <n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>15.05</Cloud_Coverage_Assessment>
 </n1:Quality_Indicators_Info>
</n1:Level-{level}_User_Product>
"""

TILE = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-{level}_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-{level}_Tile_Metadata.xsd">
 <n1:General_Info><SENSING_TIME>2023-06-25T10:08:12.500000Z</SENSING_TIME></n1:General_Info>
</n1:Level-{level}_Tile_ID>
"""


def make_safe(folder: Path, level: str, *, baseline: str = "05.09", offset: int | None = -1000) -> Path:
    """The product's .SAFE folder, below `folder`. level: "1C" or "2A"; offset None: not in the metadata."""
    uri = f"S2A_MSIL{level}_20230625T100031_N{baseline.replace('.', '')}_R122_T33TUL_20230625T140000.SAFE"
    granule = f"GRANULE/L{level}_T33TUL_A041826_20230625T100812"
    tag, scale_tag = ("RADIO_ADD_OFFSET", "QUANTIFICATION_VALUE")
    if level == "2A":
        tag, scale_tag = ("BOA_ADD_OFFSET", "BOA_QUANTIFICATION_VALUE")
    names = [name for name, _, _ in images(level)]
    root = folder / uri
    (root / granule).mkdir(parents=True)
    (root / f"MTD_MSIL{level}.xml").write_text(
        ROOT.format(
            level=level,
            uri=uri,
            baseline=baseline,
            scale_tag=scale_tag,
            images="\n".join(f"   <IMAGE_FILE>{granule}/{name}</IMAGE_FILE>" for name in names),
            offsets=""
            if offset is None
            else "\n".join(f'  <{tag} band_id="{i}">{offset}</{tag}>' for i in range(len(BANDS))),
        )
    )
    (root / granule / "MTD_TL.xml").write_text(TILE.format(level=level))
    for name, band, metres in images(level):
        write_jp2(root / granule / f"{name}.jp2", band_pixels(band, metres), metres)
    return root


MASK = """<?xml version="1.0" encoding="UTF-8"?>
<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2" gml:id="M">
  <gml:name>MSK_CLOUDS pixels mask from data-strip</gml:name>{envelope}
  <eop:maskMembers>{features}</eop:maskMembers>
</eop:Mask>
"""
ENVELOPE = """
  <gml:boundedBy>
    <gml:Envelope srsName="{crs}">
      <gml:lowerCorner>300000 5098800</gml:lowerCorner>
      <gml:upperCorner>301200 5100000</gml:upperCorner>
    </gml:Envelope>
  </gml:boundedBy>"""
FEATURE = """
    <eop:MaskFeature gml:id="{kind}.{number}">
      <eop:maskType codeSpace="urn:gs2:S2PDGS:maskType">{kind}</eop:maskType>
      <eop:extentOf><gml:Polygon gml:id="{kind}.{number}_Polygon">{rings}</gml:Polygon></eop:extentOf>
    </eop:MaskFeature>
  """
RING = """
        <gml:{side}><gml:LinearRing>
          <gml:posList srsDimension="2">{positions}</gml:posList>
        </gml:LinearRing></gml:{side}>"""

Box = tuple[
    int, int, int, int
]  # columns and lines of 60 m from the upper-left corner: left, top, right, bottom


def write_clouds(
    root: Path, clouds: list[tuple[str, Box, list[Box]]], *, crs: str = "urn:ogc:def:crs:EPSG:8.7:32633"
) -> Path:
    """MSK_CLOUDS_B00.gml in the product at `root`: type, outline and holes of each cloud."""
    (granule,) = root.glob("GRANULE/*")
    features = [
        FEATURE.format(
            kind=kind,
            number=number,
            rings=_ring("exterior", outline) + "".join(_ring("interior", hole) for hole in holes),
        )
        for number, (kind, outline, holes) in enumerate(clouds)
    ]
    path = granule / "QI_DATA" / "MSK_CLOUDS_B00.gml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        MASK.format(envelope=ENVELOPE.format(crs=crs) if clouds else "", features="".join(features))
    )
    return path


def _ring(side: str, box: Box) -> str:
    left, right = (LEFT + 60 * column for column in box[::2])
    top, bottom = (TOP - 60 * line for line in box[1::2])
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return RING.format(side=side, positions=" ".join(f"{east} {north}" for east, north in corners))


def write_classi(root: Path, planes: NDArray[np.uint8]) -> Path:
    """MSK_CLASSI_B00.jp2 in the product at `root`: opaque cloud, cirrus, snow; 1 where there is some."""
    (granule,) = root.glob("GRANULE/*")
    path = granule / "QI_DATA" / "MSK_CLASSI_B00.jp2"
    write_jp2(path, planes, 60)
    return path


def images(level: str) -> list[tuple[str, str, int]]:
    """(name below the granule, band, metres) of every band image of a product of that level."""
    stem = "IMG_DATA/{folder}T33TUL_20230625T100031_{band}{suffix}"
    if level == "1C":
        return [(stem.format(folder="", band=band, suffix=""), band, METRES.get(band, 20)) for band in BANDS]
    return [
        (stem.format(folder=f"R{metres}m/", band=band, suffix=f"_{metres}m"), band, metres)
        for metres in (60, 20, 10)
        for band in BANDS
        if band != "B10" and METRES.get(band, 20) <= metres and not (band == "B08" and metres > 10)
    ]


def band_pixels(band: str, metres: int) -> NDArray[np.uint16]:
    """The DN that the product holds for a band at a resolution: bands and pixels can be told apart."""
    side = EXTENT // metres
    row, column = np.indices((side, side))
    return (1000 + 100 * BANDS.index(band) + (row * 7 + column * 3) % 97 + metres // 10).astype(np.uint16)


def write_jp2(
    path: Path, pixels: NDArray[np.uint16] | NDArray[np.uint8], metres: int, *, epsg: int = 32633
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        height=pixels.shape[-2],
        width=pixels.shape[-1],
        count=1 if pixels.ndim == 2 else len(pixels),
        dtype=pixels.dtype,
        crs=f"EPSG:{epsg}",
        transform=Affine(metres, 0, LEFT, 0, -metres, TOP),
        QUALITY="100",
        REVERSIBLE="YES",
    ) as dataset:
        dataset.write(pixels.reshape(dataset.count, *dataset.shape))


def zipped(root: Path) -> Path:
    """The product as one zip beside its folder, as it is downloaded."""
    path = root.with_suffix(".SAFE.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in sorted(root.rglob("*")):
            archive.write(member, Path(root.name) / member.relative_to(root))
    return path


if __name__ == "__main__":
    for product_level in ("1C", "2A"):
        print(make_safe(Path(sys.argv[1]), product_level))
