"""`glidexp data check`: what is wrong with a store is found, drawn, and decides over the exit code."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from announced import Announced
from test_near import KINDS, texture, turned
from tiny_scenes import NORTH, WEST, lake, world, write_polygons, write_scene

from glidexp import cli
from glidexp.config import Config, DatasetConfig, DatasetKind, SplitBy, SplitConfig
from glidexp.data import steps
from glidexp.data.check import divided
from glidexp.data.prepare import prepare
from glidexp.data.show.summary import cautions
from glidexp.data.store import TileStore
from glidexp.data.verbs import verb_show
from glidexp.data.writer import StoreWriter
from glidexp.errors import ConfigError, DataError

PX = 64
Tile = tuple[np.ndarray, np.ndarray]
SIDES = ("train", "train", "val", "test")


def scenery(count: int, seed: int) -> list[Tile]:
    """Ground with a lake or two, bluish and calm, some of them turbid."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:PX, :PX]
    found = []
    for i in range(count):
        image = texture(rng, PX, *KINDS[0 if i % 3 else 1])
        label = np.zeros((PX, PX), np.uint8)
        for _ in range(int(rng.integers(1, 3))):
            centre, size = rng.integers(14, PX - 14, 2), rng.integers(6, 13, 2)
            label[((y - centre[0]) / size[0]) ** 2 + ((x - centre[1]) / size[1]) ** 2 < 1] = 1
        colour = np.array([40, 80, 110]) + rng.integers(-10, 11, 3)
        image[label == 1] = np.clip(colour + rng.normal(size=(int(label.sum()), 3)) * 1.5, 0, 255)
        found.append((image, label))
    return found


def write(path: Path, tiles: list[Tile], side: Callable[[int], str] = lambda i: SIDES[i % 4]) -> TileStore:
    with StoreWriter(path, tile_px=PX, bands=["red", "green", "blue"]) as sink:
        for i, (image, label) in enumerate(tiles):
            record = {"tile": f"t{i:03d}", "scene": "unknown", "sensor": "unknown", "region": "", "gsd_m": float("nan")}
            record |= {"row": -1, "col": -1, "block": f"b{i}", "split": side(i), "transform": None, "crs": ""}
            sink.add(image, label, record)
        sink.close(
            {"recipe": {"kind": "folder"}, "recipe_id": "0", "split_hash": path.name, "split_rule": {"by": "group"}}
        )
    return TileStore.open(path)


def told(out: Path) -> dict[str, list[str]]:
    """What was found: tiles by severity and kind."""
    content = json.loads((out / "check.json").read_text())
    for finding in content["findings"]:
        assert all((out / name).stat().st_size for name in finding["pictures"])
    return {f"{finding['severity']} {finding['kind']}": finding["tiles"] for finding in content["findings"]}


def check(*words: str | Path) -> int:
    return cli.data(["check", *map(str, words)])


@pytest.fixture(scope="module")
def tiles() -> list[Tile]:
    return scenery(48, 0)


def test_masks_with_a_fault_stand_first(tiles: list[Tile], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    faulty, given = [int(i) for i in rng.choice(48, 12, replace=False)], list(tiles)
    for number, i in enumerate(faulty):
        image, label = tiles[i]
        wrong = [np.roll(label, (14, -12), (0, 1)), tiles[(i + 7) % 48][1], np.zeros_like(label), 1 - label][number % 4]
        given[i] = image, np.ascontiguousarray(wrong)
    write(tmp_path / "store", given)
    assert check(tmp_path / "store", "--out", tmp_path / "out") == 0
    order = [line.split(",")[0] for line in (tmp_path / "out" / "masks.csv").read_text().splitlines()[1:]]
    assert set(order[:12]) == {f"t{i:03d}" for i in faulty}
    assert set(told(tmp_path / "out")["doubtful mask"]) <= set(order[:12])


def test_a_sound_store_has_nothing_to_tell(
    tiles: list[Tile], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write(tmp_path / "store", tiles)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("00-leak-copy-000.png", "mine.png", "masks.csv"):
        (out / name).write_text("of before")
    (out / "check.json").write_text('{"findings": [{"pictures": ["00-leak-copy-000.png", "../store/manifest.json"]}]}')

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refused)
        with pytest.raises(OSError, match=r"No space left on device: '.*out/masks\.csv'"):
            cli.data(["check", str(store.path), "--out", str(out)])
    assert (out / "masks.csv").read_text() == "of before" and not (out / "check.json").exists(), "which vouches for all"
    assert check(store.path, "--out", tmp_path / "out") == 0
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "masks.csv", "mine.png"]
    assert store.path.joinpath("manifest.json").exists()
    assert told(tmp_path / "out") == {}
    assert "nothing found" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "check.json").read_text())
    pixels = np.stack([image for image, _ in tiles]).reshape(-1, 3).astype(float)
    assert content["channels"]["unknown"]["mean"] == pytest.approx(pixels.mean(0), abs=1e-3)
    assert content["channels"]["unknown"]["std"] == pytest.approx(pixels.std(0), abs=1e-3)
    assert sum(row["tiles"] for row in content["balance"]) == 48


