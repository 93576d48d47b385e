"""Arms: runs that differ in nothing but their seed, and their scores on the same ground, laid side by side."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.config import DatasetConfig, flat
from glidexp.data.steps import shown_steps
from glidexp.errors import DataError
from glidexp.identity import FIRST_VERSION, INTRODUCED_AT, MODEL_VERSION_TAG, VERSION_TAG
from glidexp.scoring.confusion import UNKNOWN_SCENES, Counts, rows_of
from glidexp.scoring.scores import read_scores
from glidexp.study.comparison.clusters import (
    UNTOLD,
    Ground,
    cluster_kind,
    clusters_of,
    scene_of_all,
    scenes_that_share,
)
from glidexp.tracking.found import TrackedRun, all_parts, read_file
from glidexp.tracking.store import Store
from glidexp.wording import does, many

ELSEWHERE = ("seed", "paths.", "tracking", "resume", "allow_leak", "train.device", "train.threads", "train.resident",
             "train.checkpoint_every", "train.gradient_checkpointing", "eval.", "model")  # fmt: skip
"""params in which the runs of one arm may differ"""
COUNTED = ("tp", "fp", "fn", "tn")
NETWORKS = "networks"
"""param of how many networks a run scored the mean"""
USUAL = {NETWORKS: "1", "adapt": "none"}
"""of params that only evaluations have: their values for a training"""
PLUS = "+"
"""between the seeds of the networks of a mean"""
LEAKS = {
    "true": "LEAKING: {} were scored on ground that was met in training",
    "unknown": "what {} were trained on is not known: their ground may have been met in training",
}
"""what is said of runs, by their tag"""


@dataclass(frozen=True, slots=True)
class Arm:
    """Runs of one setting: trainings, evaluations of their networks, or of means of these. Sorted by seed."""

    name: str
    """by what differs from the other arms: `backbone=resnet18 loss=dice`"""
    runs: tuple[TrackedRun, ...]

    @property
    def seeds(self) -> list[int]:
        """Of trainings, one each."""
        return [int(run.params.get("seed", "0")) for run in self.runs]

    @property
    def drawn(self) -> list[frozenset[str]]:
        """What each run owes to luck: the seed of its network, of a mean those of all."""
        return [_drawn(run) for run in self.runs]

    @property
    def of_means(self) -> bool:
        """Whether its runs scored means of networks."""
        return any(len(seeds) > 1 for seeds in self.drawn)


def arms_of(runs: Sequence[TrackedRun]) -> list[Arm]:
    """Groups runs that differ only in their seed, in the order in which they were given.

    Raises:
        DataError: a seed twice in one arm, or in two means of one arm
    """
    grouped: dict[tuple[tuple[str, str], ...], list[TrackedRun]] = {}
    for run in runs:
        grouped.setdefault(setting_of(run), []).append(run)
    varied = _differing([dict(key) for key in grouped])
    if NETWORKS not in varied and any(dict(key)[NETWORKS] != "1" for key in grouped):
        varied.append(NETWORKS)  # beside arms of a study it is what tells them apart
    arms = []
    for key, members in grouped.items():
        name = " ".join(f"{name}={dict(key).get(name, '-')}" for name in varied) or "all runs"
        arm = Arm(name, tuple(sorted(members, key=lambda run: sorted(map(seed_order, _drawn(run))))))
        _refuse_twice(arm)
        arms.append(arm)
    return arms


def told_versions(runs: Iterable[TrackedRun]) -> list[str]:
    """A sentence where runs, or the networks that they scored, are of several `identity.RESULTS_VERSION`; else none."""
    by: dict[str, list[str]] = {}
    for run in all_parts(runs):
        version = run.tags.get(VERSION_TAG, str(FIRST_VERSION))
        trained = run.tags.get(MODEL_VERSION_TAG, version)
        said = version if trained == version else f"{version} of networks of {trained}"
        by.setdefault(said, []).append(run.run_id[:12])
    if len(by) < 2:
        return []
    who = "; ".join(f"{said}: {', '.join(dict.fromkeys(ids))}" for said, ids in sorted(by.items()))
    return [
        f"MIXED VERSIONS: a fault that changes results was mended between these runs (results version {who}), and may "
        "be the difference: make the older ones anew, by the same commands, to compare settings"
    ]


def told_leaks(runs: Sequence[TrackedRun]) -> list[str]:
    """A sentence on runs whose test ground was met in training, and on those of which that is not known; else none."""
    parts = all_parts(runs)
    marked = {leak: [run.run_id[:12] for run in parts if run.tags.get("glidexp.leak") == leak] for leak in LEAKS}
    return [LEAKS[leak].format(", ".join(ids)) for leak, ids in marked.items() if ids]


def seed_order(seed: str) -> tuple[bool, int, str]:
    """By which seeds are sorted; after them the weights of networks whose seed is not known."""
    return (not seed.isdigit(), int(seed) if seed.isdigit() else 0, seed)


def joined(seeds: Iterable[str]) -> str:
    """Seeds of a mean, as `0+1+2`."""
    return PLUS.join(sorted(seeds, key=seed_order))


def _drawn(run: TrackedRun) -> frozenset[str]:
    return frozenset(run.params.get("seed", "0").split(PLUS))


def _refuse_twice(arm: Arm) -> None:
    """Refuses runs of one arm that are not independent."""
    every = [seed for seeds in arm.drawn for seed in seeds]
    twice = sorted({seed for seed in every if every.count(seed) > 1}, key=seed_order)
    if not twice:
        return
    same = [run.run_id[:12] for run in arm.runs if twice[0] in _drawn(run)]
    if arm.of_means:
        raise DataError(
            f"seed {', '.join(twice)} is in several means of arm '{arm.name}' (seed {twice[0]} in runs "
            f"{', '.join(same)}): give means that share no network, they would count as independent."
        )
    raise DataError(
        f"seed {twice[0]} comes {len(same)} times in arm '{arm.name}' (runs {', '.join(same)}): give one run a "
        "seed, they would count as independent trainings."
    )


def complete(params: Mapping[str, str]) -> dict[str, str]:
    """Params of a training with those that came later, at the values at which trainings from before were made.

    Others stay as they are.
    """
    return _later() | dict(params) if "train.epochs" in params else dict(params)


@functools.cache
def _later() -> dict[str, str]:
    of_data = {
        f"dataset.{key}": value for key, value in flat(DatasetConfig()).items()
    }  # of them any may have come later
    return {key: str(value) for key, value in (INTRODUCED_AT | of_data).items()}


def setting_of(run: TrackedRun) -> tuple[tuple[str, str], ...]:
    """All that runs of one arm have in common: params and their values."""
    known = USUAL | complete(run.params)
    return tuple(sorted((key, value) for key, value in known.items() if not key.startswith(ELSEWHERE)))


def _differing(settings: Sequence[dict[str, str]]) -> list[str]:
    """Params in which arms differ; of a group's choice and what it brings, the choice alone."""
    keys = sorted({key for setting in settings for key in setting})
    varied = [key for key in keys if len({setting.get(key) for setting in settings}) > 1]
    chosen = {key for key in varied if "." not in key}
    plain = [key for key in varied if key.split(".")[0] not in chosen or key in chosen]
    apart = {tuple(setting.get(key) for key in plain) for setting in settings}
    return plain if len(apart) == len(settings) else varied


