"""A study from plan to verdict with networks that really learn: a planted effect is found, and none where none is."""

from pathlib import Path

import pytest
import studies
from study_stub import key_of, opened

from glidexp.study.comparison.compare import compare_arms, measure_of, sentence, verdict
from glidexp.study.comparison.material import gather
from glidexp.study.comparison.studies import load_study
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.ledger import Ledger
from glidexp.study.execution.parent import parent_run
from glidexp.study.execution.work import Order, carry_out
from glidexp.tracking.multirun import PARENT_VARIABLE

SCORE = "test/lake_iou_pooled"


@pytest.mark.slow
def test_a_broken_stretch_of_labels_is_worse_and_the_same_arm_twice_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies.ground(tmp_path / "data" / "train", seed=1)
    studies.ground(tmp_path / "data" / "test", seed=2)
    arms = {"plain": ("well", 0), "again": ("well", 0), "other luck": ("well", 100), "broken": ("broken", 0)}
    cells = []
    for arm, (labels, luck) in arms.items():
        for seed in range(3):
            given = {"mlruns": tmp_path, "data": tmp_path / "data", "labels": labels, "luck": luck, "seed": seed}
            words = (*(f"{key}={value}" for key, value in given.items()), f"arm={arm}")
            cells.append(Cell(arm, seed, words, key_of(words)))
    plan = Plan("proof", "Do broken labels matter?", SCORE, tuple(arms), (0, 1, 2), tuple(cells))
    store = opened(tmp_path)
    ledger = Ledger(plan, store, "glidexp")
    ledger.begin()
    with parent_run(ledger) as parent:
        monkeypatch.setenv(PARENT_VARIABLE, parent)
        for cell in cells:  # as the processes of a launcher do it, here one after the other
            about = {"name": cell.name, "words": cell.words, "key": cell.key, "scored_on": None, "primary": SCORE}
            paths = {"cells": str(ledger.path), "log": "", "mlruns": str(store.mlruns)}
            assert carry_out(Order(**about, **paths, train="proof_stub:train")) == 0  # type: ignore[arg-type]
    assert ledger.complete and ledger.parent_run_id is not None
    study = load_study(store, ledger.parent_run_id)
    assert study is not None and [arm.name for arm in study.arms] == list(arms)
    material = gather(store, [run for arm in study.arms for run in arm.runs], "test")
    comparison = compare_arms(study.arms, material, measure_of(SCORE))
    plain, again, luck, broken = comparison.rows
    assert min(plain.values) > 0.6, "the network has learnt"
    assert verdict(broken, comparison) == "worse"
    assert broken.effect is not None and broken.effect.high < -0.02 and broken.p_holm < 0.05
    assert sentence(broken, comparison).endswith("], worse")
    assert again.values == plain.values and luck.values != plain.values
    assert verdict(luck, comparison).startswith("not distinguishable"), sentence(luck, comparison)
    assert luck.effect is not None and luck.effect.low <= 0 <= luck.effect.high
    assert verdict(again, comparison) == "not distinguishable: every pair gives the same score"
    assert again.effect is not None and again.effect.value == 0
    assert again.effect.p != again.effect.p and again.p_holm != again.p_holm, "without spread there is no test"
