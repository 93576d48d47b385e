"""What names an evaluation."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from glidexp.config.evaluation import Adapt, EvalConfig, EvalSplit, EvaluateConfig
from glidexp.study.execution.cells import Plan
from glidexp.study.execution.ledger import SCORED_ON_TAG, Entry, Ledger, scored_on
from glidexp.tracking.store import FoundRun
from glidexp.training.rescoring.rescore import evaluation_id
from glidexp.training.rescoring.scored import naive_rows


def tiles_of(*pixels: str, manifest: Any = None, bands: tuple[str, ...] = ("red", "green"), **changes: Any) -> Any:
    """A store of tiles with these hashes."""
    about: dict[str, Any] = {"scene": "s", "sensor": "landsat8", "region": "r", "gsd_m": np.nan, "row": -1, "col": -1}
    about |= {"block": "b", "crs": "", "transform": None} | changes
    rows = [{"tile": str(place), "xxh3": pixel} | about for place, pixel in enumerate(pixels)]
    return SimpleNamespace(index=pd.DataFrame(rows), split_hash="s", bands=list(bands), manifest=manifest or {})


def test_what_is_said_of_the_same_pixels_is_a_part_of_the_id() -> None:
    """A manifest that gives the sensor, a ground sample distance, another scene; bands by other names; an inventory."""
    runtime, found = SimpleNamespace(precision="fp32"), SimpleNamespace(card={"weights": {"sha256": "0"}})

    def named(tiles: Any) -> str:
        return evaluation_id(EvaluateConfig(), found, tiles, np.array([0]), 0.5, {}, runtime)  # type: ignore[arg-type]

    facts: list[dict[str, Any]] = [{"gsd_m": 10.0}, {"sensor": "sentinel2"}, {"region": "q"}, {"scene": "t"}]
    facts += [{"row": 3}, {"transform": np.array([10.0, 0, 0, 0, -10.0, 0])}, {"crs": "EPSG:32645"}, {"block": "c"}]
    facts += [{"bands": ("green", "red")}, {"manifest": {"inventory_sha256": "1"}}, {"manifest": {"ice_sha256": "1"}}]
    assert len({named(tiles_of("a", "b", **one)) for one in [{}, *facts]}) == 1 + len(facts)
    other = tiles_of("a", "b")
    other.index.loc[1, "region"] = "another"  # of a tile that is not scored
    assert named(other) == named(tiles_of("a", "b"))


def test_naive_indices_get_no_threshold_from_sensors_that_are_not_scored() -> None:
    """Of all tiles of one sensor the val tiles beside them are another sensor's."""
    store: Any = SimpleNamespace(rows=lambda split: np.array([2, 3]) if split == "val" else np.array([]))
    one_sensor = np.array([0, 2, 4])
    assert naive_rows(store, one_sensor, "all").tolist() == [0, 2, 4]
    assert naive_rows(store, np.array([4, 5]), "test").tolist() == [2, 3]
    store = SimpleNamespace(rows=lambda _: np.array([], dtype=np.int64))
    assert naive_rows(store, np.array([4, 5]), "test").tolist() == [4, 5]


def test_what_a_network_is_fed_is_a_part_of_the_evaluations_id() -> None:
    """A card that was edited by hand is another model, whatever its weights."""
    tiles = tiles_of("a", "b")
    runtime, config = SimpleNamespace(precision="fp32"), EvaluateConfig()
    card = {"weights": {"sha256": "0"}, "mean": [1.0] * 3, "std": [2.0] * 3, "bands": ["red", "green", "blue"]}

    def named(**changes: Any) -> str:
        found: Any = SimpleNamespace(card=card | changes)
        return evaluation_id(config, found, tiles, np.array([0, 1]), None, {}, runtime)  # type: ignore[arg-type]

    told = {"kind": "none", "sensors": [], "gsd_m": 20}
    others = [{"mean": [1.0, 1.0, 9.0]}, {"std": [2.0, 2.0, 9.0]}, {"bands": ["blue", "green", "red"]}, {"told": told}]
    assert len({named(), *(named(**one) for one in others)}) == 5
    assert named() == named(license="CC-BY-4.0")


def test_the_batch_is_a_part_of_the_id_where_batch_statistics_follow_from_it() -> None:
    tiles = tiles_of("a", "b", "c")
    runtime, found = SimpleNamespace(precision="fp32"), SimpleNamespace(card={"weights": {"sha256": "0"}})

    def named(adapt: Adapt, batch_size: int) -> str:
        config = EvaluateConfig(eval=EvalConfig(split=EvalSplit.test, adapt=adapt))
        config.train.batch_size = batch_size
        fit = {"train": np.array([2])}
        return evaluation_id(config, found, tiles, np.array([0, 1]), 0.5, fit, runtime)  # type: ignore[arg-type]

    assert named(Adapt.batch_norm, 4) != named(Adapt.batch_norm, 8)
    assert named(Adapt.normalise, 4) == named(Adapt.normalise, 8)


def test_scores_of_batch_statistics_in_another_order_are_not_taken_for_those_of_now(tmp_path: Path) -> None:
    """A study finds an evaluation by the words it was made with, or by its own note of it."""
    plan = Plan(name="n", question="", primary="p", arms=("a",), seeds=(0,), cells=())
    for adapt, again in (("batch_norm", True), ("normalise", False)):
        words = (f"eval.adapt={adapt}", "eval.split=test")
        before = hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:16]
        made = {"old": FoundRun("old", "FINISHED", {}, False, {SCORED_ON_TAG: before})}

        def find(value: str, *_: object, made: dict[str, FoundRun] = made, **__: object) -> FoundRun | None:
            return next((run for run in made.values() if run.tags[SCORED_ON_TAG] == value), None)

        store: Any = SimpleNamespace(mlruns=tmp_path, found=made.get, find_run=find)
        ledger = Ledger(plan, store, "e")
        for entry in (Entry(scored="old"), Entry()):
            found = ledger._scored("t", words, entry)
            assert (found is None) == again
        made["new"] = FoundRun("new", "FINISHED", {}, False, {SCORED_ON_TAG: scored_on(words)})
        found = ledger._scored("t", words, Entry(scored="old"))
        assert found is not None and found.run_id == ("new" if again else "old")


def test_an_evaluation_is_of_the_ground_that_it_was_made_on(tmp_path: Path) -> None:
    """Not of what else was typed, as the number of threads; nor of an inventory that was changed since."""
    plan = Plan(name="n", question="", primary="p", arms=("a",), seeds=(0,), cells=())
    lakes = tmp_path / "lakes.gpkg"
    lakes.write_text("two lakes")
    words = (f"dataset.lakes='{lakes}'", "eval.split=test")
    own = scored_on(words)
    assert scored_on((*words, "train.threads=4", "paths.data=elsewhere")) == own
    assert scored_on((*words, "train.precision=fp32")) != own and scored_on(words[1:]) != own
    made = {"old": FoundRun("old", "FINISHED", {}, False, {SCORED_ON_TAG: "of another study's words"})}
    store: Any = SimpleNamespace(mlruns=tmp_path, found=made.get, find_run=lambda *_, **__: None)
    ledger = Ledger(plan, store, "e")
    noted = Entry(scored="old", ground=own)
    assert ledger._scored("t", words, noted) is made["old"], "shown instead of made again, as the line says"
    assert ledger._scored("t", words, Entry(scored="old")) is None
    lakes.write_text("three lakes!")
    assert scored_on(words) != own and ledger._scored("t", words, noted) is None
    made["old"].tags.clear()
    assert ledger._scored("t", words, noted) is None