def read_tables(store: Store, runs: Sequence[TrackedRun], split: str) -> dict[str, pd.DataFrame]:
    """Rows of `scores.parquet` of a split, by run id.

    Raises:
        TrackingError: a run left none
        DataError: it cannot be read, or has no tile of that split, or folds share a tile
    """

    def scores(run: TrackedRun) -> pd.DataFrame:
        table, _ = read_file(store, run, "scores.parquet", read_scores)
        table = table[table["split"] == split].reset_index(drop=True)
        if table.empty:
            raise DataError(f"run {run.run_id[:12]} ({run.name}) has no scored tile of split '{split}'.")
        return table

    tables = _read(runs, scores, "reading scores")
    for run in runs:
        tiles = tables[run.run_id]["tile"]
        if run.folds and len(met := tiles[tiles.duplicated()]):
            ids, count = ", ".join(part.run_id[:12] for part in run.parts), len(met)
            raise DataError(
                f"runs {ids} are of several folds, and {many(count, 'tile')} ({met.iloc[0]}) {does(count, 'are')} test "
                "in two of them: their data or its split is not the same."
            )
    return tables


def _read(runs: Sequence[TrackedRun], read: Callable[[TrackedRun], pd.DataFrame], what: str) -> dict[str, pd.DataFrame]:
    """A table of each run, by its id; of one on folds all of theirs, with a column `fold` that says whose a row is."""
    known = {run.run_id: read(run) for run in shown(all_parts(runs), what)}
    found = {}
    for run in runs:
        of_folds = [known[part.run_id].assign(fold=place) for place, part in enumerate(run.folds)]
        found[run.run_id] = pd.concat(of_folds, ignore_index=True) if of_folds else known[run.run_id]
    return found


