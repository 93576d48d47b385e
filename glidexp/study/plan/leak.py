"""A leak between source and target, found before anything is trained.

Three ways lead to one. The data holds the same ground on two sides, under two names. An arm starts from another one
that was trained on another data set, in which its own test ground lies. Or the first weights, of an earlier run or of
a file, have met it. A run would refuse the last two when it begins, hours into the study; the first it cannot see.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glidexp.config import Config, InitKind
from glidexp.data.sensor_mix import judging_rows, training_rows
from glidexp.errors import LeakError
from glidexp.study.plan.check import BY_ARM, Checked
from glidexp.study.plan.data import Data
from glidexp.wording import does, many

if TYPE_CHECKING:
    import pandas as pd

    from glidexp.data.store import TileStore

log = logging.getLogger("glidexp")
Rows = npt.NDArray[np.int64]


def refuse_leaks(arms: Sequence[Checked], seeds: Sequence[int], data: Data, *, transfer: bool) -> tuple[str, ...]:
    """Compares what arms train on, and all that they start from, with the test tiles that they are scored on.

    Args:
        arms: of the study; each says with `allow_leak` whether a leak is only told
        seeds: of their runs, which may draw other parts of the data
        data: with the stores of the arms
        transfer: the study has sources and targets, so that the data itself is looked at too

    Returns:
        a sentence for each leak that is allowed

    Raises:
        LeakError: which arm, which tiles, and where they were met
    """
    told: dict[str, None] = {}
    by_name = {one.name: one for one in arms}
    seen: set[str] = set()
    for one in arms:
        if repr(one.config) in seen:  # rungs that learn nothing are another scoring of the same training
            continue
        seen.add(repr(one.config))
        found = [*(_within(one, seeds, data) if transfer else ())]
        found += _from_arms(one, by_name, seeds, data)
        for sentence in found:
            if not one.config.allow_leak:
                raise LeakError(f"{one.name}: {sentence}")
            told[f"{one.name}: {sentence}"] = None
        _first_weights(one, data)
    for sentence in told:
        log.warning("%s", sentence)
    return tuple(told)


def used_rows(config: Config, seeds: Iterable[int], store: "TileStore") -> tuple[Rows, Rows]:
    """Rows that the runs of an arm train on, and those that choose their epochs and thresholds, with any seed."""
    train, val = [], []
    for seed in seeds:
        train.append(training_rows(store, config.sensor_mix, config.subset, seed, config.self_training)[0])
        val.append(judging_rows(store, config.sensor_mix, config.subset, seed))
    return np.unique(np.concatenate(train)), np.unique(np.concatenate(val))


def _within(one: Checked, seeds: Sequence[int], data: Data) -> Iterable[str]:
    """Test ground that lies on another side of the same store as well."""
    pairs = data.met(one.config)
    if not len(pairs):
        return
    store = data.store(one.config)
    pairs = pairs[np.isin(pairs["a"], np.concatenate(used_rows(one.config, seeds, store)))]
    if not len(pairs):
        return
    index = store.index
    tested, trained = index.iloc[np.unique(pairs["b"])], index.iloc[np.unique(pairs["a"])]
    yield (
        f"{len(tested)} of {many(len(store.rows('test')), 'tile')} to be scored ({_places(tested)}) "
        f"{does(len(tested), 'show')} ground that it trains "
        f"on or chooses by ({_places(trained)}). `glidexp data check {store.path}` shows the pairs: put both on one "
        "side, under one scene, or take one out. allow_leak=true goes on, and the report says so."
    )


def _places(tiles: "pd.DataFrame") -> str:
    """`greenland: scene g1, g2; andes: scene a1` of some tiles."""
    said = []
    for region, own in tiles.groupby(tiles["region"].astype(str), sort=True):
        scenes = sorted(set(own["scene"].astype(str))) or ["unknown"]
        more = f" and {len(scenes) - 3} more" if len(scenes) > 3 else ""
        said.append(f"{region}: scene{'s' * (len(scenes) > 1)} {', '.join(scenes[:3])}{more}")
    return "; ".join(said)


def _from_arms(one: Checked, by_name: Mapping[str, Checked], seeds: Sequence[int], data: Data) -> Iterable[str]:
    """Test ground that an arm from which this one starts has met on another data set.

    On the same store it is apart by the split, or told by `_within`.
    """
    from glidexp.data import leakage  # knows the earth

    store, before = data.store(one.config), by_name[one.start] if one.start else None
    while before is not None:
        other = data.store(before.config)
        if other is not store:
            train, val = used_rows(before.config, seeds, other)
            parts = [leakage.ground_of(other, train, "train"), leakage.ground_of(other, val, "val")]
            leak = leakage.find_leak(leakage.join(parts), store, store.rows("test"))
            if leak.tiles.any():
                yield (
                    f"{leak.sentence([f'arm {before.name}'])}: let that arm train on other ground, or set "
                    "allow_leak=true, which marks the scores as leaking."
                )
        before = by_name[before.start] if before.start else None


def _first_weights(one: Checked, data: Data) -> None:
    """Refuses an earlier run or a file that has met the test ground.

    Raises:
        LeakError: naming the arm
    """
    init = one.config.init
    if init.kind not in (InitKind.run, InitKind.checkpoint) or str(init.run or "").startswith(BY_ARM):
        return
    from glidexp.models import lineage
    from glidexp.training.beginning.start import start_of

    store = data.store(one.config)
    with start_of(one.config) as (first, _):
        line = lineage.of_init(first)
        try:
            lineage.refuse_leak(line, store, store.rows("test"), allow=one.config.allow_leak, trains=True)
        except LeakError as error:
            raise LeakError(f"{one.name}: {error}") from None
