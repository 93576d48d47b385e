"""Tiles that meet: copies and overlapping ground, within a store and between two."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from glidexp.data import leakage
from glidexp.data.check.faults import Finding, Severity
from glidexp.data.check.near import Looks, near_pairs
from glidexp.data.steps import Step, untold
from glidexp.data.store import TileStore
from glidexp.wording import does, many

ALIKE_LABELS = 0.5
"""IoU under which the labels of two copies are told to differ"""
MEANING = {
    Severity.leak: "test ground that was trained on",
    Severity.doubtful: "ground of val on another side: it chose the epoch and the threshold",
    Severity.note: "ground that counts twice",
}


def copies(one: Looks, other: Looks | None, step: Callable[[str], None], *, where: str = "") -> list[Finding]:
    """Pairs that show the same picture, by what they mean.

    Args:
        one: the store
        other: another store; None: within the store
        step: told after each part of the comparison
        where: "" or a few words that name the other store
    """
    table = near_pairs(one, other, step)
    found = _by_severity(table, one.tiles, (other or one).tiles, "copy", where, within=other is None)
    differ = table[(table["label_iou"] < ALIKE_LABELS) & (table["agree"] > 0)]
    if len(differ):
        what = (
            f"{many(len(differ), 'pair')} of copies{where} {does(len(differ), 'have')} labels that differ "
            f"(IoU under {ALIKE_LABELS:g})"
        )
        sided = _sided(differ, one.tiles, (other or one).tiles)
        found.append(Finding(Severity.doubtful, "labels", what, _names(one.tiles, sided), sided))
    return found


def overlaps(one: TileStore, other: TileStore | None, step: Step = untold, *, where: str = "") -> list[Finding]:
    """Tiles of different sides that share ground: footprints that overlap, or squares of the same pixels.

    Args:
        one: the store
        other: another store; None: within the store
        step: told of each tile of both
        where: "" or a few words that name the other store
    """
    second = one if other is None else other
    mine = leakage.ground_of(one, one.every, "test", step)
    theirs = mine if other is None else leakage.ground_of(second, second.every, "train", step)
    pairs = {(a, b) for b, a in leakage.same_place(theirs, mine) + leakage.same_pixels(theirs, mine)}
    side_a, side_b = one.index["split"].tolist(), second.index["split"].tolist()
    kept = sorted((a, b) for a, b in pairs if other is not None or (a < b and side_a[a] != side_b[b]))
    table = pd.DataFrame(kept, columns=["a", "b"]).astype(np.int64)
    return _by_severity(table, one, second, "overlap", where, within=other is None)


def severity_of(side_a: str, side_b: str) -> Severity:
    """What it means that tiles of two sides show the same ground."""
    sides = {side_a, side_b}
    if sides == {"train", "test"}:
        return Severity.leak
    return Severity.doubtful if len(sides) == 2 and "val" in sides else Severity.note


def _sided(table: pd.DataFrame, one: TileStore, other: TileStore) -> pd.DataFrame:
    at = [("side_a", "a", one), ("side_b", "b", other)]
    columns = {name: tiles.index["split"].to_numpy(dtype=object)[table[key].to_numpy(int)] for name, key, tiles in at}
    return table.assign(**columns).reset_index(drop=True)


def _names(tiles: TileStore, table: pd.DataFrame) -> list[str]:
    rows = sorted(set(table["a"].astype(int).tolist()))
    return [str(name) for name in tiles.index["tile"].iloc[rows]]


def _by_severity(
    table: pd.DataFrame, one: TileStore, other: TileStore, kind: str, where: str, *, within: bool
) -> list[Finding]:
    if not len(table):
        return []
    sided = _sided(table, one, other)
    severity = [severity_of(a, b) for a, b in zip(sided["side_a"], sided["side_b"], strict=True)]
    found = []
    for level, meaning in MEANING.items():
        part = sided[[s is level for s in severity]].reset_index(drop=True)
        if not len(part):
            continue
        ends = {("a", row) for row in part["a"]} | {("a" if within else "b", row) for row in part["b"]}
        what = f"{many(len(part), kind)}{where} among {many(len(ends), 'tile')}: {meaning}"
        found.append(Finding(level, kind, what, _names(one, part), part))
    return found
