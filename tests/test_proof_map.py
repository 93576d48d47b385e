"""From generated scenes to a map: train two arms, release the better one, map a scene that none of it has met."""

import json
from pathlib import Path

import geopandas
import pytest
from runs import undrawn, words
from study_stub import key_of, opened

from glidexp import cli
from glidexp.config.data import SyntheticConfig
from glidexp.data.synthetic.world import generate
from glidexp.mapping import diff, lake_map
from glidexp.release import gate
from glidexp.release.report import Check
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.ledger import Ledger
from glidexp.study.execution.parent import parent_run
from glidexp.study.execution.work import Order, carry_out
from glidexp.tracking import registry
from glidexp.tracking.multirun import PARENT_VARIABLE

SCORE = "test/lake_iou_pooled"
ARMS = {"short": 1, "long": 14}
"""epochs"""
LEAST_KM2 = 0.01


def carried_out(data: Path, mlruns: Path, patch: pytest.MonkeyPatch) -> str:
    """A study of the two arms, one after the other in this process; gives its run."""
    given = {
        "backbone.name": "test_resnet", "decoder": "unet_light", "init": "scratch", "augmentation": "flips",
        "optimizer.lr": "0.004", "train.batch_size": "8", "dataset.synthetic.scenes_per_sensor": "6",
    }  # fmt: skip
    cells = []
    for arm, epochs in ARMS.items():
        own = given | {"train.epochs": str(epochs)}
        start = [word for word in words(data, mlruns) if word.split("=")[0] not in own]
        line = (*start, *(f"{key}={value}" for key, value in own.items()))
        cells.append(Cell(arm, 0, line, key_of(line)))
    plan = Plan("proof", "Does learning longer help?", SCORE, tuple(ARMS), (0,), tuple(cells))
    store = opened(mlruns)
    ledger = Ledger(plan, store, "glidexp")
    ledger.begin()
    with parent_run(ledger) as parent, undrawn():
        patch.setenv(PARENT_VARIABLE, parent)
        for cell in cells:  # as the processes of a launcher do it
            paths = {"cells": str(ledger.path), "log": "", "mlruns": str(mlruns)}
            assert carry_out(Order(cell.name, cell.words, cell.key, None, primary=SCORE, **paths)) == 0
    assert ledger.complete and ledger.parent_run_id
    patch.delenv(PARENT_VARIABLE, raising=False)
    return ledger.parent_run_id


def told(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    return int(ended.value.code or 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # of mlflow's own import
def test_from_generated_scenes_to_a_map_of_one_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, mlruns, out = tmp_path / "data", tmp_path / "mlruns", tmp_path / "maps"
    study = carried_out(data, mlruns, monkeypatch)
    # a process of its own is the matter of test_release
    monkeypatch.setattr(gate, "loads_afresh", lambda _: Check("loads_in_a_fresh_process", "passed", "left out."))
    said = ["--name", "proof-lakes", "--license", "CC-BY-4.0", "--citation", "Nobody (2026), Lakes."]
    place = ["--data", str(data), "--mlruns", str(mlruns)]
    code = told(["release", study, *said, *place, "--out", str(tmp_path / "bundle")])
    printed = capsys.readouterr().out
    assert code == 0, printed
    champion = registry.holder(opened(mlruns), "proof-lakes")
    assert champion is not None and champion.tags["glidexp.gate"] == "passed", printed
    assert "long" in printed.split("Chosen: ")[1].splitlines()[0], "the better arm is released"

    new = generate(
        SyntheticConfig(seed=5, sensors=["landsat8"], scenes_per_sensor=1, scene_px=256), tmp_path / "new",
        progress=False, workers=1,
    )  # fmt: skip
    (scene,) = (new / "scenes").glob("*.tif")
    line = ["predict", "models:/proof-lakes@champion", str(scene), "--out", str(out), "--sensor", "landsat8"]
    assert told([*line, "--mlruns", str(mlruns), "--workers", "1"]) == 0
    truth = lake_map.read(new / "lakes.gpkg", "OLD", 30.0)
    found = lake_map.read(out / f"{scene.stem}_lakes.gpkg", "NEW", None)
    rows = diff.compared(truth, found)
    sought = rows[rows["old_km2"] >= LEAST_KM2]
    recall = float((sought["change"] != "vanished").mean())
    ground = geopandas.read_file(out / f"{scene.stem}_lakes.gpkg", layer="ground").area.sum() / 1e6
    false = int((rows["change"] == "appeared").sum()) / ground * 100
    sizes = json.loads((out / f"{scene.stem}.json").read_text())["properties"]["glidexp:sizes"]
    assert len(sought) >= 5 and recall >= 0.7, f"{len(sought)} lakes, recall {recall:.2f}, {false:.1f} false a 100 km2"
    assert false < 60, f"{false:.1f} false lakes a 100 km2"
    assert sizes[-1]["lakes"] == len(found.shapes)
