"""A map and a reference read, laid over each other, and scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from glidexp.beside import file_sha256
from glidexp.data.scenes import polygons
from glidexp.data.scenes.degrees import cut_at_180, whole_in_degrees
from glidexp.data.scenes.polygons import Geometries
from glidexp.data.steps import Step
from glidexp.errors import DataError
from glidexp.mapping.against import Against, against, ground_of
from glidexp.mapping.assessed import assessed
from glidexp.mapping.cells import KINDS, LAKE
from glidexp.mapping.joined import Joined, joined, on, read_ground
from glidexp.mapping.sample_files import SETTING, Looked, check_inventory, read_sample
from glidexp.scoring.stratified import Sample
from glidexp.wording import does, many

MOST_LACKING = 1e-3
"""part of a sample's cell that a map may lack, of a whole one: outlines of what was looked at are coarse"""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What there is to say of a map."""

    scores: pd.DataFrame
    strata: pd.DataFrame | None
    """of a sample"""
    met: Against
    maps: Joined
    reference: Geometries
    """in the plane of the maps"""
    least_km2: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sides:
    """Maps, and what they are held against."""

    paths: tuple[Path, ...]
    maps: Joined
    reference: Path
    looked: Looked | None
    """where it is a sample"""
    true: Geometries
    """lakes of the reference, in the plane of the maps"""
    types: npt.NDArray[np.object_]
    """of each of them"""


def read(
    paths: Sequence[Path], reference: Path, step: Step, *, layer: str | None, reference_layer: str | None,
    within: Path | None,
) -> Sides:  # fmt: skip
    """Reads maps and a reference.

    Args:
        paths: of the maps
        reference: file of an inventory, or folder of a sample
        step: told of each map, as by `joined`
        layer: of each map, of several
        reference_layer: of the inventory, of several
        within: polygons beyond which nothing counts

    Raises:
        DataError: one of them cannot be read, or they do not go together
    """
    looked = read_sample(reference) if reference.is_dir() else None
    if looked:
        ground, lakes, types = looked.ground, looked.lakes, looked.types
    else:
        ground = read_ground(within, "--within") if within else None
        check_inventory(reference)
        own = polygons.read(reference, SETTING, layer=reference_layer)
        lakes, types = cut_at_180(whole_in_degrees(own.geometries, own.crs)), own.types
    maps = joined(paths, step, layer=layer, within=ground)
    return Sides(tuple(paths), maps, reference, looked, on(maps.plane, lakes), types)


def made(sides: Sides, *, min_km2: float | None) -> Assessment:
    """Scores maps against a reference.

    Args:
        sides: of `read`
        min_km2: smaller lakes do not count, neither their number nor their area; None: 5.5 pixels of the coarsest map,
            for numbers alone

    Raises:
        DataError: they do not go together
    """
    maps, looked, true, types = sides.maps, sides.looked, sides.true, sides.types
    cells, sample, kinds = _cells(maps, looked)
    near = [_touching(shapes, cells) for shapes in (maps.shapes, true)]
    if looked is None and not near[1].any():
        raise DataError(f"{SETTING}={sides.reference}: none of its lakes lies on the ground of the maps: give another.")
    near[0] |= _touching(maps.shapes, true[near[1]])  # a lake that leaves its cell may be mapped beyond it alone
    counted = min_km2 or 0.0
    met = against(maps.shapes[near[0]], true[near[1]], cells, counted, maps.ground)
    same = looked is None or {file_sha256(path) for path in sides.paths} == looked.maps
    least = maps.least_km2 if min_km2 is None else min_km2
    found = assessed(
        met, sample, kinds, mapped_km2=_area_km2(maps, counted), least_km2=least, areas_from_km2=counted,
        types=types[near[1]],
        held_in=np.array([kind == LAKE for kind in kinds]) if looked and same else None,
    )  # fmt: skip
    some, notes = (
        replace(maps, shapes=maps.shapes[near[0]], ids=maps.ids[near[0]]),
        _notes(maps, looked, same, least, min_km2),
    )
    return Assessment(found.scores, found.strata if looked else None, met, some, true[near[1]], least, notes)


