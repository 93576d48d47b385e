"""The mistakes of one split: false alarms with what they probably lie on, missed lakes, the worst tiles."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.beside import beside
from glidexp.scoring.attribution import CLASSES, false_alarms
from glidexp.scoring.components import components, in_km2, lower_bound, size_class
from glidexp.scoring.confusion import defined
from glidexp.scoring.ground import pieces
from glidexp.scoring.left_out import ice_of, lakes_left_out
from glidexp.scoring.predictions import Predictions

FALSE_ALARM, TRUE_LAKE = "false_alarm", "true_lake"
BRIGHTNESS = ("darker", "alike", "brighter")
"""a lake's median brightness against that of its piece of ground, 1 added to both: up to 2/3 of it, up to 3/2, above"""
COLUMNS = (
    *("kind", "split", "scene", "sensor", "region", "gsd_m", "piece", "tile", "row", "col", "area_px", "area_km2"),
    *("size_class", "attributed_to", "look", "glacier_distance_m", "elongation"),
    *("brightness", "brightness_class", "missed"),
)
"""of the table and of errors.parquet"""
OF_ALARMS = ("row", "col", "area_px", "look", "glacier_distance_m", "elongation", "brightness")
"""columns that `false_alarms` gives by the same name"""
WORST = 12
_RATIO = 1.5
_NUMBERS = {"gsd_m": np.float64, "piece": np.int64}


