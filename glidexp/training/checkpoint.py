"""Checkpoints that survive being cut off: written aside, flushed to disk, renamed, with a hash beside them."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("glidexp")


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values so that `path` is always a whole checkpoint, the old one or the new.

    Args:
        path: the file; `<name>.sha256` is written beside it
        state: only what `torch.load(weights_only=True)` takes back: tensors, numbers, strings, lists, dicts
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    digest = _sha256(aside)
    previous = path.with_name(path.name + ".previous")
    if path.exists():
        os.replace(path, previous)
        if _hash_file(path).exists():
            os.replace(_hash_file(path), _hash_file(previous))
    hash_aside = aside.with_name(aside.name + ".sha256")
    hash_aside.write_text(digest + "\n")
    os.replace(hash_aside, _hash_file(path))
    os.replace(aside, path)


def load(path: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint at `path`, or the one before it, or None. A damaged one is named and skipped."""
    for candidate in (path, path.with_name(path.name + ".previous")):
        if not candidate.is_file():
            continue
        hash_file = _hash_file(candidate)
        if not hash_file.is_file() or hash_file.read_text().strip() != _sha256(candidate):
            log.warning("checkpoint %s is damaged (its hash differs): skipped", candidate)
            continue
        state: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
        return state
    return None


def clear(path: Path) -> None:
    """Removes a checkpoint, the one before it, and what an interrupted save left."""
    for file in [*path.parent.glob(f"{path.name}*"), *path.parent.glob(f".{path.name}.*")]:
        file.unlink(missing_ok=True)


def _hash_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
