"""Where a tile lies, found by its lakes: masks against the outlines they were drawn by, with a confidence for each.

A tile is taken as north up in a UTM zone, at one of a few ground sample distances. A lake that lies whole in the tile
is looked up by area and second moments; each outline that fits puts the tile somewhere, and the other lakes of the tile
must then lie where outlines lie. The best places are checked by drawing the outlines and comparing all pixels, and
moved to where they agree best. Confidence is high only where the pixels agree, where no other place comes near, and
where more than one lake agrees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from glidexp.data.ready.outlines import Floats, Outlines, drawn

ANCHORS = 4
"""whole lakes of a tile that are looked up, the largest first"""
OTHERS = 10
"""more lakes that a place is tried with"""
TRIED = 6
"""places of a tile that are drawn and compared"""
NEAR_PX = 1.5
"""how far a lake's centre may lie from where it is expected"""
MOST_FITS = 4000
"""outlines that are tried for one lake"""
HOPELESS = 0.3
"""IoU of mask and drawn outlines under which a place is not looked at more closely: its confidence is 0"""
ACCEPTED = 0.9
"""confidence above which a place is taken"""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Found:
    """A place for a tile."""

    zone: int
    """number of the Outlines"""
    gsd_m: float
    origin: tuple[float, float]
    """x and y of the upper left corner, metres"""
    iou: float
    """of the mask and the drawn outlines"""
    lakes: int
    """lakes of the tile, whole or cut, that the outlines draw too"""
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Lakes:
    """The lakes of a mask that lie whole in it, largest first."""

    area: Floats
    """(n,) pixels"""
    centre: Floats
    """(n, 2) column and row from the upper left corner"""
    moments: Floats
    """(n, 3), as Outlines.moments, with y up"""
    tolerance: Floats
    """(n,) relative error of the area that drawing on pixels may make"""


def lakes_of(mask: Mask) -> Lakes:
    """Measures the lakes of a mask (H, W) that do not touch its edge."""
    parts, n = ndimage.label(mask, structure=np.ones((3, 3), int))
    cut = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    rows, cols = np.nonzero(parts)
    of = parts[rows, cols]
    area = np.bincount(of, minlength=n + 1).astype(float)
    safe = np.maximum(area, 1)
    x, y = cols + 0.5, rows + 0.5
    mx, my = np.bincount(of, x, n + 1) / safe, np.bincount(of, y, n + 1) / safe
    dx, dy = x - mx[of], y - my[of]
    # a pixel has a width of its own: 1/12 in either direction
    xx, yy, xy = (np.bincount(of, v, n + 1) / safe**2 for v in (dx * dx + 1 / 12, dy * dy + 1 / 12, -dx * dy))
    inner = ndimage.binary_erosion(mask)
    edge = np.bincount(parts[mask & ~inner], minlength=n + 1)
    whole = np.setdiff1d(np.arange(1, n + 1), cut)
    whole = whole[np.argsort(-area[whole], kind="stable")]
    tolerance = 0.01 + 1.2 * np.sqrt(np.maximum(edge, 1)) / safe
    return Lakes(
        area[whole], np.stack([mx, my], 1)[whole], np.stack([xx, yy, xy], 1)[whole], np.minimum(tolerance[whole], 0.6)
    )


@dataclass(frozen=True, slots=True)
class Label:
    """A mask and its lakes, whole or cut, numbered once."""

    mask: Mask
    """(N, N)"""
    parts: npt.NDArray[np.int32]
    """(N, N) 0 background, else the number of the lake"""
    size: Floats
    """(n,) pixels of each lake"""

    @classmethod
    def of(cls, mask: Mask) -> "Label":
        """Numbers the lakes of a mask."""
        parts, n = ndimage.label(mask, structure=np.ones((3, 3), int))
        return cls(mask, parts, np.bincount(parts[mask], minlength=n + 1)[1:].astype(float))


def find(mask: Mask, zones: Sequence[Outlines], gsds_m: Sequence[float]) -> Found | None:
    """The best place of a tile, or None where nothing fits.

    Args:
        mask: (N, N), True for lake
        zones: outlines
        gsds_m: ground sample distances that come into question, metres
    """
    label, lakes = Label.of(mask), lakes_of(mask)
    guesses: list[tuple[float, int, float, tuple[float, float]]] = []
    for zone, outlines in enumerate(zones):
        for gsd_m in gsds_m:
            guesses += [(score, zone, gsd_m, origin) for score, origin in _guesses(lakes, outlines, gsd_m)]
    guesses.sort(key=lambda guess: -guess[0])
    tried: list[Found] = []
    for _, zone, gsd_m, origin in guesses:
        if len(tried) == TRIED:
            break
        if not any(_same(Found(zone, gsd_m, origin, 0, 0), other) for other in tried):
            tried.append(compared(label, zones, zone, gsd_m, origin))
    if not tried:
        return None
    tried.sort(key=lambda place: -place.iou)
    best = tried[0]
    if best.iou < HOPELESS:
        return best
    best = refined(label, zones, best)
    second = max((place.iou for place in tried[1:] if not _same(place, best)), default=0.0)
    return with_confidence(mask, best, second)