def shown(runs: Sequence[TrackedRun], what: str) -> Iterator[TrackedRun]:
    """The same runs, with a bar: to read what one left takes a second."""
    with shown_steps(len(runs), "runs", True, what=what, late=True) as step:
        for run in runs:
            yield run
            step(run.name)


def common_ground(tables: dict[str, pd.DataFrame]) -> Ground:
    """The clusters on which all runs were scored, after making sure that all met the same pixels and labels.

    Tiles of different size over the same ground are the same ground when each cluster holds as many valid and as many
    lake pixels.

    Raises:
        DataError: the runs were scored on different ground, or on other labels
    """
    kind = cluster_kind(next(iter(tables.values())))
    if kind == "tile" and len({frozenset(table["tile"]) for table in tables.values()}) > 1:
        scenes = pd.concat([table["scene"].astype(str) for table in tables.values()])
        if not scenes.isin(UNKNOWN_SCENES).any():
            kind = "scene"  # one scene in tiles of several sizes: its sums can be compared, tiles cannot
    reference: pd.DataFrame | None = None
    first = ""
    for run_id, table in tables.items():
        sums = table.groupby(clusters_of(table, kind))[["valid_px", "lake_px"]].sum()
        if reference is None:
            reference, first = sums, run_id
            continue
        missing = sorted(set(reference.index) ^ set(sums.index))
        if missing:
            raise DataError(
                f"runs {first[:12]} and {run_id[:12]} were scored on different ground ({kind} {missing[0]} and "
                f"{len(missing) - 1} more are in one of them only): score both on one data set with glidexp evaluate."
            )
        other = reference.index[(reference != sums.loc[reference.index]).any(axis=1)]
        if len(other):
            raise DataError(
                f"runs {first[:12]} and {run_id[:12]} were scored on other pixels or labels ({kind} {other[0]} has "
                f"{reference.loc[other[0], 'lake_px']} and {sums.loc[other[0], 'lake_px']} lake pixels): score both on "
                "one data set with glidexp evaluate."
            )
    assert reference is not None
    sharing = scenes_that_share(tables[first]) or UNTOLD
    names, scene = tuple(map(str, reference.index)), scene_of_all(tables[first])
    return Ground(names, kind, len(tables[first]), *sharing, scene=scene)


def counts_of(
    arm: Arm,
    tables: Mapping[str, pd.DataFrame],
    ground: Ground,
    *,
    at_half: bool,
    stratum: tuple[str, str] | None,
) -> tuple[Counts, NDArray[np.object_]]:
    """Confusion counts by seed and cluster.

    Args:
        arm: its runs
        tables: from `read_tables`
        ground: from `common_ground`
        at_half: at the fixed threshold 0.5 instead of the one chosen on val
        stratum: column and value that tiles must have, such as ("sensor", "landsat8"); None takes all

    Returns:
        (S, C, 4) and the names of the C clusters that hold such tiles

    Raises:
        DataError: no tile is left
    """
    columns = [f"{name}_at_0.5" for name in COUNTED] if at_half else list(COUNTED)
    found = []
    for run in arm.runs:
        table = tables[run.run_id]
        if stratum is not None:
            table = table.iloc[rows_of(table[stratum[0]], stratum[1])]
        if table.empty:
            known = ", ".join(sorted(set(tables[run.run_id][stratum[0]].astype(str)))) if stratum else ""
            raise DataError(f"no scored tile has {'='.join(stratum or ())}. There is: {known}.")
        found.append(table.groupby(clusters_of(table, ground.kind))[columns].sum())
    names = found[0].index
    return np.stack([frame.loc[names].to_numpy(np.int64) for frame in found]), names.to_numpy(dtype=object)


def read_lakes(store: Store, runs: Sequence[TrackedRun], split: str) -> dict[str, pd.DataFrame]:
    """Rows of `lakes.parquet` of a split, by run id.

    Raises:
        TrackingError: a run left none
        DataError: it cannot be read
    """

    def lakes(run: TrackedRun) -> pd.DataFrame:
        try:
            table = read_file(store, run, "lakes.parquet", pd.read_parquet)
            return table[table["split"] == split].reset_index(drop=True)
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"lakes.parquet of run {run.run_id[:12]} ({run.name}) cannot be read.") from error

    return _read(runs, lakes, "reading lakes")
