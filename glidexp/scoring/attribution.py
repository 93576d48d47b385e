"""What a false alarm probably lies on, judged by proxies: where it is, its shape, and how it looks in the picture.

Each proxy is a guess from red, green and blue, none is a class of the ground; what no proxy speaks for is
`unattributed`, and `unattributed_white` where it is one of snow, ice and cloud that nothing tells apart. Pictures are
stretched scene by scene, so that 0-255 runs from the scene's dark to its bright end: `BRIGHT` is a share of that range
and not of the tile's own, because a tile that is all snow has no darker ground to compare with. All else is relative to
the piece of ground (its median brightness) or to the ring around the false alarm.

How the limits were found and how often they are right: docs/mistakes.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glidexp.scoring.components import Components, Floats, Mask, components
from glidexp.scoring.left_out import KNOWN, Ice, KnownLake, by_place, to_ice

UNDECIDED = "unattributed_white"
"""bright and white, and nothing tells snow, ice and clouds apart"""
LOOKS = ("snow_ice", "cloud", "turbid", "shadow", "river_shape", UNDECIDED, "unattributed")
CLASSES = (*KNOWN.values(), "shoreline", *LOOKS)

SHORE_PX = 2.0
"""a false alarm this near to a true lake is its shore: mixed pixels and the draughtsman's hand reach as far"""
RING_PX = (2.0, 10.0)
"""surroundings of a false alarm: beyond the pixels that are mixed with it, near enough to be lit alike"""
BRIGHT = 150
"""of 255; snow, ice and clouds are above it, and of the rest only pale soil in the sun"""
WHITE = -0.1
"""log of blue over red; soil in the sun is redder"""
BLUE = 0.08
"""the same; bare ice is as blue, and clouds are not"""
ONE_HUE = (0.010, 0.015)
"""standard deviation over its pixels of the log of blue over red, of means over 3 x 3 pixels, which take the sensor's
noise away; snow and ice have slopes, which the sun and the blue sky light in changing shares, and clouds have none. The
second where hardly anything white around is bluish (`SLOPES`): there the ground shines through a cloud's thin rim"""
SKY_LIT_WHITE = (0.15, 60)
"""log of blue over red and brightness from which a pixel is of snow or ice on a slope that faces the sky"""
SLOPES = (0.05, 0.2)
"""share of such pixels around it: below the first no snow lies there, from the second on it may be its sunny side"""
FIELD = 0.5
"""share of pixels at 255 around it: beyond, snow may reach as far as is looked, and its slopes are burnt out as well"""
AROUND_PX = 20
"""how far around: slopes of a snow field change sooner, and most clouds end"""
BURNT_OUT = 0.3
"""share of its pixels at 255 in all bands, where hue is lost, from which one hue alone makes no cloud"""
STEEP = -0.5
"""log of brightness over that of the ring, 0.6 of it; a shadow has a sharp edge, other ground seldom so deep a one"""
DARK = -0.6
"""log of brightness over the median of the piece, 0.55 of it; only clear water and plants are as dark in the sun"""
SKY_LIT = -0.12
"""log of green over blue: what only the sky lights, snow too, is bluer than any ground or silty water"""
PLANTS = -0.4
"""log of blue over red: plants take up blue"""
UNEVEN = 0.5
"""standard deviation over median; next to black the same relief is a larger share"""
GREEN = 0.12
"""log of green over red: rock flour lifts green and blue together, soil and rock lift red"""
LONG = 4.0
"""length over width; a disc has 1.8, a square 2.3"""
MIXED = (0.1, 0.7)
"""a false alarm over this share of the piece, whose brightness varies by this share of the piece's, has no one cause"""
_ADD = 5.0  # of 255, added before logs: below it there is more noise than colour
_SAMPLE = 200_000


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """False alarms of a piece of ground: its shorelines first, then the others; arrays (n,)."""

    row: npt.NDArray[np.int64]
    """a pixel of each, the one nearest to its centroid"""
    col: npt.NDArray[np.int64]
    area_px: npt.NDArray[np.int64]
    brightness: Floats
    """median over its pixels of the mean of the bands, 0-255; NaN where there is no picture in colour"""
    elongation: Floats
    """length over width"""
    glacier_distance_m: Floats
    """from its pixel that is nearest to ice; NaN where that is not known"""
    look: npt.NDArray[np.object_]
    """one of `LOOKS`, wherever it is; "" of a shoreline"""
    name: npt.NDArray[np.object_]
    """one of `CLASSES`"""


