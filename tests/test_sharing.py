"""Splits by region, in folds, with a sensor or region left out, and at random: the last one never without its mark."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from test_archive import PX, write_pairs
from tiny_scenes import NORTH, WEST, lake, world, write_polygons, write_scene

from glidexp.config import Config, DatasetConfig, DatasetKind, SplitBy, SplitConfig
from glidexp.data import leakage, splits
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.splits import Unit
from glidexp.data.store import TileStore
from glidexp.data.verbs.verb_build import train_line
from glidexp.errors import ConfigError, DataError, LeakError
from glidexp.models import lineage
from glidexp.training.check import check


def units(n: int, sensors: str = "ab", regions: str = "xyz") -> list[Unit]:
    return [
        Unit(f"u{i}", sensors[i % len(sensors)], region, frozenset((sensors[i % len(sensors)], region)))
        for i in range(n)
        for region in (regions[i % len(regions)],)
    ]


def test_each_unit_is_test_in_one_fold_and_val_in_another() -> None:
    ground = units(17)
    sides = [splits.choose(ground, SplitConfig(folds=5, fold=fold)) for fold in range(5)]
    for unit in ground:
        assert Counter(by_key[unit.key] for by_key in sides) == {"test": 1, "val": 1, "train": 3}
    for fold, by_key in enumerate(sides):
        counts = Counter(by_key.values())
        assert counts["test"] in (3, 4) and counts["val"] in (3, 4)
        assert {key for key, side in by_key.items() if side == "val"} == {
            key for key, side in sides[(fold + 1) % 5].items() if side == "test"
        }
        for sensor in "ab":  # 9 and 8 units to 5 folds
            held = [u for u in ground if u.stratum == sensor and by_key[u.key] == "test"]
            assert 1 <= len(held) <= 2
    assert (
        splits.choose(ground[::-1], SplitConfig(folds=5))
        == sides[0]
        != splits.choose(ground, SplitConfig(folds=5, seed=1))
    )
    assert set(splits.choose(ground, SplitConfig(folds=2, val=0.0)).values()) == {"train", "test"}
    with pytest.raises(DataError, match=r"4 scenes of ground cannot be dealt out to dataset\.split\.folds=5"):
        splits.choose(units(4), SplitConfig(folds=5))


def test_what_is_left_out_is_the_test_side() -> None:
    ground = units(12)
    for name in ("a", "y"):
        sides = splits.choose(ground, SplitConfig(leave_out=name, val=0.2, test=0.5))
        assert {key for key, side in sides.items() if side == "test"} == {u.key for u in ground if name in u.names}
        assert set(sides.values()) == {"train", "val", "test"}
    with pytest.raises(ConfigError, match=r"leave_out=q is no sensor or region of this data set: it has a, b, x, y, z"):
        splits.choose(ground, SplitConfig(leave_out="q"))
    with pytest.raises(ConfigError, match="leave_out=a leaves nothing to train on"):
        splits.choose(units(4, sensors="a"), SplitConfig(leave_out="a"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"folds": 2}, r"folds=2 and dataset\.split\.fold=0: folds must be 0 or 3 and more"),
        ({"folds": 5, "fold": 5}, "fold=5"),
        ({"folds": 5, "leave_out": "a"}, "only one can be had"),
        ({"by": SplitBy.random, "leave_out": "a"}, "only one can be had"),
    ],
)
def test_settings_that_cannot_be(settings: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SplitConfig(**settings)


def test_earlier_recipes_hold(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    plain = recipe_id(dataset, 32)
    assert recipe_id(replace(dataset, split=replace(dataset.split, leave_out=None, folds=0, fold=0)), 32) == plain
    for change in ({"leave_out": "north"}, {"folds": 4}, {"by": SplitBy.region}, {"by": SplitBy.random}):
        assert recipe_id(replace(dataset, split=replace(dataset.split, **change)), 32) != plain


@pytest.fixture
def two_sensors(tmp_path: Path) -> DatasetConfig:
    """Four places in three regions; of the first two also a Landsat scene, which lies over the Sentinel one."""
    lakes, lines = [], ["path,scene,sensor,region"]
    for i, region in enumerate(("andes", "andes", "alaska", "himalaya")):
        write_scene(tmp_path / f"s{i}.tif", west=WEST + i * 20_000, seed=i)
        lines.append(f"s{i}.tif,s{i},sentinel2,{region}")
        if i < 2:
            write_scene(tmp_path / f"l{i}.tif", west=WEST + i * 20_000, north=NORTH, width=32, height=22, gsd_m=30.0)
            lines.append(f"l{i}.tif,l{i},landsat8,{region}")
        lakes += [lake(i * 20_000 + x, y, 60.0) for x, y in ((150, 150), (420, 330), (800, 500))]
    (tmp_path / "scenes.csv").write_text("\n".join(lines) + "\n")
    write_polygons(tmp_path / "lakes.gpkg", lakes)
    split = SplitConfig(val=0.3, test=0.3)
    root, lakes_file = str(tmp_path / "scenes.csv"), str(tmp_path / "lakes.gpkg")
    return DatasetConfig(kind=DatasetKind.scenes, root=root, lakes=lakes_file, buffer_m=0.0, split=split)


def built(dataset: DatasetConfig, tmp_path: Path, px: int = 32, **split: object) -> TileStore:
    changed = replace(dataset, split=replace(dataset.split, **split))
    return prepare(changed, px, tmp_path / "data", progress=False)


@pytest.mark.parametrize("by", [SplitBy.scene, SplitBy.block])
def test_leave_one_sensor_out_tests_that_sensor_alone(two_sensors: DatasetConfig, tmp_path: Path, by: SplitBy) -> None:
    """Sentinel tiles under the Landsat scenes neither train nor test: they show the same ground."""
    store = built(two_sensors, tmp_path, leave_out="landsat8", by=by)
    sides = store.index.groupby("split")["sensor"].unique().map(set).to_dict()
    assert sides == {"test": {"landsat8"}, "train": {"sentinel2"}, "val": {"sentinel2"}}
    assert set(store.index["scene"]) == {"l0", "l1", "s2", "s3"}
    assert store.manifest["dropped"]["tiles_on_divided_ground"] >= 4
    assert store.manifest["split_rule"]["leave_out"] == "landsat8"


def test_regions_are_not_divided(two_sensors: DatasetConfig, tmp_path: Path) -> None:
    store = built(two_sensors, tmp_path, by=SplitBy.region)
    assert store.index.groupby("region")["split"].nunique().tolist() == [1, 1, 1]
    assert set(store.index["split"]) == {"train", "val", "test"}
    assert store.split_hash == built(two_sensors, tmp_path, px=64, by=SplitBy.region).split_hash
    left_out = built(two_sensors, tmp_path, leave_out="himalaya")
    assert set(left_out.index.loc[left_out.index["split"] == "test", "region"]) == {"himalaya"}
    (tmp_path / "scenes.csv").write_text("path\ns0.tif\ns1.tif\ns2.tif\n")
    with pytest.raises(DataError, match=r"1 region of ground cannot be shared out .* name more regions"):
        built(two_sensors, tmp_path, by=SplitBy.region)


def test_a_random_split_is_marked_or_refused(two_sensors: DatasetConfig, tmp_path: Path) -> None:
    store = built(two_sensors, tmp_path, px=16, by=SplitBy.random)
    assert store.index.groupby("scene")["split"].nunique().max() > 1
    assert store.manifest["split_rule"]["by"] == "random"
    assert store.split_hash != built(two_sensors, tmp_path, px=32, by=SplitBy.random, seed=3).split_hash
    rows, no_past = store.rows("test"), lineage.Lineage()
    with pytest.raises(LeakError, match=r"drawn at random .*set allow_leak=true, which marks the scores as leaking"):
        lineage.refuse_leak(no_past, store, rows, allow=False, trains=True)
    leak = lineage.refuse_leak(no_past, store, rows, allow=True, trains=True)
    assert lineage.marks(no_past, leak) == (
        {"glidexp.leak": "true"},
        {"test/leak/tiles": float(len(rows)), "test/leak/share": 1.0},
    )
    own = leakage.join([leakage.ground_of(store, store.rows("train"), "train")])
    assert leakage.find_leak(own, store, rows).tiles.all()
    fair = built(two_sensors, tmp_path, px=16)
    assert lineage.marks(no_past, lineage.refuse_leak(no_past, fair, fair.rows("test"), allow=False, trains=True)) == (
        {},
        {},
    )
    few = built(two_sensors, tmp_path, px=64)
    assert len(few.rows("train")) == 6 and train_line(["a=1"], few).endswith(" a=1 train.batch_size=6")
    assert train_line(["a=1"], store).endswith(" a=1 allow_leak=true")
    config = Config(dataset=replace(two_sensors, split=replace(two_sensors.split, by=SplitBy.random)))
    with pytest.raises(ConfigError, match=r"by=random puts neighbours of each test tile into train"):
        check(config)


def test_ready_tiles_by_sensor_and_in_folds(tmp_path: Path) -> None:
    """A table says where tiles come from; tile 12, of the other sensor, is a copy of one that is left out."""
    write_pairs(tmp_path / "tiles", range(1, 13), [*range(1, 12), 2])
    lines = ["tile,scene,sensor,region"]
    lines += [f"{n},scene{n},{'landsat8' if n in (2, 5) else 'sentinel2'},andes" for n in range(1, 13)]
    (tmp_path / "tiles.csv").write_text("\n".join(lines) + "\n")
    root, table = str(tmp_path / "tiles"), str(tmp_path / "tiles.csv")
    dataset = DatasetConfig(kind=DatasetKind.folder, root=root, manifest=table)
    store = built(dataset, tmp_path, px=PX, leave_out="landsat8")
    tests = store.index.loc[store.index["split"] == "test", "tile"]
    assert set(tests) == {"2", "5"} and "12" not in set(store.index["tile"])
    assert store.manifest["dropped"]["tiles_on_divided_ground"] == 1
    met: Counter[str] = Counter()
    for fold in range(3):
        index = built(dataset, tmp_path, px=PX, folds=3, fold=fold).index
        met.update(index.loc[index["split"] == "test", "tile"])
    assert met == {str(n): 1 for n in range(1, 13)}
    with pytest.raises(ConfigError, match=r"by=region needs positions, which ready tiles lack: use scene"):
        built(dataset, tmp_path, px=PX, by=SplitBy.region)
    glid = tmp_path / "glid"
    write_pairs(glid / "GLID", range(1, 4))
    write_pairs(glid / "val", range(1, 3))
    with pytest.raises(ConfigError, match=r"folds=3, .*the published val is the test set of dataset=glid"):
        built(DatasetConfig(kind=DatasetKind.glid, root=str(glid)), tmp_path, px=PX, folds=3)
