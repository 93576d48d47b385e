"""Land cover of several classes: read, learnt and scored, and the encoder carried over to lakes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import small_config, undrawn

from glidexp.config import Config, DatasetConfig, DatasetKind
from glidexp.config.data import SplitConfig
from glidexp.data.builder.making import generated
from glidexp.data.leakage import from_bytes
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.ready.class_maps import read_labels, read_table
from glidexp.data.store import INVALID, LAKE, TileStore
from glidexp.data.synthetic import CLASSES, read_classes
from glidexp.errors import ConfigError, DataError, LeakError
from glidexp.models.card import GROUND, read_card
from glidexp.models.export import load_bundle
from glidexp.models.init import read_safetensors
from glidexp.models.load import find
from glidexp.scoring.land_cover import class_iou, class_scores, confusion_of
from glidexp.tracking.store import Store, open_store
from glidexp.training.check import check
from glidexp.training.losses import build_loss
from glidexp.training.record import Outcome
from glidexp.training.run import run

COVER = [
    "dataset=land_cover_synthetic", "dataset.buffer_m=0", "loss=cross_entropy", "train.select=val/miou_pooled",
]  # fmt: skip
WORLD = [
    "dataset.synthetic.sensors=[landsat8]", "dataset.synthetic.scenes_per_sensor=4", "dataset.synthetic.scene_px=192",
    "dataset.split.val=0.25", "dataset.split.test=0.25", "tracking.log_masks=false", "tracking.probe_tiles=0",
    "train.epochs=1",
]  # fmt: skip
TABLE = "name,red,green,blue\nwater,0,0,255\nforest,0,255,255\n,0,0,0\nForest,0,200,0\n"


# --- scores and loss ---


def test_scores_of_hand() -> None:
    """3 classes on 6 pixels, one of them not valid: IoU 1/2, 2/3, and a third class that is nowhere."""
    label = torch.tensor([[[0, 0, 1], [1, 1, 255]]], dtype=torch.uint8)
    told = torch.tensor([[[0, 1, 1], [1, 0, 2]]])
    logits = torch.nn.functional.one_hot(told, 3).permute(0, 3, 1, 2).float()
    counted = confusion_of(logits, label).numpy()
    assert counted.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert np.allclose(class_iou(counted), [1 / 3, 2 / 4, np.nan], equal_nan=True)
    scores = class_scores(counted, ["a", "b", "c"], "test")
    assert scores["test/miou_pooled"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert scores["test/miou_classes"] == 2
    assert scores["test/accuracy_pooled"] == pytest.approx(3 / 5)
    assert "test/class/c/iou_pooled" not in scores and scores["test/class/c/px"] == 0


def test_a_split_without_a_valid_pixel_has_no_mean() -> None:
    scores = class_scores(np.zeros((2, 2), dtype=np.int64), ["a", "b"], "val")
    assert "val/miou_pooled" not in scores and "val/accuracy_pooled" not in scores


def test_cross_entropy_counts_valid_pixels_alone() -> None:
    torch.manual_seed(0)
    config = small_config(Path("d"), Path("m"), *COVER)
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    mask, valid = torch.randint(0, 4, (2, 1, 3, 3)).float(), torch.ones(2, 1, 3, 3)
    valid[0, 0, 0] = 0
    loss = build_loss(config.loss)(logits, mask, valid)
    picked = logits.log_softmax(1).gather(1, mask.long())[valid > 0]
    assert loss.item() == pytest.approx(-picked.mean().item(), rel=1e-6)
    loss.backward()
    assert logits.grad is not None and not logits.grad[0, :, 0].any()


# --- class maps of files ---


def written(folder: Path, table: str = TABLE) -> Path:
    (folder / "classes.csv").write_text(table)
    return folder / "classes.csv"


def test_a_map_of_colours_is_read_by_its_table(tmp_path: Path) -> None:
    table = read_table(written(tmp_path))
    assert table.names == ("water", "forest") and table.coloured
    pixels = np.array([[[0, 0, 255], [0, 255, 255]], [[0, 200, 0], [0, 0, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "map.tif")
    assert read_labels(tmp_path / "map.tif", table).tolist() == [[0, 1], [1, INVALID]]
    Image.fromarray(pixels).quantize(4).save(tmp_path / "palette.png")
    assert read_labels(tmp_path / "palette.png", table).tolist() == [[0, 1], [1, INVALID]]


def test_a_map_of_values_is_read_by_its_table(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "value,name\n7,water\n9,bare rock\n0,\n"))
    Image.fromarray(np.array([[7, 9], [0, 7]], dtype=np.uint8)).save(tmp_path / "map.png")
    assert table.names == ("water", "bare_rock")
    assert read_labels(tmp_path / "map.png", table).tolist() == [[0, 1], [INVALID, 0]]
    Image.fromarray(np.array([[7, 8], [0, 7]], dtype=np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(DataError, match=r"other\.png holds the value 8, which dataset\.classes does not name"):
        read_labels(tmp_path / "other.png", table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,colour\nwater,1\n", "columns name and value, or name, red, green and blue"),
        ("name,value\nwater,1\n", "names 1 class: "),
        ("name,value\nwater,1\nrock,1\n", "line 3: 1 stands there twice"),
        ("name,value\nwater,1\nrock,300\n", "line 3: value must be whole numbers from 0 to 255"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_table(written(tmp_path, text))


def test_folders_of_images_and_class_maps_become_a_store(tmp_path: Path) -> None:
    """Two tiles a picture; the strip beyond the grid and a tile without classes are left out."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / "set" / part).mkdir(parents=True)
    colours = np.array([[0, 0, 255], [0, 255, 255]], dtype=np.uint8)
    maps = {}
    for n in range(6):
        maps[n] = rng.integers(0, 2, (40, 70))
        drawn = colours[maps[n]]
        if n == 0:
            drawn[:32, 32:64] = 0  # of no known class
        Image.fromarray(rng.integers(0, 255, (40, 70, 3), dtype=np.uint8)).save(tmp_path / f"set/images/gid{n}.png")
        Image.fromarray(drawn).save(tmp_path / f"set/labels/gid{n}.png")
    dataset = DatasetConfig(
        kind=DatasetKind.folder, root=str(tmp_path / "set"), classes=str(written(tmp_path)),
        split=SplitConfig(val=0.2, test=0.2),
    )  # fmt: skip
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert store.classes == ["water", "forest"] and len(store) == 11
    assert store.manifest["dropped"] == {"tiles_without_class": 1}
    for place, tile in enumerate(store.index.to_dict("records")):
        name, row, col = tile["tile"].rsplit("_", 2)
        part = maps[int(name.removeprefix("gid"))][int(row) : int(row) + 32, int(col) : int(col) + 32]
        assert np.array_equal(store.labels[place], part)
    with pytest.raises(DataError, match="holds labels of land cover"):
        TileStore.open(store.path)
    before = recipe_id(dataset, 32)
    written(tmp_path, TABLE + "river,0,0,200\n")
    assert recipe_id(dataset, 32) != before


