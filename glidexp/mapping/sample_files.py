"""The folder of a sample: cells to look at and an empty layer for their lakes, and apart from both how they were drawn.

What kind a cell is of is not in the file that is opened to draw lakes, so that who draws does not know it.
"""

import json
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
from glidexp.data.scenes import polygons
from glidexp.data.scenes.degrees import LONLAT, cut_at_180, whole_in_degrees
from glidexp.data.scenes.features import GROUND, layers_of, read_features
from glidexp.data.scenes.geopackage import write_layers
from glidexp.data.scenes.polygons import Geometries
from glidexp.errors import DataError
from glidexp.mapping.cells import KINDS, Cells
from glidexp.mapping.joined import Joined, off
from glidexp.mapping.outputs import LAKES

CELLS = "cells"
SAMPLE, DESIGN = "sample.gpkg", "design.json"
VERSION = 1
SETTING = "--reference"
YES = ("1", "1.0", "true", "yes", "y", "t")


@dataclass(frozen=True, slots=True)
class Looked:
    """A sample with the lakes that were drawn, in degrees."""

    cells: Geometries
    """those that were looked at, whole squares"""
    kind: npt.NDArray[np.int64]
    numbers: tuple[int, ...]
    """cells of each of `KINDS` on all ground"""
    lakes: Geometries
    types: npt.NDArray[np.object_]
    ground: Any
    maps: tuple[str, ...]
    """SHA-256 of each map that it was drawn for"""
    began_from_map: bool
    left: int
    """cells that were drawn and not looked at"""
    astray: int
    """lakes on none of the cells that were looked at"""


def write_sample(
    out: Path, maps: Joined, paths: Sequence[Path], cells: Cells, chosen: Any, *, filled: bool, **told: Any
) -> list[Path]:
    """Writes a sample to be looked at.

    Args:
        out: folder
        maps: lakes and ground
        paths: of the maps
        cells: of the ground
        chosen: numbers of the cells, in the order in which they are to be looked at
        filled: whether the layer of lakes begins with those of the map
        told: further facts of the design

    Raises:
        DataError: there is a sample already, whose lakes would be lost
        RunFailed: the disk refuses it
    """
    design = {
        "version": VERSION,
        "maps": {path.name: file_sha256(path) for path in paths},
        "began_from_map": filled,
        "cells_of_kind": dict(zip(KINDS, cells.numbers, strict=True)),
        "kind_of_cell": {str(i + 1): KINDS[cells.kind[k]] for i, k in enumerate(chosen)},
    } | told
    boxes = cells.boxes[chosen]
    touching = np.unique(shapely.STRtree(maps.shapes).query(boxes, predicate="intersects")[1])
    shown = maps.shapes[touching[: len(touching) if filled else 0]]
    n = len(boxes)
    layers = {
        CELLS: geopandas.GeoDataFrame(
            {"cell_id": np.arange(1, n + 1), "checked": np.zeros(n, np.int64), "note": [""] * n},
            geometry=multi(off(maps.plane, boxes)), crs=LONLAT,
        ),
        LAKES: geopandas.GeoDataFrame(
            {"lake_type": [""] * len(shown), "note": [""] * len(shown)},
            geometry=multi(off(maps.plane, shown)), crs=LONLAT,
        ),
        GROUND: geopandas.GeoDataFrame(
            {"looked_at": [True]}, geometry=multi(off(maps.plane, np.array([maps.ground], dtype=object))), crs=LONLAT,
        ),
    }  # fmt: skip
    write_layers(out / SAMPLE, layers, "MultiPolygon")
    write_bytes(out / DESIGN, (json.dumps(design, indent=1) + "\n").encode())
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
    own = read_features(path, SETTING, ["cell_id", "checked"], names.index(CELLS))
    kinds = design["kind_of_cell"]
    ids = [str(int(v)) if v == v and v is not None else "" for v in own.values["cell_id"].tolist()]
    known = np.array([one in kinds for one in ids])
    if not known.all() or len({*ids}) != len(ids):
        raise DataError(
            f"{SETTING}={path}: cells were added, copied or renumbered: only checked and note are to be changed."
        )
    done = np.array([str(v).strip().lower() in YES for v in own.values["checked"].tolist()], dtype=bool)
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
    return Looked(
        boxes[done],
        np.array([KINDS.index(kinds[one]) for one in np.array(ids)[done]]),
        tuple(int(design["cells_of_kind"][kind]) for kind in KINDS),
        lakes,
        drawn.types,
        shapely.union_all(_degrees(ground.geometries, ground.crs)),
        tuple(sorted(design["maps"].values())),
        bool(design["began_from_map"]),
        int((~done).sum()),
        len(lakes) - len(np.unique(met)),
    )


def _design(path: Path) -> dict[str, Any]:
    try:
        design: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        numbers, kinds = design["cells_of_kind"], design["kind_of_cell"]
        whole = {*numbers} == {*KINDS} and {*kinds.values()} <= {*KINDS} and design["version"] == VERSION
        whole = whole and isinstance(design["maps"], dict) and isinstance(design["began_from_map"], bool)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{SETTING}={path.parent} is no sample: {path.name} cannot be read ({error}).") from None
    if not whole:
        raise DataError(f"{SETTING}={path} was changed, or is of another version: draw the sample again.")
    return design


def _degrees(shapes: Geometries, crs: str | None) -> Geometries:
    return cut_at_180(whole_in_degrees(shapes, LONLAT if crs is None else pyproj.CRS(crs)))


def multi(shapes: Geometries) -> list[shapely.MultiPolygon]:
    """Outlines as MultiPolygons, lines and points let go."""
    parts = [shapely.get_parts(one) for one in shapes]
    return [shapely.MultiPolygon(some[shapely.get_type_id(some) == 3].tolist()) for some in parts]
