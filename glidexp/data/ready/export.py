"""A tile store as files that other programs read: PNG folders, COCO, GeoTIFF, and a Croissant description of the PNGs.

`glidexp data import` reads each of them back to the same bytes, where the store holds red, green and blue alone:
`tiles.csv` carries what pixels do not say. Of other bands a PNG shows three, a GeoTIFF holds all.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from glidexp.beside import folder_beside
from glidexp.data.ready.annotations import mask_of, runs_of
from glidexp.data.ready.origins import COLUMNS
from glidexp.data.ready.pictures import allow_no_position
from glidexp.data.sensors import rgb_of
from glidexp.data.store import INVALID, LAKE, SPLITS, TileStore
from glidexp.data.workers import in_threads
from glidexp.errors import DataError
from glidexp.wording import does, many

TABLE = "tiles.csv"
FORMATS = ("png", "coco", "geotiff", "croissant")
NOTES = "README.txt"
Step = Callable[[str], None]


def export(store: TileStore, to: str, out: Path, step: Step) -> None:
    """Writes a store into a new folder.

    Args:
        store: opened store
        to: one of FORMATS
        out: folder that must not be there, or be empty
        step: called after each tile with its name

    Raises:
        DataError: the folder holds something, tiles lack a position (geotiff), names that are no file names
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there and not empty: give another folder as --out.")
    rows: list[dict[str, Any]] = [dict(row) for row in store.index.to_dict("records")]  # type: ignore[arg-type]
    for row in rows:
        parts = PurePosixPath(row["tile"]).parts
        if not parts or ".." in parts or row["tile"].startswith("/") or re.search(r'[\x00-\x1f\\:*?"<>|]', row["tile"]):
            raise DataError(f"tile '{row['tile']}' is no file name: build the store anew with other scene names.")
    if to == "geotiff":
        lacking = [row["tile"] for row in rows if row["transform"] is None or not row["crs"]]
        if lacking:
            raise DataError(
                f"{len(lacking)} of {many(len(rows), 'tile')} {does(len(lacking), 'have')} no position, first "
                f"'{lacking[0]}': use --to png, or import "
                "them with a table of transform and crs, or with --match."
            )
    try:
        with folder_beside(out) as aside:
            _write(store, rows, to, aside, step)
            if out.exists():
                out.rmdir()
            os.replace(aside, out)
    except OSError as error:
        raise DataError(
            f"nothing can be written to {out.parent} ({error.strerror or error}): free some room, or give another "
            "folder as --out."
        ) from None


def _write(store: TileStore, rows: Sequence[dict[str, Any]], to: str, folder: Path, step: Step) -> None:
    ending = ".tif" if to == "geotiff" else ".png"
    parts = ("images",) if to == "coco" else ("images", "labels")
    for place in {f"{part}/{PurePosixPath(row['tile']).parent}" for part in parts for row in rows}:
        (folder / place).mkdir(parents=True, exist_ok=True)

    names = [str(band) for band in store.manifest["bands"]]
    shown = rgb_of(store.bands)
    allow_no_position()  # an identity transform is a place, too

    def one(i: int) -> list[list[int]]:
        row, image, label = rows[i], store.images[i], store.labels[i]
        if to == "geotiff":
            picture = folder / "images" / f"{row['tile']}.tif"
            if store.channels == 3:
                _write_tiff(picture, image, label, row)
            else:
                _write_bands(picture, image, label, row, names)
            _write_tiff(folder / "labels" / f"{row['tile']}.tif", None, label, row)
            return []
        path = folder / "images" / f"{row['tile']}.png"
        _png(image[..., shown], label).save(path, compress_level=4)
        if to == "coco":
            return [runs_of(lake) for lake in lakes_of(label == LAKE)]
        lake = np.where(label == LAKE, 255, 0).astype(np.uint8)
        Image.fromarray(lake).save(folder / "labels" / f"{row['tile']}.png", compress_level=4)
        return []

    found = []
    for i, runs in in_threads(one, range(len(rows))):
        found.append(runs)
        step(rows[i]["tile"])
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        table.writerows([_cell(row[column]) for column in COLUMNS] for row in rows)
    if to == "coco":
        _write_coco(folder, store, rows, found)
    if to == "croissant":
        _write_croissant(folder, store)
    (folder / NOTES).write_text(_notes(store, ending, to), encoding="utf-8")


def _cell(value: Any) -> str:
    """A value so that reading it gives it back to the last bit."""
    if value is None:
        return ""
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(repr(float(part)) for part in value)
    return repr(float(value)) if isinstance(value, float) else str(value)


def _png(image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]) -> Image.Image:
    """RGB, or RGBA with transparent pixels where the tile is not valid."""
    valid = label != INVALID
    if valid.all():
        return Image.fromarray(np.ascontiguousarray(image))
    return Image.fromarray(np.dstack([image, valid.astype(np.uint8) * 255]))


