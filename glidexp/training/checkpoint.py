"""Checkpoints that survive being cut off: written aside, flushed to disk, renamed, each with a hash beside it.

`last.pt` names a series: files are `last.000007.pt` and `last.000007.pt.sha256`, and the two newest are kept, so that a
damaged one has one before it.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("glidexp")

KEPT = 2


def save(path: Path, state: dict[str, Any]) -> None:
    """Adds a checkpoint to the series. However it is cut off, the newest whole one before stays.

    Args:
        path: name of the series, `folder/last.pt`
        state: only what `torch.load(weights_only=True)` takes back: tensors, numbers, strings, lists, dicts

    Raises:
        OSError, RuntimeError: the disk is full or not writable
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    old = _series(path)
    number = _number(old[-1]) + 1 if old else 1
    target = path.with_name(f"{path.stem}.{number:06d}{path.suffix}")
    aside = path.with_name(f".{target.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        _hash_file(target).write_text(_sha256(aside) + "\n")  # a hash without its file is never looked at
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    for file_ in old[: len(old) + 1 - KEPT]:
        file_.unlink(missing_ok=True)
        _hash_file(file_).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint of the series, or None. A damaged one is named and skipped for the one before."""
    for candidate in reversed(_series(path)):
        beside = _hash_file(candidate)
        if not beside.is_file() or beside.read_text().strip() != _sha256(candidate):
            log.warning("checkpoint %s is damaged (its hash differs): skipped", candidate)
            continue
        state: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
        return state
    return None


def clear(path: Path) -> None:
    """Removes the series and what interrupted saves left."""
    for pattern in (f"{path.stem}.*{path.suffix}*", f".{path.stem}.*{path.suffix}.*"):
        for file in path.parent.glob(pattern):
            file.unlink(missing_ok=True)


def _series(path: Path) -> list[Path]:
    """Oldest first."""
    found = [file for file in path.parent.glob(f"{path.stem}.*{path.suffix}") if file.stem.split(".")[-1].isdigit()]
    return sorted(found, key=_number)


def _number(file: Path) -> int:
    return int(file.stem.split(".")[-1])


def _hash_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