def test_test_ground_that_was_trained_on_ends_with_1(tiles: list[Tile], tmp_path: Path) -> None:
    """Of tile 0 (train) a turned copy in test, of 2 (val) one in train, of 4 (train) one there, without its label."""
    given = list(tiles)
    for at, (of, position) in {3: (0, 5), 1: (2, 2), 5: (4, 1)}.items():
        image, label = given[of]
        flipped = turned(label[..., None], position)[..., 0]
        given[at] = turned(image, position), np.zeros_like(label) if at == 5 else flipped
    write(tmp_path / "store", given)
    assert check(tmp_path / "store", "--out", tmp_path / "out") == 1
    found = told(tmp_path / "out")
    assert (found["leak copy"], found["doubtful copy"], found["note copy"]) == (["t000"], ["t001"], ["t004"])
    assert found["doubtful labels"] == ["t004"] and "t005" in found["doubtful mask"]


def test_two_stores_that_share_test_ground_end_with_1(tiles: list[Tile], tmp_path: Path) -> None:
    own = write(tmp_path / "own", tiles[:12])
    other = scenery(11, 5)
    image, label = tiles[3]  # test here, train there
    moved = np.roll(turned(image, 6), 3, axis=0), np.roll(turned(label[..., None], 6)[..., 0], 3, axis=0)
    met = write(tmp_path / "met", [*other, moved], side=lambda i: "train")
    assert check(own.path, "--against", met.path, "--out", tmp_path / "out") == 1
    assert told(tmp_path / "out")["leak copy"] == ["t003"]
    apart = write(tmp_path / "apart", other, side=lambda i: "train")
    assert check(own.path, "--against", apart.path, "--out", tmp_path / "two") == 0
    assert not told(tmp_path / "two")


def test_ground_of_two_builds_overlaps_and_a_split_is_sound_in_itself(tmp_path: Path) -> None:
    dataset = world(tmp_path / "scenes")
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert check(store.path, "--out", tmp_path / "out") == 0
    assert not [kind for kind in told(tmp_path / "out") if "overlap" in kind or "copy" in kind or "scene" in kind]
    others = (prepare(_reseeded(dataset, seed), 64, tmp_path / "data", progress=False) for seed in range(1, 20))
    other = next(one for one in others if _tests(one) != _tests(store))
    # by its id below paths.data
    assert (
        check(store.path.name, "--against", other.path.name, "--data", tmp_path / "data", "--out", tmp_path / "two")
        == 1
    )
    met = set(store.index["scene"][store.index["tile"].isin(told(tmp_path / "two")["leak overlap"])])
    here, there = (dict(zip(one.index["scene"], one.index["split"], strict=True)) for one in (store, other))
    assert met == {scene for scene, side in here.items() if {side, there[scene]} == {"train", "test"}}


def _reseeded(dataset: DatasetConfig, seed: int) -> DatasetConfig:
    dataset.split.seed = seed
    return dataset


def _tests(store: TileStore) -> set[str]:
    return set(store.index["scene"][store.index["split"] == "test"])


def test_damage_and_odd_tiles(tiles: list[Tile], tmp_path: Path) -> None:
    given = list(tiles[:12])
    given[1] = np.full((PX, PX, 3), 7, np.uint8), given[1][1]
    given[2] = np.where(given[2][0] > 60, 255, given[2][0]).astype(np.uint8), given[2][1]
    given[4] = given[4][0], np.where(given[4][1] == 1, 7, 0).astype(np.uint8)
    store = write(tmp_path / "store", given)
    assert check(store.path, "--out", tmp_path / "out") == 0
    found = told(tmp_path / "out")
    assert (found["doubtful constant"], found["doubtful clipped"], found["wrong values"]) == (
        ["t001"],
        ["t002"],
        ["t004"],
    )
    with (store.path / "images.u8").open("r+b") as file:
        file.seek(6 * PX * PX * 3 + 100)
        file.write(bytes([file.read(1)[0] ^ 1]))
    assert check(store.path, "--out", tmp_path / "two") == 1
    assert told(tmp_path / "two")["wrong damaged"] == ["t006"]
    with pytest.raises(DataError, match="is not a folder"):
        check(tmp_path / "nothing")


