"""Splits: every side gets its share of ground, no ground is on two sides, and tile size changes nothing."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyproj
import pytest
from tiny_scenes import NORTH, WEST, lake, write_scene

from glidexp.config import SplitBy, SplitConfig
from glidexp.data import splits
from glidexp.data.blocks import BlockPlaces
from glidexp.data.geodesy import to_lonlat
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.reading import Scene, read_header
from glidexp.data.splits import ScenePlaces, Unit
from glidexp.errors import ConfigError, DataError


def scene(path: Path, name: str, *, sensor: str = "sentinel2", region: str = "andes", **options) -> Scene:
    return read_header(SceneFile(write_scene(path / f"{name}.tif", **options), name, sensor, region))


def test_every_sensor_with_three_scenes_has_all_sides_and_regions_take_turns() -> None:
    units = [
        Unit(f"{sensor}{i}", sensor, ("andes", "alaska", "himalaya", "greenland")[i % 4])
        for sensor in ("a", "b", "c", "d")
        for i in range(6)
    ]
    sides = splits.choose(units, SplitConfig(val=0.15, test=0.2))
    for sensor in "abcd":
        assert Counter(side for key, side in sides.items() if key[0] == sensor) == {"train": 4, "val": 1, "test": 1}
    for side in ("val", "test"):
        assert len({unit.region for unit in units if sides[unit.key] == side}) == 4


def test_three_units_are_one_each_and_shares_of_zero_need_none() -> None:
    units = [Unit(str(i), "a") for i in range(3)]
    assert Counter(splits.choose(units, SplitConfig(val=0.1, test=0.8)).values()) == {"train": 1, "val": 1, "test": 1}
    assert set(splits.choose(units[:1], SplitConfig(val=0.0, test=0.0)).values()) == {"train"}


def test_shares_that_round_up_leave_one_unit_to_train() -> None:
    """0.45 of four is rounded to two, and two and two would be all."""
    units = [Unit(str(i), "a") for i in range(4)]
    assert Counter(splits.choose(units, SplitConfig(val=0.45, test=0.45)).values()) == {"test": 2, "val": 1, "train": 1}


def test_small_sensors_share_a_pool_and_lonely_ones_train() -> None:
    units = [Unit("a0", "a"), Unit("b0", "b"), Unit("c0", "c")]
    assert set(splits.choose(units, SplitConfig()).values()) == {"train", "val", "test"}
    units = [*(Unit(f"a{i}", "a") for i in range(5)), Unit("b0", "b")]
    assert splits.choose(units, SplitConfig())["b0"] == "train"


def test_seed_changes_and_order_does_not() -> None:
    units = [Unit(str(i), "a") for i in range(40)]
    first = splits.choose(units, SplitConfig(seed=0))
    assert splits.choose(units[::-1], SplitConfig(seed=0)) == first != splits.choose(units, SplitConfig(seed=1))
    assert Counter(first.values()) == {"train": 26, "val": 6, "test": 8}


def test_too_few_scenes_say_the_way_out() -> None:
    with pytest.raises(DataError, match=r"2 scenes of ground .* train, val, test: set dataset\.split\.by=block"):
        splits.choose([Unit("a", "x"), Unit("b", "x")], SplitConfig())


def test_scenes_that_overlap_stay_together(tmp_path: Path) -> None:
    # 960 m wide: s1 lies half over s0, s2 only touches s1, s3 is far away
    scenes = [scene(tmp_path, f"s{i}", west=WEST + x) for i, x in enumerate((0, 480, 1440, 9000))]
    assert list(splits.scene_groups(scenes)) == ["s0+s1", "s2", "s3"]
    places = ScenePlaces(scenes, SplitConfig())
    by_name = {ground.split()[0]: side for ground, side in places.sides.items()}
    assert by_name["s0"] == by_name["s1"] and set(by_name.values()) == {"train", "val", "test"}


def windows(scene: Scene, px: int) -> np.ndarray:
    return np.array(
        [
            (r, c, min(px, scene.height - r), min(px, scene.width - c))
            for r in range(0, scene.height, px)
            for c in range(0, scene.width, px)
        ]
    )


def blocks(scenes: list[Scene], **options) -> BlockPlaces:
    lonlat = np.column_stack(to_lonlat(scenes[0].crs, np.array([WEST + 500.0]), np.array([NORTH - 500.0])))
    return BlockPlaces(scenes, lonlat, SplitConfig(by=SplitBy.block, **options))


@pytest.mark.parametrize("buffer_m", [0.0, 300.0])
def test_a_tiles_side_is_that_of_all_its_pixels(tmp_path: Path, buffer_m: float) -> None:
    """Against brute force: the block of every pixel centre, and of every pixel centre within the buffer."""
    one = scene(tmp_path, "s", width=1024, height=768)
    places = blocks([one], block_m=2000.0, buffer_m=buffer_m, val=0.3, test=0.3)
    x, y = one.xy(np.arange(1024) + 0.5, np.full(1024, 0.5))[0], one.xy(np.full(768, 0.5), np.arange(768) + 0.5)[1]
    code = {"train": 1, "val": 2, "test": 3}
    side_of_pixel = np.array(
        [[code[places.sides[f"utm45/2000m/{int(a // 2000)}/{int(b // 2000)}"]] for a in x] for b in y]
    )
    reach = int(buffer_m / 10)
    for px in (64, 128, 256):
        cut = windows(one, px)
        for (row, col, height, width), (block, side) in zip(
            cut.tolist(), places.of(one, cut, places.sides), strict=True
        ):
            east, north = (float(v[0]) for v in one.xy(np.array([col + width / 2]), np.array([row + height / 2])))
            near = [(east + dx, north + dy) for dx in (-0.1, 0.1) for dy in (-0.1, 0.1)]  # a middle may lie on a line
            assert block in {f"utm45/2000m/{int(e // 2000)}/{int(n // 2000)}" for e, n in near}
            rows = slice(max(row - reach, 0), row + height + reach)
            met = set(np.unique(side_of_pixel[rows, max(col - reach, 0) : col + width + reach]).tolist())
            if side is not None:
                assert met == {code[side]}
            else:
                # left out although one-sided: only where ground beyond the scene's edge, in a block it knows, is met
                edge = row < reach or col < reach or row + height + reach > 768 or col + width + reach > 1024
                assert len(met) > 1 or edge


@pytest.mark.parametrize("epsg", [32644, 32646])
def test_ground_askew_to_the_grid_is_on_one_side_with_all_its_corners(tmp_path: Path, epsg: int) -> None:
    """The same in the UTM of the zones beside, whose axes are turned by some degrees, one way and the other."""
    west, north = pyproj.Transformer.from_crs(32645, epsg, always_xy=True).transform(WEST, NORTH)
    one = scene(tmp_path, "s", width=1024, height=768, west=west, north=north, crs=f"EPSG:{epsg}")
    places = blocks([one], block_m=2000.0, val=0.3, test=0.3)
    col, row = (grid.ravel() + 0.5 for grid in np.meshgrid(np.arange(1024), np.arange(768)))
    x, y = pyproj.Transformer.from_crs(epsg, 32645, always_xy=True).transform(*one.xy(col, row))
    cell, at = np.unique(np.column_stack([x // 2000, y // 2000]).astype(int), axis=0, return_inverse=True)
    side_of_pixel = np.array([places.sides[f"utm45/2000m/{i}/{j}"] for i, j in cell])[at.ravel()].reshape(768, 1024)
    cut = windows(one, 64)
    sides = [side for _, side in places.of(one, cut, places.sides)]
    for (top, left, height, width), side in zip(cut.tolist(), sides, strict=True):
        met = set(np.unique(side_of_pixel[top : top + height, left : left + width]).tolist())
        assert side is None or met == {side}
    assert len(cut) / 3 < sum(side is not None for side in sides) < len(cut)


def test_a_place_has_one_block_whatever_the_scene_or_its_crs(tmp_path: Path) -> None:
    """The same ground seen by a scene in UTM, one in degrees, and one in the neighbouring zone's UTM."""
    here = scene(tmp_path, "utm", width=64, height=64, gsd_m=100.0)
    lon, lat = to_lonlat(here.crs, *here.xy(np.array([32.0]), np.array([32.0])))
    degrees = scene(
        tmp_path, "deg", width=8, height=8, gsd_m=1e-4, west=lon[0] - 4e-4, north=lat[0] + 4e-4, crs="EPSG:4326"
    )
    places = blocks([here, degrees], block_m=500.0)
    a = places.of(here, np.array([[31, 31, 2, 2]]), places.sides)[0][0]
    b = places.of(degrees, np.array([[0, 0, 8, 8]]), places.sides)[0][0]
    assert a == b