def _write_bands(
    path: Path, image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], row: Any, names: Sequence[str]
) -> None:
    """An image of any bands, by name, with a mask inside the file where it is not valid."""
    import rasterio
    from rasterio.transform import Affine

    height, width = label.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=image.shape[2], dtype="uint8", crs=row["crs"],
            transform=Affine(*row["transform"][:6]), compress="deflate", photometric="MINISBLACK", alpha="NO",
        ) as file,
    ):  # fmt: skip
        file.write(np.moveaxis(image, 2, 0))
        file.descriptions = tuple(names)
        if not (label != INVALID).all():
            file.write_mask((label != INVALID).astype(np.uint8) * 255)


def _write_tiff(path: Path, image: npt.NDArray[np.uint8] | None, label: npt.NDArray[np.uint8], row: Any) -> None:
    """An image with alpha where it is not valid, or a label of 0 and 255."""
    import rasterio
    from rasterio.transform import Affine

    valid = label != INVALID
    bands = [(label == LAKE) * np.uint8(255)]
    if image is not None:
        bands = [image[:, :, band] for band in range(3)] + ([] if valid.all() else [valid * np.uint8(255)])
    height, width = label.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=len(bands), dtype="uint8", crs=row["crs"],
        transform=Affine(*row["transform"][:6]), compress="deflate",
        **({"photometric": "RGB"} if image is not None else {}), **({"alpha": "YES"} if len(bands) == 4 else {}),
    ) as file:  # fmt: skip
        file.write(np.stack(bands))


def lakes_of(lake: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Masks (H, W) of the connected lakes of a mask, corners counted as contact."""
    from scipy import ndimage

    parts, n = ndimage.label(lake, structure=np.ones((3, 3), int))
    return [parts == number for number in range(1, n + 1)]


def _write_coco(folder: Path, store: TileStore, rows: Sequence[dict[str, Any]], found: list[list[list[int]]]) -> None:
    (folder / "annotations").mkdir()
    px = store.tile_px
    for side in SPLITS:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i, row in enumerate(rows):
            if row["split"] != side:
                continue
            file = f"{row['tile']}.png"
            images.append({"id": i + 1, "file_name": file, "width": px, "height": px})
            for runs in found[i]:
                mask = mask_of(runs, px, px)
                ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i + 1,
                        "category_id": 1,
                        "segmentation": {"size": [px, px], "counts": runs},
                        "area": int(mask.sum()),
                        "bbox": box,
                        "iscrowd": 0,
                    }
                )
        content = {
            "info": {"description": f"tiles of {store.path.name}, split {side}"},
            "categories": [{"id": 1, "name": "lake", "supercategory": "water"}],
            "images": images,
            "annotations": annotations,
        }
        (folder / "annotations" / f"instances_{side}.json").write_text(json.dumps(content), encoding="utf-8")


def _notes(store: TileStore, ending: str, to: str) -> str:
    names = ", ".join(map(str, store.manifest["bands"]))
    images = f"RGB{ending}, transparent where a pixel is not valid"
    if store.channels != 3:
        images = f"{names}, masked where a pixel is not valid"
        if to != "geotiff":
            which = ", ".join(str(band + 1) for band in rgb_of(store.bands))
            images = f"bands {which} of {names}, transparent where a pixel is not valid; --to geotiff has all"
    return (
        f"{many(len(store), 'tile')} of {store.tile_px} px, exported from a tile store as {to}.\n"
        f"images: {images}. labels: 0 background, 255 lake.\n"
        f"{TABLE}: origin, block and split of each tile.\n"
        f"data sha256 {store.data_hash}\nsplit sha256 {store.split_hash}\n"
    )


def _write_croissant(folder: Path, store: TileStore) -> None:
    """Croissant 1.0, written by hand: https://docs.mlcommons.org/croissant/docs/croissant-spec.html"""
    table = (folder / TABLE).read_bytes()
    kinds = {"gsd_m": "sc:Float", "row": "sc:Integer", "col": "sc:Integer"}
    files = [
        {"@type": "cr:FileObject", "@id": TABLE, "name": TABLE, "contentUrl": TABLE, "encodingFormat": "text/csv",
         "description": "Origin, block and split of each tile.", "sha256": hashlib.sha256(table).hexdigest()},
        *(
            {"@type": "cr:FileSet", "@id": part, "name": part, "description": what, "encodingFormat": "image/png",
             "includes": f"{part}/**/*.png"}
            for part, what in (("images", "RGB tiles, 8 bit."), ("labels", "Lake masks: 0 background, 255 lake."))
        ),
    ]  # fmt: skip
    fields = [
        {"@type": "cr:Field", "@id": f"tiles/{column}", "name": column, "dataType": kinds.get(column, "sc:Text"),
         "source": {"fileObject": {"@id": TABLE}, "extract": {"column": column}}}
        for column in COLUMNS
    ]  # fmt: skip
    content = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"glidexp-tiles-{store.path.name[:16]}",
        "description": f"{many(len(store), 'tile')} of {store.tile_px} x {store.tile_px} px with masks of "
        "glacial lakes. "
        f"data sha256 {store.data_hash}, split sha256 {store.split_hash}.",
        "version": "1.0.0",
        "distribution": files,
        "recordSet": [{"@type": "cr:RecordSet", "@id": "tiles", "name": "tiles", "field": fields}],
    }
    (folder / "croissant.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "equivalentProperty": "cr:equivalentProperty", "samplingRate": "cr:samplingRate",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip
