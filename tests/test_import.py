"""`glidexp data import`: archives as published, archives that must not be unpacked, other layouts, the report."""

import os
import shlex
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import pytest
from archives import BEST, contents, rar_file, write_rar, write_zip
from PIL import Image
from test_archive import PX, label, picture, write_pairs

from glidexp import cli, door
from glidexp.config import DatasetConfig, DatasetKind, SplitConfig
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.ready import layout, members, unpack
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError


def run(*words: object) -> int:
    return cli.data(["import", *map(str, words)])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published layout, unpacked: 24 and 6 pairs."""
    root = tmp_path_factory.mktemp("published")
    write_pairs(root / "GLID", range(1, 25))
    write_pairs(root / "val", range(1, 7), list(range(1001, 1007)))
    return root


def glid(root: Path) -> DatasetConfig:
    return DatasetConfig(kind=DatasetKind.glid, root=str(root), split=SplitConfig(val=0.1))


def archived(published: Path, folder: Path) -> Path:
    """GLID.rar and val.zip as published, with what a Mac and Windows leave."""
    folder.mkdir()
    write_rar(folder / "GLID.rar", {**contents(published / "GLID", "GLID/"), "GLID/images/Thumbs.db": b"x"})
    clutter = {"__MACOSX/val/images/._1.png": b"x", "val/images/.DS_Store": b"x"}
    write_zip(folder / "val.zip", {**contents(published / "val", "val/"), **clutter})
    return folder


def test_archives_give_the_bytes_of_the_folder(published: Path, tmp_path: Path) -> None:
    plain = prepare(glid(published), PX, tmp_path / "a", progress=False)
    root = archived(published, tmp_path / "downloads")
    packed = prepare(glid(root), PX, tmp_path / "b", progress=False)
    for name in ("images.u8", "masks.u8", "index.parquet"):
        assert (packed.path / name).read_bytes() == (plain.path / name).read_bytes()
    assert packed.split_hash == plain.split_hash
    # the ZIP is read as it lies; the RAR was unpacked once and is not touched again
    (unpacked,) = (tmp_path / "b" / "unpacked").iterdir()
    assert sorted(p.name for p in unpacked.iterdir()) == ["GLID"]
    before = (unpacked / "GLID" / "images" / "1.png").stat().st_mtime_ns
    prepare(glid(root), 32, tmp_path / "b", progress=False)
    assert (unpacked / "GLID" / "images" / "1.png").stat().st_mtime_ns == before
    # two files named one by one are as good as the folder that holds them
    both = os.pathsep.join(str(root / name) for name in ("GLID.rar", "val.zip"))
    assert prepare(glid(Path(both)), PX, tmp_path / "b", progress=False).data_hash == plain.data_hash


def test_the_verb_reports_and_a_run_takes_the_same_store(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = archived(published, tmp_path / "my downloads (new)")
    write_zip(root / "GLID_annotation.zip", {"a.shp": b""})
    monkeypatch.chdir(tmp_path)
    assert run(root) == 0
    out = capsys.readouterr().out
    assert "Found GLID" in out and "Found val" in out and "Also there: GLID_annotation.zip" in out
    assert "odd: GLID holds 24 pairs; the published set has 16000" in out
    assert "labels: 0 and 255 in 30" in out
    (page,) = (Path(line.partition(": ")[2]) for line in out.splitlines() if line.startswith("report: "))
    text = page.read_text()
    assert "GLID holds 24 pairs; the published set has 16000" in text and "No tile has a position" in text
    assert ">GLID</td><td>24</td>" in text and ">val</td><td>6</td>" in text and ">0 and 255</td><td>30</td>" in text
    with Image.open(page.with_name("contact_sheet.png")) as sheet:
        assert sheet.width > 8 * 128
    (line,) = (line.strip() for line in out.splitlines() if "train.py" in line)
    config = door.compose(shlex.split(line)[2:])
    assert (tmp_path / "data" / "stores" / recipe_id(config.dataset, config.tile_size.px)).is_dir()
    # a folder of one's own choice, opened as a store, is the same data
    assert run(root, "--out", tmp_path / "mine") == 0
    (line,) = (line.strip() for line in capsys.readouterr().out.splitlines() if "train.py" in line)
    mine = door.compose(shlex.split(line)[2:])
    assert recipe_id(mine.dataset, PX) == recipe_id(config.dataset, PX)
    assert prepare(mine.dataset, PX, tmp_path / "data").path == tmp_path / "mine"
    with pytest.raises(ConfigError, match=r"give tile_size=64"):
        recipe_id(mine.dataset, 512)
    with pytest.raises(DataError, match="holds another store"):
        run(root, "--out", tmp_path / "mine", "--tile-px", 32)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").touch()
    with pytest.raises(DataError, match="none is there and is no tile store"):
        run(root, "--out", tmp_path / "none")

    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert run(root, "--out", tmp_path / "link") == 0 and (tmp_path / "empty" / "manifest.json").is_file()

    @contextmanager
    def beaten(path: Path) -> Iterator[None]:
        """Another process, which makes another store of the same folder, had the lock before."""
        shutil.copytree(tmp_path / "mine", path)
        yield

    monkeypatch.setattr("glidexp.data.prepare.locked", beaten)
    with pytest.raises(DataError, match="holds another store"):
        run(root, "--out", tmp_path / "two", "--tile-px", 32)
    with pytest.raises(DataError, match=r"a\.txt is no folder and no archive"):
        run(tmp_path / "none" / "a.txt")


def test_a_part_of_the_published_set(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = write_zip(tmp_path / "val.zip", contents(published / "val", ""))
    assert run(archive, "--look") == 0
    said = capsys.readouterr().out
    assert f"Found val: {archive} (archive)" in said and "Missing GLID" in said and "put GLID.rar" in said
    two = {**contents(published / "val", "Andes/"), **contents(published / "val", "Greenland/")}
    transfer = write_zip(tmp_path / "Transferability validation.zip", two)
    with pytest.raises(DataError, match=r"2 sets of tiles are there: .*Andes, .*Greenland\. Import one by its path"):
        run(transfer, "--data", tmp_path / "data")
    words = ["--data", tmp_path / "data", "dataset.split.val=0.2", "--sensor", "landsat8"]
    assert run(transfer / "Andes", *words) == 0
    assert "landsat8 6" in capsys.readouterr().out
    odd = write_zip(tmp_path / "odd.zip", {"pics/a.png": b"", "pics/b.png": b"", "note.txt": b""})
    with pytest.raises(DataError, match=r"odd\.zip: top: 1 \.txt; pics: 2 \.png"):
        run(odd)
    with pytest.raises(DataError, match="is not there: correct the path"):
        run(tmp_path / "nothing")


HOSTILE = {
    "leads out of the folder": "../x.png",
    "has an absolute path": "/etc/x.png",
    "absolute path": "C:/x.png",
    "is no path": "a//x.png",
}


@pytest.mark.parametrize(("says", "name"), HOSTILE.items())
def test_names_that_lead_elsewhere_are_refused(says: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        members.open_zip(write_zip(tmp_path / "a.zip", {"images/1.png": b"x", name: b"x"}))
    with pytest.raises(DataError, match=says):
        unpack.unpack(write_rar(tmp_path / "a.rar", {"images/1.png": b"x", name: b"x"}), tmp_path / "data")
    assert not (tmp_path / "data").exists() and not Path("/etc/x.png").exists()


def test_links_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("images/1.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        members.open_zip(tmp_path / "link.zip")
    linked = write_rar(tmp_path / "link.rar", {}, more=rar_file("images/1.png", b"", link="/etc/passwd"))
    with pytest.raises(DataError, match="is a link"):
        unpack.unpack(linked, tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.png", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", "2")
    with pytest.raises(DataError, match=r"1 name comes twice, first 'a\.png'"):
        members.open_zip(tmp_path / "two.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = write_zip(tmp_path / "bomb.zip", {f"images/{n}.png": bytes(2_000_000) for n in range(3)})
    members.open_zip(bomb)  # small enough to be harmless
    monkeypatch.setattr(members, "SMALL", 1_000_000)
    with pytest.raises(DataError, match="would become 6000000, more than 100 times as many"):
        members.open_zip(bomb)
    with pytest.raises(DataError, match="would become"):
        members.judge(bomb, [members.Member("a", members.LARGEST_MEMBER + 1)])
    # a member that lies about its size is stopped there
    lying = write_rar(tmp_path / "lying.rar", {}, more=rar_file("a.png", bytes(1000), size=10))
    with pytest.raises(DataError):
        unpack.unpack(lying, tmp_path / "data")
    assert list((tmp_path / "data" / "unpacked").iterdir()) == []


def test_damaged_archives(published: Path, tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "val.zip", contents(published / "val", "val/"), zipfile.ZIP_STORED)
    content = bytearray(whole.read_bytes())
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.zip cannot be read as a ZIP"):
        layout.find_places(str(tmp_path / "cut.zip"))
    (tmp_path / "garbage.rar").write_bytes(b"what a server says of a page that is gone")
    with pytest.raises(
        DataError, match=r"garbage\.rar cannot be read as a RAR or a ZIP: it begins as neither; compare"
    ):
        layout.find_places(str(tmp_path / "garbage.rar"))
    content[len(content) // 3] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    dataset = DatasetConfig(kind=DatasetKind.folder, root=str(tmp_path / "flipped.zip"))
    with pytest.raises(DataError, match=r"flipped\.zip/val/\w+/\d\.png cannot be read: .*CRC"):
        prepare(dataset, PX, tmp_path / "data", progress=False)
    rar = write_rar(tmp_path / "a.rar", {"images/1.png": b"abc" * 100})
    broken = bytearray(rar.read_bytes())
    broken[150] ^= 1
    (tmp_path / "b.rar").write_bytes(broken)
    with pytest.raises(DataError, match=r"b\.rar, member images/1\.png"):
        unpack.unpack(tmp_path / "b.rar", tmp_path / "data")
    (tmp_path / "c.rar").write_bytes(rar.read_bytes()[:40])
    with pytest.raises(DataError, match=r"c\.rar"):
        unpack.unpack(tmp_path / "c.rar", tmp_path / "data")


def test_compressed_members_need_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rar = write_rar(tmp_path / "a.rar", {}, more=rar_file("a.png", b"abc", method=BEST))
    monkeypatch.setattr(unpack, "libarchive_is_there", lambda: False)
    monkeypatch.setattr(unpack.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="install one of libarchive13, unrar, 7zip"):
        unpack.unpack(rar, tmp_path / "data")


@pytest.mark.skipif(not unpack.libarchive_is_there(), reason="libarchive is not installed")
def test_libarchive_gives_the_same_files(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(published / "val", "val/")
    rar = write_rar(tmp_path / "val.rar", files)
    monkeypatch.setattr(unpack, "_STORED", -1)  # nothing counts as stored: the way of compressed members is taken
    assert contents(unpack.unpack(rar, tmp_path / "data")) == files


def test_a_program_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes is compared with the list, whatever it says of itself."""
    files = {"a/1.png": b"one", "a/2.png": b"two"}
    rar = write_rar(tmp_path / "a.rar", files)
    monkeypatch.setattr(unpack, "_STORED", -1)
    monkeypatch.setattr(unpack, "libarchive_is_there", lambda: False)
    monkeypatch.setattr(unpack.shutil, "which", lambda name: "/bin/sh" if name == "unrar" else None)

    def behave(script: str) -> None:
        monkeypatch.setitem(unpack.TOOLS, "unrar", lambda tool, _, folder: [tool, "-c", f"cd {folder}; {script}"])

    good = "mkdir a; printf one > a/1.png; printf two > a/2.png"
    for script, says in (
        (f"{good}; printf x > a/3.png", "3 files where 2 are listed"),
        (f"{good}; ln -s /etc a/3.png", "no plain file"),
        ("mkdir a; printf one > a/1.png; printf tw0 > a/2.png", "does not fit its size and CRC"),
        ("echo no rights >&2; exit 3", "ended with 3: no rights"),
    ):
        behave(script)
        with pytest.raises(DataError, match=says):
            unpack.unpack(rar, tmp_path / "data")
    behave(good)
    assert contents(unpack.unpack(rar, tmp_path / "data")) == files


