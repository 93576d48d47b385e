"""How well the label of a tile goes with its picture, by what the store itself says of colours.

From all tiles it is counted how often a colour and a roughness is lake, for each sensor. A tile is judged by the
counts of the others: its own are taken away. Where such evidence and the label contradict each other counts against
the label, where both say lake counts for it. So outlines that were moved, taken from another tile, turned inside out
or forgotten come to the top. What colour cannot tell (a frozen lake, a shadow) is weak evidence and counts little.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import gaussian_filter, uniform_filter

from glidexp.data.sensors import rgb_of
from glidexp.data.steps import untold
from glidexp.data.store import LAKE, TileStore
from glidexp.data.workers import cores

SHADES = 16
ROUGHNESS = (2.0, 5.0, 12.0)
"""standard deviation of grey within 5 x 5 pixels (0-255): calm, rippled, rough, broken"""
CELLS = SHADES**3 * (len(ROUGHNESS) + 1)
PRIOR_PX = 50.0
"""pixels that are as much as what is known of neighbouring colours"""
MOST = 3.0
"""a pixel speaks for or against lake with at most so many logits"""
LITTLE = 60.0
"""logits that are added to what is divided by: a tile needs that much evidence to be doubted"""
COLUMNS = ("row", "doubt", "lake_px", "seen_px", "contradicted_px")
Cells = npt.NDArray[np.int32]
Counted = npt.NDArray[np.int64]


@dataclass(slots=True)
class Colours:
    """What colours are lake, by sensor."""

    lake: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """(CELLS,) pixels of lakes"""
    all: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """(CELLS,) valid pixels"""

    def add(self, sensor: str, lake: Counted, every: Counted) -> None:
        """Adds a tile of a sensor, as `counted` gives it."""
        for table, more in ((self.lake, lake), (self.all, every)):
            table[sensor] = table[sensor] + more if sensor in table else more.astype(np.float64)

    def judge(self, sensor: str, cells: Cells, label: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(H, W) evidence in logits that a pixel is lake, by the other tiles; above 0 for lake."""
        own = counted(cells, label)
        lake, every = self.lake[sensor] - own[0], self.all[sensor] - own[1]
        mean = max(float(lake.sum()), 1.0) / max(float(every.sum()), 2.0)
        # a rare colour is taken as its neighbours are, and they as all of the store
        near = (_spread(lake) + PRIOR_PX * mean) / (_spread(every) + PRIOR_PX)
        share = (lake + PRIOR_PX * near) / (every + PRIOR_PX)
        logit = np.clip(np.log(share / (1 - np.minimum(share, 0.999))), -MOST, MOST).astype(np.float32)
        found: npt.NDArray[np.float32] = uniform_filter(logit[cells], 3, mode="reflect")
        return found


def counted(cells: Cells, label: npt.NDArray[np.uint8]) -> tuple[Counted, Counted]:
    """(CELLS,) each: lake and valid pixels of a tile by colour.

    Args:
        cells: (H, W) of `cells_of`
        label: (H, W) of 0, 1, 255
    """
    lake, every = (np.bincount(cells[chosen], minlength=CELLS) for chosen in (label == LAKE, label <= LAKE))
    return lake, every


def _spread(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Counts that speak for neighbouring colours too: in a small store no two lakes have quite the same."""
    shaped = counts.reshape(len(ROUGHNESS) + 1, SHADES, SHADES, SHADES)
    spread: npt.NDArray[np.float64] = gaussian_filter(shaped, (0.4, 0.7, 0.7, 0.7), mode="constant", truncate=2)
    return spread.reshape(-1)


def cells_of(image: npt.NDArray[np.uint8]) -> Cells:
    """(H, W, 3) -> (H, W) number of the colour and roughness of each pixel."""
    smooth = [uniform_filter(image[..., band], 3, mode="reflect").astype(np.int32) // SHADES for band in range(3)]
    grey = image.sum(axis=-1, dtype=np.float32) / 3
    mean = uniform_filter(grey, 5, mode="reflect")
    spread = np.sqrt(np.maximum(uniform_filter(grey * grey, 5, mode="reflect") - mean * mean, 0))
    rough = np.searchsorted(ROUGHNESS, spread).astype(np.int32)
    cells: Cells = ((rough * SHADES + smooth[0]) * SHADES + smooth[1]) * SHADES + smooth[2]
    return cells


def doubt_of(logit: npt.NDArray[np.float32], label: npt.NDArray[np.uint8]) -> tuple[float, int, int, int]:
    """doubt, lake_px, seen_px, contradicted_px of a tile.

    Args:
        logit: (H, W) evidence for lake
        label: (H, W) of 0, 1, 255
    """
    valid, lake = label <= LAKE, label == LAKE
    seen = (logit > 0) & valid
    against = (lake & ~seen) | (seen & ~lake)
    wrong, right = float(np.abs(logit[against]).sum()), float(logit[lake & seen].sum())
    doubt = wrong / (wrong + right + LITTLE)
    return doubt, int(lake.sum()), int(seen.sum()), int(against.sum())


def ranked(
    tiles: TileStore, colours: Colours, rows: npt.NDArray[np.int64], step: Callable[[str], None] = untold
) -> pd.DataFrame:
    """The doubts of tiles, the greatest first: columns of `COLUMNS`.

    doubt is 0 (picture and label agree, or nothing speaks) to 1 (they contradict each other in everything); lake_px
    are labelled, seen_px look like lake, of contradicted_px picture and label say the opposite.

    Args:
        tiles: an opened store
        colours: of all its tiles
        rows: which of its tiles
        step: told the name of each tile
    """
    places = rgb_of(tiles.bands)
    sensors = tiles.index["sensor"].to_numpy(dtype=object)

    def judged(row: int) -> tuple[int, float, int, int, int]:
        label = np.asarray(tiles.labels[row])
        logit = colours.judge(sensors[row], cells_of(np.asarray(tiles.images[row])[..., places]), label)
        return (row, *doubt_of(logit, label))

    with ThreadPoolExecutor(cores()) as pool:
        found = []
        for name, one in zip(tiles.index["tile"].iloc[rows], pool.map(judged, rows.tolist()), strict=True):
            found.append(one)
            step(name)
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.sort_values(["doubt", "row"], ascending=[False, True], ignore_index=True)
