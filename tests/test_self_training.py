"""Self-training: which tiles, which of their pixels get a label, and that no label of theirs is ever read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import small_config
from safetensors.numpy import load_file, save_file
from test_subset import Store as Tiles

from glidexp.config import Config, SelfTrainingConfig, SensorMixConfig, SubsetConfig, TrainConfig
from glidexp.data.leakage import from_bytes
from glidexp.data.sensor_mix import training_rows
from glidexp.data.store import INVALID, LABELS, TileStore
from glidexp.errors import ConfigError, GlidexpError
from glidexp.models.card import CARD, GROUND, WEIGHTS, read_card
from glidexp.models.load import find
from glidexp.release.card_page import _ground
from glidexp.tracking.store import Store, open_store
from glidexp.training import run as runs
from glidexp.training.beginning import pseudo_labels
from glidexp.training.beginning.pseudo_labels import labels_of, sure_bins
from glidexp.training.beginning.start import start_of
from glidexp.training.check import check, check_shares
from glidexp.training.record import Outcome, Recorder
from glidexp.training.run import run

pytestmark = pytest.mark.usefixtures("plain_figures")
ANDES = SubsetConfig(regions=["andes"])


def drawn(
    wanted: SelfTrainingConfig, subset: SubsetConfig = ANDES, mix: SensorMixConfig | None = None
) -> tuple[set[int], set[int], np.ndarray]:
    """Labelled rows, the others, and the weights of all."""
    tiles = Tiles()
    mix = mix or SensorMixConfig()
    own, _ = training_rows(tiles, mix, subset, 0)  # type: ignore[arg-type]
    rows, weights = training_rows(tiles, mix, subset, 0, wanted)  # type: ignore[arg-type]
    assert (np.diff(rows) > 0).all()
    more = set(rows.tolist()) - set(own.tolist())
    assert set(own.tolist()) <= set(rows.tolist())
    return set(own.tolist()), more, np.ones(len(rows)) if weights is None else weights


def test_what_is_not_trained_on_with_its_label_is_taken_without() -> None:
    tiles = Tiles()
    train = tiles.index["split"] == "train"
    own, more, weights = drawn(SelfTrainingConfig(regions=["himalaya"]))
    assert more == set(np.flatnonzero(train & (tiles.index["region"] == "himalaya"))) and not own & more
    assert (weights == 1).all(), "each as often as a labelled one"
    few, rest, _ = drawn(SelfTrainingConfig(regions=["all"]), SubsetConfig(regions=["andes"], scenes=1))
    assert len(few) == 10 and few | rest == set(np.flatnonzero(train))
    mix = SensorMixConfig(sensors=["landsat8"])
    _, others, _ = drawn(SelfTrainingConfig(sensors=["sentinel2"]), SubsetConfig(), mix)
    assert others == set(np.flatnonzero(train & (tiles.index["sensor"] == "sentinel2")))
    _, both, _ = drawn(SelfTrainingConfig(sensors=["sentinel2"], regions=["andes"]), SubsetConfig(), mix)
    assert both == {row for row in others if tiles.index["region"][row] == "andes"}
    assert drawn(SelfTrainingConfig())[1] == set()


def test_a_share_of_the_draws_is_of_them_whatever_the_mix() -> None:
    for mix in (SensorMixConfig(), SensorMixConfig(weights={"sentinel2": 3.0})):
        own, more, weights = drawn(SelfTrainingConfig(regions=["himalaya"], draw=0.25), SubsetConfig(scenes=4), mix)
        place = {row: at for at, row in enumerate(sorted(own | more))}
        of = weights[[place[row] for row in sorted(more)]]
        assert of.sum() / weights.sum() == pytest.approx(0.25) and np.ptp(of) == 0
    _, _, weights = drawn(SelfTrainingConfig(regions=["himalaya"]), mix=SensorMixConfig(weights={"sentinel2": 3.0}))
    assert sorted(set(weights.tolist())) == [1.0, pytest.approx(2.0), 3.0], "as often as a labelled one on average"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"regions": ["tibet"]}, "self_training.regions='tibet' is not known.*andes, himalaya"),
        ({"sensors": ["landsat9"]}, "self_training.sensors='landsat9' is not known.*Did you mean 'landsat8'"),
        ({"regions": ["andes"]}, r"self_training.regions=\[andes\].*no training tile there whose label is not trained"),
        ({"regions": ["andes", "andes"]}, r"self_training.regions=\[andes,andes\] names something twice"),
        ({"regions": ["himalaya"], "keep": 0}, "self_training.keep=0 is not possible: give a share above 0"),
        ({"regions": ["himalaya"], "draw": 1.0}, "self_training.draw=1.0 is not possible: .* below 1"),
    ],
)
def test_what_is_not_there_or_not_possible_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        drawn(SelfTrainingConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], r"init\.kind=scratch: self_training takes the labels from the model .* init=run init\.run=RUN"),
        (["init=run", "init.run=0123abcd", "self_training.regions=[tibet]"], "self_training.regions='tibet'"),
        (["init=run", "init.run=0123abcd", "self_training.sensors=[sentinel2]"], "self_training.sensors='sentinel2'"),
    ],
)
def test_settings_that_cannot_train_themselves(words: list[str], says: str, tmp_path: Path) -> None:
    regions = "dataset.synthetic.regions=[andes,greenland]"
    config = small_config(tmp_path, tmp_path, regions, "self_training.regions=[greenland]", *words)
    with pytest.raises(ConfigError, match=says):
        check(config)


def test_one_process_alone() -> None:
    """Also where the batch is yet to be found: other processes would learn from the labels of the store."""
    wanted = SelfTrainingConfig(regions=["all"])
    for size in (8, "auto"):
        config = Config(self_training=wanted, train=TrainConfig(batch_size=size))
        with pytest.raises(ConfigError, match=r"self_training: one process labels .* and 2 were started"):
            check_shares(config, 2, common_statistics=True)
        check_shares(config, 1, common_statistics=False)


def counted(**pixels: int) -> np.ndarray:
    found = np.zeros(256, dtype=np.int64)
    for name, count in pixels.items():
        found[int(name[1:])] = count
    return found


def test_the_surest_of_each_side_by_hand() -> None:
    counts = counted(b0=60, b10=30, b100=10, b130=4, b200=3, b250=3)
    assert sure_bins(counts, 120, 1.0) == (100, 130), "all that it says"
    assert sure_bins(counts, 120, 0.6) == (0, 200), "exactly, and by whole bins: 6 of 10"
    assert sure_bins(counts, 120, 0.61) == (10, 130)
    assert sure_bins(counts, 120, 0.01) == (0, 250)
    assert sure_bins(counts, 200, 0.5) == (0, 250), "the threshold decides what is lake"
    with pytest.raises(GlidexpError, match="self_training: the model sees no lake in any"):
        sure_bins(counts, 251, 0.5)
    with pytest.raises(GlidexpError, match="no ground without lake"):
        sure_bins(counts, 0, 0.5)


def test_labels_that_memory_has_no_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudo_labels, "free_host_bytes", lambda: 2 * 10**9)
    pseudo_labels.refuse_no_room(7600, 512)
    with pytest.raises(ConfigError, match=r"labels of 16000 tiles take 4.2 GB of memory, 2.0 GB are free: name fewer"):
        pseudo_labels.refuse_no_room(16000, 512)


def test_labels_of_a_tile_by_hand() -> None:
    bins = np.array([[0, 10, 11], [199, 200, 255], [0, 255, 128]], dtype=np.uint8)
    valid = np.ones((3, 3), dtype=bool)
    valid[2, :2] = False
    assert labels_of(bins, valid, 10, 200).tolist() == [[0, 0, 255], [255, 1, 1], [255, 255, 255]]


# ---- runs

WORDS = [
    "dataset.synthetic.regions=[andes,greenland]",
    "dataset.synthetic.scenes_per_sensor=8",
    "dataset.split.val=0.25",
    "dataset.split.test=0.25",
    "subset.regions=[andes]",
    "subset.val_from=source",
    "tracking.log_masks=false",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("self")


@pytest.fixture(scope="module")
def source(place: Path) -> Outcome:
    """Four epochs on the Andes."""
    words = ("train.epochs=4", "optimizer.lr=0.005", "tracking.probe_tiles=0")
    return run(small_config(place / "data", place / "mlruns", *WORDS, *words), choices={})


@pytest.fixture(scope="module")
def store(source: Outcome, place: Path) -> Store:
    return open_store(f"sqlite:///{place}/mlruns/mlflow.db", place / "mlruns")


def itself(place: Path, source: Outcome, *more: str) -> Config:
    words = ("init=run", f"init.run={source.run_id}", "self_training.regions=[greenland]", "train.epochs=2")
    return small_config(place / "data", place / "mlruns", *WORDS, *words, *more)


def same_weights(store: Store, *outcomes: Outcome) -> bool:
    bundles = [find(one.run_id, store, Path("unused")).bundle for one in outcomes]
    ours, theirs = (load_file(bundle / WEIGHTS) for bundle in bundles)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_run_that_was_broken_off_makes_the_same_labels_again(
    source: Outcome, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Recorder.epoch

    def broken(self: Recorder, epoch: int, *given: object, **more: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        plain(self, epoch, *given, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "epoch", broken)
        with pytest.raises(KeyboardInterrupt):
            run(itself(place, source, "seed=1"), choices={})
    (earlier,) = store.client.search_runs([store.experiment_id("glidexp")], "params.seed = '1'")
    gone_on = run(itself(place, source, "seed=1"), choices={})
    whole = run(itself(place, source, "seed=1", "resume=never"), choices={})
    assert gone_on.run_id == earlier.info.run_id != whole.run_id
    assert same_weights(store, gone_on, whole)


@pytest.mark.slow
def test_labels_of_the_target_are_never_read(
    source: Outcome, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two trainings, the second with every label of the target's training tiles turned round: the same weights."""
    config, aside = itself(place, source), tmp_path / "turned"
    first = run(config, choices={})
    plain = runs.prepared

    def turned(*given: object) -> TileStore:
        tiles = plain(*given)  # type: ignore[arg-type]
        labels = np.array(tiles.labels)
        own = ((tiles.index["region"] == "greenland") & (tiles.index["split"] == "train")).to_numpy()
        assert own.any() and (labels[own] == 1).any()
        labels[own] = np.where(labels[own] == INVALID, INVALID, 1 - np.minimum(labels[own], 1))
        shutil.copytree(tiles.path, aside)
        labels.tofile(aside / LABELS)  # of which the labels that are learnt are a copy
        return replace(tiles, path=aside, labels=labels)

    monkeypatch.setattr(runs, "prepared", turned)
    again = run(itself(place, source, "resume=never"), choices={})
    assert again.run_id != first.run_id
    assert same_weights(store, first, again)
    score = "test/region/greenland/lake_iou_pooled"
    assert first.metrics[score] == again.metrics[score]