def test_any_naming_rule(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for scene in ("s1", "s2", "s3", "s4"):
        for part in ("img", "ann"):
            (root / scene / part).mkdir(parents=True)
        for n in range(3):
            Image.fromarray(picture(10 * int(scene[1]) + n)).save(root / scene / "img" / f"{n}.JPG", quality=95)
            Image.fromarray(label(n)).save(root / scene / "ann" / f"{n}_mask.png")
    rules = {"images": "{scene}/img/{id}.*", "labels": "{scene}/ann/{id}_mask.png"}
    dataset = DatasetConfig(kind=DatasetKind.folder, root=str(root), **rules)
    store = prepare(dataset, PX, tmp_path / "data", progress=False)
    assert set(store.index["tile"]) == {f"s{s}/{n}" for s in (1, 2, 3, 4) for n in range(3)}
    assert store.index.groupby("scene")["split"].nunique().tolist() == [1, 1, 1, 1]
    packed = write_zip(tmp_path / "set.zip", contents(root))
    zipped = prepare(
        DatasetConfig(kind=DatasetKind.folder, root=str(packed), **rules), PX, tmp_path / "d", progress=False
    )
    assert zipped.data_hash == store.data_hash
    with pytest.raises(ConfigError, match=r"dataset\.images=img has no \{id\}"):
        prepare(DatasetConfig(kind=DatasetKind.folder, root=str(root), images="img"), PX, tmp_path, progress=False)
    (root / "s1" / "ann" / "2_mask.png").unlink()
    with pytest.raises(DataError, match=r"1 file has no partner, first s1/ann/2_mask\.png for s1/img/2\.JPG"):
        prepare(dataset, PX, tmp_path / "data", progress=False)


def test_labels_of_two_kinds_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_pairs(tmp_path / "set", range(1, 13))
    Image.fromarray(label(1) // 255).save(root / "labels" / "1.png")
    edged = label(2)
    edged[np.flatnonzero(edged.any(1))[0]] = np.minimum(edged[np.flatnonzero(edged.any(1))[0]], 200)
    Image.fromarray(edged).save(root / "labels" / "2.png")
    Image.fromarray(label(3) * 0).save(root / "labels" / "3.png")
    assert run(root, "--data", tmp_path / "data") == 0
    out = capsys.readouterr().out
    assert "labels: 0 and 1 in 1, 0 and 255 in 9, grey edges in 1, no lake in 1" in out
    assert "odd: 1 label has grey edges" in out and "two sources were mixed" in out
    (store,) = (tmp_path / "data" / "stores").glob("[!.]*")
    found = TileStore.open(store)
    assert np.array_equal(found.labels[0] == 1, label(1) > 0) and np.array_equal(found.labels[1] == 1, label(2) > 0)


def test_the_list_of_source_scenes_is_kept_and_its_sensors_are_counted(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = archived(published, tmp_path / "downloads")
    named = ["WorldView-2", "Sentinel-2A", "LC08_L1TP_140041_20190102", "GF2_PMS1_E86.9_N27.9", "Sentinel-2", "by hand"]
    rows = pd.DataFrame({"No.": range(1, 7), "Image": named, "Date": ["2019-01-02"] * 6})
    pyogrio.write_dataframe(rows, root / "Optical_images_source.xlsx", driver="XLSX", layer="Sheet1")
    monkeypatch.chdir(tmp_path)
    assert run(root) == 0
    said = capsys.readouterr().out
    assert (
        "6 source scenes (gaofen2 1, landsat8 1, sentinel2 2, worldview2 1) with the columns No., Image, Date;" in said
    )
    (kept,) = (Path(line.partition(": ")[2]) for line in said.splitlines() if line.startswith("source scenes: "))
    table = pd.read_csv(kept)
    assert table["Image"].tolist() == named and set(table["in_sheet"]) == {"Sheet1"}
    # a list that is none costs the import nothing
    (root / "Optical_images_source.xlsx").write_bytes(b"<html>not found</html>")
    assert run(root, "--look") == 0
    assert "the list of source scenes is left aside" in capsys.readouterr().out
