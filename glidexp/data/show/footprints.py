"""A map of a finished store as inline SVG: where its tiles lie and on which side. Scenes far apart get panels apart."""

import math
from dataclasses import dataclass, field
from functools import partial
from html import escape

import numpy as np
import pandas as pd
import pyproj
import shapely
from affine import Affine

from glidexp.data.geodesy import Floats, to_lonlat, unwrap
from glidexp.data.splits import connected
from glidexp.data.store import SPLITS, TileStore
from glidexp.wording import many

PANEL_PX, SMALL_PX = 430, 250
FEW = 6
"""panels up to this number are large"""
MOST_PANELS = 40
MOST_LAKES = 5000
"""of all panels; more are not drawn, as nobody would tell them apart"""
NEAR = 1.0
"""scenes nearer than this many of their own widths share a panel"""


@dataclass(slots=True)
class _Ground:
    """What is drawn of one scene, in degrees."""

    name: str
    region: str
    sides: dict[str, tuple[shapely.Geometry, int]] = field(default_factory=dict)
    """footprint and number of tiles"""
    lakes: list[tuple[float, float, str]] = field(default_factory=list)
    """longitude, latitude, fate"""

    @property
    def box(self) -> tuple[float, float, float, float]:
        return shapely.union_all([shape for shape, _ in self.sides.values()]).bounds


def maps(store: TileStore, lakes: pd.DataFrame | None = None) -> tuple[list[str], int]:
    """Panels of the map, each a `<figure>` with an `<svg>`; none where no tile has a position.

    Args:
        store: an opened store
        lakes: rows of `store.INVENTORY_SCHEMA`, drawn as points

    Returns:
        panels, and how many more there would be
    """
    grounds = _grounds(store)
    if lakes is not None and lakes_of(lakes) <= MOST_LAKES:
        _add_lakes(grounds, store, lakes.drop_duplicates(["scene", "lake"]))
    found = list(grounds.values())
    if not found:
        return [], 0
    boxes = []
    for ground in found:
        left, bottom, right, top = ground.box
        wide = NEAR * max(right - left, top - bottom) / 2
        boxes.append(shapely.box(left - wide, bottom - wide, right + wide, top + wide))
    links = shapely.STRtree(boxes).query(boxes, predicate="intersects").T
    groups = connected(len(found), [(a, b) for a, b in links.tolist() if a < b])
    side_px = PANEL_PX if len(groups) <= FEW else SMALL_PX
    panels = [_panel([found[i] for i in group], side_px) for group in groups[:MOST_PANELS]]
    return panels, len(groups) - len(panels)


def lakes_of(inventory: pd.DataFrame) -> int:
    """Lakes of `store.INVENTORY_SCHEMA`, each scene's by themselves."""
    return int((~inventory.duplicated(["scene", "lake"])).sum())


def _grounds(store: TileStore) -> dict[str, _Ground]:
    """Footprints by scene and side."""
    index = store.index
    placed = index[index["transform"].notna() & (index["crs"] != "")]
    grounds: dict[str, _Ground] = {}
    for (scene, crs, side), own in placed.groupby(["scene", "crs", "split"], sort=True):
        a, b, c, d, e, f = np.array(own["transform"].tolist(), dtype=np.float64)[:, :6].T[:, :, None]
        x, y = np.array([0, 1, 1, 0]) * store.tile_px, np.array([0, 0, 1, 1]) * store.tile_px
        squares = shapely.polygons(np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1))
        pixel = float(np.hypot(a[0], d[0])[0])
        # edges of neighbours differ by rounding, which would leave hairlines between them
        shape = shapely.union_all(squares, grid_size=pixel / 100)
        shape = shapely.segmentize(shape, pixel * store.tile_px * 4)
        transformed = shapely.transform(shape, partial(_lonlat, str(crs)), interleaved=False)
        ground = grounds.setdefault(str(scene), _Ground(str(scene), str(own["region"].iloc[0])))
        before = ground.sides.get(str(side))  # a group of unplaced scenes may be of two zones
        if before:
            transformed = shapely.union_all([before[0], transformed])
        ground.sides[str(side)] = (transformed, len(own) + (before[1] if before else 0))
    return grounds