def test_generated_land_cover_is_built_once_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_config(tmp_path / "data", tmp_path / "mlruns", *COVER, *WORLD)
    with caplog.at_level("INFO", logger="glidexp"):
        store = prepare(config.dataset, config.tile_size.px, tmp_path / "data", progress=False)
    built = [line for line in caplog.messages if line.startswith("built ")]
    assert len(built) == 1 and built[0].startswith(f"built {len(store)} tiles")
    assert len([line for line in caplog.messages if line.startswith(("lakes: ", "left out: "))]) <= 2
    (said,) = [line for line in caplog.messages if "land cover" in line]
    assert said == f"the same {len(store)} tiles with land cover in place of lakes: {', '.join(store.classes)}"


# --- settings ---


def test_what_does_not_go_together_is_refused() -> None:
    def checked(*words: str) -> None:
        check(small_config(Path("d"), Path("m"), *words))

    checked(*COVER)
    with pytest.raises(ConfigError, match="learnt with loss=cross_entropy"):
        checked(*COVER, "loss=bce_dice")
    with pytest.raises(ConfigError, match="for lakes give loss=bce_dice"):
        checked("loss=cross_entropy")
    with pytest.raises(ConfigError, match=r"train\.select=val/lake_iou_pooled is of lakes"):
        checked(*COVER, "train.select=val/lake_iou_pooled")
    with pytest.raises(ConfigError, match=r"loss\.cross_entropy=1 is of land cover"):
        checked(*COVER, "loss.bce=1")
    with pytest.raises(ConfigError, match=r"dataset\.classes=x\.csv: for dataset\.kind=synthetic it must be generated"):
        checked("dataset.classes=x.csv")
    with pytest.raises(ConfigError, match=r"train\.tta=flips: on land cover"):
        checked(*COVER, "train.tta=flips")
    with pytest.raises(DataError, match=r"dataset\.classes=gone\.csv is not there"):
        checked(*COVER, "dataset=land_cover", "dataset.root=.", "dataset.classes=gone.csv")


# --- two stages ---


