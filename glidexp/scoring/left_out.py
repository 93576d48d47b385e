"""Where the build of a store left lakes out of its labels: known by place, whatever a false alarm there looks like.

A lake is left out because it is small or far from ice. The inventory names those that it knows; ground that is farther
from ice than the buffer has no labelled lake at all, and what the inventory does not know of may lie there too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.scoring.components import Components, Floats
from glidexp.scoring.ground import Piece

BEYOND = "beyond_buffer"
KNOWN = {"far_from_ice": BEYOND, "too_small": "too_small"}
"""why the inventory's lake is no lake here -> class of a false alarm on it"""
NEAR_PX = 2.0
"""a false alarm this near to the one pixel that is known of a lake is on it, however small the lake"""


@dataclass(frozen=True, slots=True)
class KnownLake:
    """A lake of the inventory that was left out of the labels, in pixels of the piece."""

    row: int
    col: int
    radius_px: float
    """of a disc of its area"""
    fate: str
    """a key of `KNOWN`"""


@dataclass(frozen=True, slots=True)
class Ice:
    """How far the ground of a piece is from glaciers."""

    distance_m: Floats
    """(rows, cols) of pixel corners of the whole scene, every `step_px` from its upper left one"""
    step_px: int
    buffer_m: float
    """lakes farther from ice were left out"""
    row: int
    """of the piece's upper left pixel in the scene"""
    col: int

    def at(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> Floats:
        """Metres from pixels of the piece to ice, in a straight line between the corners that are known."""
        from scipy import ndimage

        places = [(rows + self.row + 0.5) / self.step_px, (cols + self.col + 0.5) / self.step_px]
        found: Floats = ndimage.map_coordinates(self.distance_m, places, order=1, mode="nearest")
        return found


def lakes_left_out(piece: Piece, inventory: pd.DataFrame | None) -> list[KnownLake]:
    """Lakes of the inventory in this piece that were left out of the labels.

    Args:
        piece: where
        inventory: rows of its scene (`data.store.INVENTORY_SCHEMA`); None where there is none
    """
    if inventory is None or piece.row < 0:
        return []
    at, here = piece.on_canvas(inventory)
    here &= inventory["fate"].isin(KNOWN).to_numpy()
    rows = inventory[here]
    radius = np.sqrt(rows["area_km2"].to_numpy(dtype=np.float64) * 1e6 / np.pi) / piece.gsd_m
    return [
        KnownLake(row, col, float(r) if np.isfinite(r) else 0.0, fate)
        for (row, col), r, fate in zip(at[here].tolist(), radius, rows["fate"], strict=True)
    ]


def ice_of(piece: Piece, ice: pd.DataFrame | None) -> Ice | None:
    """Distances to ice of this piece.

    Args:
        piece: where
        ice: the row of its scene (`data.store.ICE_SCHEMA`); None where there is none
    """
    if ice is None or piece.row < 0:
        return None
    (row,) = ice.to_dict("records")
    distance_m = np.asarray(row["distance_m"], dtype=np.float64).reshape(-1, int(row["across"]))
    return Ice(distance_m, int(row["step_px"]), float(row["buffer_m"]), piece.row, piece.col)


def to_ice(found: Components, ice: Ice | None) -> Floats:
    """Metres from each to the nearest glacier, of its nearest pixel; NaN where that is not known."""
    if ice is None:
        return np.full(len(found), np.nan)
    nearest = np.full(len(found), np.inf)
    np.minimum.at(nearest, found.owner, ice.at(found.rows, found.cols))
    return nearest


def by_place(found: Components, known: Sequence[KnownLake], beyond: npt.NDArray[np.bool_]) -> dict[int, str]:
    """Classes of the false alarms whose place says what they are, by their number.

    Args:
        found: the false alarms
        known: left-out lakes; of each, the false alarm that reaches nearest to the point that is known of it lies on
            it, if half of it may be the lake and its shore: a larger one has another cause, wherever it reaches
        beyond: (n,) of the false alarms, whether all of it is farther from ice than the buffer
    """
    classes = dict.fromkeys(np.flatnonzero(beyond).tolist(), BEYOND)
    reach = np.array([max(NEAR_PX, lake.radius_px / 2) for lake in known])
    rows = np.array([lake.row for lake in known])
    # pixels are in reading order, so that those within reach stand together: a scene has thousands of lakes, and
    # millions of pixels of false alarms
    first = np.searchsorted(found.rows, rows - reach, side="left").tolist()
    behind = np.searchsorted(found.rows, rows + reach, side="right").tolist()
    for lake, most, start, end in zip(known, reach.tolist(), first, behind, strict=True):
        away = np.hypot(found.rows[start:end] - lake.row, found.cols[start:end] - lake.col)
        if len(away) and away.min() <= most:
            nearest = int(found.owner[start + int(away.argmin())])
            if found.area_px[nearest] <= 2 * np.pi * (lake.radius_px + NEAR_PX) ** 2:
                classes[nearest] = KNOWN[lake.fate]
    return classes
