"""Data of a study, made once for each recipe before the runs begin: they only open it then."""

import logging
from collections.abc import Sequence
from pathlib import Path

from glidexp.config import DatasetConfig
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.workers import Crew
from glidexp.study.execution.cells import Cell

log = logging.getLogger("glidexp")

NO_DATA = ("seed", "backbone", "decoder", "augmentation", "loss", "optimizer", "init", "train", "tracking", "resume")
"""sections that play no part in what tiles are made"""


def prepare_data(cells: Sequence[Cell]) -> int:
    """Makes the stores that the cells train on, and those that they are scored on where their words name a data set.

    An evaluation that takes the data set of its model opens a store that is made, behind a lock, by who comes first.

    Args:
        cells: that are to be run

    Returns:
        number of recipes

    Raises:
        GlidexpError: data that cannot be used; no run was begun
    """
    from glidexp import door

    wanted: dict[str, tuple[DatasetConfig, int, str]] = {}
    for words, config_name in _distinct(cells):
        config = door.compose(list(words)) if config_name == "train" else door.compose_evaluation(list(words))
        recipe = recipe_id(config.dataset, config.tile_size.px)
        wanted.setdefault(f"{config.paths.data}/{recipe}", (config.dataset, config.tile_size.px, config.paths.data))
    for dataset, tile_px, folder in wanted.values():
        prepare(dataset, tile_px, Path(folder), crew=Crew())
    return len(wanted)


def _distinct(cells: Sequence[Cell]) -> list[tuple[tuple[str, ...], str]]:
    """Words that may differ in their data, once each, with the config that they are for."""
    found: dict[tuple[object, ...], tuple[tuple[str, ...], str]] = {}
    for cell in cells:
        found.setdefault(("train", *_about_data(cell.words)), (cell.words, "train"))
        ground = cell.scored_on or ()
        if any(word.split("=", 1)[0].lstrip("+") == "dataset" for word in ground):
            found.setdefault(("evaluate", *_about_data(ground)), (ground, "evaluate"))
    return list(found.values())


def _about_data(words: Sequence[str]) -> list[str]:
    return [word for word in words if word.split("=", 1)[0].split(".")[0].lstrip("+~") not in NO_DATA]