def false_alarms(
    image_HWC: npt.NDArray[np.uint8] | None,
    label_HW: npt.NDArray[np.uint8],
    predicted_HW: Mask,
    known: Sequence[KnownLake] = (),
    ice: Ice | None = None,
) -> FalseAlarms:
    """Finds the false alarms of a piece of ground and says what each probably lies on.

    Pixels within `SHORE_PX` of a true lake are taken off first, so that the rim of a lake and what it touches are told
    apart; what is left is put together by 8-connectivity. Then, in this order: a left-out lake of the inventory,
    farther from ice than lakes are labelled, bright and white (a cloud, snow or ice), turbid, shadow, long.

    Args:
        image_HWC: (H, W, 3) red, green, blue of 0-255; None where there is no such picture, then nothing is judged by
            its look
        label_HW: 0, 1 and 255, which counts nowhere
        predicted_HW: where lake is predicted
        known: left-out lakes of the inventory
        ice: how far the ground is from glaciers; None where that is not known or lakes are labelled at any distance
    """
    from scipy import ndimage

    scored, lake = label_HW <= 1, label_HW == 1
    wrong = predicted_HW & scored & ~lake
    near = ndimage.binary_dilation(lake, _disc(SHORE_PX)) if lake.any() else lake
    rims, others = components(wrong & near, scored), components(wrong & ~near, scored)
    looks = _Looks(image_HWC, scored) if image_HWC is not None else None
    look = np.full(len(others), "unattributed", dtype=object)
    brightness, elongation = np.full(len(others), np.nan), np.full(len(others), np.nan)
    for k, window in enumerate(ndimage.find_objects(others.labels_HW)):
        inside = others.labels_HW[window] == k + 1
        elongation[k] = elongation_of(inside)
        if looks is not None:
            seen = looks.of(inside, window)
            brightness[k], look[k] = seen["brightness"], judged(seen)
        if look[k] == "unattributed" and elongation[k] >= LONG:
            look[k] = "river_shape"
    distance_m, name = to_ice(others, ice), look.copy()
    for k, place in by_place(others, known, distance_m > (ice.buffer_m if ice else np.inf)).items():
        name[k] = place
    rows, cols = (np.concatenate(pair) for pair in zip(_pixel(rims), _pixel(others), strict=True))
    return FalseAlarms(
        row=rows,
        col=cols,
        area_px=np.concatenate([rims.area_px, others.area_px]).astype(np.int64),
        brightness=np.concatenate([np.full(len(rims), np.nan), brightness]),
        elongation=np.concatenate([np.full(len(rims), np.nan), elongation]),
        glacier_distance_m=np.concatenate([to_ice(rims, ice), distance_m]),
        look=np.concatenate([np.full(len(rims), "", dtype=object), look]),
        name=np.concatenate([np.full(len(rims), "shoreline", dtype=object), name]),
    )


def judged(seen: dict[str, float]) -> str:
    """The class by look alone, from `_Looks.of`; shape is not asked."""
    if seen["share"] >= MIXED[0] and seen["variety"] >= MIXED[1]:
        return "unattributed"
    if seen["brightness"] >= BRIGHT:
        return _white(seen) if seen["blue_red"] >= WHITE else "unattributed"
    milky = seen["green_red"] >= GREEN and seen["green_blue"] >= -0.2 and seen["blue_red"] >= 0
    clear = seen["dark"] < -0.25  # as green as milky water, and darker than most ground
    if milky and not clear and seen["unevenness"] <= 0.7 * UNEVEN:
        return "turbid"
    plants = seen["blue_red"] <= PLANTS  # they are dark as well
    dark = min(seen["step"] - STEEP, seen["dark"] - DARK) <= 0
    if seen["green_blue"] <= SKY_LIT or (dark and not plants) or seen["unevenness"] >= UNEVEN:
        return "shadow"
    return "unattributed"


def _white(seen: dict[str, float]) -> str:
    """What is bright and white: snow or ice, a cloud, or either."""
    if seen["blue_red"] >= BLUE or seen["hues"] > ONE_HUE[int(seen["slopes"] < SLOPES[0])]:
        return "snow_ice"
    hidden = seen["burnt_out"] >= BURNT_OUT and (seen["slopes"] >= SLOPES[1] or seen["field"] >= FIELD)
    return UNDECIDED if hidden else "cloud"


def elongation_of(inside: Mask) -> float:
    """Length over width of a shape, curved ones too: area over the square of the mean width.

    In a strip the mean distance to the nearest rim is a quarter of its width. Holes are filled and notches of a pixel
    closed before, as they make any shape look narrow.
    """
    from scipy import ndimage

    whole = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(inside, 2), np.ones((3, 3), dtype=bool)))
    width = 4 * float((ndimage.distance_transform_edt(whole)[whole] - 0.5).mean())
    return float(np.count_nonzero(whole) / width**2)