def _add_lakes(grounds: dict[str, _Ground], store: TileStore, lakes: pd.DataFrame) -> None:
    first = store.index.groupby("scene").first()
    for scene, own in lakes.groupby("scene", sort=True):
        if scene not in grounds:
            continue
        tile = first.loc[scene]
        x, y = own["col"].to_numpy() + 0.5 - tile["col"], own["row"].to_numpy() + 0.5 - tile["row"]
        lon, lat = _lonlat(str(tile["crs"]), *(Affine(*tile["transform"][:6]) @ (x, y)))
        grounds[str(scene)].lakes = list(zip(lon.tolist(), lat.tolist(), own["fate"], strict=True))


def _lonlat(crs: str, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Degrees, without the jump at 180."""
    lon, lat = to_lonlat(pyproj.CRS.from_user_input(crs), x, y)
    return unwrap(lon), lat


def _panel(grounds: list[_Ground], side_px: int) -> str:
    """One panel: north up, a degree of longitude as long as it is there."""
    points = [shapely.Point(lon, lat) for ground in grounds for lon, lat, _ in ground.lakes]
    shapes = [shape for ground in grounds for shape, _ in ground.sides.values()]
    left, bottom, right, top = shapely.total_bounds([*shapes, *points]).tolist()
    squeeze = max(math.cos(math.radians((bottom + top) / 2)), 0.02)
    scale = (side_px - 20) / max((right - left) * squeeze, top - bottom, 1e-9)
    width, height = (right - left) * squeeze * scale + 20, (top - bottom) * scale + 20

    def at(lon: float, lat: float) -> str:
        return f"{(lon - left) * squeeze * scale + 10:.1f} {(top - lat) * scale + 10:.1f}"

    parts = []
    for ground in grounds:
        for side in SPLITS:
            if side in ground.sides:
                shape, tiles = ground.sides[side]
                rings = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(shape)), return_index=True)
                outlines = [rings[0][rings[1] == k] for k in range(rings[1].max() + 1)]
                path = "".join("M" + "L".join(at(lon, lat) for lon, lat in ring.tolist()) + "Z" for ring in outlines)
                title = escape(f"{ground.name}: {many(tiles, 'tile')}, {side}")
                parts.append(f'<path class="{side}" d="{path}"><title>{title}</title></path>')
        for lon, lat, fate in ground.lakes:
            x, y = at(lon, lat).split()
            parts.append(f'<circle class="{escape(fate)}" cx="{x}" cy="{y}" r="1.8"/>')
    km, bar = _scale_bar(scale / 111.195)
    regions = escape(", ".join(sorted({ground.region for ground in grounds})))
    where = f"{_degrees(left, right, 'EW')}, {_degrees(bottom, top, 'NS')}"
    return (
        f'<figure><svg viewBox="0 0 {max(width, 120):.0f} {height + 26:.0f}" width="{max(width, 120):.0f}" role="img" '
        f'aria-label="tiles of {regions}"><rect class="frame" width="{max(width, 120):.0f}" height="{height:.0f}"/>'
        f"{''.join(parts)}"
        f'<path class="bar" d="M10 {height + 8:.0f}h{bar:.1f}"/>'
        f'<text x="10" y="{height + 22:.0f}">{km:g} km</text></svg>'
        f"<figcaption>{regions}, {many(len(grounds), 'scene')}<br/>{where}</figcaption></figure>"
    )


def _scale_bar(px_per_km: float) -> tuple[float, float]:
    """A round number of kilometres that takes up to 100 px, and its length."""
    most = 100 / px_per_km
    power = 10.0 ** math.floor(math.log10(most))
    km = next(n * power for n in (5, 2, 1) if n * power <= most)
    return km, km * px_per_km


def _degrees(low: float, high: float, letters: str) -> str:
    """`74.72 to 74.62 W`, or `179.90 E to 179.80 W`: degrees with the letter of their half of the globe."""
    ends = [(at + 180) % 360 - 180 for at in (low, high)]
    first, last = (letters[at < 0] for at in ends)
    return f"{abs(ends[0]):.2f}{f' {first}' * (first != last)} to {abs(ends[1]):.2f} {last}"