def compared(label: Label, zones: Sequence[Outlines], zone: int, gsd_m: float, origin: tuple[float, float]) -> Found:
    """A place with what drawing the outlines there gives."""
    there = drawn(zones[zone], origin, gsd_m, len(label.mask))
    shared = there & label.mask
    both = int(shared.sum())
    any_ = int(there.sum()) + int(label.size.sum()) - both
    hit = np.bincount(label.parts[shared], minlength=len(label.size) + 1)[1:]
    return Found(zone, gsd_m, origin, both / max(any_, 1), int((hit > 0.5 * label.size).sum()))


def refined(label: Label, zones: Sequence[Outlines], place: Found) -> Found:
    """The place moved to where the pixels agree best, in steps down to a quarter of a pixel."""
    best = place
    for step_px in (0.5, 0.25):
        moved = True
        while moved:
            moved = False
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                step = step_px * best.gsd_m
                there = (best.origin[0] + dx * step, best.origin[1] + dy * step)
                trial = compared(label, zones, best.zone, best.gsd_m, there)
                if trial.iou > best.iou:
                    best, moved = trial, True
    return best


def _guesses(lakes: Lakes, outlines: Outlines, gsd_m: float) -> Iterator[tuple[float, tuple[float, float]]]:
    """Corners that put one whole lake on an outline that fits it, best first by the lakes that then fit too."""
    n = len(lakes.area)
    for anchor in range(min(n, ANCHORS)):
        tolerance = lakes.tolerance[anchor]
        ratio = outlines.area_m2 / (lakes.area[anchor] * gsd_m**2)
        fits = np.flatnonzero(np.abs(ratio - 1) <= tolerance)
        # moments are of the order of 1/12 for a square: an error of the area counts twice in them
        apart = np.abs(outlines.moments[fits] - lakes.moments[anchor]).max(axis=1)
        fits = fits[apart <= 3 * tolerance * lakes.moments[anchor, :2].max()]
        if not len(fits):
            continue
        fits = fits[np.argsort(np.abs(ratio[fits] - 1), kind="stable")[:MOST_FITS]]
        u, v = lakes.centre[anchor]
        corner = outlines.centre[fits] + gsd_m * np.array([-u, v])
        others = [i for i in range(n) if i != anchor][:OTHERS]
        hits, drift, weight = np.ones(len(fits)), np.zeros((len(fits), 2)), np.full(len(fits), lakes.area[anchor])
        for i in others:
            expected = corner + gsd_m * np.array([lakes.centre[i, 0], -lakes.centre[i, 1]])
            reach = gsd_m * (NEAR_PX + 2 * lakes.tolerance[i] * np.sqrt(lakes.area[i]) / 4)
            distance, nearest = outlines.near.query(expected, distance_upper_bound=reach)
            ok = np.isfinite(distance)
            to = np.where(ok, nearest, 0)
            ok &= np.abs(outlines.area_m2[to] / (lakes.area[i] * gsd_m**2) - 1) <= lakes.tolerance[i] * 1.5
            hits += ok
            drift += np.where(ok, lakes.area[i], 0)[:, None] * (outlines.centre[to] - expected)
            weight += np.where(ok, lakes.area[i], 0)
        corner = corner + drift / weight[:, None]
        score = hits + 0.5 * (1 - np.abs(ratio[fits] - 1) / max(tolerance, 1e-9))
        for k in np.argsort(-score, kind="stable")[:TRIED].tolist():
            yield float(score[k]), (float(corner[k, 0]), float(corner[k, 1]))


def _same(one: Found, other: Found) -> bool:
    """Whether two places are one: a zone, a pixel size, and less than three pixels apart."""
    if (one.zone, one.gsd_m) != (other.zone, other.gsd_m):
        return False
    return max(abs(a - b) for a, b in zip(one.origin, other.origin, strict=True)) < 3 * one.gsd_m


def with_confidence(mask: Mask, best: Found, second_iou: float) -> Found:
    """Judges the best place of a tile.

    Fit: pixels that differ, held against those that half a pixel along the shores may make. Alone: how much worse the
    next place is. Few lakes, or few pixels, may agree by chance: under two lakes or 40 pixels nothing is sure.
    """
    area, shore = int(mask.sum()), int((mask & ~ndimage.binary_erosion(mask)).sum())
    wrong = 1 - best.iou
    allowed = 0.05 + 0.35 * shore / max(area, 1)
    fit = min(1.0, max(0.0, 2 * (1 - wrong / allowed)))
    alone = max(0.0, 1 - (wrong + 1 / max(area, 1)) / max(1 - second_iou, 1e-9))
    alone = min(1.0, 1.6 * alone)
    total = fit * alone
    if best.lakes < 2 or area < 40:
        total = min(total, ACCEPTED)
    return Found(best.zone, best.gsd_m, best.origin, best.iou, best.lakes, round(total, 4))
