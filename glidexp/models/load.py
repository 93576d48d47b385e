"""Finds a trained network from what a person points at: a run, a registered model, a bundle, or a file in one."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.errors import DataError
from glidexp.models.card import CARD, find_bundle, read_card
from glidexp.tracking.models import TrackedModel, fetch, find_model
from glidexp.tracking.store import Store, store_at

if TYPE_CHECKING:
    import torch

    from glidexp.models.predictor import Predictor

STORED = ("models:/", "runs:/")
"""how names in a store begin"""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A bundle on this machine, and where it came from."""

    bundle: Path
    card: dict[str, Any]
    uri: str
    """what names it in tags: models:/..., or the folder"""
    tracked: TrackedModel | None
    """None for a bundle outside the store"""
    members: "tuple[FoundModel, ...]" = ()
    """of which it was put together just now, `models.ensemble`"""

    @property
    def run_id(self) -> str | None:
        """The run that trained it, as far as known."""
        return (self.tracked.run_id if self.tracked else None) or self.card.get("run_id")


def is_place(reference: str) -> bool:
    """Whether a reference is a file or folder rather than a name in the store."""
    if reference.startswith(STORED):
        return False
    return Path(reference).expanduser().exists() or reference.endswith((".safetensors", ".json", ".pt", "/"))


def find(reference: str, store: Store | None, folder: Path) -> FoundModel:
    """The bundle meant by a run id or the first characters of one, `models:/NAME@alias`, `models:/NAME/3`, or a path.
    The weights are not read, but of a checkpoint of training (`.pt`), of which a bundle is made.

    Args:
        reference: what a person typed
        store: an opened store; without it only paths are found
        folder: for a copy, where the model lies on a server or is a checkpoint

    Raises:
        DataError, TrackingError: nothing there, several, a damaged card; one line
    """
    if not reference.startswith(STORED) and (store is None or is_place(reference)):
        path = _whole(reference)
        if path.suffix == ".pt":
            from glidexp.models.checkpoints import bundle_of

            bundle = bundle_of(path, folder / "checkpoint")
            return FoundModel(bundle, read_card(bundle), str(path.resolve()), None)
        bundle = find_bundle(path)
        return FoundModel(bundle, read_card(bundle), str(bundle.resolve()), None)
    if store is None:
        raise DataError(f"{reference} is a name in a tracking store, and none was given: give the folder of a bundle.")
    tracked = find_model(store, reference)
    bundle = find_bundle(fetch(store, tracked, folder))
    return FoundModel(bundle, read_card(bundle), tracked.uri, tracked)


def find_named(reference: str, *, mlruns: str, uri: str | None, folder: Path) -> FoundModel:
    """The bundle meant by a MODEL of the command line; the store is opened where it is a name in it.

    Args:
        reference: what a person typed
        mlruns: as `--mlruns`
        uri: as `--uri`
        folder: for a copy, as of `find`

    Raises:
        DataError, TrackingError: as of `find`
    """
    store = None
    if not is_place(reference):
        store = store_at(mlruns, uri, read=True)
    return find(reference, store, folder)


def load_model(
    reference: Path | str, *, store: Store | None = None, device: "torch.device | str" = "cpu"
) -> "Predictor":
    """Loads the network that `find` finds.

    Args:
        reference: a bundle folder, its `card.json` or `weights.safetensors`, a folder with exactly one bundle below it
            (a downloaded run, a model of the registry), or a checkpoint of training (`.pt`); with a store also a run id
            or `models:/...`
        store: from `tracking.store.open_store`
        device: where it shall run

    Raises:
        DataError, TrackingError: nothing there, several, or a bundle that `load_bundle` refuses
    """
    from glidexp.models.export import load_bundle

    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        return load_bundle(find(str(reference), store, Path(aside)).bundle, device=device)


def _whole(reference: str) -> Path:
    """The path, unless it is the weights alone."""
    path = Path(reference).expanduser()
    if path.is_file() and path.suffix == ".safetensors" and not (path.parent / CARD).is_file():
        raise DataError(f"{path} is weights alone: {CARD} must lie beside it, which says how to build and feed them.")
    return path
