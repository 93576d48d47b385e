"""False alarms drawn by hand of chance on generated scenes, whose ground is known, and what the proxies say of them."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import pandas as pd
import rasterio
from rasterio.features import rasterize
from scipy import ndimage

from glidexp.config import DatasetConfig, SplitConfig, SyntheticConfig
from glidexp.data.prepare import prepare
from glidexp.data.store import TileStore
from glidexp.data.synthetic import CLASSES, read_classes
from glidexp.scoring.attribution import false_alarms
from glidexp.scoring.ground import Piece, pieces
from glidexp.scoring.predictions import Predictions

EXPECTED = {
    "snow": "snow_ice",
    "glacier": "snow_ice",
    "cloud": "cloud",
    "shadow": "shadow",
    "cloud_shadow": "shadow",
    "river": "river_shape",
    "turbid_water": "turbid",
    "rock": "unattributed",
    "vegetation": "unattributed",
    "moraine": "unattributed",
    "debris_ice": "unattributed",
}
"""class of the ground -> what a proxy should say"""
TURBID = 0.6
ICE = ("glacier", "debris_ice")
BUFFER_M = 250.0
"""the scenes are 0.5 to 7.7 km wide: those of three sensors have ground on either side of it"""
EIGHT = np.ones((3, 3), dtype=bool)


def read_turbidity(folder: Path, scene: str) -> np.ndarray:
    """How turbid the water of a generated scene is: (height, width), 0 clear, 1 mud, NaN where there is no lake."""
    with rasterio.open(folder / "classes" / f"{scene}.tif") as source:
        shape, transform, crs = source.shape, source.transform, source.crs
    lakes = geopandas.read_file(folder / "lakes.gpkg", engine="pyogrio")
    lakes = lakes[lakes["lake_id"].str.startswith(f"{scene}_")].to_crs(crs)
    if not len(lakes):
        return np.full(shape, np.nan, dtype=np.float32)
    drawn = zip(lakes.geometry, lakes["turbidity"], strict=True)
    return rasterize(list(drawn), out_shape=shape, transform=transform, fill=np.nan, dtype="float32")


def agreement(seed: int, folder: Path, *, scenes_per_sensor: int, scene_px: int, blobs: int) -> pd.DataFrame:
    """A row a false alarm: sensor, region, ground (its class), said (by the proxies)."""
    store, made = world(seed, folder, 0.0, scenes_per_sensor, scene_px)
    rng = np.random.default_rng(seed)
    rows = []
    for piece in pieces(store.index, store.tile_px):
        image, label = piece.stitch(store.images, outside=0), piece.stitch(store.labels)
        codes, turbidity = (
            on_canvas(source(made, piece.scene), piece.row, piece.col, piece.shape, fill)
            for source, fill in ((read_classes, 0), (read_turbidity, np.nan))
        )
        discs = [
            (ground, blob)
            for ground, mask in masks(codes, turbidity).items()
            for blob in drawn(rng, mask & (label <= 1), blobs, whole=ground != "river")
        ]
        for part in apart(discs):
            alarms = np.any([blob for _, blob in part], axis=0)
            truth = np.where((label == 1) & ~ndimage.binary_dilation(alarms, EIGHT, iterations=4), 1, 0)
            truth = np.where(label > 1, 255, truth).astype(np.uint8)
            found = false_alarms(image, truth, alarms)
            for ground, blob in part:
                (own,) = np.flatnonzero(blob[found.row, found.col])
                said = found.name[own]
                rows.append({"sensor": piece.sensor, "region": piece.region, "ground": ground, "said": said})
    return pd.DataFrame(rows)


def agreement_of_place(seed: int, folder: Path, *, scenes_per_sensor: int, scene_px: int, blobs: int) -> pd.DataFrame:
    """A row a false alarm: sensor, ground (within `BUFFER_M` of ice by the map of classes, beyond, a lake there), said.

    They go the whole way: into what a network said of a store's tiles, and out of the file that a run holds.
    """
    from glidexp.training import final

    store, made = world(seed, folder, BUFFER_M, scenes_per_sensor, scene_px)
    rng = np.random.default_rng(seed)
    bins, drawn_on = np.zeros(store.labels.shape, np.uint8), []
    for number, piece in enumerate(pieces(store.index, store.tile_px)):
        discs = apart(list(placed(rng, store, made, piece, blobs)))[0]
        alarms = np.any([blob for _, blob in discs], axis=0)
        for tile, top, left in zip(piece.tiles, piece.tops, piece.lefts, strict=True):
            bins[tile] = 255 * alarms[top : top + store.tile_px, left : left + store.tile_px]
        drawn_on += [(number, piece, ground, blob) for ground, blob in discs]
    seen = Predictions("test", store, store.every, np.zeros((len(store), 2, 256), np.int32), bins, 0.5)
    run = SimpleNamespace(file=lambda name, make: make(folder / name), table=lambda table, name: None)
    final._mistakes(run, seen)  # type: ignore[arg-type]
    found = pd.read_parquet(folder / "errors.parquet").query("kind == 'false_alarm'")
    rows = []
    for number, piece, ground, blob in drawn_on:
        here = found[found["piece"] == number]
        (said,) = here.loc[blob[here["row"] - piece.row, here["col"] - piece.col], "attributed_to"]
        rows.append({"sensor": piece.sensor, "ground": ground, "said": said})
    return pd.DataFrame(rows)


def placed(
    rng: np.random.Generator, store: TileStore, made: Path, piece: Piece, blobs: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Discs on unlabelled ground of a piece: beside ice, beyond the buffer, and there on lakes."""
    codes = read_classes(made, piece.scene)
    ice = np.isin(codes, [CLASSES[name] for name in ICE])
    away_m = ndimage.distance_transform_edt(~ice) * piece.gsd_m
    codes, away_m = (
        on_canvas(source, piece.row, piece.col, piece.shape, fill) for source, fill in ((codes, 0), (away_m, np.nan))
    )
    label = piece.stitch(store.labels)
    free = (label == 0) & ~ndimage.binary_dilation(label == 1, EIGHT, iterations=4)
    lake, beyond = codes == CLASSES["lake"], free & (away_m > BUFFER_M)
    for ground, mask in {
        "within": free & (away_m <= BUFFER_M),
        "beyond": beyond & ~lake,
        "lake": beyond & lake,
    }.items():
        for blob in drawn(rng, mask, blobs, whole=True):
            yield ground, blob


