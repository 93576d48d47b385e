"""Terrain by stream-power erosion on a coarse grid, with drainage and valley glaciers, refined to the scene's pixels.

Heights are relative (0 lowest, 1 highest of the scene); the scene's relief in metres enters only where light does.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from glidexp.data.synthetic.noise import Field, fractal

Mask = NDArray[np.bool_]
COARSE = 128
"""side of the coarse grid that covers the scene, cells"""
MARGIN = 16
"""cells around it, so that the outlets of the drainage stay out of sight"""
SIDE = COARSE + 2 * MARGIN
OUTLET = SIDE * SIDE
"""number of the place, behind all cells, where water leaves the grid"""
EROSION_STEPS = 22


@dataclass(frozen=True, slots=True)
class Drainage:
    """Drainage tree of the coarse grid: every cell's receiver, cells by their steps from the outlet, upstream area.

    `levels[0]` are cells that flow into the outlet, which is no cell of the grid, `levels[1]` those that flow into
    these, and so on: what water does on its way is done a level at a time. Area in cells.
    """

    receiver: NDArray[np.int64]
    levels: list[NDArray[np.int64]]
    area: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Terrain:
    """What the ground is before anything is painted on it, all (side, side) of the scene, float32.

    `height` 0-1; `ice` is above 0 inside glaciers; `above_channel` is height above the nearest larger channel;
    `wetness` is log10 of the upstream area in coarse cells; `ela` the height of the equilibrium line.
    `paths` are river courses in scene pixels: arrays (n, 3) of x, y, upstream area.
    """

    height: Field
    ice: Field
    above_channel: Field
    wetness: Field
    ela: float
    paths: list[NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Ice:
    """Glaciers of a scene: the mask, and distances to its rim in pixels on either side (inf where there is no ice)."""

    mask: Mask
    outside_px: Field
    inside_px: Field

    @classmethod
    def of(cls, terrain: Terrain) -> "Ice":
        """Ice where the level field is positive, without specks and pin holes."""
        mask = terrain.ice > 0
        side = mask.shape[0]
        for value, least in ((True, (side / 60) ** 2), (False, (side / 90) ** 2)):
            parts, count = ndimage.label(mask == value)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)
            mask = np.where((sizes < least)[parts] & (mask == value), not value, mask)
        if not mask.any():
            return cls(mask, np.full(mask.shape, np.inf, np.float32), np.zeros(mask.shape, np.float32))
        outside = ndimage.distance_transform_edt(~mask).astype(np.float32)
        return cls(mask, outside, ndimage.distance_transform_edt(mask).astype(np.float32))


@cache
def _edges() -> tuple[NDArray[np.int64], NDArray[np.int64], csr_matrix]:
    """Both ends of every 8-neighbour edge of the coarse grid plus the edges from the rim to a virtual outlet; and the
    graph of them, whose values are the edges' numbers."""
    index = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    pairs = [
        (index[:, :-1], index[:, 1:]),
        (index[:-1], index[1:]),
        (index[:-1, :-1], index[1:, 1:]),
        (index[:-1, 1:], index[1:, :-1]),
    ]
    rim = np.unique(np.concatenate([index[0], index[-1], index[:, 0], index[:, -1]]))
    a = np.concatenate([p[0].ravel() for p in pairs] + [rim])
    b = np.concatenate([p[1].ravel() for p in pairs] + [np.full(rim.size, OUTLET)])
    return a, b, coo_matrix((np.arange(len(a)), (a, b)), shape=(OUTLET + 1, OUTLET + 1)).tocsr()


def drain(height: NDArray[np.float64]) -> Drainage:
    """Routes water over the coarse grid; pits overflow at their lowest pass.

    The tree of lowest passes is the minimum spanning tree under the weight max(z_a, z_b), which is what a priority
    flood finds too, but in compiled code; a small share of the lower end's height breaks ties towards steep descent.
    """
    a, b, numbers = _edges()
    z = np.append(height.ravel(), -1.0)
    weight = np.maximum(z[a], z[b]) + 1e-3 * np.minimum(z[a], z[b]) + 10.0
    graph = csr_matrix((weight[numbers.data], numbers.indices, numbers.indptr), shape=numbers.shape)
    order, found = breadth_first_order(minimum_spanning_tree(graph), OUTLET, directed=False)
    cells, receiver = order[1:].astype(np.int64), found.astype(np.int64)
    levels = np.split(cells, np.flatnonzero(np.diff(_steps(receiver)[cells])) + 1)
    area = np.ones(OUTLET + 1)
    for level in reversed(levels):
        np.add.at(area, receiver[level], area[level])
    return Drainage(receiver, levels, area[:OUTLET])


