"""A row a lake, true and predicted: found or not, how large, by how much area and shore are off.

Tiles of a scene that touch are put together first (`ground.pieces`). What the columns mean: docs/scores.md.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from glidexp.errors import DataError
from glidexp.scoring.components import Components, Floats, Ints, area_bound_px, components, in_km2, size_class
from glidexp.scoring.counts import PROBABILITY
from glidexp.scoring.ground import Piece, Tiles, pieces
from glidexp.scoring.matching import Columns, Match, errors, hits, match
from glidexp.scoring.scores import write_parquet
from glidexp.scoring.shoreline import boundary_counts

TRUE, PREDICTED = "true", "predicted"
MOST_OFF = 0.05
"""share of lake pixels that may differ where tiles overlap, for outlines that were drawn anew"""
_log = logging.getLogger("glidexp")
SCHEMA = pa.schema(
    [
        ("lake", pa.string()),
        ("kind", pa.string()),
        *((name, pa.string()) for name in ("split", "scene", "sensor", "region")),
        ("gsd_m", pa.float64()),
        ("piece", pa.int64()),
        ("tile", pa.string()),
        *((name, pa.float64()) for name in ("row", "col", "x", "y")),
        ("crs", pa.string()),
        ("area_px", pa.int64()),
        *((name, pa.float64()) for name in ("area_km2", "perimeter_px", "area_bound_px")),
        ("size_class", pa.string()),
        ("cut", pa.bool_()),
        ("overlaps", pa.int64()),
        ("matches", pa.list_(pa.string())),
        ("overlap_px", pa.int64()),
        ("best_iou", pa.float64()),
        *((name, pa.bool_()) for name in ("matched_any", "matched_iou50", "compared")),
        *((name, pa.float64()) for name in ("predicted_area_px", "area_error_px")),
        ("shore_distances", pa.int64()),
        *((name, pa.float64()) for name in ("assd_px", "hd95_px", "mean_probability")),
        *((name, pa.string()) for name in ("inventory_id", "lake_type")),
        *((name, pa.float64()) for name in ("inventory_area_km2", "glacier_distance_m")),
    ]
)
"""columns of the table and of lakes.parquet"""


@dataclass(frozen=True, slots=True)
class LakeScores:
    """Everything that per-lake scores are made of."""

    lakes: pd.DataFrame
    """a row a lake, columns of `SCHEMA`"""
    ground: pd.DataFrame
    """a row a piece of ground: split, scene, sensor, region, gsd_m, tiles, and `shoreline.COUNTS`"""
    distance_px: Floats
    """(k,) distances between the shores of all compared lakes"""
    distance_row: Ints
    """(k,) row in `lakes` of the true lake that each counts for"""


def score_lakes(
    index: pd.DataFrame,
    labels_nHW: Tiles,
    bins_nHW: npt.NDArray[np.uint8],
    threshold_bin: int,
    inventory: pd.DataFrame | None = None,
    told: Callable[[int], object] | None = None,
) -> LakeScores:
    """Finds, matches and measures the lakes of one split, with one piece of ground in memory at a time.

    Args:
        index: a row a tile of one split
        labels_nHW: (n, H, W) uint8 in the order of the index: 0, 1, and 255, which counts nowhere; or a function that
            gives the tile at a position
        bins_nHW: (n, H, W) uint8, bins of the logit (`counts.EDGES`)
        threshold_bin: a pixel is predicted lake from this bin on, 0-256
        inventory: the store's table of inventory lakes, for their type and distance to ice
        told: called with the number of tiles of each piece of ground when it is done
    """
    tables: list[dict[str, Any]] = []
    ground: list[dict[str, Any]] = []
    distances: list[tuple[Floats, Ints]] = []
    names, splits = index["tile"].to_numpy(dtype=object), index["split"].to_numpy(dtype=object)
    of_scene = dict(iter(inventory.groupby("scene"))) if inventory is not None else {}
    rows = 0
    for number, piece in enumerate(pieces(index, bins_nHW.shape[1])):
        if (off := piece.disagreement(labels_nHW)) > MOST_OFF:
            _log.warning(
                "scene %s: tiles that overlap do not show the same lakes (%.0f %% of their lake pixels differ): row "
                "and col must be pixels of the scene, not numbers of tiles; per-lake scores of it mean nothing",
                piece.scene,
                100 * off,
            )
        label, bins = piece.stitch(labels_nHW), piece.stitch(bins_nHW, outside=0)
        scored = label <= 1
        found = match(components(label == 1, scored), components(bins >= threshold_bin, scored))
        place = {"split": str(splits[piece.tiles[0]]), "piece": number, "scene": piece.scene, "sensor": piece.sensor}
        place |= {"region": piece.region, "gsd_m": piece.gsd_m}
        ground.append(
            place
            | {"tiles": len(piece.tiles), "scored_px": int(scored.sum())}
            | boundary_counts(found.true, found.predicted, scored)
        )
        distances.append((found.distance_px, found.distance_owner + rows))
        known = inventory_of(piece, found.true, of_scene.get(piece.scene))
        for table in (_true_table(found, piece, known), _predicted_table(found, piece, bins)):
            table["tile"] = names[table["tile"]]
            _name(table, f"{place['split']}_{number}", found)
            tables.append(place | {"crs": piece.crs} | table)
            rows += len(table["area_px"])
        if told is not None:
            told(len(piece.tiles))
    return LakeScores(
        lakes=_joined(tables),
        ground=pd.DataFrame(ground),
        distance_px=np.concatenate([np.zeros(0), *(distance for distance, _ in distances)]),
        distance_row=np.concatenate([np.zeros(0, dtype=np.int64), *(row for _, row in distances)]),
    )


def inventory_of(piece: Piece, true: Components, inventory: pd.DataFrame | None) -> Columns:
    """What the inventory says of each true lake: of those lakes that were drawn into it, the one with most pixels.

    Args:
        piece: where the lakes are
        true: the lakes
        inventory: rows of this scene (`data.store.INVENTORY_SCHEMA`); None where there is none

    Returns:
        inventory_id and lake_type, "" where not known, inventory_area_km2 and glacier_distance_m, NaN where not known
    """
    n = len(true)
    found: Columns = {name: np.full(n, "", dtype=object) for name in ("inventory_id", "lake_type")}
    found |= {name: np.full(n, np.nan) for name in ("inventory_area_km2", "glacier_distance_m")}
    if inventory is None or not n:
        return found
    at, here = piece.on_canvas(inventory)
    here &= (inventory["px"] > 0).to_numpy()
    drawn, at = inventory[here], at[here]
    drawn = drawn.assign(own=true.labels_HW[at[:, 0], at[:, 1]].astype(np.int64) - 1)
    drawn = drawn[drawn["own"] >= 0]
    px = drawn.groupby(["own", "lake"], as_index=False, sort=True).agg(px=("px", "sum"))
    largest = px.sort_values("px", ascending=False, kind="stable").drop_duplicates("own")
    facts = largest.merge(drawn.drop_duplicates(["own", "lake"]), on=["own", "lake"])
    own = facts["own"].to_numpy()
    for name, source in (("inventory_id", "lake"), ("lake_type", "lake_type")):
        found[name][own] = facts[source].to_numpy(dtype=object)
    for name, source in (("inventory_area_km2", "area_km2"), ("glacier_distance_m", "glacier_distance_m")):
        found[name][own] = facts[source].to_numpy(dtype=np.float64)
    return found


def _true_table(found: Match, piece: Piece, known: Columns) -> dict[str, Any]:
    off = errors(found)
    return _shape(piece, found.true) | {"kind": TRUE} | hits(found, of_true=True) | off | known


def _predicted_table(found: Match, piece: Piece, bins_HW: npt.NDArray[np.uint8]) -> dict[str, Any]:
    lakes = found.predicted
    total = np.bincount(lakes.owner, weights=PROBABILITY[bins_HW[lakes.rows, lakes.cols]], minlength=len(lakes))
    return (
        _shape(piece, lakes)
        | {"kind": PREDICTED, "mean_probability": total / lakes.area_px}
        | hits(found, of_true=False)
    )


def _shape(piece: Piece, lakes: Components) -> dict[str, Any]:
    """What is known of lakes by themselves; `tile` is the position in the index of the tile with the first pixel."""
    top_row, left_col = piece.corner
    _, first = np.unique(lakes.owner, return_index=True)
    shape: dict[str, Any] = {
        "tile": piece.tile_at(lakes.rows[first], lakes.cols[first]),
        "row": lakes.row + top_row,
        "col": lakes.col + left_col,
        "area_px": lakes.area_px,
        "perimeter_px": lakes.perimeter_px,
        "area_bound_px": area_bound_px(lakes.perimeter_px),
        "size_class": size_class(lakes.area_px, piece.gsd_m),
        "cut": lakes.cut,
    }
    if not np.isnan(piece.gsd_m):
        shape["area_km2"] = in_km2(lakes.area_px, piece.gsd_m)
    if piece.transform is not None:
        a, b, c, d, e, f = piece.transform
        right, down = lakes.col + 0.5, lakes.row + 0.5
        shape |= {"x": a * right + b * down + c, "y": d * right + e * down + f}
    return shape


def _name(table: dict[str, Any], prefix: str, found: Match) -> None:
    """Gives lakes their names, t0, t1 ... and p0, p1 ... in a piece, and the names of those they overlap."""
    true = table["kind"] == TRUE
    own, other, letters = (found.first, found.second, "tp") if true else (found.second, found.first, "pt")
    table["lake"] = [f"{prefix}_{letters[0]}{k}" for k in range(len(table["area_px"]))]
    matches: list[list[str]] = [[] for _ in table["lake"]]
    for k, met in zip(own.tolist(), other.tolist(), strict=True):
        matches[k].append(f"{prefix}_{letters[1]}{met}")
    table["matches"] = matches


_FILL = {pa.string(): "", pa.int64(): 0, pa.bool_(): False, pa.float64(): np.nan}
_DTYPES = {pa.string(): object, pa.int64(): np.int64, pa.bool_(): bool, pa.float64(): np.float64}


def _joined(tables: list[dict[str, Any]]) -> pd.DataFrame:
    """Tables one below the other with every column of `SCHEMA`: what one lacks is "", 0, False or NaN."""
    columns = {}
    for field in SCHEMA:
        if field.name == "matches":
            columns[field.name] = pd.Series([names for table in tables for names in table["matches"]], dtype=object)
            continue
        parts = [np.zeros(0, dtype=_DTYPES[field.type])]
        for table in tables:
            value = table.get(field.name, _FILL[field.type])
            parts.append(np.broadcast_to(np.asarray(value, dtype=_DTYPES[field.type]), len(table["lake"])))
        columns[field.name] = pd.Series(np.concatenate(parts), dtype=_DTYPES[field.type])
    return pd.DataFrame(columns)


def write_lakes(table: pd.DataFrame, path: Path) -> None:
    """Writes lakes.parquet aside and renames it into place."""
    arrow = pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False).replace_schema_metadata()
    write_parquet(arrow, path)


def read_lakes(path: Path) -> pd.DataFrame:
    """Reads lakes.parquet.

    Raises:
        DataError: no such file, or one that `write_lakes` did not write
    """
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as lakes: give the lakes.parquet of a finished run.") from error
    if lost := [name for name in SCHEMA.names if name not in arrow.column_names]:
        raise DataError(f"{path} has no column {', '.join(lost)}: give the lakes.parquet of a finished run.")
    return arrow.to_pandas()