def copied(bundle: Path, folder: Path, **changes: object) -> Path:
    """A bundle elsewhere, with another card."""
    shutil.copytree(bundle, folder)
    (folder / CARD).write_text(json.dumps(read_card(bundle) | changes))
    return folder


def started(place: Path, file: Path, *more: str) -> dict[str, str]:
    """What stands for a file in the id of a run that trains itself from it."""
    words = ("init=checkpoint", f"init.checkpoint='{file}'", "self_training.regions=[greenland]")
    with start_of(small_config(place / "data", place / "mlruns", *WORDS, *words, *more)) as (_, digest):
        return digest


@pytest.mark.slow
def test_models_that_cannot_label_are_told_before_data_is_made(
    source: Outcome, store: Store, place: Path, tmp_path: Path
) -> None:
    bundle = find(source.run_id, store, Path("unused")).bundle
    card = read_card(bundle)
    (tmp_path / "alone").mkdir()
    bare = shutil.copy(bundle / WEIGHTS, tmp_path / "alone" / WEIGHTS)
    other = copied(bundle, tmp_path / "other") / "later.safetensors"
    save_file({"encoder.weight": np.zeros(1, dtype=np.float32)}, other)
    mean = copied(bundle, tmp_path / "mean", members=[{"run_id": "0123456789abcdef", "uri": ""}, {"uri": "file:b"}])
    cover = copied(bundle, tmp_path / "cover", architecture=card["architecture"] | {"classes": 12})
    with pytest.raises(ConfigError, match=r"alone/.* is not a model's folder \(no card.json\)"):
        started(place, bare)
    with pytest.raises(ConfigError, match=r"later.safetensors holds other weights than .*card.json speaks of"):
        started(place, other)
    with pytest.raises(ConfigError, match=r"mean is the mean of 2 networks, .* run 0123456789ab, file:b"):
        started(place, mean)
    with pytest.raises(ConfigError, match="cover knows 12 classes of land cover, no lakes"):
        started(place, cover, "init.scope=encoder")
    small = ("init.scope=encoder", "decoder=deeplabv3plus", "tile_size.px=80")  # of a stride of 16, the model's is 32
    with pytest.raises(ConfigError, match=r"is to label the tiles: tile_size.px=80 does not suit .*decoder.name=fcn"):
        started(place, bundle, *small)
    run_words = ("init=run", f"init.run={source.run_id}", "self_training.regions=[greenland]", *small)
    config = small_config(place / "data", place / "mlruns", *WORDS, *run_words)
    with (
        pytest.raises(ConfigError, match=f"self_training: init.run={source.run_id} is to label the tiles"),
        start_of(config),
    ):
        pass


