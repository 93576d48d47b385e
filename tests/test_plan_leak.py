"""A leak between source and target is told by the plan: nothing is trained. And so is a side that has nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from glidexp import door
from glidexp.config import Config, DatasetConfig, DatasetKind, InitKind, SyntheticConfig, ValFrom
from glidexp.config.study import Design, StudyConfig
from glidexp.config.transfer import By, TransferConfig
from glidexp.data.check import met as met_module
from glidexp.data.writer import StoreWriter
from glidexp.errors import ConfigError, LeakError
from glidexp.study.execution.cells import Plan
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.check import Checked
from glidexp.study.plan.data import Data
from glidexp.study.plan.leak import refuse_leaks
from glidexp.study.plan.making import make_plan
from glidexp.study.plan.sides import refuse_bare
from glidexp.study.plan.words import split

PX = 64
Picture = np.ndarray
Tile = tuple[str, str, str, Picture]
"""scene, region, side, (64, 64, 3)"""


def picture(seed: int) -> Picture:
    """Ground with structure of its own, coarse and fine."""
    random = np.random.default_rng(seed)
    coarse, fine = (ndimage.gaussian_filter(random.normal(size=(PX, PX)), sigma) * sigma for sigma in (6.0, 1.0))
    grey = 120 + 120 * coarse + 25 * fine
    return np.clip(grey[..., None] * (1, 0.95, 0.9), 0, 255).astype(np.uint8)


def tiles(leaking: Picture | None = None, *, of: str = "andes") -> list[Tile]:
    """Two regions, three scenes a side each; `leaking` lies among the test scenes of greenland."""
    found: list[Tile] = []
    for number, region in enumerate(("andes", "greenland")):
        for place, side in enumerate(("train", "train", "val", "test")):
            found += [(f"{region}{place}", region, side, picture(100 * number + 10 * place + k)) for k in range(3)]
    if leaking is not None:
        found.append(("elsewhere", "greenland", "test", leaking))
    return found


def write(folder: Path, content: list[Tile]) -> Path:
    """A store of ready tiles, each with a lake, whose scenes lie nowhere on the map."""
    with StoreWriter(folder, tile_px=PX, bands=("red", "green", "blue")) as writer:
        label = np.zeros((PX, PX), np.uint8)
        label[10:30, 10:30] = 1
        for number, (scene, region, side, image) in enumerate(content):
            record: dict[str, Any] = {"tile": f"t{number}", "scene": scene, "region": region, "split": side}
            record |= {"row": 64 * number, "col": 0, "crs": "", "sensor": "landsat8", "gsd_m": 30.0, "block": scene}
            writer.add(image, label, record | {"transform": None})
        about = {"recipe": {"made for": str(folder)}, "recipe_id": "r", "split_hash": str(folder), "counts": {}}
        writer.close(about | {"sensors": {"landsat8": {}}, "dropped": {}})
    return folder


WORDS = [
    "dataset=store", "tile_size.px=64", "backbone=mobilenetv3", "decoder=fcn", "train.batch_size=2",
    "train.precision=fp32", "train.compile=off",
]  # fmt: skip


def planned(place: Path, root: Path, *more: str) -> Plan:
    """The plan of a matrix of both regions."""
    own = ["study=transfer_region", "study.transfer.together=false", "study.seeds=[0,1]"]
    typed = split([*WORDS, f"dataset.root={root}", f"paths.data={place}", f"paths.mlruns={place / 'm'}", *own, *more])
    return make_plan(door.compose_sweep(list(typed.own)).study, typed, door.compose).plan


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Composed once: of settings that a test varies a copy is enough."""
    place = tmp_path_factory.mktemp("data")
    return door.compose([*WORDS, f"dataset.root={write(place / 'composed', tiles())}", f"paths.data={place}"])


def arm(base: Config, name: str, root: Path, *regions: str, start: str | None = None) -> Checked:
    subset = replace(base.subset, regions=list(regions) or ["all"], val_from=ValFrom.source)
    init = replace(base.init, kind=InitKind.run, run=f"arm:{start}") if start else base.init
    config = replace(base, dataset=replace(base.dataset, root=str(root)), subset=subset, init=init)
    return Checked(Arm(name, ()), (), config)


def leaks(*arms: Checked) -> tuple[str, ...]:
    return refuse_leaks(arms, [0, 1], Data(), transfer=True)


def turned(image: Picture) -> Picture:
    """A near-duplicate: on its side and brighter."""
    return np.clip(np.rot90(image).astype(float) * 1.1 + 5, 0, 255).astype(np.uint8)


