"""Lakes that a file of outlines has twice, as where inventories of the same lakes were put together."""

import logging

import numpy as np
import numpy.typing as npt
import shapely

from glidexp.data.scenes.polygons import Inventory
from glidexp.wording import does, many

log = logging.getLogger("glidexp")
ALIKE = 0.5
"""intersection over union from which two outlines are taken for one lake"""
NAMED = 3
"""pairs that are named"""


def tell_copies(lakes: Inventory) -> None:
    """Warns of outlines that come twice, the same or nearly so, and of lakes that share an id."""
    n = len(lakes.geometries)
    copies = n - len(set(shapely.to_wkb(shapely.normalize(lakes.geometries)).tolist()))
    if copies:
        told = many(copies, "copy"), n, does(copies, "count")
        log.warning("%s: %s of others among %d outlines %s as a lake again.", lakes.path, *told)
    near = alike(lakes)
    if len(near):
        count = len(np.unique(near[:, 1]))
        named = ", ".join(f"{lakes.ids[one]} and {lakes.ids[other]}" for one, other in near[:NAMED].tolist())
        log.warning(
            "%s: %d of %s %s another one for half of what both cover or more (%s%s), as where inventories of the "
            "same lakes were put together: both are drawn, and each counts as a lake.",
            lakes.path, count, many(n, "outline"), does(count, "cover"), named, " ..." * (len(near) > NAMED),
        )  # fmt: skip
    shared = n - len(set(lakes.ids.tolist())) - copies
    if lakes.id_column and shared > 0:
        log.warning(
            "%s: %d of %s %s another one's %s: those of a scene count as one. Others are named by "
            "dataset.lake_id_column.", lakes.path, shared, many(n, "lake"), does(shared, "have"), lakes.id_column,
        )  # fmt: skip


def alike(lakes: Inventory) -> npt.NDArray[np.int64]:
    """(n, 2) pairs of outlines that are not the same and yet mostly cover each other, the later one second."""
    shapes = lakes.geometries
    first, second = lakes.tree.query(shapes, predicate="intersects")
    pairs = np.stack([first, second], axis=1)[first < second]
    area = shapely.area(shapes)
    one, other = area[pairs[:, 0]], area[pairs[:, 1]]
    # of outlines of unlike size the smaller cannot be half of both
    pairs = pairs[np.minimum(one, other) >= ALIKE * np.maximum(one, other)]
    common = shapely.area(shapely.intersection(shapes[pairs[:, 0]], shapes[pairs[:, 1]]))
    union = area[pairs].sum(axis=1) - common
    pairs = pairs[(common >= ALIKE * union) & (union > 0)]
    same = shapely.equals_exact(*(shapely.normalize(shapes[pairs[:, side]]) for side in (0, 1)))
    found: npt.NDArray[np.int64] = pairs[~same]
    return found