@pytest.mark.slow
def test_the_id_of_a_run_names_all_that_its_labels_follow_from(
    source: Outcome, store: Store, place: Path, tmp_path: Path
) -> None:
    """The same weights with another threshold, as a model that was fitted has it, give other labels."""
    bundle = find(source.run_id, store, Path("unused")).bundle
    first = started(place, bundle)
    assert started(place, bundle / WEIGHTS) == first
    assert started(place, copied(bundle, tmp_path / "scores", scores={})) == first
    mean = [value + 1 for value in read_card(bundle)["mean"]]
    for name, changes in (("threshold", {"threshold": 0.97}), ("mean", {"mean": mean}), ("tta", {"tta": "flips"})):
        found = started(place, copied(bundle, tmp_path / name, **changes))
        assert found["init.checkpoint"] == first["init.checkpoint"] and found != first, name


@pytest.mark.slow
def test_what_such_a_run_leaves(source: Outcome, store: Store, place: Path) -> None:
    found = run(itself(place, source), choices={})
    tiles = TileStore.open(next((place / "data" / "stores").glob("[!.]*/manifest.json")).parent)
    before = (tiles.path / LABELS).read_bytes()
    index = tiles.index[tiles.index["split"] == "train"]
    more = int((index["region"] == "greenland").sum())
    assert found.metrics["pseudo_labels/tiles"] == more
    assert found.metrics["tiles/train"] == len(index)
    assert 0.8 <= found.metrics["pseudo_labels/labelled_share"] <= 1
    assert 0 < found.metrics["pseudo_labels/lake_share"] < 0.5
    bundle = find(found.run_id, store, Path("unused")).bundle
    card = read_card(bundle)
    assert card["regions"] == ["andes", "greenland"]
    of = {"regions": ["greenland"], "sensors": [], "keep": 0.8, "draw": None, "tiles": more}
    assert card["self_training"] == of
    assert f"{more} of the training tiles were learnt from without their labels" in _ground(card, bundle)
    assert [member["run_id"] for member in card["ancestors"]] == [source.run_id]
    ground = from_bytes((bundle / GROUND).read_bytes(), "")
    met = ground[(ground["model"] == 0) & (ground["side"] == "train")]
    assert set(met["scene"]) == set(index["scene"]), "it has seen the target's training tiles"
    assert not set(ground["scene"]) & set(tiles.index.loc[tiles.index["split"] == "test", "scene"])
    files = {file.path for file in store.client.list_artifacts(found.run_id, "plots")}
    assert {"plots/pseudo_labels.png", "plots/augmented.png"} <= files
    tiles.verify()
    assert (tiles.path / LABELS).read_bytes() == before