@dataclass(frozen=True)
class Stages:
    place: Path
    store: Store
    first: Outcome

    def config(self, *words: str) -> Config:
        return small_config(self.place / "data", self.place / "mlruns", *WORLD, *words)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    place = tmp_path_factory.mktemp("stages")
    store = open_store(f"sqlite:///{place / 'mlruns' / 'mlflow.db'}", place / "mlruns")
    config = small_config(place / "data", place / "mlruns", *COVER, *WORLD)
    with undrawn():
        yield Stages(place, store, run(config, choices={}))


@pytest.mark.slow
def test_generated_labels_are_the_classes_of_the_same_tiles(stages: Stages) -> None:
    cover = stages.config(*COVER)
    data = stages.place / "data"
    store = prepare(cover.dataset, 64, data)
    lakes = prepare(stages.config("dataset.buffer_m=0", "dataset.empty_share=1000").dataset, 64, data)
    assert np.array_equal(store.images, lakes.images) and store.split_hash == lakes.split_hash
    names = np.array([*store.classes, *[""] * 244])
    scenes = generated(cover.dataset, data, progress=False)
    codes = {code: name for name, code in CLASSES.items()}
    agree = total = 0
    for place, tile in enumerate(store.index.to_dict("records")):
        label, lake = store.labels[place], lakes.labels[place]
        assert np.array_equal(label == INVALID, lake == INVALID)
        true = read_classes(scenes, tile["scene"])[tile["row"] : tile["row"] + 64, tile["col"] : tile["col"] + 64]
        inside = label[: true.shape[0], : true.shape[1]]
        known = inside != INVALID
        assert (names[inside[known]] == np.vectorize(codes.get)(true[known])).all()
        agree += int(np.isin(names[label[lake == LAKE]], ["lake", "frozen_lake"]).sum())
        total += int((lake == LAKE).sum())
    assert agree > 0.9 * total > 0  # outlines are those of the lakes that were drawn, to a pixel of their shore


@pytest.mark.slow
def test_the_first_stage_is_scored_by_class_and_knows_no_lakes(stages: Stages, tmp_path: Path) -> None:
    metrics = stages.first.metrics
    assert 1 < metrics["test/miou_classes"] <= 12 and 0 <= metrics["test/miou_pooled"] <= 1
    ious = [value for name, value in metrics.items() if name.startswith("test/class/") and name.endswith("iou_pooled")]
    assert len(ious) == metrics["test/miou_classes"]
    assert metrics["test/miou_pooled"] == pytest.approx(np.mean(ious))
    assert not any("lake_iou" in name for name in metrics)
    found = find(stages.first.run_id, stages.store, tmp_path)
    assert found.card["architecture"]["classes"] == 12 == len(found.card["classes"])
    with pytest.raises(DataError, match="knows no lakes"):
        load_bundle(found.bundle)
    again = run(stages.config(*COVER), choices={})
    assert again.run_id == stages.first.run_id


@pytest.mark.slow
def test_the_encoder_is_carried_over_with_its_ground(stages: Stages, tmp_path: Path) -> None:
    words = ["dataset.empty_share=0.5", "init=run", f"init.run={stages.first.run_id}"]
    with pytest.raises(DataError, match=r"init\.scope=encoder"):
        run(stages.config(*words), choices={})
    words += ["init.scope=encoder", "train.freeze_encoder_epochs=1"]
    first = find(stages.first.run_id, stages.store, tmp_path / "first").bundle
    outcome = run(stages.config(*words), choices={})
    second = find(outcome.run_id, stages.store, tmp_path / "second").bundle
    before, after = (read_safetensors(bundle / "weights.safetensors") for bundle in (first, second))
    own = [name for name in before if name.startswith("encoder.")]
    assert own and all(torch.equal(before[name], after[name]) for name in own if "running" not in name)
    card = read_card(second)
    assert [one["run_id"] for one in card["ancestors"]] == [stages.first.run_id]
    ground = from_bytes((second / GROUND).read_bytes(), second)
    assert set(ground["model"]) == {0, 1}
    assert "test/lake_iou_pooled" in outcome.metrics or "test/f1_pooled" in outcome.metrics
    data = stages.place / "data"
    learnt = {tile["scene"] for tile in prepare(stages.config(*COVER).dataset, 64, data).index.to_dict("records")
              if tile["split"] == "train"}  # fmt: skip
    seeds = (
        (seed, prepare(stages.config(*words, f"dataset.split.seed={seed}").dataset, 64, data)) for seed in range(9)
    )
    leaking = next(seed for seed, store in seeds if {*store.index["scene"].iloc[store.rows("test")]} & learnt)
    with pytest.raises(LeakError, match="score other ground"):
        run(stages.config(*words, f"dataset.split.seed={leaking}"), choices={})
