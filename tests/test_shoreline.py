"""Shorelines by hand, and against scipy's distance transform, scikit-image and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import metrics as image_metrics
from torchmetrics.functional.segmentation.utils import mask_edges, surface_distance

from glidexp.scoring.components import Components, components, overlaps
from glidexp.scoring.shoreline import COUNTS, boundary_counts, boundary_f1, boundary_iou, shore_distances


def lakes(mask: np.ndarray, scored: np.ndarray | None = None) -> Components:
    return components(mask, np.ones_like(mask) if scored is None else scored)


def box(top: int, left: int, height: int, width: int, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def blob(seed: int, shift: float = 0.0) -> np.ndarray:
    """One ragged lake away from the edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    rough = ndimage.gaussian_filter(rng.standard_normal((64, 64)), 3) * 40
    mask = np.hypot(y - 32, x - 32 - shift) + rough < 16
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    return labels == labels[32, 32 + round(shift)]


def distances(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    a, b = lakes(true), lakes(predicted)
    return shore_distances(a, b, overlaps(a, b)[:2])[0]


def counts(true: np.ndarray, predicted: np.ndarray, scored: np.ndarray | None = None) -> dict[str, int]:
    ground = np.ones_like(true) if scored is None else scored
    return boundary_counts(lakes(true, ground), lakes(predicted, ground), ground)


def test_a_shift_by_one_pixel_by_hand() -> None:
    """A box of 4 x 6 px has 16 shoreline pixels. Moved by one column, the long sides lie on each other but for one
    pixel at each end, and the short sides are one pixel apart."""
    true, moved = box(10, 10, 4, 6), box(10, 11, 4, 6)
    found = counts(true, moved)
    assert (found["true_shore_px"], found["predicted_shore_px"]) == (16, 16)
    assert boundary_f1(found, 1) == boundary_f1(found, 2) == 1.0
    # within 2 px of the shore is all of a lake of 4 rows
    assert boundary_iou(found) == pytest.approx(20 / 28)
    # left side: 4 px at distance 1; right side: the inner two of 4 at distance 1; and the same the other way round
    assert sorted(distances(true, moved).tolist()) == [0.0] * 20 + [1.0] * 12


def test_tolerance_is_a_distance_between_centres() -> None:
    """Two boxes of one pixel, two columns apart: within 2 px, not within 1; askew by (1, 2) is sqrt(5)."""
    found = counts(box(5, 5, 1, 1), box(5, 7, 1, 1))
    assert (boundary_f1(found, 1), boundary_f1(found, 2), boundary_iou(found)) == (0.0, 1.0, 0.0)
    assert boundary_f1(counts(box(5, 5, 1, 1), box(6, 7, 1, 1)), 2) == 0.0
    assert boundary_f1(counts(box(5, 5, 1, 1), box(6, 6, 1, 1)), 1) == 0.0  # sqrt(2)


def test_boundary_f1_is_the_harmonic_mean() -> None:
    """Predicted: the true box and a far speck. All of 16 true pixels are near, 16 of 17 predicted."""
    found = counts(box(10, 10, 4, 6), box(10, 10, 4, 6) | box(25, 35, 1, 1))
    assert boundary_f1(found, 1) == pytest.approx(2 * 16 / (16 + 17))


def test_empty_sides() -> None:
    nothing, some = np.zeros((30, 40), bool), box(10, 10, 4, 6)
    for true, predicted in ((nothing, some), (some, nothing)):
        found = counts(true, predicted)
        assert boundary_f1(found, 1) == 0.0 and boundary_iou(found) == 0.0
        assert len(distances(true, predicted)) == 0
    found = counts(nothing, nothing)
    assert set(found) == set(COUNTS) and not any(found.values())
    assert math.isnan(boundary_f1(found, 1)) and math.isnan(boundary_iou(found))


def test_the_edge_of_the_ground_and_of_valid_pixels_is_no_shore() -> None:
    """A lake over the upper left corner: its shore is the row and the column inside. Beside invalid pixels as well."""
    corner = box(0, 0, 4, 6)
    assert lakes(corner).shore.sum() == 4 + 6 - 1
    scored = np.ones_like(corner)
    scored[4:6, :6] = False  # what lies below is not valid
    found = lakes(corner, scored)
    assert found.shore.sum() == 4
    assert counts(corner, corner, scored)["band_both_px"] == 4 * 2


def test_a_missed_lake_has_no_counterpart() -> None:
    """Distances are within groups of lakes that overlap, whatever else is nearer."""
    true = box(5, 5, 3, 3) | box(5, 30, 3, 3)
    assert sorted(distances(true, box(5, 5, 3, 3)).tolist()) == [0.0] * 16
    # two groups side by side: the second's prediction lies nearer to the first's shore
    true = box(5, 5, 3, 3) | box(5, 10, 3, 12)
    predicted = box(5, 5, 3, 3) | box(5, 19, 3, 3)
    a, b = lakes(true), lakes(predicted)
    distance, owner = shore_distances(a, b, overlaps(a, b)[:2])
    assert distance[owner == 0].max() == 0.0
    assert distance[owner == 1].max() == 9.0  # from the left end of the long one, column 10, to column 19


def test_a_merge_gives_each_predicted_pixel_to_the_nearest_true_lake() -> None:
    true, predicted = box(5, 5, 3, 3) | box(5, 12, 3, 3), box(5, 5, 3, 10)
    a, b = lakes(true), lakes(predicted)
    distance, owner = shore_distances(a, b, overlaps(a, b)[:2])
    # 8 true pixels each; 22 predicted ones, columns 5-9 nearer to the first and 10-14 to the second
    assert np.bincount(owner).tolist() == [8 + 11, 8 + 11]
    assert distance.max() == 2.0


@pytest.mark.parametrize("seed", range(4))
def test_distances_against_a_distance_transform_and_torchmetrics(seed: int) -> None:
    true, predicted = blob(seed), blob(seed + 20, 1.7)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (true, predicted)]
    wanted = [ndimage.distance_transform_edt(~other)[own] for own, other in (edges, edges[::-1])]
    found = distances(true, predicted)
    np.testing.assert_allclose(np.sort(found), np.sort(np.concatenate(wanted)))
    assert found.max() == pytest.approx(image_metrics.hausdorff_distance(*edges))
    theirs = mask_edges(torch.from_numpy(true), torch.from_numpy(predicted), crop=False)
    np.testing.assert_array_equal(theirs[0].numpy(), edges[0])
    edges_a, edges_b = (edge.bool() for edge in theirs[:2])
    both = [surface_distance(edges_a, edges_b), surface_distance(edges_b, edges_a)]
    assert found.mean() == pytest.approx(torch.cat(both).mean().item())
    assert np.percentile(found, 95) == pytest.approx(np.percentile(torch.cat(both), 95))


@pytest.mark.parametrize("seed", range(4))
def test_boundary_scores_against_morphology(seed: int) -> None:
    """Boundary F1 by dilation with a disk, boundary IoU by two erosions with a 3 x 3 square, as its authors do."""
    rng = np.random.default_rng(seed)
    true, predicted = (ndimage.gaussian_filter(rng.standard_normal((60, 70)), 2) > 0.12 for _ in range(2))
    for mask in (true, predicted):
        mask[:3], mask[-3:], mask[:, :3], mask[:, -3:] = (False,) * 4
    found = counts(true, predicted)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (true, predicted)]
    for px in (1, 2):
        y, x = np.mgrid[-px : px + 1, -px : px + 1]
        near = [ndimage.binary_dilation(edge, y**2 + x**2 <= px**2) for edge in edges]
        recall = (edges[0] & near[1]).sum() / edges[0].sum()
        precision = (edges[1] & near[0]).sum() / edges[1].sum()
        assert boundary_f1(found, px) == pytest.approx(2 * recall * precision / (recall + precision))
    band = [mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=2) for mask in (true, predicted)]
    assert boundary_iou(found) == pytest.approx((band[0] & band[1]).sum() / (band[0] | band[1]).sum())
