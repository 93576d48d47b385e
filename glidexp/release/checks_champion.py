"""Checks against the champion, on the same test tiles, cleared of those that the champion has met in training."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from glidexp.errors import DataError, GlidexpError
from glidexp.models import lineage
from glidexp.models.load import find
from glidexp.release.again import Rescored
from glidexp.release.report import Check, judged, skipped
from glidexp.scoring.statistics import effect_of, pseudo_values
from glidexp.study.comparison.arms import Arm, common_ground
from glidexp.study.comparison.compare import Measure
from glidexp.study.comparison.material import Material, gather
from glidexp.tracking.store import Store
from glidexp.wording import does, many

LEVEL = 0.95
FEW_PX = 200
"""a region or sensor with fewer lake pixels says nothing about which network is worse"""
BEATS, STRATA = "beats_champion", "no_stratum_worse"


@dataclass(frozen=True, slots=True)
class Pair:
    """Both networks on ground that neither has met."""

    candidate: Arm
    champion: Arm
    material: Material | None
    """their scores on the same tiles; None where no lake is left on clean ground"""
    left_out: int
    """tiles that the champion has met"""
    note: str


def pair(store: Store, candidate: Rescored, champion: Rescored, uri: str, measure: Measure) -> Pair:
    """Lays both side by side.

    Args:
        store: holds both evaluations
        candidate: on the ground by which it was chosen
        champion: on the same
        uri: of the champion
        measure: what is compared

    Raises:
        DataError: they were scored on other tiles
    """
    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        line = lineage.of_bundle(find(uri, store, Path(aside)).bundle)
    tiles, rows = candidate.tiles, candidate.rows
    leak = lineage.refuse_leak(line, tiles, rows, allow=True)
    clean = set(tiles.index["tile"].iloc[rows[~leak.tiles]].astype(str))
    both = gather(store, [candidate.run, champion.run], "test", lakes=measure.of_lakes)
    kept = _only(both, clean) if leak.tiles.any() else both
    lake = int(next(iter(kept.tables.values()))["lake_px"].sum())
    note = f"what {', '.join(line.unknown)} was trained on is not known" if line.unknown else ""
    arms = Arm("candidate", (candidate.run,)), Arm("champion", (champion.run,))
    return Pair(*arms, kept if lake else None, int(leak.tiles.sum()), note)


def _only(material: Material, tiles: set[str]) -> Material:
    """Without what lies on other tiles."""

    def cut(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        kept = {name: table[table["tile"].astype(str).isin(tiles)] for name, table in tables.items()}
        return {name: table.reset_index(drop=True) for name, table in kept.items()}

    tables = cut(material.tables)
    empty = not len(next(iter(tables.values())))
    return Material(tables, cut(material.lakes), material.ground if empty else common_ground(tables))


def beats(both: Pair, measure: Measure, uri: str) -> Check:
    """The paired test: is the difference above 0, and would it be on other ground of the same kind?"""
    if both.material is None:
        return skipped(BEATS, f"{uri} was trained on all of the test ground that holds lake: no clean ground is left.")
    ground = both.material.ground
    mine, theirs = both.material.sums((both.candidate, both.champion), measure)
    value = float(np.mean(measure.of(mine) - measure.of(theirs)))
    if not np.isfinite(value):
        return judged(BEATS, False, f"{measure.name} has no value on the ground that both can be scored on (0/0).")
    scores = f"{100 * float(measure.of(mine)[0]):.2f} against {100 * float(measure.of(theirs)[0]):.2f} of {uri}"
    weights = measure.weights(mine, theirs)
    count = int(np.count_nonzero(weights))
    of = f"scene {ground.scene} alone" if ground.one_piece else many(count, ground.kind)
    where = f"{measure.name} on {many(ground.tiles, 'test tile')} of {of}"
    left = (
        f"; {many(both.left_out, 'tile')} that the champion has met {does(both.left_out, 'were')} left out"
        if both.left_out
        else ""
    )
    several = count > 1 and not ground.one_piece
    note = "".join(f"; {one}" for one in (ground.caveat if several else "", both.note) if one)
    table = np.subtract(*(pseudo_values(one, measure.of, weights) for one in (mine, theirs))) if several else None
    if table is None or not np.isfinite(table).all():
        said = "on one piece of ground nothing can be said about others"
        return judged(BEATS, False, f"{scores}, {where}: {said}{left}{note}.")
    effect = effect_of(table, value=value, level=LEVEL, weights=weights)
    told = f"difference {100 * value:+.2f} [{100 * effect.low:+.2f}, {100 * effect.high:+.2f}], p {effect.p:.3g}"
    if not effect.known:
        told = f"difference {100 * value:+.2f}, the same on all of it, so that there is no interval"
    sure = value > 0 and effect.p <= 1 - LEVEL
    verdict = "better" if sure else "worse" if value < 0 and effect.p <= 1 - LEVEL else "not distinguishable"
    return judged(BEATS, sure, f"{scores}, {where}: {told}, {verdict}{left}{note}.")


def no_stratum_worse(both: Pair, measure: Measure, margin: float) -> Check:
    """Whether any region or sensor lost more than a margin, of those with enough lake to say so.

    Args:
        both: from `pair`
        measure: its score is pooled over each region and each sensor
        margin: largest loss allowed, 0-1
    """
    if both.material is None:
        return skipped(STRATA, "no clean ground is left on which the champion could be scored.")
    losses: dict[str, float] = {}
    first = both.material.tables[both.candidate.runs[0].run_id]
    few = []
    for kind in ("region", "sensor"):
        for value in sorted(set(first[kind].astype(str))):
            if int(first.loc[first[kind].astype(str) == value, "lake_px"].sum()) < FEW_PX:
                few.append(value)
                continue
            here = replace(measure, stratum=(kind, value))
            try:
                sums = both.material.sums((both.candidate, both.champion), here)
            except DataError:  # no such lake
                continue
            mine, theirs = (float(here.of(counts)[0]) for counts in sums)
            if np.isfinite(mine) and np.isfinite(theirs):
                losses[f"{kind} {value}"] = theirs - mine
    if not losses:
        return skipped(STRATA, f"no region or sensor has {FEW_PX} lake pixels: {', '.join(few)}.")
    worst = max(losses, key=lambda name: losses[name])
    left = f"; with fewer than {FEW_PX} lake pixels and not judged: {', '.join(few)}" if few else ""
    change = f"{worst} changed by {0.0 - 100 * losses[worst]:+.2f} points, the least of {len(losses)}"
    return judged(STRATA, losses[worst] <= margin, f"{change}; a loss of {100 * margin:g} is allowed{left}.")


def without_champion(name: str) -> tuple[Check, Check]:
    """Both checks where there is nothing to beat."""
    told = f"models:/{name} has no champion yet: there is nothing to compare with."
    return skipped(BEATS, told), skipped(STRATA, told)


def not_comparable(error: GlidexpError) -> tuple[Check, Check]:
    """Both checks where champion and candidate cannot be scored on one ground."""
    told = f"the champion cannot be scored on the candidate's test ground: {error}"
    return judged(BEATS, False, told), judged(STRATA, False, told)