def test_scenes_in_degrees_know_their_metres(tmp_path: Path) -> None:
    one = scene(tmp_path, "deg", gsd_m=1e-4, west=86.9, north=28.0, crs="EPSG:4326")
    assert one.metric_crs.to_epsg() == 32645
    # a ten-thousandth of a degree at 28 N is 11.08 m by 9.84 m
    assert one.gsd_m == pytest.approx((11.08 * 9.84) ** 0.5, rel=2e-3)
    mercator = scene(tmp_path, "web", gsd_m=10.0, west=9.67e6, north=3.25e6, crs="EPSG:3857")
    assert mercator.metric_crs.to_epsg() == 32645
    assert mercator.gsd_m == pytest.approx(10 * np.cos(np.radians(28.0)), rel=5e-3)


def test_blocks_of_a_centimetre_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"block_m=0\.01 divides scene a into 6\.\de\+09 blocks: give metres, some four"
    ):
        blocks([scene(tmp_path / "a.tif", "a")], block_m=0.01)


def test_ground_of_no_block_has_no_side(tmp_path: Path) -> None:
    met = scene(tmp_path / "a.tif", "a")
    assert {side for _, side in blocks([met], block_m=200.0).of(met, windows(met, 16), {})} == {None}


def test_frozen_split_is_taken_again_and_checked(tmp_path: Path) -> None:
    split = splits.Split(rule={"by": "scene"}, sides={"a": "train", "b": "val"})
    path = tmp_path / "split.json"
    splits.freeze(path, split)
    other = splits.Split(rule={"by": "scene"}, sides={"a": "val", "b": "train"})
    assert splits.freeze(path, other).sides == split.sides
    with pytest.raises(DataError, match="other ground"):
        splits.freeze(path, splits.Split(rule={}, sides={"c": "train"}))
    content = json.loads(path.read_text())
    content["ground"][0][1] = "test"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="changed since it was frozen"):
        splits.load(path)
    path.write_text("{")
    with pytest.raises(DataError, match="cannot be read as a split"):
        splits.load(path)


