"""Finds a trained network from what a person points at: a bundle folder, a file in it, or a folder that holds one."""

from pathlib import Path

import torch

from glidexp.errors import DataError
from glidexp.models.export import CARD, WEIGHTS, load_bundle
from glidexp.models.predictor import Predictor


def load_model(path: Path | str, *, device: torch.device | str = "cpu") -> Predictor:
    """Loads the bundle at `path`.

    Args:
        path: a bundle folder, its `card.json` or `weights.safetensors`, or a folder with exactly one bundle below it (a
            downloaded run, a model of the registry)
        device: where it shall run

    Raises:
        DataError: nothing there, several bundles, or a bundle that `load_bundle` refuses
    """
    return load_bundle(find_bundle(path), device=device)


def find_bundle(path: Path | str) -> Path:
    """The bundle folder meant by `path`.

    Raises:
        DataError: none or several
    """
    path = Path(path).expanduser()
    if path.is_file() and path.name in (CARD, WEIGHTS):
        path = path.parent
    if (path / CARD).is_file():
        return path
    if not path.is_dir():
        kind = "is no bundle" if path.exists() else "does not exist"
        raise DataError(f"{path} {kind}: give a folder with {CARD} and {WEIGHTS}.")
    found = sorted(card.parent for card in path.rglob(CARD) if (card.parent / WEIGHTS).is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{path} holds no bundle: give a folder with {CARD} and {WEIGHTS}.")
    raise DataError(f"{path} holds {len(found)} bundles: choose one, for example {found[0]}.")
