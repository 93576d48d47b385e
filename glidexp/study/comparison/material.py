"""What the runs of a comparison left behind, and the sums that scores are made of."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from glidexp.errors import TrackingError
from glidexp.scoring.confusion import Counts
from glidexp.study.comparison.arms import Arm, common_ground, counts_of, read_lakes, read_tables
from glidexp.study.comparison.clusters import Ground, lake_clusters, scenes_of_one_lake
from glidexp.study.comparison.measures import Measure, lake_sums
from glidexp.tracking.found import TrackedRun, read_file
from glidexp.tracking.store import Store


@dataclass(frozen=True, slots=True)
class Material:
    """What the runs of a comparison left behind, read once."""

    tables: Mapping[str, pd.DataFrame]
    """rows of scores.parquet, by run id"""
    lakes: Mapping[str, pd.DataFrame]
    """rows of lakes.parquet, by run id; empty where they are not wanted"""
    ground: Ground
    _known: dict[tuple[object, ...], Counts] = field(default_factory=dict, repr=False, compare=False)
    """pixels of an arm, which several scores are made of"""
    _clusters: dict[str, "pd.Series[str]"] = field(default_factory=dict, repr=False, compare=False)
    """that the lakes of a run lie in"""

    def sums(self, arms: Sequence[Arm], measure: Measure) -> list[Counts]:
        """What a score is made of, (S, C, k) of each arm, on the same C clusters.

        Raises:
            DataError: nothing is left of the ground, or no lake
        """
        if not measure.of_lakes:
            return [self._pixels(arm, measure) for arm in arms]
        ids = [run.run_id for arm in arms for run in arm.runs]
        lakes = {run_id: self.lakes[run_id] for run_id in ids}
        for run_id in ids:
            if run_id not in self._clusters:
                self._clusters[run_id] = lake_clusters(lakes[run_id], self.tables[run_id], self.ground)
        found = lake_sums(lakes, self._clusters, measure)
        return [np.stack([found[run.run_id] for run in arm.runs]) for arm in arms]

    def _pixels(self, arm: Arm, measure: Measure) -> Counts:
        key = (tuple(run.run_id for run in arm.runs), measure.at_half, measure.stratum)
        if key not in self._known:
            self._known[key] = counts_of(
                arm, self.tables, self.ground, at_half=measure.at_half, stratum=measure.stratum
            )[0]
        return self._known[key]


def gather(store: Store, runs: Sequence[TrackedRun], split: str, *, lakes: bool = False) -> Material:
    """Reads what runs left behind, and makes sure that all met the same ground.

    Raises:
        DataError: other ground, other labels
        TrackingError: a run without scores
    """
    tables = read_tables(store, runs, split)
    ground, found = common_ground(tables), read_lakes(store, runs, split) if lakes else {}
    if ground.kind == "scene" and not ground.shared:  # as of a split by region
        with suppress(TrackingError, OSError, KeyError, ValueError):  # then nothing is said of it, as before
            own = [read_file(store, part, "lakes.parquet", pd.read_parquet) for part in runs[0].parts]
            table = pd.concat(own, ignore_index=True)
            ground = replace(ground, sharing=scenes_of_one_lake(table[table["split"] == split]), shared="lakes")
    return Material(tables, found, ground)
