"""What names an evaluation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from glidexp.config.evaluation import Adapt, EvalConfig, EvalSplit, EvaluateConfig
from glidexp.training.rescoring.rescore import evaluation_id


def test_what_a_network_is_fed_is_a_part_of_the_evaluations_id() -> None:
    """A card that was edited by hand is another model, whatever its weights."""
    tiles = SimpleNamespace(index=pd.DataFrame({"xxh3": ["a", "b"]}), split_hash="s")
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
    tiles = SimpleNamespace(index=pd.DataFrame({"xxh3": ["a", "b", "c"]}), split_hash="s")
    runtime, found = SimpleNamespace(precision="fp32"), SimpleNamespace(card={"weights": {"sha256": "0"}})

    def named(adapt: Adapt, batch_size: int) -> str:
        config = EvaluateConfig(eval=EvalConfig(split=EvalSplit.test, adapt=adapt))
        config.train.batch_size = batch_size
        fit = {"train": np.array([2])}
        return evaluation_id(config, found, tiles, np.array([0, 1]), 0.5, fit, runtime)  # type: ignore[arg-type]

    assert named(Adapt.batch_norm, 4) != named(Adapt.batch_norm, 8)
    assert named(Adapt.normalise, 4) == named(Adapt.normalise, 8)
