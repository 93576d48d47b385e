"""Lakes and tiles that want a second look, as a GeoPackage for QGIS: picture, mask and perhaps a network disagree.

A labelled lake is suspected where the picture, or the network, does not show it; ground is suspected where one of them
shows a lake that nobody drew. What lies along the shore of a labelled lake is left out.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely
from rasterio.features import shapes as shapes_of
from rasterio.transform import Affine
from scipy.ndimage import binary_dilation, find_objects, label
from shapely.geometry import shape

from glidexp.data.check.likeness import Colours, cells_of, counted, doubt_of
from glidexp.data.geodesy import reprojected
from glidexp.data.scenes.features import TILES
from glidexp.data.scenes.geopackage import check_out, write_layers
from glidexp.data.sensors import rgb_of
from glidexp.data.steps import shown_steps
from glidexp.data.store import LAKE, TileStore
from glidexp.errors import DataError

SMALLEST_PX = 9
"""pixels of the smallest lake that is looked for where none was drawn"""
SHORE_PX = 2
LAKE_COLUMNS = ("lake_id", "scene", "tile", "why", "score", "probability", "picture", "area_px", "area_m2")
TILE_COLUMNS = ("scene", "tile", "why", "score", "lakes", "probability", "contradicted_px", "lake_px")
Answer = Callable[[int], npt.NDArray[np.float32]]
"""row of the store -> (H, W) probability of lake by a network"""
Flags = npt.NDArray[np.bool_]


def suspects(
    tiles: TileStore, answer: Answer | None = None, threshold: float = 0.5, *, progress: bool = False
) -> tuple[geopandas.GeoDataFrame, geopandas.GeoDataFrame]:
    """Looks for suspects in every tile that has a place.

    Args:
        tiles: an opened store
        answer: what a network says; None: picture against mask alone
        threshold: probability from which the network means lake
        progress: show how far it is

    Returns:
        lakes (`LAKE_COLUMNS`) and tiles (`TILE_COLUMNS`), the greatest score first, in the CRS of the tiles, in degrees
        where they have several. why says who disagrees with the mask and how; score is 0-1; probability is the mean by
        the network, empty without; picture the mean by colours.

    Raises:
        DataError: no tile has a place
    """
    where = zip(tiles.index["transform"], tiles.index["crs"], strict=True)
    placed = [row for row, (transform, crs) in enumerate(where) if crs and transform is not None]
    if not placed:
        raise DataError(
            f"{tiles.path}: no tile has a place, so QGIS could show none: glidexp data check ranks its masks."
        )
    every = sorted(set(tiles.index["crs"].iloc[placed]))
    common = every[0] if len(every) == 1 else "EPSG:4326"
    places, colours, names = rgb_of(tiles.bands), Colours(), tiles.index["tile"].tolist()
    sensors = tiles.index["sensor"].tolist()
    with shown_steps(len(placed), "tiles", progress, what="colours", late=True) as step:
        for row in placed:
            colours.add(sensors[row], *counted(cells_of(np.asarray(tiles.images[row])[..., places]), tiles.labels[row]))
            step(names[row])
    ids = _ids(tiles)
    lakes: list[dict[str, Any]] = []
    whole: list[dict[str, Any]] = []

    def judged(row: int) -> None:
        record = tiles.index.iloc[row]
        mask = np.asarray(tiles.labels[row])
        logit = colours.judge(sensors[row], cells_of(np.asarray(tiles.images[row])[..., places]), mask)
        picture = (1 / (1 + np.exp(-logit))).astype(np.float32)
        network = None if answer is None else answer(row)
        found = list(_of_tile(mask, picture, network, threshold, record, ids.get(record["tile"], [])))
        doubt, lake_px, _, contradicted = doubt_of(logit, mask)
        if found:
            outlines = [*(entry["geometry"] for entry in found), _outline(record["transform"], tiles.tile_px)]
            *shapes, square = _moved(outlines, record["crs"], common)
            lakes.extend(entry | {"geometry": one} for entry, one in zip(found, shapes, strict=True))
            # scores of its lakes decide, and colours over the whole tile where they speak louder
            best = max(found, key=lambda entry: entry["score"])
            whole.append(
                {
                    "scene": record["scene"],
                    "tile": record["tile"],
                    "why": best["why"],
                    "score": max(float(best["score"]), doubt),
                    "lakes": len(found),
                    "probability": float("nan") if network is None else float(network.mean()),
                    "contradicted_px": contradicted,
                    "lake_px": lake_px,
                    "geometry": square,
                }
            )

    with shown_steps(len(placed), "tiles", progress, what="suspects") as step:
        for row in placed:
            judged(row)
            step(names[row])
    return _frame(lakes, LAKE_COLUMNS, common), _frame(whole, TILE_COLUMNS, common)


def write_suspects(lakes: geopandas.GeoDataFrame, tiles: geopandas.GeoDataFrame, path: Path) -> None:
    """Writes the layers lakes and tiles of a GeoPackage, aside and renamed.

    Raises:
        DataError: not the name of a GeoPackage
    """
    check_out(path)
    layers = {"lakes": lakes, TILES: tiles}
    write_layers(path, layers, "MultiPolygon", after="nothing is lost, and the same command looks anew")


def _of_tile(
    mask: npt.NDArray[np.uint8],
    picture: npt.NDArray[np.float32],
    network: npt.NDArray[np.float32] | None,
    threshold: float,
    record: Any,
    ids: list[tuple[str, int, int]],
) -> Iterator[dict[str, Any]]:
    drawn = mask == LAKE
    free = (mask < LAKE) & ~binary_dilation(drawn, iterations=SHORE_PX)
    seen = free & (picture >= 0.5)
    if network is not None:
        seen |= free & (network >= threshold)
    affine = Affine(*record["transform"][:6])
    for chosen, labelled in ((drawn, True), (seen, False)):
        owner, _ = label(chosen)
        named: dict[int, list[str]] = {}
        for name, row, col in ids:
            named.setdefault(int(owner[row, col]), []).append(name)
        outlines: dict[int, Any] = {}
        for number, box in enumerate(find_objects(owner), start=1):  # of each only its own corner of the tile
            own = owner[box] == number
            px = int(np.count_nonzero(own))
            by_picture = _mean(picture[box][own])
            by_network = float("nan") if network is None else _mean(network[box][own])
            why, score = _why(labelled, by_picture, by_network, threshold)
            if not why or (px < SMALLEST_PX and not labelled):
                continue
            outlines = outlines or _outlines(owner, affine)
            yield {
                "lake_id": ",".join(named.get(number, ())),
                "scene": record["scene"],
                "tile": record["tile"],
                "why": why,
                "score": score,
                "probability": by_network,
                "picture": by_picture,
                "area_px": px,
                "area_m2": px * float(record["gsd_m"]) ** 2,
                "geometry": outlines[number],
            }


def _why(labelled: bool, picture: float, network: float, threshold: float) -> tuple[str, float]:
    """Who contradicts the mask, and how strongly, 0-1; "" where nobody does."""
    against = {"picture": 1 - picture if labelled else picture}
    limits = {"picture": 0.5}
    if not math.isnan(network):
        against["model"] = 1 - network if labelled else network
        limits["model"] = 1 - threshold if labelled else threshold
    who = [name for name, value in against.items() if value >= limits[name]]
    if not who:
        return "", 0.0
    what = "labelled, not seen by" if labelled else "not labelled, seen by"
    return f"{what} {' and '.join(who)}", float(np.mean(list(against.values())))


def _mean(values: npt.NDArray[np.float32]) -> float:
    return float(values.sum()) / values.size


def _outlines(owner: npt.NDArray[np.int32], affine: Affine) -> dict[int, Any]:
    """The polygon of each number above 0."""
    found: dict[int, list[Any]] = {}
    for part, number in shapes_of(owner, mask=owner > 0, transform=affine):
        found.setdefault(int(number), []).append(shape(part))
    return {number: shapely.union_all(parts) for number, parts in found.items()}


def _outline(transform: Any, px: int) -> Any:
    affine = Affine(*transform[:6])
    return shapely.Polygon([affine @ corner for corner in ((0, 0), (px, 0), (px, px), (0, px))])


def _moved(outlines: list[Any], source: str, target: str) -> list[Any]:
    if source == target:
        return outlines
    return list(reprojected(np.array(outlines), pyproj.CRS(source), pyproj.CRS(target)))


def _ids(tiles: TileStore) -> dict[str, list[tuple[str, int, int]]]:
    """By tile: ids of its lakes in the inventory, each with a pixel of it in the tile."""
    known = tiles.inventory
    if known is None:
        return {}
    corner = tiles.index.set_index("tile")[["row", "col"]]
    held: dict[str, list[tuple[str, int, int]]] = {}
    for entry in known[known["tile"] != ""].to_dict("records"):
        top, left = corner.loc[entry["tile"]].tolist()
        held.setdefault(entry["tile"], []).append((entry["lake"], entry["row"] - top, entry["col"] - left))
    return held


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...], crs: str) -> geopandas.GeoDataFrame:
    table = pd.DataFrame(rows, columns=[*columns, "geometry"]).sort_values("score", ascending=False, kind="stable")
    return geopandas.GeoDataFrame(table.reset_index(drop=True), geometry="geometry", crs=crs)
