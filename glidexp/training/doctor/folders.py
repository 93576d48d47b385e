"""What `glidexp doctor` finds in folders: room, locks, tile stores, tracking store, spools. Nothing is made there."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from glidexp.config import PathsConfig, TrackingConfig
from glidexp.errors import GlidexpError

if TYPE_CHECKING:
    from glidexp.tracking.store import Store

GB = 1e9
LITTLE_DISK_GB = 10.0
"""the tiles of a few scenes, a few runs with masks and models"""
NO_DISK_GB = 1.0
"""two checkpoints of a large network"""
NAMED_RUNS = 3
"""of those for which something waits"""
NETWORK_DRIVES = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "afs", "9p")


class Level(StrEnum):
    """How a finding is: well, worth a look, or in the way of a run."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    what: str
    do: str = ""
    """the way out; empty where nothing needs doing"""


def disks(data: Path, mlruns: Path) -> Iterable[Finding]:
    """Room, write access and file locks where data and runs are kept."""
    for key, folder in (("paths.data", data), ("paths.mlruns", mlruns)):
        if folder.exists() and not folder.is_dir():
            yield Finding(Level.fail, f"{key}={folder} is a file", f"give a folder as {key}")
            continue
        place = _existing(folder)
        try:
            with tempfile.NamedTemporaryFile(dir=place) as file:
                file.write(b"x")
                file.flush()
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield Finding(
                Level.fail,
                f"{key}={folder}: no file can be written and locked in {place} ({error.strerror})",
                f"give another folder as {key}",
            )
            continue
        free, drive = shutil.disk_usage(place).free / GB, _drive(place)
        what = f"{key}={folder}: {free:.1f} GB free" + (f", on a {drive} drive" if drive else "")
        if free < NO_DISK_GB:
            yield Finding(Level.fail, what, f"make room, or give another folder as {key}")
        elif free < LITTLE_DISK_GB:
            yield Finding(Level.warn, what, f"make room before long runs, or give another folder as {key}")
        elif drive and folder == mlruns and not os.environ.get("MLFLOW_TRACKING_URI"):
            yield Finding(
                Level.warn, what, "the sqlite store is for one machine: with jobs on several nodes, start an MLflow "
                "server and give tracking.uri"
            )  # fmt: skip
        else:
            yield Finding(Level.ok, what)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    return place


def _drive(place: Path) -> str:
    """File system of the place where it is on a network, else nothing."""
    mounts = [part for part in psutil.disk_partitions(all=True) if place.resolve().is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""
    return kind if kind in NETWORK_DRIVES else ""


def tile_stores(data: Path) -> Iterable[Finding]:
    """Every store: manifest, index, size of its files, and the first and last tile against their hashes."""
    from glidexp.data.store import TileStore, tile_hash

    folders = sorted((data / "stores").iterdir()) if (data / "stores").is_dir() else []
    partial = [path for path in folders if path.name.endswith(".partial") and path.is_dir()]
    for path in partial:
        pid = path.name.split(".")[-2]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            yield Finding(Level.warn, f"{path} was left behind by a build that was cut off", "delete the folder")
    stores = [path for path in folders if path.is_dir() and not path.name.startswith(".")]
    if not stores:
        yield Finding(Level.ok, f"tile stores: none in {data}/stores yet; the first run makes one")
    for path in stores:
        try:
            store = TileStore.open(path, classes=None)
            wrong = [
                row
                for row in {0, len(store) - 1}
                if tile_hash(store.images[row], store.labels[row]) != store.index["xxh3"].iloc[row]
            ]
        except GlidexpError as error:
            yield Finding(Level.fail, str(error), "delete the folder; the next run builds it again")
            continue
        if wrong:
            yield Finding(
                Level.fail, f"{path}: tile {wrong[0]} is damaged", "delete the folder; the next run builds it"
            )
            continue
        sides = ", ".join(f"{len(store.rows(split))} {split}" for split in ("train", "val", "test"))
        size = (store.images.nbytes + store.labels.nbytes) / GB
        yield Finding(
            Level.ok,
            f"tile store {path.name}: {sides} tiles of {store.tile_px} px, {size:.2f} GB; a run reads every byte",
        )


def spools(mlruns: Path) -> Iterable[Finding]:
    """Runs that ended or died before the tracking store had all they logged."""
    from glidexp.tracking.sync import waiting

    left = waiting(mlruns)
    if not left:
        yield Finding(Level.ok, f"spool: nothing waits in {mlruns}/spool to be sent")
        return
    names = ", ".join(run_id[:8] for run_id in list(left)[:NAMED_RUNS])
    more = f" and {len(left) - NAMED_RUNS} more" if len(left) > NAMED_RUNS else ""
    entries, runs = sum(left.values()), f"{len(left)} run{'s' if len(left) > 1 else ''}"
    where = "" if mlruns.resolve() == Path("mlruns").resolve() else f" --mlruns {mlruns}"
    yield Finding(
        Level.warn,
        f"spool: {entries} entries of {runs} wait in {mlruns}/spool to be sent to the tracking store ({names}{more})",
        f"glidexp sync{where} sends them once the store takes them; so does the run's own command, going on with it",
    )


def _is_finished(store: "Store", checkpoints: Path) -> bool:
    """Whether the run of a folder of checkpoints is FINISHED in the store, to which `glidexp sync` may have sent its
    end."""
    from glidexp.tracking.models import search
    from glidexp.tracking.store import ID_TAG

    config_id, _, begins = checkpoints.name.partition("-")
    if not (config_id.isalnum() and begins.isalnum()):
        return False
    wanted = f"attributes.run_id LIKE '{begins}%' and tags.`{ID_TAG}` = '{config_id}'"
    return any(run.info.status == "FINISHED" for run in search(store, wanted))


def tracking(mlruns: Path) -> Iterable[Finding]:
    """Whether the tracking store opens. None is made."""
    from glidexp.config.stored import without_secrets
    from glidexp.tracking.left import left_studies
    from glidexp.tracking.store import database_path, open_store, tracking_uri

    uri = tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns)))
    database = database_path(uri)
    if database is not None and not database.exists():
        yield Finding(Level.ok, f"tracking: no store at {database} yet; the first run makes one")
        return
    store = open_store(uri, mlruns)
    experiments = len(store.client.search_experiments())
    left = [path for path in sorted((mlruns / "checkpoints").glob("*")) if path.is_dir()]
    over = [path for path in left if _is_finished(store, path)]
    unfinished = len(left) - len(over)
    more = f"; {unfinished} unfinished runs have checkpoints" if unfinished else ""
    yield Finding(Level.ok, f"tracking: {without_secrets(uri)} opens, {experiments} experiments{more}")
    for path in over:
        yield Finding(
            Level.warn,
            f"{path} holds checkpoints of a run that is finished: it was killed before they went",
            "delete the folder; the run's own command does so, too",
        )
    for one in left_studies(store):
        yield Finding(
            Level.warn,
            f"study {one.title} ({one.study_id}) is RUNNING in the store, and no process is at work on it",
            "its sweep command goes on with it; any other sweep on this store marks it KILLED",
        )