def test_hash_is_of_ground_and_side() -> None:
    one = splits.Split(rule={"x": 1}, sides={"a": "train", "b": "val"})
    assert one.hash == splits.Split(rule={}, sides={"b": "val", "a": "train"}).hash
    assert one.hash != splits.Split(rule={}, sides={"a": "val", "b": "train"}).hash


def test_lake_helper_lies_in_the_scene() -> None:
    assert lake(10, 20, 5).bounds == (WEST + 5, NORTH - 25, WEST + 15, NORTH - 15)


@pytest.mark.parametrize("first", ["west", "east"])
def test_scenes_that_overlap_at_180_degrees_stay_together(tmp_path: Path, first: str) -> None:
    """One scene crosses the line, the other begins east of it: by their longitudes they are 360 degrees apart."""
    degrees = {"west": (179.99, 66.0, "EPSG:32660"), "east": (-179.98, 66.0, "EPSG:32601")}
    scenes = []
    for name in sorted(degrees, key=lambda name: name != first):
        lon, lat, crs = degrees[name]
        x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
        scenes.append(scene(tmp_path / f"{name}.tif", name, west=x, north=y, crs=crs, width=240, height=64))
    assert list(splits.scene_groups(scenes)) == ["+".join(s.name for s in scenes)]


def _one_by_one(units: list[Unit], config: SplitConfig) -> dict[str, str]:
    """The rule as it is told: of what is left, the region with fewest held out first, then the order of the hash."""
    chosen: dict[str, str] = {}
    regions = Counter(unit.region for unit in units)
    for stratum in sorted({unit.stratum for unit in units}):
        members = [unit for unit in units if unit.stratum == stratum]
        for side, share in (("test", config.test), ("val", config.val)):
            for _ in range(round(share * len(members))):
                same = Counter(unit.region for unit in units if chosen.get(unit.key) == side)
                out = Counter(unit.region for unit in units if unit.key in chosen)

                def rank(
                    unit: Unit, same: Counter[str] = same, out: Counter[str] = out, side: str = side
                ) -> tuple[float, float, str]:
                    word = hashlib.sha256(f"{config.seed}/{side}/{unit.key}".encode()).hexdigest()
                    return same[unit.region] / regions[unit.region], out[unit.region] / regions[unit.region], word

                chosen[min((unit for unit in members if unit.key not in chosen), key=rank).key] = side
    return {unit.key: chosen.get(unit.key, "train") for unit in units}


def test_tens_of_thousands_of_units_are_shared_out_by_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unit was hashed once for each that left: 80 million times for a folder of 18,000 loose tiles."""
    rng = np.random.default_rng(0)
    units = [Unit(f"u{i}", str(rng.choice(["s", "l"])), str(rng.choice(["x", "y", "x+y"]))) for i in range(240)]
    config = SplitConfig(val=0.15, test=0.2, seed=3)
    assert splits.choose(units, config) == _one_by_one(units, config)
    hashed = 0

    def counted(data: bytes) -> Any:
        nonlocal hashed
        hashed += 1
        return hashlib.sha256(data)

    monkeypatch.setattr(splits, "hashlib", SimpleNamespace(sha256=counted))
    for many in (500, 1000):
        hashed = 0
        splits.choose([Unit(f"u{i}", "", "unknown") for i in range(many)], config)
        assert hashed <= 2 * many