def test_each_look_at_all_tiles_says_how_far_it_is(
    tiles: list[Tile], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Masks were held against their pictures without a word: minutes for tens of thousands of tiles."""
    store = write(tmp_path / "store", tiles[:12])
    check(store.path, "--out", tmp_path / "out")
    said = capsys.readouterr().err
    assert "tiles: 12 of 12 tiles done" in said and "masks against pictures: 12 of 12 masks done" in said


def test_each_picture_of_a_check_is_told_of(tiles: list[Tile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "shown_steps", announced := Announced())
    given = list(tiles[:24])
    for at, of in {3: 0, 1: 2, 5: 4}.items():
        given[at] = given[of][0], np.zeros_like(given[of][1])
    check(write(tmp_path / "store", given).path, "--out", tmp_path / "out")
    drawn = len(list((tmp_path / "out").glob("*.png")))
    assert drawn > 3 and announced.works["pictures"] == [drawn, drawn]


def test_a_folder_that_cannot_be_written_is_told_before_the_tiles_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write(tmp_path / "store", scenery(8, 1))
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr("glidexp.data.check.faults.survey", lambda *_: pytest.fail("tiles were read"))
        with pytest.raises(ConfigError, match=r"--out=.*file/out cannot be written to \(Not a directory\)"):
            check(store.path, "--out", tmp_path / "file" / "out")
    with pytest.raises(ConfigError, match=r"--out=.*file/x\.png cannot be written to"):
        verb_show.run([str(store.path), "--out", str(tmp_path / "file" / "x.png")], lambda words: Config())


def test_what_a_store_was_made_of_is_told_in_words_that_can_be_typed() -> None:
    recipe = {
        "tile_px": 64,
        "split": {"by": "block", "block_m": 1e4},
        "inputs": {"lakes": {"files": 1, "sha256": "a" * 64}, "sensors_file": {"files": 0, "sha256": "b" * 64}},
    }
    told = ["inputs.lakes=1 file, sha256 aaaaaaaaaaaa", "split.block_m=10000.0", "split.by=block", "tile_px=64"]
    assert list(verb_show.settings_of(recipe)) == told


def test_a_changed_inventory_is_damage_and_so_are_distances_to_ice(tmp_path: Path) -> None:
    store = prepare(world(tmp_path / "scenes"), 32, tmp_path / "data", progress=False)
    assert check(store.path, "--out", tmp_path / "one") == 0
    for name in ("ice.parquet", "inventory.parquet"):
        file = store.path / name
        whole = file.read_bytes()
        content = bytearray(whole)
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        assert check(store.path, "--out", tmp_path / "two") == 1
        assert "wrong damaged" in told(tmp_path / "two")
        file.write_bytes(whole)


@pytest.mark.parametrize("buffer_m", [0.0, 100.0])
def test_lakes_of_which_two_sides_show_a_part_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, buffer_m: float
) -> None:
    """Blocks of 1 km in four columns and a row, tiles of 125 m: a lake along all of them, and one in each block."""
    write_scene(tmp_path / "s" / "s.tif", width=1024, height=240, north=NORTH - 31.25, gsd_m=3.90625)
    long = shapely.LineString([(WEST + 50, NORTH - 100), (WEST + 3950, NORTH - 100)]).buffer(40)
    lakes = [long, *(lake(x + 400, 600, 60) for x in range(0, 4000, 1000))]
    write_polygons(tmp_path / "l.gpkg", lakes)
    split = SplitConfig(by=SplitBy.block, block_m=1000, buffer_m=buffer_m, val=0.25, test=0.25)
    dataset = DatasetConfig(
        kind=DatasetKind.scenes, root=str(tmp_path / "s"), lakes=str(tmp_path / "l.gpkg"), buffer_m=0, split=split
    )
    with caplog.at_level("WARNING", "glidexp"):
        store = prepare(dataset, 32, tmp_path / "data", progress=False)
    number = store.inventory.loc[store.inventory["area_km2"].idxmax(), "lake"]
    found = divided.of_store(store)
    assert set(found["lake"]) == {number} and set(found["side"]) == {"val", "test"}
    side = dict(zip(store.index["tile"], store.index["split"], strict=True))
    on_it = store.inventory[(store.inventory["lake"] == number) & (store.inventory["tile"] != "")]["tile"]
    assert sorted(found["tile"]) == sorted(tile for tile in on_it if side[tile] != "train")
    says = "1 lake of val and 1 lake of test lie in part in tiles of another side, too, on ground of its own: a larger "
    says += f"dataset.split.buffer_m than {buffer_m:g} leaves more ground between sides"
    assert f"{says}." in caplog.messages and cautions(store) == [says]
    check(store.path, "--out", tmp_path / "check")
    assert told(tmp_path / "check")["doubtful lake"] == sorted(set(found["tile"]))


def test_an_id_that_two_lakes_share_makes_them_no_divided_one() -> None:
    rows = [("a", "t0", 1.0, 9), ("a", "t1", 1.02, 9), ("b", "t0", 1.0, 9), ("b", "t1", 2.0, 9), ("c", "t0", 1.0, 9)]
    rows += [("c", "", 1.0, 0), ("d", "t1", 1.0, 9), ("d", "t2", 1.0, 9), ("e", "t3", 1.0, 9), ("e", "t0", 1.0, 9)]
    inventory = pd.DataFrame(rows, columns=["lake", "tile", "area_km2", "px"])
    sides = {"t0": "train", "t1": "test", "t2": "val"}  # t3 was left out
    found = divided.divided_lakes(inventory, sides)
    assert found.to_numpy().tolist() == [["a", "test", "t1"], ["d", "test", "t1"]]
