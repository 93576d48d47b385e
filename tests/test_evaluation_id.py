"""What names an evaluation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from glidexp.config.evaluation import EvaluateConfig
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