def _cells(maps: Joined, looked: Looked | None) -> tuple[Geometries, Sample, tuple[str, ...]]:
    """Cells on the ground that counts, and how they were drawn; all of it is one cell without a sample."""
    if looked is None:
        return np.array([maps.ground], dtype=object), Sample(np.zeros(1, np.int64), np.ones(1)), ("all",)
    squares, ground = on(maps.plane, looked.cells), on(maps.plane, np.array([looked.ground], dtype=object))[0]
    cells = shapely.intersection(squares, ground)
    whole = (1e3 * looked.cell_km) ** 2
    other = np.abs(shapely.area(squares) / whole - 1) > MOST_LACKING
    if (other | ~shapely.intersects(ground, squares)).any():
        raise DataError(
            f"{SETTING}: some cells were moved or reshaped: only their checked and note are to be changed; draw "
            "the sample again into another folder, with the same --seed, to have them back."
        )
    lacking = shapely.area(shapely.difference(cells, maps.ground)) > MOST_LACKING * whole
    if lacking.any():
        raise DataError(
            f"MAP: {int(lacking.sum())} of the {many(len(cells), 'cell')} that were looked at "
            f"{does(int(lacking.sum()), 'are')} not, or not "
            "whole, on the ground of these maps: give those for which the sample was drawn, or others of that ground."
        )
    seen = np.bincount(looked.kind, minlength=len(KINDS))
    for kind, n, size in zip(KINDS, seen.tolist(), looked.numbers, strict=True):
        if n < min(2, size):
            raise DataError(
                f"{SETTING}: of the {many(size, 'cell')} of kind {kind} {n} {does(n, 'were')} looked at, two are "
                "the least: go on in the "
                "order of cell_id."
            )
    return cells, Sample(looked.kind, np.array(looked.numbers, np.float64)), KINDS


def _touching(shapes: Geometries, others: Geometries) -> npt.NDArray[np.bool_]:
    """Which outlines touch one of others."""
    found = np.zeros(len(shapes), dtype=bool)
    found[shapely.STRtree(shapes).query(others, predicate="intersects")[1]] = True
    return found


def _area_km2(maps: Joined, least_km2: float) -> float:
    """Of all lakes of a size on all ground; what two maps show counts once."""
    ground = np.array([maps.ground], dtype=object)
    some = maps.shapes[shapely.area(maps.shapes) >= least_km2 * 1e6]
    return float(ground_of(some, some[:0], ground)[0][0])


def _notes(maps: Joined, looked: Looked | None, same: bool, least: float, asked: float | None) -> tuple[str, ...]:
    """What a reader of the scores has to know."""
    ground = float(shapely.area(maps.ground)) / 1e6
    small = f" Lakes under {least:.4g} km2 count neither as found nor as missed or false" if least else ""
    small += (", nor in areas." if asked else "; areas keep them.") if small else ""
    notes = [f"{ground:,.0f} km2 of ground.{small}"]
    if looked is None:
        notes.append("all ground was compared, so there is no error of sampling; the inventory's own errors count.")
        return tuple(notes)
    notes.append(
        "intervals (95 %) are for what other cells would have said. Where few or none of a kind of cell hold a missed "
        "lake, they leave room for what the others may hold. Errors of who drew are in none."
    )
    if looked.began_from_map:
        notes.append("the lakes were drawn from the map's outlines, so the scores flatter the map.")
    if not same:
        notes.append("the sample was drawn for other maps; it serves for these too, with wider intervals.")
    if looked.left:
        notes.append(
            f"{many(looked.left, 'cell')} {does(looked.left, 'are')} not checked: the scores take it that "
            "nothing there is special."
        )
    if looked.astray:
        notes.append(
            f"{many(looked.astray, 'lake')} {does(looked.astray, 'touch')} no checked cell and "
            f"{does(looked.astray, 'count')} nowhere: was a cell forgotten?"
        )
    return tuple(notes)
