"""Lakes as components: by hand, and against scikit-image."""

import math

import numpy as np
import pytest
from skimage import measure

from glidexp.data.sizes import SIZES_KM2
from glidexp.errors import DataError
from glidexp.scoring.components import (
    SIZES_PX,
    area_bound_px,
    components,
    in_km2,
    in_metres,
    overlaps,
    size_class,
)


def mask(*rows: str) -> np.ndarray:
    """ "#" is lake."""
    return np.array([[c == "#" for c in row] for row in rows])


def everywhere(lake: np.ndarray) -> np.ndarray:
    return np.ones_like(lake)


def noise(seed: int, density: float = 0.35) -> np.ndarray:
    return np.random.default_rng(seed).random((40, 50)) < density


def test_diagonal_contact_is_one_lake() -> None:
    lake = mask("....", ".#..", "..#.", "....", "#...")
    found = components(lake, everywhere(lake))
    assert found.area_px.tolist() == [2, 1]
    assert (found.row.tolist(), found.col.tolist()) == ([1.5, 4.0], [1.5, 0.0])
    assert found.perimeter_px == pytest.approx([8 * math.pi / 4, math.pi])


def test_cut_by_the_edge_of_the_ground_by_invalid_pixels_and_by_their_corners() -> None:
    lake = mask("......", ".#..#.", "......", ".#....", "......", "#.....")
    scored = everywhere(lake)
    scored[2, 5] = False  # touches (1, 4) at a corner only
    found = components(lake, scored)
    assert found.cut.tolist() == [False, True, False, True]


def test_pixels_that_are_not_scored_are_dropped_before_lakes_are_told_apart() -> None:
    lake = mask(".....", ".###.", ".....")
    scored = everywhere(lake)
    scored[:, 2] = False
    found = components(lake, scored)
    assert found.area_px.tolist() == [1, 1] and found.cut.all()
    shore = found.shore.tolist()
    assert shore == [True, True]  # above, below and on the far side
    alone = components(mask("#"), np.ones((1, 1), bool))
    assert alone.shore.tolist() == [False] and alone.cut.all()  # no valid ground beside it


@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_image(seed: int) -> None:
    lake = noise(seed)
    found = components(lake, everywhere(lake))
    labels = measure.label(lake, connectivity=2)
    np.testing.assert_array_equal(found.labels_HW, labels)
    props = measure.regionprops(labels)
    assert found.area_px.tolist() == [p.area for p in props]
    np.testing.assert_allclose(np.column_stack([found.row, found.col]), [p.centroid for p in props])
    wanted = [measure.perimeter_crofton(np.pad(labels == p.label, 2), directions=2) for p in props]
    np.testing.assert_allclose(found.perimeter_px, wanted)


def test_perimeter_of_a_disk_and_its_bound() -> None:
    y, x = np.mgrid[-60:61, -60:61]
    lake = x**2 + y**2 <= 50.5**2
    found = components(lake, everywhere(lake))
    assert found.perimeter_px[0] == pytest.approx(2 * math.pi * 50.5, rel=0.01)
    # the ring of half a pixel around the shore
    assert area_bound_px(found.perimeter_px)[0] == pytest.approx(math.pi * (51**2 - 50**2) / 2, rel=0.01)


def test_nothing() -> None:
    found = components(np.zeros((4, 4), bool), np.ones((4, 4), bool))
    assert len(found) == 0 and found.labels_HW.shape == (4, 4)
    other = components(np.ones((4, 4), bool), np.ones((4, 4), bool))
    assert [len(part) for part in overlaps(found, other)] == [0, 0, 0] == [len(part) for part in overlaps(other, found)]


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_by_brute_force(seed: int) -> None:
    a, b = (components(lake, everywhere(lake)) for lake in (noise(seed), noise(seed + 10)))
    wanted = []
    for i in range(len(a)):
        for j in range(len(b)):
            shared = int(((a.labels_HW == i + 1) & (b.labels_HW == j + 1)).sum())
            if shared:
                wanted.append((i, j, shared))
    assert list(zip(*(part.tolist() for part in overlaps(a, b)), strict=True)) == wanted


def test_size_classes_at_their_bounds() -> None:
    """Six Landsat pixels are 0.0054 km2, the smallest lake of HAGL."""
    assert size_class([5, 6, 11, 12], 30.0).tolist() == [SIZES_KM2[0], *[SIZES_KM2[1]] * 2, SIZES_KM2[2]]
    px_10m = [53, 54, 99, 100, 499, 500, 999, 1000, 10000, 10001]
    order = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert size_class(px_10m, 10.0).tolist() == [SIZES_KM2[k] for k in order]
    assert size_class(px_10m, math.nan).tolist() == [SIZES_PX[k] for k in order]


def test_units_are_refused_where_the_gsd_is_not_known() -> None:
    assert in_km2([6, 100], [30.0, 10.0]).tolist() == [0.0054, 0.01]
    assert in_metres([1.5], 4.0).tolist() == [6.0]
    with pytest.raises(DataError, match="of 1 of 2 lakes is not known, so there are no areas in km2: name the sensor"):
        in_km2([6, 100], [30.0, math.nan])
    with pytest.raises(DataError, match="no lengths in metres"):
        in_metres([1.0], math.nan)
