"""What every source and target of a transfer study needs on its own ground: tiles to train on, to choose by, to score.

Told before the first training: a matrix without a column is found out hours later otherwise.
"""

from typing import TYPE_CHECKING

from glidexp.config import DatasetConfig
from glidexp.config.study import Design, StudyConfig
from glidexp.config.transfer import By
from glidexp.data.prepare import declared_regions, declared_sensors
from glidexp.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

SIDES = ("train", "val", "test")


def refuse_bare(study: StudyConfig, dataset: DatasetConfig, index: "pd.DataFrame") -> None:
    """Refuses a source or target that lacks a side.

    Args:
        study: a matrix or a ladder
        dataset: settings of the data, which may promise regions or sensors that it has no tile of
        index: of the store

    Raises:
        ConfigError: which one, what it has, and what to do
    """
    by = study.transfer.by.value
    of = index[by].astype(str)
    declared = (declared_regions if study.transfer.by is By.region else declared_sensors)(dataset)
    names = {*study.transfer.sources} or {*of, *(declared or ())}
    if study.transfer.target is not None:
        names.add(study.transfer.target)
    for name in sorted(names):
        own = index[of == name]
        lacks = [side for side in SIDES if not (own["split"] == side).any()]
        with_lake = own[(own["split"] == "test") & (own["lake_fraction"] > 0)]
        if not lacks and len(with_lake):
            continue
        what = f"no {lacks[0]} tile" if lacks else "no test tile with a lake"
        scenes = [f"{own.loc[own['split'] == side, 'scene'].astype(str).nunique()} {side}" for side in SIDES]
        raise ConfigError(f"{by} {name} has {what} (scenes: {', '.join(scenes)}), and {_needs(study)}: {_way(study)}.")


def _needs(study: StudyConfig) -> str:
    by = study.transfer.by.value
    if study.design is Design.matrix:
        return f"each {by} of a matrix is trained on, chosen by and scored"
    return f"a ladder trains on, chooses by and scores each of its {by}s"


def _way(study: StudyConfig) -> str:
    more = "give more scenes, dataset.split.folds, larger dataset.split.val and test, or another dataset.split.seed"
    if study.design is Design.matrix:
        return f"{more}, or leave it out of study.transfer.sources"
    return f"{more}, or name others in study.transfer.target and sources"
