"""Shorelines: boundary F1 and boundary IoU over all of a split's shore, and distances between the shores of one lake.

A shoreline pixel is a lake pixel with a valid background pixel at one of its four edges. Where the scored ground ends
or a pixel is not valid there is no shore. Distances run between pixel centres.
"""

import numpy as np

from glidexp.scoring.components import Components, Floats, Ints, Mask

TOLERANCES_PX = (1, 2)
BAND_PX = 2
"""width of the band of boundary IoU, fixed so that scores do not depend on the tile's size"""
COUNTS = (
    *("true_shore_px", "predicted_shore_px"),
    *(f"{side}_within_{px}px" for side in ("true", "predicted") for px in TOLERANCES_PX),
    *("band_both_px", "band_either_px"),
)


def boundary_counts(true: Components, predicted: Components, scored_HW: Mask) -> dict[str, int]:
    """What boundary F1 and boundary IoU of some ground are made of; they add up over pieces of ground.

    Returns:
        by the names of `COUNTS`: shoreline pixels, those within 1 and 2 px of the other shore (Euclidean), and the
        pixels in both and in either of the bands within `BAND_PX` of the shore inside true and predicted lakes
    """
    shores = [_canvas(lakes, lakes.shore) for lakes in (true, predicted)]
    found = {"true_shore_px": int(true.shore.sum()), "predicted_shore_px": int(predicted.shore.sum())}
    for name, lakes, other in (("true", true, shores[1]), ("predicted", predicted, shores[0])):
        for px in TOLERANCES_PX:
            near = _any_within(other, lakes.rows[lakes.shore], lakes.cols[lakes.shore], px)
            found[f"{name}_within_{px}px"] = int(near.sum())
    bands = [_band(lakes, scored_HW) for lakes in (true, predicted)]
    found["band_both_px"] = int((bands[0] & bands[1]).sum())
    found["band_either_px"] = int((bands[0] | bands[1]).sum())
    return found


def boundary_f1(counts: dict[str, int], tolerance_px: int) -> float:
    """Harmonic mean of the shares of the predicted and of the true shoreline that lie near the other, 0-1.

    NaN where there is no shoreline at all; 0 where only one side has one.

    Source: Csurka et al. 2013, What is a good evaluation measure for semantic segmentation? (BMVC); here over all lakes
    and with distances between pixel centres.
    """
    shores = counts["true_shore_px"], counts["predicted_shore_px"]
    if not sum(shores):
        return float("nan")
    if not all(shores):
        return 0.0
    recall, precision = (
        counts[f"{side}_within_{tolerance_px}px"] / shore
        for side, shore in zip(("true", "predicted"), shores, strict=True)
    )
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def boundary_iou(counts: dict[str, int]) -> float:
    """IoU of the bands along the shore inside true and predicted lakes, 0-1; NaN where there is no shoreline.

    Source: Cheng et al. 2021, Boundary IoU (arXiv:2103.16562), whose band is a share of the picture's diagonal and
    which counts the picture's edge as a boundary; here it is `BAND_PX` wide and the edge of the ground is none.
    """
    return counts["band_both_px"] / counts["band_either_px"] if counts["band_either_px"] else float("nan")


def shore_distances(true: Components, predicted: Components, pairs: tuple[Ints, Ints]) -> tuple[Floats, Ints]:
    """Distances between the shores of lakes that were found, in both directions.

    Lakes that overlap, directly or through others, are one group, and a shore is compared with the other side's shore
    in its group only: a missed lake has no counterpart, and its distance to some other lake says nothing.

    Args:
        true: the true lakes
        predicted: the predicted ones
        pairs: indices of those that overlap, as `components.overlaps` gives them

    Returns:
        distances (k,) in pixels, and the index of the true lake each counts for: its own shoreline pixels to the
        nearest predicted one, and every predicted shoreline pixel for the true lake with the nearest shore
    """
    from scipy.spatial import cKDTree

    group_true, group_predicted = _groups(len(true), len(predicted), pairs)
    # a third coordinate keeps groups apart: between two of them it is longer than any distance on the canvas
    far = float(sum(true.labels_HW.shape))
    shores = []
    for lakes, group in ((true, group_true), (predicted, group_predicted)):
        own = group[lakes.owner]
        kept = lakes.shore & (own >= 0)
        shores.append((np.column_stack([lakes.rows, lakes.cols, own * far])[kept], lakes.owner[kept]))
    (points_true, owner_true), (points_predicted, _) = shores
    if not len(points_true) or not len(points_predicted):
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    to_predicted, _ = cKDTree(points_predicted, balanced_tree=False).query(points_true)
    to_true, nearest = cKDTree(points_true, balanced_tree=False).query(points_predicted)
    distance = np.concatenate([to_predicted, to_true])
    owner = np.concatenate([owner_true, owner_true[nearest]])
    same = distance < far  # a group may lack a shore on one side, where the ground's edge is all it has
    return distance[same], owner[same]


def _groups(n_true: int, n_predicted: int, pairs: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Group numbers of true and predicted lakes, -1 for those without a counterpart."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, second = pairs
    size = n_true + n_predicted
    links = coo_matrix((np.ones(len(first), dtype=np.int8), (first, second + n_true)), shape=(size, size))
    _, group = connected_components(links, directed=False)
    alone = np.ones(size, dtype=bool)
    alone[first] = alone[second + n_true] = False
    group = np.where(alone, -1, group).astype(np.int64)
    return group[:n_true], group[n_true:]


def _canvas(lakes: Components, chosen: Mask) -> Mask:
    canvas = np.zeros(lakes.labels_HW.shape, dtype=bool)
    canvas[lakes.rows[chosen], lakes.cols[chosen]] = True
    return canvas


def _any_within(canvas: Mask, rows: Ints, cols: Ints, px: int) -> Mask:
    """Whether a True pixel of the canvas lies within a distance of each pixel (rows, cols)."""
    framed = np.pad(canvas, px)
    width = framed.shape[1]
    at = (rows + px) * width + cols + px
    found = np.zeros(len(at), dtype=bool)
    flat = framed.ravel()
    for down in range(-px, px + 1):
        for right in range(-px, px + 1):
            if down**2 + right**2 <= px**2:
                found |= flat[at + down * width + right]
    return found


def _band(lakes: Components, scored_HW: Mask) -> Mask:
    """Lake pixels within `BAND_PX` rows and columns of valid background."""
    lake = lakes.labels_HW > 0
    near = scored_HW & ~lake
    for axis in (0, 1):
        single = np.moveaxis(near, axis, 0)
        wide = np.moveaxis(near.copy(), axis, 0)
        for px in range(1, BAND_PX + 1):
            wide[px:] |= single[:-px]
            wide[:-px] |= single[px:]
        near = np.moveaxis(wide, 0, axis)
    return near & lake
