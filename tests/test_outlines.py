"""Outlines of masks: lakes that touch themselves at corners, full of holes as a bad network maps them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from scipy import ndimage

from glidexp.mapping import polygons
from glidexp.mapping.runs import runs_of


def made(px: int, seed: int, share: float) -> np.ndarray:
    """A mask whose lakes meet at corners, with holes that do."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(px, px)), 0.8)
    return (noise > np.quantile(noise, share)).astype(np.uint8)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("seed", "share", "small_px"), [(0, 0.35, 4), (1, 0.45, 1), (2, 0.6, 9)])
def test_large_outlines_are_drawn_anew_as_geos_repairs_them(
    seed: int, share: float, small_px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = made(120, seed, share)
    file = tmp_path / "mask.tif"
    with rasterio.open(file, "w", driver="GTiff", width=120, height=120, count=1, dtype="uint8") as stream:
        stream.write(mask, 1)

    def outlined(least: int) -> tuple[np.ndarray, np.ndarray]:
        monkeypatch.setattr(polygons, "LARGE_POINTS", least)
        left = mask.copy()
        return polygons.outlines(file, left, fill_px=small_px, min_px=small_px), left

    (ours, drawn), (theirs, expected) = outlined(0), outlined(10**9)
    assert np.array_equal(drawn, expected) and len(ours) == len(theirs) > 3
    assert shapely.is_valid(ours).all() and shapely.equals(ours, theirs).all()
    assert shapely.get_num_geometries(ours).tolist() == shapely.get_num_geometries(theirs).tolist()
    for one, other in zip(polygons.smoothed(ours, 2), polygons.smoothed(theirs, 2), strict=True):
        assert shapely.equals(one, other)
    burnt = np.zeros_like(mask).reshape(-1)
    for _, places in runs_of(ours).pixels(120):
        burnt[places] = 1
    assert np.array_equal(burnt.reshape(mask.shape), drawn)
