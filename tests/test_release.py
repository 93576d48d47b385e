"""A training becomes a release: what the gate says, what is in the bundle, who is champion, and what verify finds."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from runs import small_config, undrawn
from tiny_scenes import write_scene

from glidexp import cli
from glidexp.config import Embed, Precision, TileSizeConfig, flat
from glidexp.config.evaluation import EvalConfig, EvalSplit, EvaluateConfig
from glidexp.data import steps
from glidexp.data.prepare import prepare
from glidexp.errors import ConfigError, DataError, GlidexpError
from glidexp.models.build import assemble
from glidexp.models.card import VALIDITY, read_card
from glidexp.models.export import save_bundle
from glidexp.models.load import find
from glidexp.models.told import Told
from glidexp.models.validity import of_bundle
from glidexp.release import agreement, gate, no_pickle, verify
from glidexp.release.again import Place, score_again
from glidexp.release.bundle import SUMS, broken
from glidexp.release.card_page import _use
from glidexp.release.gate import Terms, _of_champion
from glidexp.release.probes import read_probes
from glidexp.study.comparison.pick import deciding
from glidexp.tracking import registry
from glidexp.tracking.model import name_output
from glidexp.tracking.run import Run
from glidexp.tracking.store import Store, open_store
from glidexp.training.device import resolve
from glidexp.training.record import Outcome, Recorder, requirements

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("plain_figures"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),  # of mlflow's own import
]
NAME = "test-lakes"
SAID = ["--license", "CC-BY-4.0", "--citation", "Nobody (2024), Lakes."]


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlruns")


@pytest.fixture(scope="module")
def store(mlruns: Path) -> Store:
    return open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)


def a_run(data: Path, mlruns: Path, store: Store, folder: Path, *, lifted: float = 0.0) -> Outcome:
    """A run with all that a training leaves and a release looks at, of a network with the weights that were drawn.

    That a training's own scores repeat is the matter of test_evaluate. `lifted` is added to every logit.
    """
    config = small_config(data, mlruns, "init=scratch")
    tiles = prepare(config.dataset, 64, data, progress=False)
    torch.manual_seed(0)
    model = assemble(config.backbone.name, config.decoder.name, in_channels=3)
    with torch.no_grad():
        model.decoder.skips[-1].bias += lifted
    given = {"experiment": "glidexp", "run_name": "drawn", "config_flat": flat(config), "choices": {"dataset": "smoke"}}
    tags = {"glidexp.parameters": "11000000", "glidexp.device": "cpu", "glidexp.train.precision": "fp32"}
    identity = "d" * 16 if lifted else "c" * 16
    with Run.start(store, **given, tags=tags, config_id=identity) as made:
        runtime = resolve(config.train)
        recorder = Recorder(made, config, tiles, runtime, identity)
        card, ground = recorder.card({"threshold": 0.5, "temperature": 1.5}, {})
        seen = recorder.validity(model)
        assert seen is not None
        bundle = save_bundle(folder / "bundle", model, card=card, ground=ground, validity=seen.to_bytes())
        made.model(bundle, in_channels=3, pip_requirements=requirements())
        made.text(OmegaConf.to_yaml(OmegaConf.structured(config)), "config.yaml")
        assert made.flush()
        name_output(
            store, made.run_id, made.experiment_id
        )  # as at its end, but what a second scoring gives is logged too
        scored = score_again(made.run_id, Place(store, data, "glidexp", Precision.fp32)).run
        made.artifact(Path(store.client.download_artifacts(scored.run_id, "plots", str(folder))))
        made.metrics({name: value for name, value in scored.metrics.items() if name.startswith("test/")}, step=1)
    return Outcome(made.run_id, scored.metrics)


@pytest.fixture(scope="module")
def trained(small_data: Path, mlruns: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return a_run(small_data, mlruns, store, tmp_path_factory.mktemp("made"))


def told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture(scope="module")
def released(
    trained: Outcome, small_data: Path, mlruns: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The bundle of a release that was forced, since a network after one epoch beats nothing."""
    folder = tmp_path_factory.mktemp("release") / "bundle"
    words = [trained.run_id[:10], "--name", NAME, "--out", str(folder), *SAID, "--ece", "0", "--force"]
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: lines.append(" ".join(map(str, parts))))
        patch.setattr(steps.log, "info", lambda text, *parts: lines.append(text % parts))
        with pytest.raises(SystemExit) as ended:
            cli.main(["release", *words, "--data", str(small_data), "--mlruns", str(mlruns)])
    assert ended.value.code == 0, lines
    return folder, lines


