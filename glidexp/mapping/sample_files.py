"""The folder of a sample: cells to look at and an empty layer for their lakes, and apart from both how they were drawn.

What kind a cell is of is not in the file that is opened to draw lakes, so that who draws does not know it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from glidexp.beside import file_sha256, write_bytes
from glidexp.data.builder.parts import writing
from glidexp.data.scenes import polygons
from glidexp.data.scenes.degrees import LONLAT, cut_at_180, whole_in_degrees
from glidexp.data.scenes.features import GROUND, PARQUET, columns_of, layers_of, marked, read_features
from glidexp.data.scenes.geopackage import write_layers
from glidexp.data.scenes.polygons import Geometries, multi
from glidexp.errors import DataError
from glidexp.mapping.cells import KINDS, Cells
from glidexp.mapping.joined import Joined, off
from glidexp.mapping.outputs import LAKES

CELLS = "cells"
SAMPLE, DESIGN = "sample.gpkg", "design.json"
VERSION = 1
SETTING = "--reference"
AFTER = "the same command draws the sample anew"


@dataclass(frozen=True, slots=True)
class Looked:
    """A sample with the lakes that were drawn, in degrees."""

    cells: Geometries
    """those that were looked at, whole squares"""
    kind: npt.NDArray[np.int64]
    cell_km: float
    """side of a cell"""
    numbers: tuple[int, ...]
    """cells of each of `KINDS` on all ground"""
    lakes: Geometries
    types: npt.NDArray[np.object_]
    ground: Any
    maps: frozenset[str]
    """SHA-256 of each map that it was drawn for"""
    began_from_map: bool
    left: int
    """cells that were drawn and not looked at"""
    astray: int
    """lakes on none of the cells that were looked at"""


def write_sample(
    out: Path,
    maps: Joined,
    paths: Sequence[Path],
    cells: Cells,
    chosen: Any,
    *,
    filled: bool,
    cell_km: float,
    seed: int,
) -> list[Path]:
    """Writes a sample to be looked at.

    Args:
        out: folder
        maps: lakes and ground
        paths: of the maps
        cells: of the ground
        chosen: numbers of the cells, in the order in which they are to be looked at
        filled: whether the layer of lakes begins with those of the map
        cell_km: side of a cell
        seed: of the draw

    Raises:
        RunFailed: the disk refuses it
    """
    design = {
        "version": VERSION,
        "maps": {str(path): file_sha256(path) for path in paths},  # two folders may hold maps of one name
        "began_from_map": filled,
        "cell_km": cell_km,
        "seed": seed,
        "cells_of_kind": dict(zip(KINDS, cells.numbers, strict=True)),
        "kind_of_cell": {str(i + 1): KINDS[cells.kind[k]] for i, k in enumerate(chosen)},
    }
    boxes = cells.boxes[chosen]
    touching = np.unique(shapely.STRtree(maps.shapes).query(boxes, predicate="intersects")[1])
    shown = maps.shapes[touching[: len(touching) if filled else 0]]
    n = len(boxes)
    layers = {
        CELLS: geopandas.GeoDataFrame(
            {"cell_id": np.arange(1, n + 1), "checked": np.zeros(n, np.int64), "note": [""] * n},
            geometry=[*map(multi, off(maps.plane, boxes))], crs=LONLAT,
        ),
        LAKES: geopandas.GeoDataFrame(
            {"lake_type": [""] * len(shown), "note": [""] * len(shown)},
            geometry=[*map(multi, off(maps.plane, shown))], crs=LONLAT,
        ),
        GROUND: geopandas.GeoDataFrame(
            {"looked_at": [True]},
            geometry=[*map(multi, off(maps.plane, np.array([maps.ground], dtype=object)))], crs=LONLAT,
        ),
    }  # fmt: skip
    with writing(out, AFTER):  # first, as the other is taken for a whole sample, which nothing is to be written over
        write_bytes(out / DESIGN, (json.dumps(design, indent=1) + "\n").encode())
    write_layers(out / SAMPLE, layers, "MultiPolygon", after=AFTER)
    return [out / SAMPLE, out / DESIGN]


def check_new(out: Path) -> None:
    """Refuses a folder with a sample: lakes may have been drawn in it.

    Raises:
        DataError: there is one
    """
    if (out / SAMPLE).exists():
        raise DataError(
            f"--out={out} holds a sample already ({SAMPLE}), perhaps with lakes drawn: give another folder."
        )


def check_inventory(path: Path) -> None:
    """Refuses the file of a sample, whose cells would be taken for lakes.

    Raises:
        DataError: it is one, or cannot be read
    """
    if path.suffix.lower() in PARQUET or not path.exists():
        return
    if {CELLS, LAKES, GROUND} <= {name for name, _ in layers_of(path, SETTING)}:
        raise DataError(f"{SETTING}={path} is the file of a sample: give the folder that holds it and {DESIGN}.")


def read_sample(folder: Path) -> Looked:
    """Reads what was drawn.

    Raises:
        DataError: it is no sample, or no cell is checked
    """
    path, design = folder / SAMPLE, _design(folder / DESIGN)
    names = [name for name, _ in layers_of(path, SETTING)]
    for layer in (CELLS, LAKES, GROUND):
        if layer not in names:
            raise DataError(f"{SETTING}={path} has lost its layer {layer}: draw the sample again into another folder.")
    columns, kinds = columns_of(path, SETTING, names.index(CELLS)), design["kind_of_cell"]
    for column in ("cell_id", "checked"):
        if column not in columns:
            raise DataError(f"{SETTING}={path}: the layer {CELLS} has lost its column {column}: put it back.")
    own = read_features(path, SETTING, ["cell_id", "checked"], names.index(CELLS))
    ids = [str(v).removesuffix(".0") for v in own.values["cell_id"].tolist()]  # numbers as any driver gives them
    if not {*ids} <= {*kinds} or len({*ids}) != len(ids):
        raise DataError(
            f"{SETTING}={path}: cells were added, copied or renumbered: only checked and note are to be changed."
        )
    done = marked(own.values["checked"], f"{SETTING}={path}: checked")
    if not done.any():
        raise DataError(
            f"{SETTING}={path}: no cell is checked: draw the lakes of a cell in the layer {LAKES}, then set its "
            f"checked to 1 in the layer {CELLS}."
        )
    boxes = _degrees(own.geometries, own.crs)
    drawn = polygons.read(path, SETTING, layer=LAKES, none=True)
    lakes = cut_at_180(whole_in_degrees(drawn.geometries, drawn.crs))
    met = shapely.STRtree(boxes[done]).query(lakes, predicate="intersects")[0]
    ground = read_features(path, SETTING, [], names.index(GROUND))
    if not len(ground.geometries):
        raise DataError(f"{SETTING}={path}: the layer {GROUND} is empty: draw the sample again into another folder.")
    return Looked(
        boxes[done],
        np.array([KINDS.index(kinds[one]) for one in np.array(ids)[done]]),
        design["cell_km"],
        tuple(design["cells_of_kind"][kind] for kind in KINDS),
        lakes,
        drawn.types,
        shapely.union_all(_degrees(ground.geometries, ground.crs)),
        frozenset(design["maps"].values()),
        bool(design["began_from_map"]),
        len(kinds) - int(done.sum()),
        len(lakes) - len(np.unique(met)),
    )


def _design(path: Path) -> dict[str, Any]:
    try:
        design: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        numbers, kinds = design["cells_of_kind"], design["kind_of_cell"]
        whole = {*numbers} == {*KINDS} and {*kinds.values()} <= {*KINDS} and design["version"] == VERSION
        whole = whole and isinstance(design["maps"], dict) and isinstance(design["began_from_map"], bool)
        whole = whole and all(numbers[kind] >= count for kind, count in Counter(kinds.values()).items())
        whole = whole and all(isinstance(count, int) for count in numbers.values()) and design["cell_km"] > 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{SETTING}={path.parent} is no sample: {path.name} cannot be read ({error}): give the "
            "folder that glidexp inventory sample wrote, with all in it."
        ) from None
    if not whole:
        raise DataError(f"{SETTING}={path} was changed, or is of another version: draw the sample again.")
    return design


def _degrees(shapes: Geometries, crs: str | None) -> Geometries:
    return cut_at_180(whole_in_degrees(shapes, LONLAT if crs is None else pyproj.CRS(crs)))