class _Looks:
    """The picture of a piece of ground, its median brightness and how that varies."""

    def __init__(self, image_HWC: npt.NDArray[np.uint8], scored: Mask) -> None:
        self.image, self.scored = image_HWC, scored
        flat = np.flatnonzero(scored)
        flat = flat[:: max(len(flat) // _SAMPLE, 1)]
        ground = image_HWC.reshape(-1, 3)[flat].mean(axis=1)
        self.median = float(np.median(ground)) if len(ground) else 0.0
        self.spread = float(ground.std()) if len(ground) else 0.0
        self.pixels = int(np.count_nonzero(scored))

    def of(self, inside: Mask, window: tuple[slice, slice]) -> dict[str, float]:
        """brightness 0-255; logs of ratios: dark (to the piece), step (to the ring), green_red, green_blue, blue_red;
        unevenness, standard deviation over median; share and variety, of the piece's pixels and standard deviation;
        and what `_of_white` says of a bright one."""
        from scipy import ndimage

        grown, place = self._grown(inside, window, int(RING_PX[1]) + 1)
        away = ndimage.distance_transform_edt(~place)
        ring = (away > RING_PX[0]) & (away <= RING_PX[1]) & self.scored[grown]
        colours = self.image[grown].astype(np.float32)
        mean = colours.mean(axis=2)
        own = mean[place]
        brightness = float(np.median(own))
        red, green, blue = (float(value) for value in np.median(colours[place], axis=0))
        seen = {
            "brightness": brightness,
            "dark": _log_ratio(brightness, self.median),
            "step": _log_ratio(brightness, float(np.median(mean[ring]))) if ring.any() else 0.0,
            "green_red": _log_ratio(green, red),
            "green_blue": _log_ratio(green, blue),
            "blue_red": _log_ratio(blue, red),
            "unevenness": float(own.std()) / (brightness + _ADD),
            "share": len(own) / self.pixels,
            "variety": float(own.std()) / max(self.spread, 1.0),
        }
        return seen | self._of_white(inside, window) if brightness >= BRIGHT else seen

    def _of_white(self, inside: Mask, window: tuple[slice, slice]) -> dict[str, float]:
        """hues, standard deviation of blue over red as a log; burnt_out, share of pixels at 255; slopes and field,
        shares of the surroundings: snow or ice lit by the sky, and pixels at 255."""
        from scipy import ndimage

        grown, place = self._grown(inside, window, AROUND_PX)
        colours = self.image[grown].astype(np.float32)
        weight = ndimage.uniform_filter(place.astype(np.float32), 3)
        smooth = ndimage.uniform_filter(colours * place[..., None], (3, 3, 1)) / np.maximum(weight, 0.1)[..., None]
        middle = place & (weight > 0.99)
        hue = _hue(smooth[middle if np.count_nonzero(middle) >= 9 else place])
        around = (ndimage.distance_transform_edt(~place) <= AROUND_PX) & ~place & self.scored[grown]
        near = colours[around]
        sky_lit = (_hue(near) >= SKY_LIT_WHITE[0]) & (near.mean(axis=1) >= SKY_LIT_WHITE[1])
        return {
            "hues": float(hue.std()),
            "burnt_out": float((colours[place].min(axis=1) == 255).mean()),
            "slopes": float(sky_lit.mean()) if len(near) else 0.0,
            "field": float((near.min(axis=1) == 255).mean()) if len(near) else 0.0,
        }

    def _grown(self, inside: Mask, window: tuple[slice, slice], reach: int) -> tuple[tuple[slice, slice], Mask]:
        """A window that is larger by `reach` on every side, and where in it the false alarm lies."""
        rows, cols = (
            slice(max(s.start - reach, 0), min(s.stop + reach, n))
            for s, n in zip(window, self.scored.shape, strict=True)
        )
        place = np.zeros((rows.stop - rows.start, cols.stop - cols.start), dtype=bool)
        top, left = window[0].start - rows.start, window[1].start - cols.start
        place[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        return (rows, cols), place


def _hue(colours: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log of blue over red, (n, 3) -> (n,)."""
    logs: npt.NDArray[np.float32] = np.log((colours[:, 2] + _ADD) / (colours[:, 0] + _ADD))
    return logs


def _log_ratio(first: float, second: float) -> float:
    return float(np.log((first + _ADD) / (second + _ADD)))


def _disc(radius: float) -> Mask:
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc: Mask = y**2 + x**2 <= radius**2
    return disc


def _pixel(found: Components) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row and column of a pixel of each, the nearest to its centroid."""
    away = (found.rows - found.row[found.owner]) ** 2 + (found.cols - found.col[found.owner]) ** 2
    order = np.lexsort((away, found.owner))
    first = order[np.searchsorted(found.owner[order], np.arange(len(found)))]
    return found.rows[first], found.cols[first]