def test_the_gate_looks_at_everything_and_a_forced_release_is_marked(
    released: tuple[Path, list[str]], trained: Outcome, store: Store
) -> None:
    folder, lines = released
    report = json.loads((folder / "gate.json").read_text())
    state = {check["name"]: check["state"] for check in report["checks"]}
    assert state["scores_repeat"] == "passed" and state["no_leakage"] == "passed"
    assert state["calibration"] == "failed" and report["verdict"] == "forced"
    assert state["beats_champion"] == state["no_stratum_worse"] == "skipped"
    assert {
        state[name]
        for name in (
            "no_pickle",
            "loads_in_a_fresh_process",
            "safetensors_agrees",
            "onnx_agrees",
            "torch_export_agrees",
        )
    } == {"passed"}
    assert state["license_present"] == state["citation_present"] == "passed"
    said = {check["name"]: check["sentence"] for check in report["checks"]}
    assert "equal to the last digit" in said["scores_repeat"] and said["onnx_agrees"].count("x") >= 4
    assert f"{trained.metrics['test/ece']:.4f}" in said["calibration"]
    champion = registry.holder(store, NAME)
    assert champion is not None and champion.number == "1" and champion.run_id == trained.run_id
    assert champion.tags["glidexp.gate"] == "forced" and "calibration" in champion.tags["glidexp.release.forced"]
    assert champion.tags["glidexp.gate.calibration"].startswith("failed: expected calibration error")
    assert champion.tags[registry.STATE] == "released"
    assert any(line.startswith("Released: models:/test-lakes@champion is version 1, forced") for line in lines)


def test_a_release_says_what_it_does_before_it_does_it(released: tuple[Path, list[str]]) -> None:
    _, lines = released
    said = [line for line in lines if line.startswith(("bundle: ", "check: ", "registering ")) and line[-2:] != " s"]
    assert said == [
        "bundle: weights and card",
        "bundle: export of the network (torch.export)",
        "bundle: model.onnx",
        "bundle: model.pt2",
        "bundle: probe tiles and their answers",
        "bundle: config and pictures of the run",
        "check: no pickle in any file",
        "check: a fresh process",
        "check: answers of the weights",
        "check: answers of ONNX",
        "check: answers of torch.export",
        "bundle: model card, web page, STAC item",
        "bundle: sha256 of all files",
        f"registering models:/{NAME}",
    ]


def test_the_card_says_what_scores_were_made_with_that_the_graphs_do_not_get() -> None:
    card = {"bands": ["red", "green", "blue"], "threshold": 0.5}
    plain = _use(card)
    assert "sees every image" not in plain and "told" not in plain
    both = _use(card | {"told": Told(Embed.sensor, ("landsat8", "sentinel2"), 20.0).to_json()})
    assert "sees every image at **20 m** a pixel" in both and "so bring them to that size first" in both
    assert "It is told the sensor of an image" in both and "ONNX Runtime alone" in both
    assert "told the ground sample distance" in _use(card | {"told": Told(Embed.gsd).to_json()})


def test_the_card_says_what_a_user_must_know(released: tuple[Path, list[str]], trained: Outcome) -> None:
    folder, _ = released
    text, page = (folder / "MODEL_CARD.md").read_text(), (folder / "model_card.html").read_text()
    card = read_card(folder)
    for part in (
        "CC-BY-4.0",
        "Nobody (2024), Lakes.",
        "landsat8",
        trained.run_id,
        f"{card['threshold']:.4f}",
        " h on ",
    ):
        assert part in text and part in page, part
    assert f"| all | lake IoU | {100 * trained.metrics['test/lake_iou_pooled']:.2f} [" in text
    assert "<table>" in page and 'src="data:image/png;base64,' in page and 'src="pictures' not in page
    assert f"{card['ground']['train']} training tiles" in text


def test_the_stac_item_tells_bands_scaling_and_files(released: tuple[Path, list[str]]) -> None:
    folder, _ = released
    item, card = json.loads((folder / "item.json").read_text()), read_card(folder)
    told = item["properties"]["mlm:input"][0]
    assert told["bands"] == card["bands"] == [band["name"] for band in item["properties"]["bands"]]
    assert [scale["mean"] for scale in told["value_scaling"]] == card["mean"]
    assert told["input"]["shape"] == [-1, len(card["bands"]), -1, -1]
    for asset in item["assets"].values():
        assert (folder / asset["href"]).is_file()
        assert ("mlm:model" in asset["roles"]) == ("mlm:artifact_type" in asset)  # the extension asks for it
    assert of_bundle(folder, card) is not None and item["assets"][VALIDITY]["href"] == f"./{VALIDITY}"
    assert item["geometry"] is None and "bbox" not in item  # generated ground is nowhere on Earth