def _steps(receiver: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many cells water passes from each cell to the outlet: paths are doubled until all end there."""
    ahead = receiver.copy()
    ahead[OUTLET] = OUTLET
    steps = (ahead != np.arange(OUTLET + 1)).astype(np.int64)
    while (ahead != OUTLET).any():
        steps, ahead = steps + steps[ahead], ahead[ahead]
    return steps


def erode(rng: np.random.Generator, base: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carves valleys into a rising block: implicit stream-power law dz/dt = U - K A^m S (Braun and Willett 2013).

    Args:
        rng: generator of the uplift pattern
        base: (SIDE, SIDE) large-scale height, about 0-1; its rim is the base level

    Returns:
        (SIDE, SIDE) float64 height, scaled to 0-1.
    """
    rough = fractal(rng, SIDE, 3.0).astype(np.float64)
    uplift = np.clip(1.0 + 0.45 * fractal(rng, SIDE, 3.4).astype(np.float64), 0.15, None) * (0.35 + base)
    height = base * 6.0 + 0.8 * rough
    rim = np.ones((SIDE, SIDE), bool)
    rim[1:-1, 1:-1] = False
    for _ in range(EROSION_STEPS):
        tree = drain(height)
        lifted = (height + np.where(rim, 0.0, 0.55 * uplift)).ravel()
        speed = 0.16 * tree.area**0.55
        for level in tree.levels[1:]:
            above, below, k = lifted[level], lifted[tree.receiver[level]], speed[level]
            lifted[level] = np.where(below < above, (above + k * below) / (1.0 + k), above)
        height = lifted.reshape(SIDE, SIDE)
        height = 0.55 * height + 0.45 * ndimage.uniform_filter(height, 3)
    inner = height[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return (height - inner.min()) / (inner.max() - inner.min())


def _ice_flux(height: NDArray[np.float64], tree: Drainage, ela: float, allowed: Mask) -> NDArray[np.float64]:
    """Ice flux down the drainage tree: gained above the equilibrium line, melted below it."""
    gain = np.clip((height - ela) * 9.0, -3.0, 0.8)
    left = np.append(np.where(allowed, gain, -50.0).ravel(), 0.0)
    for level in reversed(tree.levels):
        cells = level[::-1]
        left[cells] = flux = np.maximum(left[cells], 0.0)
        np.add.at(left, tree.receiver[cells], flux)
    return left[:-1].reshape(SIDE, SIDE)


def glaciate(
    height: NDArray[np.float64], tree: Drainage, allowed: Mask, share: float, thickness: float
) -> tuple[NDArray[np.float64], float]:
    """Valley glaciers covering about `share` of the scene.

    Args:
        height: (SIDE, SIDE) heights 0-1
        tree: its drainage
        allowed: (SIDE, SIDE) cells that may hold ice
        share: wanted ice share of the scene, 0-1
        thickness: how much ice a unit of flux stacks up; wide tongues have more

    Returns:
        (SIDE, SIDE) level field, above 0 inside ice, and the height of the equilibrium line.
    """
    low, high = 0.05, 1.0
    level, ela = np.zeros_like(height), 0.5
    for _ in range(9):
        ela = 0.5 * (low + high)
        flux = _ice_flux(height, tree, ela, allowed)
        on = flux > 2.5
        if not on.any():
            high = ela
            continue
        surface = height + thickness * np.maximum(flux, 0.0) ** 0.36
        distance, (rows, cols) = ndimage.distance_transform_edt(~on, return_indices=True)
        level = surface[rows, cols] - height - 0.022 * distance
        level = ndimage.gaussian_filter(np.where(allowed, level, np.minimum(level, -0.02)), 1.0)
        if (level[MARGIN:-MARGIN, MARGIN:-MARGIN] > 0).mean() > share:
            low = ela
        else:
            high = ela
    return level, ela


def _above_channel(height: NDArray[np.float64], tree: Drainage) -> NDArray[np.float64]:
    channel = tree.area.reshape(SIDE, SIDE) > 60
    _, (rows, cols) = ndimage.distance_transform_edt(~channel, return_indices=True)
    return ndimage.gaussian_filter(np.maximum(height - height[rows, cols], 0.0), 0.7)


class Warp:
    """Maps coarse fields to scene pixels through one smooth random displacement, so that the grid does not show."""

    def __init__(self, rng: np.random.Generator, scene_px: int) -> None:
        self.scale = scene_px / COARSE
        shift = [fractal(rng, scene_px, 3.6, longest_px=scene_px / 4) * np.float32(0.9) for _ in range(2)]
        axis = (np.arange(scene_px, dtype=np.float32) + 0.5) / np.float32(self.scale) + np.float32(MARGIN - 0.5)
        self.rows = axis[:, None] + shift[0]
        self.cols = axis[None, :] + shift[1]

    def __call__(self, coarse: NDArray[np.float64], order: int = 3) -> Field:
        """(SIDE, SIDE) to (scene_px, scene_px) float32."""
        return ndimage.map_coordinates(
            coarse.astype(np.float32), [self.rows, self.cols], order=order, mode="nearest", output=np.float32
        )

    def locate(self, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
        """Scene pixel (x, y) where coarse cells end up, to about a tenth of a cell."""
        side = self.rows.shape[0]
        base_y, base_x = (rows - MARGIN + 0.5) * self.scale - 0.5, (cols - MARGIN + 0.5) * self.scale - 0.5
        x, y = base_x.copy(), base_y.copy()
        for _ in range(3):
            i = np.clip(np.rint(y), 0, side - 1).astype(int)
            j = np.clip(np.rint(x), 0, side - 1).astype(int)
            y = y - (self.rows[i, j] - rows) * self.scale * 0.8
            x = x - (self.cols[i, j] - cols) * self.scale * 0.8
        return x, y


def rivers(tree: Drainage, warp: Warp, least: float, wiggle: Field) -> list[NDArray[np.float64]]:
    """Smoothed courses of streams with more than `least` upstream cells: arrays (n, 3) of x, y in pixels, area."""
    is_stream, receiver = tree.area > least, tree.receiver.tolist()
    visited: set[int] = set()
    courses: list[NDArray[np.float64]] = []
    sources = sorted(np.flatnonzero(is_stream).tolist(), key=lambda c: float(tree.area[c]))
    for source in sources:
        if source in visited:
            continue
        chain, cell = [source], source
        while cell not in visited and receiver[cell] < OUTLET:
            visited.add(cell)
            cell = receiver[cell]
            chain.append(cell)
        if len(chain) < 6:
            continue
        rows, cols = np.divmod(np.asarray(chain), SIDE)
        x, y = warp.locate(rows.astype(float), cols.astype(float))
        area = tree.area[np.asarray(chain)]
        fine = np.linspace(0, len(chain) - 1, len(chain) * 6)
        knots = np.arange(len(chain))
        x, y = (ndimage.gaussian_filter1d(np.interp(fine, knots, v), 5.0, mode="nearest") for v in (x, y))
        i = np.clip(np.rint(y), 0, wiggle.shape[0] - 1).astype(int)
        j = np.clip(np.rint(x), 0, wiggle.shape[0] - 1).astype(int)
        sway = wiggle[i, j] * warp.scale * 0.35
        x, y = x + sway, y + wiggle[j, i] * warp.scale * 0.35
        courses.append(np.stack([x, y, np.interp(fine, knots, area)], axis=1))
    return courses


def build_terrain(
    rng: np.random.Generator,
    scene_px: int,
    *,
    base: NDArray[np.float64],
    ice_allowed: Mask,
    ice_share: float,
    ice_thickness: float,
    ruggedness: float,
) -> Terrain:
    """The ground of one scene.

    Args:
        rng: generator of this scene
        scene_px: side of the scene, pixels
        base: (SIDE, SIDE) large-scale height, about 0-1
        ice_allowed: (SIDE, SIDE) where glaciers may be
        ice_share: wanted share of ice, 0-1
        ice_thickness: relative, about 0.02-0.06
        ruggedness: amplitude of fine relief, about 0.5-1.5
    """
    coarse = erode(rng, base)
    tree = drain(coarse)
    ice, ela = glaciate(coarse, tree, ice_allowed, ice_share, ice_thickness)
    warp = Warp(rng, scene_px)
    height = warp(coarse)
    level = warp(ice)
    detail = fractal(rng, scene_px, 3.0, longest_px=scene_px / 10, shortest_px=1.5)
    gy, gx = np.gradient(ndimage.gaussian_filter(height, warp.scale * 0.5))
    slope = np.hypot(gy, gx) * scene_px
    roughness = np.clip(slope / 3.0, 0.06, 1.0) * np.clip(1.0 - level * 25, 0.04, 1.0)
    height = height + np.float32(0.006 * ruggedness) * detail * roughness.astype(np.float32)
    wiggle = fractal(rng, scene_px, 3.0, longest_px=scene_px / 12, shortest_px=scene_px / 100)
    return Terrain(
        height=height,
        ice=level,
        above_channel=np.maximum(warp(_above_channel(coarse, tree), order=1), 0),
        wetness=warp(np.log10(tree.area).reshape(SIDE, SIDE), order=1),
        ela=float(ela),
        paths=rivers(tree, warp, 90.0, wiggle),
    )
