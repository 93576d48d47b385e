"""kill -9 at any moment, the same command again, and the end is the same: every field, every metric, every file."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mortal
import pytest
import torch
import warm
from runs import words

from glidexp.tracking.store import open_store

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 5
SETTINGS = (f"train.epochs={EPOCHS}", "train.ema_decay=0.8", "train.average_last=2", "tracking.log_masks=false")
EVALUATED = ("eval.threshold=val", "eval.split=test", "eval.log_fitted=true", "train.precision=fp32", "train.threads=1")
EVALUATED += ("tracking.system_metrics=false", "tracking.probe_tiles=2", "tracking.log_masks=false")
WALL_CLOCK = {"train/images_per_s"}
KILLS = 10
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Runner:
    """Starts and kills runs through `tests/mortal.py`."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder, self.mlruns = data, folder, folder / "mlruns"
        program = [warm.python(), "-W", "error", str(ROOT / "tests" / "mortal.py")]
        place = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **place)
        self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "tests/mortal.py ended"
        return dict(json.loads(line))

    def run(self, experiment: str, **death: Any) -> dict[str, Any]:
        """One attempt at the run of an experiment. Runs are looked for within an experiment, so each has its own."""
        return self.command("train", experiment, words(self.data, self.mlruns, *SETTINGS), **death)

    def evaluate(self, model: str, experiment: str, **death: Any) -> dict[str, Any]:
        """One attempt at an evaluation that fits a threshold and keeps the model."""
        places = [f"paths.data={self.data}", f"paths.mlruns={self.mlruns}"]
        return self.command("evaluate", experiment, [model, *places, *EVALUATED], **death)

    def command(self, verb: str, experiment: str, argv: list[str], **death: Any) -> dict[str, Any]:
        argv = [*argv, f"tracking.experiment={experiment}"]
        log, kept = self.folder / f"{experiment}.log", self.folder / experiment
        order = {"verb": verb, "argv": argv, "kept": str(kept), "log": str(log)}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order | death) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def log(self, experiment: str) -> str:
        return (self.folder / f"{experiment}.log").read_text()

    def stored(self, experiment: str) -> tuple[Any, Any]:
        """MLflow's client and the one run of an experiment."""
        client = open_store(f"sqlite:///{self.mlruns}/mlflow.db", self.mlruns).client
        found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
        assert len(found) == 1, self.log(experiment)
        return client, found[0]

    def status(self, experiment: str) -> str:
        return str(self.stored(experiment)[1].info.status)

    def end(self, experiment: str) -> dict[str, Any]:
        """All that a finished training left."""
        newest = sorted((self.folder / experiment).glob("last.*.pt"))[-1]
        return self.left(experiment) | {"state": torch.load(newest, weights_only=True)["state"]}

    def left(self, experiment: str) -> dict[str, Any]:
        """All that is in the store of a finished run."""
        client, one = self.stored(experiment)
        assert one.info.status == "FINISHED", self.log(experiment)
        run_id = one.info.run_id
        history = {key: client.get_metric_history(run_id, key) for key in one.data.metrics}
        assert len(one.outputs.model_outputs) == 1
        model = client.get_logged_model(one.outputs.model_outputs[0].model_id)
        weights = Path(model.artifact_location.removeprefix("file://")) / "artifacts" / "bundle" / "weights.safetensors"
        artifacts = Path(one.info.artifact_uri.removeprefix("file://"))
        assert not (self.mlruns / "spool" / run_id).exists()
        assert not list((self.mlruns / "checkpoints").rglob(f"*-{run_id[:8]}"))
        return {
            "metrics": {
                key: sorted((point.step, point.value) for point in points)
                for key, points in history.items()
                if key not in WALL_CLOCK
            },
            "weights": weights.read_bytes(),
            "tables": {
                str(file.relative_to(artifacts)): file.read_bytes()
                for file in artifacts.rglob("*")
                if file.suffix in (".parquet", ".csv")
            },
            "files": {str(file.relative_to(artifacts)) for file in artifacts.rglob("*") if "images" not in file.parts},
            "pictures": {tuple(file.name.split("+")[:3]) for file in (artifacts / "images").iterdir()},
            "params": {key: value for key, value in one.data.params.items() if key != "tracking.experiment"},
        }


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Every place in which two states are not the same to the bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{place}/{key} only on one side" for key in ours.keys() ^ theirs.keys() if key not in WALL_CLOCK]
        both = [key for key in ours if key in theirs and key not in WALL_CLOCK]
        return found + [each for key in both for each in differences(ours[key], theirs[key], f"{place}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [each for n, pair in pairs for each in differences(*pair, f"{place}[{n}]")]
    if isinstance(ours, set) and isinstance(theirs, set):
        return [f"{place}/{each} only on one side" for each in sorted(ours ^ theirs, key=str)]
    if isinstance(ours, torch.Tensor):
        same = ours.dtype == theirs.dtype and ours.stride() == theirs.stride() and torch.equal(ours, theirs)
    else:
        same = type(ours) is type(theirs) and ours == theirs
    return [] if same else [f"{place}: {ours!s:.60} / {theirs!s:.60}"]


@pytest.fixture(scope="module")
def runner(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(small_data, tmp_path_factory.mktemp("killed"))
    yield runner
    runner.process.kill()
    runner.process.communicate()


@pytest.fixture(scope="module")
def whole(runner: Runner) -> tuple[dict[str, Any], float]:
    """The run that nobody disturbs, and its processor time."""
    done = runner.run("whole")
    assert done["code"] == 0, runner.log("whole")
    end = runner.end("whole")
    state = end["state"]
    assert {"model", "best", "ema", "tail", "optimizer", "scaler", "position", "history", "rng"} == set(state)
    assert state["position"]["epoch"] == len(state["history"]) == EPOCHS
    assert [step for step, _ in end["metrics"]["val/lake_iou_pooled"]] == [*range(1, EPOCHS + 2)]
    assert [step for step, _ in end["metrics"]["val/average_last/lake_iou_pooled"]] == [EPOCHS + 1]
    return end, done["seconds"]


def test_the_comparison_sees_every_kind_of_difference() -> None:
    ours = {"a": torch.ones(2), "b": [1.0, {"c": 2}], "train/images_per_s": 1.0}
    assert differences(ours, {"a": torch.ones(2), "b": [1.0, {"c": 2}], "train/images_per_s": 2.0}) == []
    assert differences(ours, {"a": torch.tensor([1.0, 1.0000001]), "b": [1.0, {"c": 2.0}]}) == [
        "/a: tensor([1., 1.]) / tensor([1.0000, 1.0000])",
        "/b[1]/c: 2 / 2.0",
    ]
    assert differences({"a", "b"}, {"b", "c"}, "/files") == ["/files/a only on one side", "/files/c only on one side"]
    assert differences(ours, {"b": [1.0]}) == ["/a only on one side", "/b: [1.0, {'c': 2}] / [1.0]"]


def test_killed_at_every_planned_place(runner: Runner, whole: tuple[dict[str, Any], float]) -> None:
    """One run that dies at each of them, one after the other."""
    for place in mortal.PLACES:
        done = runner.run("planned", at=place)
        assert done["code"] == (mortal.NOTICE if "notice" in place else -9), (place, runner.log("planned"))
        if "notice" in place:
            assert "goes on from the last checkpoint" in runner.log("planned")
            assert runner.status("planned") == "KILLED"
        if "not in the store" in place:  # as on another machine, or after a power cut: what waited there is gone too
            shutil.rmtree(runner.mlruns / "spool")
    assert runner.run("planned")["code"] == 0
    assert "this run is finished already" in runner.log("planned")
    assert differences(runner.end("planned"), whole[0]) == []


def test_an_evaluation_killed_at_every_planned_place(runner: Runner, whole: tuple[dict[str, Any], float]) -> None:
    """One that fits a threshold and keeps the model: it is taken up, and is the same as one that nobody disturbs."""
    model = runner.stored("whole")[1].info.run_id
    assert runner.evaluate(model, "scored")["code"] == 0, runner.log("scored")
    for place in mortal.OF_EVALUATIONS:
        assert runner.evaluate(model, "cut", at=place)["code"] == -9, (place, runner.log("cut"))
    assert runner.evaluate(model, "cut")["code"] == 0
    assert "this evaluation is finished already" in runner.log("cut")
    end = runner.left("cut")
    assert differences(end, runner.left("scored")) == []
    assert "test/threshold" in end["metrics"] and end["weights"] == whole[0]["weights"]
    assert runner.stored("cut")[1].data.tags["glidexp.resumes"] == "5"


def test_killed_at_ten_random_moments(runner: Runner, whole: tuple[dict[str, Any], float]) -> None:
    reference, seconds = whole
    moments, killed, finished = random.Random(3), 0, 0
    while killed < KILLS or not finished:
        death = {"seconds": moments.uniform(0, 0.7 * seconds)} if killed < KILLS else {}
        done = runner.run(f"random{finished}", **death)
        assert done["code"] in (0, -9), runner.log(f"random{finished}")
        killed += done["code"] == -9
        if done["code"] == 0:
            assert differences(runner.end(f"random{finished}"), reference) == []
            finished += 1