def test_verify_passes_what_was_released_and_names_what_was_changed(
    released: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = released
    code, out, err = told(["verify", str(folder)], capsys)
    assert "check: answers of ONNX" in err
    assert code == 0 and "failed" not in out.replace("these failed", "") and "files have the sha256" in out
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    (copy / "probes" / "odd.npz").unlink()
    (copy / "more.txt").write_text("")
    assert broken(copy) == ["probes/odd.npz is missing", "more.txt is not listed", "model.onnx is changed"]
    code, out, _ = told(["verify", str(copy)], capsys)
    assert code == 1 and "model.onnx is changed" in out and "passed" not in out
    code, _, err = told(["verify", str(tmp_path)], capsys)
    assert code == 2 and SUMS in err and "Traceback" not in err


def test_a_network_that_answers_otherwise_is_found_though_its_sum_is_right(
    released: tuple[Path, list[str]], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(released[0], tmp_path / "copy"))
    with np.load(copy / "probes" / "odd.npz") as held:
        image, probability = held["image"], held["probability"]
    np.savez(copy / "probes" / "odd.npz", image=image, probability=(probability + 0.002).astype(np.float32))
    for check in (agreement.weights_agree(copy), agreement.onnx_agrees(copy)):
        assert check.state == "failed" and "2.0e-03" in check.sentence and "at 35x59" in check.sentence
    for text in ("{}", "[", '{"checks": [1], "verdict": "passed"}'):
        (copy / "gate.json").write_text(text)
        assert verify._gate(copy).sentence == "gate.json is no report of a gate."
    os.truncate(copy / "probes" / "odd.npz", 300)
    with pytest.raises(DataError, match=r"odd\.npz cannot be read .*copy the whole bundle again"):
        list(read_probes(copy))


def test_a_pickle_is_found_under_any_name(tmp_path: Path) -> None:
    import pickle
    import zipfile

    (tmp_path / "harmless.txt").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as held:
        held.writestr("inner", pickle.dumps([1]))
        held.writestr("text", "text")
    assert no_pickle.pickles_in(tmp_path) == ["harmless.txt", "model.zip:inner"]


def test_a_fresh_process_unpickles_in_no_way() -> None:
    """Neither by pickle's names nor by those of its C module, nor by what was taken of either before."""
    asked = """
import _pickle, io, pickle
from datetime import date
from glidexp.release.fresh import forbid
held = pickle.dumps(date(2000, 1, 1))
early = pickle.loads, _pickle.loads, pickle._loads
def late(module): return lambda data: module.Unpickler(io.BytesIO(data)).load()
taken = [type(module.Unpickler(io.BytesIO(held))) for module in (pickle, _pickle)] + [pickle._Unpickler]
forbid()
ways = [*early, pickle.loads, _pickle.loads, pickle._loads, late(pickle), late(_pickle)]
ways += [lambda data, cls=cls: cls(io.BytesIO(data)).load() for cls in taken]
for number, way in enumerate(ways):
    try:
        way(held)
    except pickle.UnpicklingError as error:
        assert "something was to be unpickled" in str(error)
    else:
        raise SystemExit(f"way {number} is open")
print(len(ways))
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "11"), done.stderr


def test_the_example_runs_on_onnx_runtime_alone(released: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, _ = released
    assert len((folder / "example_onnx.py").read_text().splitlines()) <= 35
    told = subprocess.run([sys.executable, folder / "example_onnx.py"], capture_output=True, text=True)
    assert told.returncode == 2 and told.stderr.count("\n") == 1 and "model.onnx probes/tile.npz out.npy" in told.stderr
    for name in ("odd", "two_tiles"):
        out = tmp_path / f"{name}.npy"
        words = [folder / "example_onnx.py", folder / "model.onnx", folder / "probes" / f"{name}.npz", out]
        blocked = "import sys; sys.modules['torch'] = None; sys.modules['glidexp'] = None; import runpy; "
        blocked += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        done = subprocess.run([sys.executable, "-c", blocked, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0 and "of the pixels are lake" in done.stdout, done.stderr
        with np.load(folder / "probes" / f"{name}.npz") as held:
            np.testing.assert_allclose(np.load(out), held["probability"], atol=1e-3)


def test_what_is_champion_already_is_not_released_again(
    released: tuple[Path, list[str]],
    trained: Outcome,
    small_data: Path,
    mlruns: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [trained.run_id, "--name", NAME, *SAID, "--data", str(small_data), "--mlruns", str(mlruns)]
    code, _, err = told(["release", *words, "--out", str(tmp_path / "new")], capsys)
    assert code == 2 and "is the champion already" in err and not (tmp_path / "new").exists()
    code, _, err = told(["release", *words, "--out", str(tmp_path)], capsys)
    assert code == 2 and "exists" in err


def test_the_champion_is_beaten_only_on_ground_that_it_has_not_met(
    released: tuple[Path, list[str]],
    trained: Outcome,
    store: Store,
    small_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    champion = registry.holder(store, NAME)
    assert champion is not None
    place = Place(store, small_data, "glidexp", Precision.fp32)
    everywhere = EvaluateConfig(eval=EvalConfig(split=EvalSplit.all))
    everywhere.dataset, everywhere.tile_size = small_config(small_data, store.mlruns).dataset, TileSizeConfig(px=64)
    again = score_again(trained.run_id, place, ground=everywhere)
    monkeypatch.setattr("glidexp.release.gate.score_again", lambda *_, **__: again)  # it is the same network
    assert len(again.rows) == len(again.tiles)
    met = len(again.tiles.rows("train")) + len(again.tiles.rows("val"))
    terms = Terms(name=NAME, measure=deciding("test/lake_iou_pooled"))
    beats, strata = _of_champion(store, again, champion, terms, place)
    assert beats.state == "failed"  # by itself
    assert f"; {met} tiles that the champion has met were left out" in beats.sentence
    assert f"on {len(again.tiles) - met} test tiles" in beats.sentence
    assert strata.state == "passed" and "changed by +0.00 points" in strata.sentence


@pytest.mark.parametrize("error", [ConfigError("tile_size.px=56 does not suit it."), DataError("nir is missing.")])
def test_a_champion_that_cannot_be_scored_fails_its_checks_and_stops_nothing_else(
    store: Store, released: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, error: GlidexpError, tmp_path: Path
) -> None:
    """So that the bundle is written, and --force can release a network that takes other tiles or bands."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr("glidexp.release.gate.score_again", refuse)
    champion, again = registry.holder(store, NAME), SimpleNamespace(config=None)
    terms, place = Terms(name=NAME, measure=deciding("test/f1_pooled")), Place(store, tmp_path, "glidexp")
    for check in _of_champion(store, again, champion, terms, place):  # type: ignore[arg-type]
        assert check.state == "failed" and str(error) in check.sentence


def test_a_worse_second_release_is_refused_and_the_champion_stays(
    released: tuple[Path, list[str]],
    trained: Outcome,
    store: Store,
    small_data: Path,
    mlruns: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through the whole verb, but for the graphs, which the first release made: one with low logits sees no lake."""
    for name in ("export", "save_onnx", "save_program"):
        monkeypatch.setattr(f"glidexp.models.graph.{name}", lambda *_: None)
    monkeypatch.setattr("glidexp.release.gate._of_files", lambda _: [])
    words = ["--name", NAME, "--out", str(tmp_path / "new"), *SAID, "--ece", "1", "--data", str(small_data)]
    with undrawn():
        worse = a_run(small_data, mlruns, store, tmp_path, lifted=-50.0)
        code, out, _ = told(["release", worse.run_id, *words, "--mlruns", str(mlruns)], capsys)
    assert worse.metrics["test/lake_iou_pooled"] == 0 < trained.metrics["test/lake_iou_pooled"]
    assert code == 1 and "Refused: " in out and "Released" not in out, out
    report = json.loads((tmp_path / "new" / "gate.json").read_text())
    said = {check["name"]: check for check in report["checks"]}
    assert report["verdict"] == "refused" and report["against"] == f"models:/{NAME}/1"
    assert said["beats_champion"]["state"] == said["no_stratum_worse"]["state"] == "failed"
    assert f"0.00 against {100 * trained.metrics['test/lake_iou_pooled']:.2f} of" in said["beats_champion"]["sentence"]
    failed = {name for name, check in said.items() if check["state"] == "failed"}
    assert failed <= {"beats_champion", "no_stratum_worse", "beats_naive"}, "nothing else is wrong with it"
    assert len(store.client.search_model_versions(f"name='{NAME}'")) == 1
    champion = registry.holder(store, NAME)
    assert champion is not None and champion.run_id == trained.run_id
    assert registry.holder(store, NAME, registry.PREVIOUS) is None


def test_scenes_are_mapped_by_the_champion_by_the_bundle_and_through_mlflow(
    released: tuple[Path, list[str]], trained: Outcome, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow
    import rasterio

    folder, more = tmp_path / "scenes", ["--sensor", "landsat8", "--mlruns", str(store.mlruns)]
    scene = write_scene(folder / "new.tif", gsd_m=30, descriptions=("red", "green", "blue"))
    maps = {}
    for model in (f"models:/{NAME}@champion", str(released[0])):
        out = tmp_path / f"maps{len(maps)}"
        code, _, err = told(["predict", model, str(scene), "--out", str(out), *more], capsys)
        assert code == 0, err
        with rasterio.open(out / "new_probability.tif") as source:
            maps[model] = source.read(1)
        summary = json.loads((out / "new.json").read_text())["properties"]
        assert summary["glidexp:model"] == trained.run_id
        assert summary["glidexp:validity"]["outside"] and "outside what the model was trained on" in err, "it is noise"
    champion, bundle = maps.values()
    np.testing.assert_array_equal(champion, bundle)
    mlflow.set_tracking_uri(store.uri)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    finally:
        mlflow.set_tracking_uri(None)
    assert not [one for one in said if "type hint" in str(one.message)]
    found = model.predict(str(scene))
    assert found.dtype == np.float32 and found.shape == champion.shape
    np.testing.assert_array_equal(np.round(found * 254), champion)
    write_scene(folder / "other.tif", gsd_m=30, seed=1, nodata=0, pixels=np.zeros((3, 64, 64), np.uint16) + _half())
    both = model.predict(folder)
    assert list(both) == ["new", "other"] and np.array_equal(both["new"], found)
    assert np.isnan(both["other"][:32]).all() and not np.isnan(both["other"][32:]).any()
    # arrays
    with np.load(released[0] / "probes" / "odd.npz") as held:
        image, expected = held["image"], held["probability"]
    np.testing.assert_allclose(model.predict(image), expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(image[0].astype(np.float64)), expected[0], atol=1e-5)
    own = find(f"models:/{NAME}@champion", store, tmp_path)
    assert own.card["license"] == "CC-BY-4.0" and own.tracked is not None and own.run_id == trained.run_id
    assert find(trained.run_id, store, tmp_path).card.get("license") is None  # the run's own model is another


def _half() -> np.ndarray:
    """(3, 64, 64) uint16 with values in the lower half alone."""
    values = np.random.default_rng(3).integers(1, 4000, (3, 64, 64)).astype(np.uint16)
    values[:, :32] = 0
    return values


def test_mistakes_are_told_in_a_line(mlruns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, part in (
        (["--name", "1x"], "first a letter"),
        (["--name", "x" * 101], "give 1 to 100"),
        (["abcd", "--name", NAME, "--max-parameters", "nan"], "'nan' is no number above 0"),
        (["abcd", "--name", NAME, "--min-speed", "-1"], "'-1' is no number above 0"),
        (["--name", NAME], "or --rollback alone"),
        (["abcd", "--name", NAME, "--rollback"], "or --rollback alone"),
        (["abcd", "--name", NAME, "--margin", "2"], "outside 0 to 1"),
        (["abcd", "--name", NAME, "--citation", "Nobody (2024)."], "without --license (of the weights, such as CC-BY"),
        (["abcd", "--name", NAME, "--license", "CC-BY-4.0", "--citation", " "], "without --citation (how"),
        (["abcd", "--name", NAME], "and --citation (how the model is to be cited): give it, or"),
    ):
        code, _, err = told(["release", *words, "--mlruns", str(mlruns)], capsys)
        assert code == 2 and part in err and len(err.strip().splitlines()) == 1


def test_one_process_makes_a_bundle_and_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    left = tmp_path / ".bundle.partial" / "probes"
    left.mkdir(parents=True)
    (left.parent / "card.json").write_text("{}")
    with gate._alone(folder) as aside:
        assert not list(aside.iterdir())
        with pytest.raises(ConfigError, match=r"--out=.*bundle is being made by another process"), gate._alone(folder):
            pytest.fail("two at once")
        aside.rename(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (folder / "card.json").write_text("{}")
    folder.rename(gate._before(folder))  # and was killed before the new one was in its place
    with gate._alone(folder) as aside:
        assert (folder / "card.json").read_text() == "{}"
        (aside / "card.json").write_text("[]")
        gate._exchange(aside, folder)
    assert (folder / "card.json").read_text() == "[]"
    shutil.copytree(folder, gate._before(folder))  # or before the old one was gone
    with pytest.raises(KeyboardInterrupt), gate._alone(folder):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"), gate._alone(tmp_path / "file" / "bundle"):
        pytest.fail("below a file")
