"""Probe tiles of a bundle: pixels of several sizes with the probability that PyTorch gave when it was made.

Files `probes/*.npz` with `image` uint8 (1, C, H, W) and `probability` float32 (1, 1, H, W): NumPy alone reads them.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from glidexp.beside import write_bytes
from glidexp.data.store import TileStore
from glidexp.errors import DataError
from glidexp.models.graph import Sizes
from glidexp.models.predictor import Predictor

FOLDER = "probes"
MOST_PX = 512
"""longest side that is taken from a tile, so that a bundle stays small"""


@dataclass(frozen=True, slots=True)
class Probe:
    """Pixels and the answer expected."""

    name: str
    image: npt.NDArray[np.uint8]
    """(1, C, H, W)"""
    probability: npt.NDArray[np.float32]
    """(1, 1, H, W)"""


def write_probes(
    folder: Path, predictor: Predictor, tiles: TileStore, rows: npt.NDArray[np.int64], order: Sequence[int]
) -> None:
    """Cuts images of four sizes out of test tiles and writes them with the network's answer.

    A whole tile, two beside each other, a part whose sides are no multiple of anything, and a small one.

    Args:
        folder: of the bundle
        predictor: on the CPU, in float32
        tiles: the store
        rows: tiles to take them from, those with most lake first
        order: place in the tiles of each band that the network takes
    """
    first, second = (np.asarray(tiles.images[row])[..., list(order)] for row in (rows[0], rows[min(1, len(rows) - 1)]))
    side = min(tiles.tile_px, MOST_PX)
    first, second = first[:side, :side], second[:side, :side]
    cut = {
        "tile": first,
        "two_tiles": np.concatenate([first, second], axis=1),
        "odd": second[: max(side // 2 + 3, 1), : max(side - 5, 1)],
        "small": first[: max(side // 3, 1), : max(side // 4, 1)],
    }
    (folder / FOLDER).mkdir()
    for name, image_HWC in cut.items():
        image = np.ascontiguousarray(image_HWC.transpose(2, 0, 1)[None])
        with torch.inference_mode():
            probability = predictor(torch.from_numpy(image)).numpy()
        content = io.BytesIO()
        np.savez_compressed(content, image=image, probability=probability)
        write_bytes(folder / FOLDER / f"{name}.npz", content.getvalue())


def read_probes(folder: Path) -> Iterator[Probe]:
    """The probes of a bundle, by name.

    Raises:
        DataError: there are none, or one is damaged
    """
    paths = sorted((folder / FOLDER).glob("*.npz"))
    if not paths:
        raise DataError(f"{folder} has no probe tiles in {FOLDER}/: copy the whole bundle again.")
    for path in paths:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                yield Probe(path.stem, held["image"], held["probability"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read ({error}): copy the whole bundle again.") from error


def padded(image: npt.NDArray[np.uint8], sizes: Sizes) -> npt.NDArray[np.float32] | None:
    """The image as a graph takes it, grown to the right and downwards as `Predictor` does; None where it takes none
    that large.
    """
    height, width = image.shape[-2:]
    more_y, more_x = sizes.fits(height) - height, sizes.fits(width) - width
    if more_y < 0 or more_x < 0:
        return None
    mode: Literal["reflect", "edge"] = "reflect" if more_y < height and more_x < width else "edge"
    return np.pad(image.astype(np.float32), ((0, 0), (0, 0), (0, more_y), (0, more_x)), mode=mode)
