"""Checks against the champion, on the same test tiles, cleared of those that the champion has met in training."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from glidexp.errors import DataError
from glidexp.models import lineage
from glidexp.models.load import find
from glidexp.release.again import Rescored
from glidexp.release.report import Check, judged, skipped
from glidexp.scoring.statistics import effect_of, pseudo_values
from glidexp.study.arms import Arm, common_ground, counts_of, read_tables
from glidexp.study.compare import Measure
from glidexp.tracking.store import Store

LEVEL = 0.95
FEW_PX = 200
"""a region or sensor with fewer lake pixels says nothing about which network is worse"""
BEATS, STRATA = "beats_champion", "no_stratum_worse"


@dataclass(frozen=True, slots=True)
class Pair:
    """Both networks on ground that neither has met."""

    candidate: Arm
    champion: Arm
    tables: dict[str, pd.DataFrame]
    """rows of scores.parquet by run id, the same tiles in both"""
    left_out: int
    """tiles that the champion has met"""
    note: str


def pair(store: Store, candidate: Rescored, champion: Rescored, uri: str) -> Pair:
    """Lays both side by side.

    Args:
        store: holds both evaluations
        candidate: on its own test tiles
        champion: on the same
        uri: of the champion

    Raises:
        DataError: they were scored on other tiles
    """
    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        line = lineage.of_bundle(find(uri, store, Path(aside)).bundle)
    tiles = candidate.tiles
    rows = tiles.rows("test")
    leak = lineage.refuse_leak(line, tiles, rows, allow=True)
    clean = set(tiles.index["tile"].iloc[rows[~leak.tiles]].astype(str))
    tables = read_tables(store, [candidate.run, champion.run], "test")
    kept = {name: table[table["tile"].astype(str).isin(clean)] for name, table in tables.items()}
    note = f"what {', '.join(line.unknown)} was trained on is not known" if line.unknown else ""
    arms = Arm("candidate", (candidate.run,)), Arm("champion", (champion.run,))
    return Pair(*arms, kept, int(leak.tiles.sum()), note)


def beats(both: Pair, measure: Measure, uri: str) -> Check:
    """The paired test: is the difference above 0, and would it be on other ground of the same kind?"""
    if not _lake(both):
        return skipped(BEATS, f"{uri} was trained on all of the test ground that holds lake: no clean ground is left.")
    ground = common_ground(both.tables)
    mine, theirs = (
        counts_of(arm, both.tables, ground, at_half=measure.at_half, stratum=measure.stratum)[0]
        for arm in (both.candidate, both.champion)
    )
    value = float(np.mean(measure.of(mine) - measure.of(theirs)))
    if not np.isfinite(value):
        return judged(BEATS, False, f"{measure.name} has no value on the ground that both can be scored on (0/0).")
    scores = f"{100 * float(measure.of(mine)[0]):.2f} against {100 * float(measure.of(theirs)[0]):.2f} of {uri}"
    where = f"{measure.name} on {len(next(iter(both.tables.values())))} test tiles of {mine.shape[1]} {ground.kind}s"
    left = f"; {both.left_out} tiles that the champion has met were left out" if both.left_out else ""
    note = f"; {both.note}" if both.note else ""
    table = pseudo_values(mine, measure.of) - pseudo_values(theirs, measure.of) if mine.shape[1] > 1 else None
    if table is None or not np.isfinite(table).all():
        said = "on one piece of ground nothing can be said about others"
        return judged(BEATS, False, f"{scores}, {where}: {said}{left}{note}.")
    effect = effect_of(table, value=value, level=LEVEL)
    told = f"difference {100 * value:+.2f} [{100 * effect.low:+.2f}, {100 * effect.high:+.2f}], p {effect.p:.3g}"
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
    if not _lake(both):
        return skipped(STRATA, "no clean ground is left on which the champion could be scored.")
    ground = common_ground(both.tables)
    losses: dict[str, float] = {}
    first = both.tables[both.candidate.runs[0].run_id]
    few = []
    for kind in ("region", "sensor"):
        for value in sorted(set(first[kind].astype(str))):
            if int(first.loc[first[kind].astype(str) == value, "lake_px"].sum()) < FEW_PX:
                few.append(value)
                continue
            mine, theirs = (
                float(
                    measure.of(counts_of(arm, both.tables, ground, at_half=measure.at_half, stratum=(kind, value))[0])[
                        0
                    ]
                )
                for arm in (both.candidate, both.champion)
            )
            if np.isfinite(mine) and np.isfinite(theirs):
                losses[f"{kind} {value}"] = theirs - mine
    if not losses:
        return skipped(STRATA, f"no region or sensor has {FEW_PX} lake pixels: {', '.join(few)}.")
    worst = max(losses, key=lambda name: losses[name])
    left = f"; with fewer than {FEW_PX} lake pixels and not judged: {', '.join(few)}" if few else ""
    change = f"{worst} changed by {-100 * losses[worst]:+.2f} points, the least of {len(losses)}"
    return judged(STRATA, losses[worst] <= margin, f"{change}; a loss of {100 * margin:g} is allowed{left}.")


def _lake(both: Pair) -> bool:
    table = both.tables[both.candidate.runs[0].run_id]
    return bool(len(table)) and int(table["lake_px"].sum()) > 0


def without_champion(name: str) -> tuple[Check, Check]:
    """Both checks where there is nothing to beat."""
    told = f"models:/{name} has no champion yet: there is nothing to compare with."
    return skipped(BEATS, told), skipped(STRATA, told)


def not_comparable(error: DataError) -> tuple[Check, Check]:
    """Both checks where champion and candidate cannot be scored on one ground."""
    told = f"the champion cannot be scored on the candidate's test ground: {error}"
    return judged(BEATS, False, told), judged(STRATA, False, told)