def test_the_plan_refuses_a_scene_of_the_source_among_the_targets_test_scenes(tmp_path: Path) -> None:
    """Under another name, in another region, on the other side, turned: the split cannot know."""
    root = write(tmp_path / "store", tiles(turned(picture(1))))
    with pytest.raises(LeakError, match=r"andes: 1 of 7 .* \(greenland: scene elsewhere\) .* scene andes0\)"):
        planned(tmp_path, root)
    assert not (tmp_path / "m").exists()
    plan = planned(tmp_path, root, "allow_leak=true")
    (told,) = plan.leaks
    assert told.startswith("andes: 1 of 7 tiles"), "greenland alone does not train on it"
    assert Plan.from_json(plan.to_json()) == plan


def test_data_without_leak_is_looked_at_once(base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "store", tiles())
    assert leaks(arm(base, "all", root)) == ()

    def refused(*_: object) -> None:
        raise AssertionError("looked at again")

    monkeypatch.setattr(met_module, "look_at", refused)
    assert leaks(arm(base, "all", root)) == ()


def test_what_chose_the_threshold_leaks_too_and_what_no_arm_uses_does_not(base: Config, tmp_path: Path) -> None:
    val = write(tmp_path / "val", tiles(picture(20)))
    source, target = (arm(base, name, val, name) for name in ("andes", "greenland"))
    with pytest.raises(LeakError, match=r"andes: .* trains on or chooses by \(andes: scene andes2\)"):
        leaks(target, source)
    assert leaks(target) == ()
    train = write(tmp_path / "train", tiles(picture(1)))
    allowed = replace(arm(base, "a", train), config=replace(arm(base, "a", train).config, allow_leak=True))
    assert len(leaks(allowed, replace(allowed, scoring=("eval.adapt=normalise",)))) == 1, "one training, told once"


def test_an_arm_that_starts_from_one_of_another_data_set(base: Config, tmp_path: Path) -> None:
    """What the first has trained on is the second's test ground."""
    again = [("b0", "andes", "train", picture(30)), ("b0", "andes", "train", picture(31))]
    before, root = write(tmp_path / "before", again + tiles()[12:]), write(tmp_path / "store", tiles())
    source, target = arm(base, "source", before), arm(base, "target", root, start="source")
    with pytest.raises(LeakError, match=r"target: 2 of 6 tiles .* \(2 trained on; scene andes3; by arm source\)"):
        leaks(target, source)
    assert leaks(target, arm(base, "source", root)) == ()


def index(**scenes: str) -> pd.DataFrame:
    """A tile with lake a scene: region=sides, such as andes="train train val test"."""
    rows = [
        {"region": region, "sensor": "landsat8", "split": side, "scene": f"{region}{place}", "lake_fraction": 0.1}
        for region, sides in scenes.items()
        for place, side in enumerate(sides.split())
    ]
    return pd.DataFrame(rows)


STORED = DatasetConfig(kind=DatasetKind.folder, root="x")


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        ({"alaska": "train val"}, r"region alaska has no test tile \(scenes: 1 train, 1 val, 0 test\), .*larger"),
        ({"alaska": "train test"}, "region alaska has no val tile"),
        ({"alaska": "val test"}, "region alaska has no train tile"),
    ],
)
def test_a_region_without_a_side(sides: dict[str, str], says: str) -> None:
    there = index(andes="train train val test", **sides)
    for study in (
        StudyConfig(design=Design.matrix),
        StudyConfig(design=Design.ladder, transfer=TransferConfig(target="alaska", sources=["andes"])),
    ):
        with pytest.raises(ConfigError, match=says):
            refuse_bare(study, STORED, there)
    refuse_bare(StudyConfig(design=Design.matrix, transfer=TransferConfig(sources=["andes"])), STORED, there)


def test_a_region_without_lake_or_without_any_tile() -> None:
    there = index(andes="train val test", alaska="train val test")
    there.loc[there["scene"] == "alaska2", "lake_fraction"] = 0.0
    with pytest.raises(ConfigError, match="region alaska has no test tile with a lake"):
        refuse_bare(StudyConfig(design=Design.matrix), STORED, there)
    promised = DatasetConfig(synthetic=SyntheticConfig(regions=["andes", "greenland"]))
    with pytest.raises(ConfigError, match=r"region greenland has no train tile \(scenes: 0 train, 0 val, 0 test\)"):
        refuse_bare(StudyConfig(design=Design.matrix), promised, index(andes="train val test"))
    by_sensor = StudyConfig(design=Design.matrix, transfer=TransferConfig(by=By.sensor, sources=["sentinel2"]))
    with pytest.raises(ConfigError, match="sensor sentinel2 has no train tile"):
        refuse_bare(by_sensor, STORED, there)
