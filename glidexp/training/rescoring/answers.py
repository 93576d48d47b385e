"""What a trained network says of single tiles of a store, for those who look at tiles and know no network."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from glidexp.data.check.suspects import Answer
    from glidexp.data.store import TileStore


def answer_of(reference: str, tiles: "TileStore", mlruns: str, uri: str | None) -> "tuple[Answer, float]":
    """The probability of lake by row of a store, and the threshold of the model, which is told what is known of a tile.

    Args:
        reference: run id, folder of a bundle, models:/NAME@ALIAS
        tiles: an opened store
        mlruns: folder of the tracking store
        uri: tracking address; None: the folder's own

    Raises:
        GlidexpError: no such model, or the tiles lack a band of it
    """
    from glidexp.models.load import find_named

    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        found = find_named(reference, mlruns=mlruns, uri=uri, folder=Path(aside))
        import torch

        from glidexp.models.export import load_bundle
        from glidexp.training.bands import places_of_bands

        bands = places_of_bands(found.card, tiles)
        predictor = load_bundle(found.bundle)

    def answer(row: int) -> npt.NDArray[np.float32]:
        known = tiles.index.iloc[row]
        predictor.tell(sensor=str(known["sensor"]), gsd_m=float(known["gsd_m"]))
        image = np.ascontiguousarray(tiles.images[row][..., bands].transpose(2, 0, 1))
        with torch.inference_mode():
            probability: npt.NDArray[np.float32] = predictor(torch.from_numpy(image)[None])[0, 0].numpy()
        return probability

    return answer, predictor.threshold
