"""File systems that keep no locks, as many network drives: said in a sentence, or done without."""

import errno
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas
import pyogrio
import pytest
import shapely

from glidexp.beside import lock
from glidexp.data.builder.making import locked
from glidexp.data.scenes import features
from glidexp.data.scenes.geopackage import write_layers
from glidexp.errors import GlidexpError, TrackingError
from glidexp.tracking import spool
from glidexp.tracking.database import check_revision
from glidexp.tracking.store import open_store

HOLDS = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
"""keeps others from a database as a file system does that knows no locks"""


@contextmanager
def no_locks_of(path: Path) -> Iterator[None]:
    words = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield
        process.communicate()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A trace of Python's, or a run that counted as at work for ever."""

    def refused(file: object, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    said = (
        rf"^the file system of {re.escape(str(tmp_path))}\S* keeps no locks of files \({os.strerror(number)}\): have it"
    )
    with pytest.raises(GlidexpError, match=said):
        open_store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    with pytest.raises(GlidexpError, match=said), locked(tmp_path / "stores" / "id"):
        raise AssertionError
    with pytest.raises(GlidexpError, match=said):
        spool.hold(tmp_path / "spool")
    with pytest.raises(GlidexpError, match=said):
        spool.is_held(tmp_path / "spool")


def test_a_lock_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("a") as one, path.open("a") as two:
        assert lock(one, path, shared=True) and lock(two, path, shared=True, wait=False)
        assert not lock(two, path, wait=False)
    with path.open("a") as three:
        assert lock(three, path, wait=False)


def test_a_database_whose_locks_are_refused_is_not_said_to_be_another(tmp_path: Path) -> None:
    """Its owner was told to move it away."""
    database = tmp_path / "mlflow.db"
    open_store(f"sqlite:///{database}", tmp_path)
    said = rf"^{re.escape(str(database))} cannot be read \(database is locked\): .* a server as tracking\.uri\.$"
    with no_locks_of(database), pytest.raises(TrackingError, match=said):
        check_revision(database)


def test_geopackages_are_read_and_written_where_no_locks_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLITE_BUSY_TIMEOUT", "10")  # of GDAL, in milliseconds
    path = tmp_path / "lakes.gpkg"
    lakes = geopandas.GeoDataFrame({"id": [7]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    write_layers(path, {"lakes": lakes})
    with no_locks_of(path):
        assert features.columns_of(path, "dataset.lakes") == ["id"]
        assert features.layers_of(path, "dataset.lakes") == [("lakes", "Unknown")]
        assert features.layer_of(path, "dataset.lakes") == 0
        assert features.read_features(path, "dataset.lakes", ["id"]).values["id"].tolist() == [7]
    assert pyogrio.get_gdal_config_option("SQLITE_USE_OGR_VFS") is None
    asked = []
    monkeypatch.setattr(
        geopandas.GeoDataFrame,
        "to_file",
        lambda frame, place, **options: (
            place.touch(),
            asked.append(pyogrio.get_gdal_config_option("SQLITE_USE_OGR_VFS")),
        ),
    )
    write_layers(path, {"lakes": lakes})
    assert asked == ["YES"]