def mistakes(
    seen: Predictions,
    rgb: Sequence[int] | None,
    inventory: pd.DataFrame | None = None,
    ice: pd.DataFrame | None = None,
    told: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """A row a false alarm and a row a true lake, found or missed, with one piece of ground in memory at a time.

    Args:
        seen: what the network said
        rgb: places of red, green and blue among the bands; None where there is no such picture
        inventory: the store's table of inventory lakes, for those that were left out of the labels
        ice: the store's table of distances to ice, for ground on which none is labelled
        told: called with the number of tiles of each piece of ground when it is done

    Returns:
        columns of `COLUMNS`; row and col are of one pixel, in the scene where it is known, else in the tile.
        attributed_to, look, glacier_distance_m, elongation of false alarms; brightness_class, missed of true lakes
        (none of it predicted)
    """
    index = seen.index
    alarms: list[dict[str, Any]] = []
    lakes: list[dict[str, Any]] = []
    names = index["tile"].to_numpy(dtype=object)  # made once: it takes as long as there are tiles
    left_out, to_ice = ({} if known is None else dict(iter(known.groupby("scene"))) for known in (inventory, ice))
    for number, piece in enumerate(pieces(index, seen.bins.shape[1])):
        label = piece.stitch(seen.label)
        predicted = piece.stitch(seen.bins, outside=0) >= seen.threshold_bin
        image = None if rgb is None else piece.stitch(_colours(seen, rgb), outside=0)
        by_place = lakes_left_out(piece, left_out.get(piece.scene)), ice_of(piece, to_ice.get(piece.scene))
        found = false_alarms(image, label, predicted, *by_place)
        wrong = {"attributed_to": found.name, **{name: getattr(found, name) for name in OF_ALARMS}}
        known = not np.isnan(piece.gsd_m)
        for kind, held, table in (
            (FALSE_ALARM, alarms, wrong),
            (TRUE_LAKE, lakes, _lakes(image, label, predicted)),
        ):
            if not (count := len(table["row"])):
                continue
            table["tile"] = names[piece.tile_at(table["row"], table["col"])]
            table["area_km2"] = in_km2(table["area_px"], piece.gsd_m) if known else np.full(count, np.nan)
            table["size_class"] = size_class(table["area_px"], piece.gsd_m)
            top, left = piece.corner
            table["row"], table["col"] = table["row"] + top, table["col"] + left
            place: dict[str, Any] = {"kind": kind, "split": seen.split, "scene": piece.scene, "sensor": piece.sensor}
            place |= {"region": piece.region, "gsd_m": piece.gsd_m, "piece": number}
            held.append(
                table | {name: np.full(count, value, _NUMBERS.get(name, object)) for name, value in place.items()}
            )
        if told is not None:
            told(len(piece.tiles))
    # two tables in all: one for each piece would take longer than to fill it
    filled = [
        pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        for parts in (alarms, lakes)
        if parts
    ]
    if not filled:
        return pd.DataFrame(columns=list(COLUMNS))
    together = pd.concat(filled, ignore_index=True).sort_values("piece", kind="stable", ignore_index=True)
    return together.reindex(columns=list(COLUMNS))


def _colours(seen: Predictions, rgb: Sequence[int]) -> Any:
    return lambda place: seen.image(place)[..., list(rgb)]


def _lakes(
    image: npt.NDArray[np.uint8] | None, label: npt.NDArray[np.uint8], predicted: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    scored = label <= 1
    true = components(label == 1, scored)
    hit = np.bincount(true.owner[predicted[true.rows, true.cols]], minlength=len(true)) > 0
    pixel = np.unique(true.owner, return_index=True)[1]
    brightness, group = np.full(len(true), np.nan), np.full(len(true), "", dtype=object)
    if image is not None and len(true):
        mean = image.mean(axis=2)
        ground = float(np.median(mean[scored])) + 1
        own = pd.Series(mean[true.rows, true.cols]).groupby(true.owner).median()
        brightness = own.to_numpy()
        group = np.array(BRIGHTNESS, dtype=object)[np.searchsorted([1 / _RATIO, _RATIO], (brightness + 1) / ground)]
    return {
        "row": true.rows[pixel],
        "col": true.cols[pixel],
        "area_px": true.area_px,
        "brightness": brightness,
        "brightness_class": group,
        "missed": ~hit,
    }


def mistake_scores(table: pd.DataFrame, prefix: str) -> dict[str, float]:
    """`<prefix>/fp_share/<class>`, shares of the area of all false alarms, and of the true lakes how many were missed:
    `<prefix>/missed/<size or brightness>/<class>/lakes` and `.../share`.

    Args:
        table: of `mistakes`
        prefix: "test" or "val"
    """
    found: dict[str, float] = {}
    alarms = table[table["kind"] == FALSE_ALARM]
    if len(alarms):
        area = alarms.groupby("attributed_to")["area_px"].sum()
        total = float(area.sum())
        found = {f"{prefix}/fp_share/{name}": float(area.get(name, 0)) / total for name in CLASSES}
    lakes = table[table["kind"] == TRUE_LAKE]
    for kind, column in (("size", "size_class"), ("brightness", "brightness_class")):
        for name, missed in lakes[lakes[column] != ""].groupby(column)["missed"]:
            found[f"{prefix}/missed/{kind}/{name}/lakes"] = float(missed.sum())
            found[f"{prefix}/missed/{kind}/{name}/share"] = float(missed.mean())
    return defined(found)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The mistakes in a few rows: what, class, number, area_px, share (of the area of all false alarms, or of the true
    lakes of the class)."""
    rows = []
    alarms, lakes = table[table["kind"] == FALSE_ALARM], table[table["kind"] == TRUE_LAKE]
    total = max(float(alarms["area_px"].sum()), 1.0)
    for name in CLASSES:
        own = alarms[alarms["attributed_to"] == name]
        rows.append(("false alarms", name, len(own), int(own["area_px"].sum()), own["area_px"].sum() / total))
    for what, column, order in (
        ("missed lakes by size", "size_class", lower_bound),
        ("missed lakes by brightness", "brightness_class", BRIGHTNESS.index),
    ):
        for name in sorted(set(lakes[column]) - {""}, key=order):
            own = lakes[lakes[column] == name]
            missed = own[own["missed"].astype(bool)]
            rows.append((what, name, len(missed), int(missed["area_px"].sum()), len(missed) / len(own)))
    return pd.DataFrame(rows, columns=["what", "class", "number", "area_px", "share"])


def write_mistakes(table: pd.DataFrame, path: Path) -> None:
    """Writes errors.parquet aside and renames it into place."""
    typed = table.astype({"missed": "boolean", "area_px": "int64", "piece": "int64", "row": "int64", "col": "int64"})
    with beside(path) as place:
        typed.to_parquet(place, index=False, compression="zstd")


def worst_tiles(seen: Predictions, count: int = WORST) -> list[tuple[int, int, int]]:
    """Places, false and missed pixels of the tiles with most wrong pixels, those first; tiles without any left out."""
    at = seen.threshold_bin
    false = seen.hist[:, 0, at:].sum(axis=1, dtype=np.int64)
    missed = seen.hist[:, 1, :at].sum(axis=1, dtype=np.int64)
    order = np.argsort(-(false + missed), kind="stable")[:count]
    return [(int(i), int(false[i]), int(missed[i])) for i in order if false[i] + missed[i]]
