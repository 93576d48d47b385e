"""The default synthetic data set as a whole: histograms, size law, kinds of lakes, and how hard it is."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.features import rasterize

from glidexp.config import SyntheticConfig
from glidexp.data.synthetic.lakes import FILTER_M
from glidexp.data.synthetic.regions import RADIOMETRY, REGIONS

pytestmark = pytest.mark.slow
TILE_PX = 256
MEDIAN_DN = {
    "worldview2": (350, 1200),
    "gaofen2": (180, 600),
    "sentinel2": (900, 3000),
    "landsat8": (9500, 18000),
}
"""range of a band's median digital number in any scene of the sensor"""
P98_DN = {
    "worldview2": (1500, 2047),
    "gaofen2": (750, 1023),
    "sentinel2": (5000, 11000),
    "landsat8": (28000, 58000),
}
"""range of a band's 98th percentile"""
SLOPE_B = (0.70, 1.15)
"""range of b in N(>A) ~ A^-b, for each sensor"""


@pytest.fixture(scope="module")
def world(default_data: Path) -> Path:
    (folder,) = (path for path in (default_data / "scenes").iterdir() if path.is_dir())
    return folder


@pytest.fixture(scope="module")
def scenes(world: Path) -> pd.DataFrame:
    return pd.read_csv(world / "scenes.csv")


@pytest.fixture(scope="module")
def lakes(world: Path, scenes: pd.DataFrame) -> geopandas.GeoDataFrame:
    """Lakes with the scene they are in and their distance to the nearest glacier in metres."""
    table, ice = geopandas.read_file(world / "lakes.gpkg"), geopandas.read_file(world / "glaciers.gpkg")
    table["scene"] = table.lake_id.str.rsplit("_", n=1).str[0]
    table = table.merge(scenes[["scene", "sensor", "gsd_m"]], on="scene", validate="many_to_one")
    for region, group in table.groupby("region"):
        epsg = REGIONS[str(region)].epsg
        near = group.to_crs(epsg).sjoin_nearest(ice[ice.region == region].to_crs(epsg), distance_col="metres")
        table.loc[group.index, "ice_m"] = near.metres.groupby(level=0).min()
    return table


def stretched(image: np.ndarray) -> np.ndarray:
    """(3, H, W) uint16 to 0-255 by the 2nd and 98th percentile of what is not nodata."""
    seen = image[:, image.min(axis=0) > 0]
    low, high = (np.percentile(seen, q, axis=1)[:, None, None] for q in (2, 98))
    return np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8).astype(np.float32)


def otsu(values: np.ndarray) -> float:
    counts, edges = np.histogram(values, 256, (-1, 1))
    share = counts / counts.sum()
    weight, centre = np.cumsum(share), (edges[1:] + edges[:-1]) / 2
    mean = np.cumsum(share * centre)
    between = (mean[-1] * weight - mean) ** 2 / np.maximum(weight * (1 - weight), 1e-12)
    return float(centre[np.argmax(between)])


def tiles(world: Path, scene: pd.Series, lakes: geopandas.GeoDataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Index (N, px, px) and lake mask of the scene's tiles that hold lake within 10 km of ice."""
    with rasterio.open(world / scene.path) as source:
        image, transform, crs = source.read(), source.transform, source.crs
    chosen = lakes[(lakes.scene == scene.scene) & (lakes.ice_m <= FILTER_M)].to_crs(crs)
    mask = rasterize(chosen.geometry, out_shape=image.shape[1:], transform=transform) > 0
    red, green, _ = stretched(image)
    index = (green - red) / np.maximum(green + red, 1)
    found = []
    for row in range(0, mask.shape[0] - TILE_PX + 1, TILE_PX):
        for col in range(0, mask.shape[1] - TILE_PX + 1, TILE_PX):
            window = (slice(row, row + TILE_PX), slice(col, col + TILE_PX))
            if mask[window].any():
                found.append((index[window], mask[window]))
    return np.stack([f[0] for f in found]), np.stack([f[1] for f in found])


def test_histograms_of_each_sensor(world: Path, scenes: pd.DataFrame) -> None:
    for row in scenes.itertuples():
        with rasterio.open(world / row.path) as source:
            image = source.read()
        seen = image[:, image.min(axis=0) > 0]
        assert seen.size > 0.8 * image.size and image.max() <= RADIOMETRY[row.sensor].top
        middle, top = np.percentile(seen, 50, axis=1), np.percentile(seen, 98, axis=1)
        low, high = MEDIAN_DN[row.sensor]
        assert ((middle >= low) & (middle <= high)).all(), (row.scene, middle)
        low, high = P98_DN[row.sensor]
        assert ((top >= low) & (top <= high)).all(), (row.scene, top)


def test_size_law_of_each_sensor(lakes: geopandas.GeoDataFrame) -> None:
    for sensor, group in lakes.groupby("sensor"):
        area_px = group.area_m2 / group.gsd_m**2
        least = 50.0  # above the smallest that is drawn, where growing may miss by some pixels
        slope = 1 / np.log(area_px[area_px >= least] / least).mean()
        assert SLOPE_B[0] <= slope <= SLOPE_B[1], (sensor, slope)


def test_all_regions_and_kinds(lakes: geopandas.GeoDataFrame) -> None:
    assert set(lakes.region) == set(REGIONS)
    assert set(lakes.kind) == {"supraglacial", "proglacial", "ice_marginal", "unconnected", "nonglacial"}
    assert 0 < lakes.frozen.mean() < 0.15


def test_nonglacial_lakes_are_the_ones_beyond_10_km_and_need_wide_scenes(lakes: geopandas.GeoDataFrame) -> None:
    beyond = lakes.ice_m > FILTER_M
    assert (beyond == (lakes.kind == "nonglacial")).all()
    assert set(lakes[beyond].gsd_m) == {10.0, 30.0}
    assert ((lakes.ice_m - FILTER_M).abs() > 100).all(), "a lake on the line would hang on the projection"


def test_enough_tiles_and_a_naive_index_is_not_enough(
    world: Path, scenes: pd.DataFrame, lakes: geopandas.GeoDataFrame
) -> None:
    last = scenes.groupby("sensor").tail(2)
    index, truth = [], []
    for _, scene in scenes.iterrows():
        values, mask = tiles(world, scene, lakes)
        side = int(SyntheticConfig().scene_px * RADIOMETRY[scene.sensor].scene_scale)
        assert len(mask) >= 6 / 16 * (side // TILE_PX) ** 2
        assert 0.03 < mask.mean() < 0.10, (scene.scene, mask.mean())
        if scene.scene in set(last.scene):
            index.append(values.ravel())
            truth.append(mask.ravel())
    values, mask = np.concatenate(index), np.concatenate(truth)
    guess = values > otsu(values)
    hits, either = (guess & mask).sum(), (guess | mask).sum()
    assert 0.10 < hits / either < 0.60