def world(seed: int, folder: Path, buffer_m: float, scenes_per_sensor: int, scene_px: int) -> tuple[TileStore, Path]:
    """All tiles of a generated world, whose scenes are made once, and the folder of its scenes."""
    synthetic = SyntheticConfig(seed=seed, scenes_per_sensor=scenes_per_sensor, scene_px=scene_px)
    dataset = DatasetConfig(
        empty_share=100.0, buffer_m=buffer_m, synthetic=synthetic, split=SplitConfig(val=0.2, test=0.2)
    )
    store = prepare(dataset, 128, folder, progress=False)
    (made,) = [path for path in (folder / "scenes").iterdir() if path.is_dir()]
    return store, made


def apart(discs: list[tuple[str, np.ndarray]]) -> list[list[tuple[str, np.ndarray]]]:
    """The discs in parts of which no two touch, so that one call judges a part: a call looks at the whole piece."""
    parts: list[list[tuple[str, np.ndarray]]] = []
    taken: list[np.ndarray] = []
    for ground, blob in discs:
        grown = ndimage.binary_dilation(blob, EIGHT)
        place = next((k for k, others in enumerate(taken) if not (others & grown).any()), len(parts))
        if place == len(parts):
            parts.append([])
            taken.append(np.zeros_like(blob))
        parts[place].append((ground, blob))
        taken[place] |= blob
    return parts


def on_canvas(scene: np.ndarray, row: int, col: int, shape: tuple[int, int], fill: float) -> np.ndarray:
    canvas = np.full(shape, fill, dtype=scene.dtype)
    part = scene[row : row + shape[0], col : col + shape[1]]
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas


def masks(codes: np.ndarray, turbidity: np.ndarray) -> dict[str, np.ndarray]:
    """Where each class lies. Turbid water is that of lakes, which are taken for unlabelled here."""
    found = {name: codes == CLASSES[name] for name in EXPECTED if name in CLASSES}
    return found | {"turbid_water": (codes == CLASSES["lake"]) & (turbidity >= TURBID)}


def drawn(rng: np.random.Generator, mask: np.ndarray, count: int, *, whole: bool) -> Iterator[np.ndarray]:
    """Discs of 4 to 16 px radius at random places of a class, cut to it; `whole` ones are at least 0.7 of a disc."""
    places = np.flatnonzero(mask)
    if len(places) < 40:
        return
    done = 0
    for _ in range(8 * count):
        row, col = divmod(int(rng.choice(places)), mask.shape[1])
        radius = float(np.exp(rng.uniform(np.log(4), np.log(16))))
        top, left = max(row - 16, 0), max(col - 16, 0)
        window = (slice(top, row + 17), slice(left, col + 17))
        y, x = np.ogrid[top : top + mask[window].shape[0], left : left + mask[window].shape[1]]
        labels, _ = ndimage.label(mask[window] & ((y - row) ** 2 + (x - col) ** 2 <= radius**2), EIGHT)
        inside = labels == labels[row - top, col - left]
        area = np.count_nonzero(inside)
        if area < 20 or (whole and area < 0.7 * np.pi * radius**2):
            continue
        blob = np.zeros_like(mask)
        blob[window] = inside
        yield blob
        done += 1
        if done == count:
            return
