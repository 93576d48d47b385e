"""A checkpoint of training as a model: its best weights, and beside the series what is needed to use them.

A run writes `checkpoint.json` (a card) and `checkpoint.parquet` (its ground) into the folder of its checkpoints as it
begins. With them, `last.000007.pt` can be scored like a bundle before the run has ended.
"""

import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from glidexp.beside import file_sha256, sweep, write_bytes
from glidexp.config import Tta
from glidexp.errors import ConfigError, DataError
from glidexp.models.card import check_card, require_lakes
from glidexp.models.export import assembled, save_bundle
from glidexp.models.tta import with_views

log = logging.getLogger("glidexp")

FORMAT = 2
"""of a checkpoint; raised when the layout of its state changes, so that an older file is skipped and not misread"""
DESCRIPTION = "checkpoint.json"
GROUND_MET = "checkpoint.parquet"


def hash_file(checkpoint: Path) -> Path:
    """Where the sha256 of a checkpoint stands."""
    return checkpoint.with_name(checkpoint.name + ".sha256")


def read_checkpoint(file: Path) -> dict[str, Any] | str:
    """What a checkpoint holds: `format`, `config_id`, `state`; or what is wrong with it, to be said after its name."""
    try:
        found, beside = file_sha256(file), hash_file(file)
        if not beside.is_file():
            return f"has no {beside.name} beside it, so whether it is whole is not known"
        if beside.read_text().split()[:1] != [found]:
            return "is damaged (its hash differs)"
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        return (
            f"cannot be read as a checkpoint: {getattr(error, 'strerror', None) or ' '.join(str(error).split())[:100]}"
        )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        other = content.get("format", "unknown") if isinstance(content, dict) else "unknown"
        return f"has format {other}, this version reads {FORMAT}"
    return content


def describe(folder: Path, card: Mapping[str, Any], ground: bytes, *, tta: str = Tta.none) -> None:
    """Says beside a series of checkpoints how its networks are built and fed, and on which ground they train.

    Args:
        folder: of the series; made if absent
        card: as for `save_bundle`, without threshold
        ground: `data.leakage.to_bytes`
        tta: views over which the run scores, `train.tta`
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / GROUND_MET, ground)
        write_bytes(folder / DESCRIPTION, json.dumps({**card, "tta": str(tta)}, indent=2, sort_keys=True).encode())
    except OSError as error:  # the run itself does without
        log.warning("nothing can be written to %s (%s): its checkpoints cannot be scored.", folder, error.strerror)


def forget(folder: Path) -> None:
    """Takes the description away again, and what a kill left of one that was being written."""
    for name in (DESCRIPTION, GROUND_MET):
        (folder / name).unlink(missing_ok=True)
        sweep(folder / name)


def bundle_of(checkpoint: Path, folder: Path) -> Path:
    """Makes a bundle of a checkpoint's best weights, with the threshold that was best on val in their epoch.

    Args:
        checkpoint: a `.pt` file of a series
        folder: of the bundle; made if absent

    Returns:
        the folder

    Raises:
        DataError: damaged, of another format, before its first epoch was scored, or without description
    """
    best, threshold = _best(checkpoint)
    beside = checkpoint.parent
    try:
        card = json.loads((beside / DESCRIPTION).read_text(encoding="utf-8"))
        ground = (beside / GROUND_MET).read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{checkpoint} has no readable {DESCRIPTION} and {GROUND_MET} beside it, which say how to build and feed "
            "the network: let the run end (the same command goes on with it) and give its id."
        ) from error
    check_card(card, str(beside / DESCRIPTION))
    require_lakes(card, str(checkpoint))
    try:
        net = assembled(card)
        net.load_state_dict(best)
    except (ConfigError, RuntimeError) as error:
        raise DataError(f"{checkpoint} does not fit {DESCRIPTION}: {' '.join(str(error).split())[:300]}") from error
    views = with_views(net, card.pop("tta", Tta.none))
    return save_bundle(folder, views, card=card | {"threshold": threshold}, ground=ground)


def _best(checkpoint: Path) -> tuple[dict[str, torch.Tensor], float]:
    """Weights of the best epoch so far, and its threshold."""
    content = read_checkpoint(checkpoint)
    if isinstance(content, str):
        raise DataError(f"{checkpoint} {content}. Give another checkpoint, a run id or a bundle.")
    state = content["state"]
    if not state["best"]:
        raise DataError(f"{checkpoint} is from before its first epoch was scored: let the run go on.")
    scores = state["history"][state["position"]["best_epoch"]]
    return state["best"], float(scores.get("val/threshold", 0.5))  # land cover has none
