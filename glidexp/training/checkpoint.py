"""Checkpoints that survive being cut off, and tell whose they are.

`Series(folder / "last.pt")` is a numbered series: `last.000007.pt` with `last.000007.pt.sha256` beside it. The two
newest are kept, so that a damaged one has one before it. A save is written aside, flushed to disk and renamed, and the
folder is flushed after it: whenever the process or the machine dies, the newest whole one is still there.

One file holds everything of one moment: weights, best weights, optimizer, position. So no two files can disagree.
It is what `torch.load(weights_only=True)` reads, a dict of three: `format`, `config_id` of the run, and `state`.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from glidexp.beside import file_sha256
from glidexp.models.checkpoints import FORMAT, forget, hash_file, read_checkpoint
from glidexp.signals import Interrupted

log = logging.getLogger("glidexp")

KEPT = 2
E = TypeVar("E", bound=BaseException)


class Series:
    """The checkpoints of one run.

    Args:
        path: name of the series, `folder/last.pt`; the folder is made by the first save
        config_id: of the run; a file of another one is not taken
    """

    def __init__(self, path: Path, *, config_id: str) -> None:
        self.path = path
        self.config_id = config_id
        self.failed = False
        """whether the latest save did not work"""
        self._unusable: set[Path] = set()

    def save(self, state: dict[str, Any]) -> bool:
        """Adds a checkpoint. However it is cut off, the newest whole one before stays.

        A disk that is full or cannot be written does not end the training: it is told once, and again when it works.

        Args:
            state: only what `torch.load(weights_only=True)` takes back: tensors, numbers, strings, lists, dicts

        Returns:
            whether it was saved
        """
        try:
            self._write({"format": FORMAT, "config_id": self.config_id, "state": state})
        except (OSError, RuntimeError) as error:
            reason = _behind(error, OSError)
            if reason is None:
                if second := _behind(error, Interrupted):  # of a signal that ends a write torch makes an error too
                    raise second from None
                raise
            if not self.failed:
                log.warning(
                    "no checkpoint could be saved in %s (%s): training goes on, and an interrupted run would go on "
                    "from the one before. Make room.",
                    self.path.parent,
                    reason.strerror or reason,
                )
            self.failed = True
            return False
        if self.failed:
            log.warning("checkpoints are saved again in %s", self.path.parent)
        self.failed = False
        return True

    def _write(self, content: dict[str, Any]) -> None:
        new_folder = not self.path.parent.is_dir()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files = self.files()
        number = _number(files[-1]) + 1 if files else 1
        target = self.path.with_name(f"{self.path.stem}.{number:06d}{self.path.suffix}")
        aside = self.path.with_name(f".{target.name}.{os.getpid()}")
        try:
            with aside.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            with hash_file(target).open("w") as file_:  # a hash without its file is never looked at
                file_.write(f"{file_sha256(aside)}  {target.name}\n")
                file_.flush()
                os.fsync(file_.fileno())
            os.replace(aside, target)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
        _sync_folder(self.path.parent)
        if new_folder:
            _sync_folder(self.path.parent.parent)
        whole = [file for file in [*files, target] if file not in self._unusable]
        out = set(whole[:-KEPT]) | (self._unusable if len(whole) >= KEPT else set())
        for old in out:
            _remove(old)
        self._unusable -= out

    def load(self) -> dict[str, Any] | None:
        """The state of the newest usable checkpoint, or None. A damaged or foreign one is named and skipped."""
        for candidate in reversed(self.files()):
            found = _read(candidate, self.config_id)
            if isinstance(found, dict):
                return found
            log.warning("checkpoint %s %s: skipped", candidate, found)
            self._unusable.add(candidate)
        return None

    def sweep(self) -> None:
        """Removes what interrupted saves left: files aside, and hashes without their file."""
        for file in self.path.parent.glob(f".{self.path.stem}.*{self.path.suffix}.*"):
            file.unlink(missing_ok=True)
        for file in self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}.sha256"):
            if not file.with_suffix("").exists():
                file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the series, and its folder where nothing else lies in it."""
        for file in self.files():
            _remove(file)
        self.sweep()
        forget(self.path.parent)
        self._unusable.clear()
        with suppress(OSError):  # not there, or somebody else's file in it
            self.path.parent.rmdir()

    def files(self) -> list[Path]:
        """Every file of the series, oldest first."""
        found = self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}")
        return sorted((file for file in found if file.stem.split(".")[-1].isdigit()), key=_number)


def _read(file: Path, config_id: str) -> dict[str, Any] | str:
    """The state, or what is wrong with the file."""
    content = read_checkpoint(file)
    if isinstance(content, str):
        return content
    if content["config_id"] != config_id:
        return f"belongs to another run (config id {content['config_id']}, this one has {config_id})"
    state: dict[str, Any] = content["state"]
    return state


def _behind(error: BaseException, kind: type[E]) -> E | None:
    """The error of that kind behind what torch made of it ("unexpected pos"), if there is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk: without it a rename may be lost with the power."""
    with suppress(OSError):  # some network drives refuse
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    hash_file(file).unlink(missing_ok=True)


def _number(file: Path) -> int:
    return int(file.stem.split(".")[-1])
