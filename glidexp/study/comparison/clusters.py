"""Clusters: pieces of ground that are taken as independent when intervals are made."""

from dataclasses import dataclass

import pandas as pd

from glidexp.scoring.confusion import UNKNOWN_SCENES


@dataclass(frozen=True, slots=True)
class Ground:
    """What the runs were scored on."""

    clusters: tuple[str, ...]
    kind: str
    """scene, block or tile: what is drawn together when intervals are made"""
    tiles: int
    sharing: int = 0
    """scenes that lie on ground of other ones, in part at least"""

    @property
    def caveat(self) -> str:
        """A sentence where the clusters are less than one could wish; else empty."""
        if self.kind == "tile":
            return "tiles treated as independent: no scene or block is known"
        if self.kind == "scene" and self.sharing:
            return (
                f"{self.sharing} of {len(self.clusters)} scenes share ground with others, and are treated as "
                "independent: intervals are too narrow as far as they show the same lakes"
            )
        return ""


def cluster_kind(table: pd.DataFrame) -> str:
    """What counts as independent ground of these tiles: scene where two or more are known, else block, else tile."""
    for kind in ("scene", "block"):
        names = table[kind].astype(object).where(table[kind].notna(), "").astype(str)
        if names.nunique() > 1 and not names.isin(UNKNOWN_SCENES).any():
            return kind
    return "tile"


def clusters_of(table: pd.DataFrame, kind: str) -> "pd.Series[str]":
    """The cluster of each row, by the name of its scene, block or tile."""
    return table[kind].astype(str)


def scenes_that_share(table: pd.DataFrame) -> int:
    """How many scenes of these tiles lie on ground of others. A split by scene names what it keeps together, as it
    overlaps, after all of these scenes; blocks of another split say nothing of that.

    Args:
        table: with scene and block
    """
    scenes = table[["scene", "block"]].astype(str).drop_duplicates()
    named = [f"+{scene}+" in f"+{block}+" for scene, block in zip(scenes["scene"], scenes["block"], strict=True)]
    together = scenes[named].groupby("block").size()
    return int(together[together > 1].sum())


def lake_clusters(lakes: pd.DataFrame, tiles: pd.DataFrame, ground: Ground) -> "pd.Series[str]":
    """The cluster of the ground that each lake lies in.

    Args:
        lakes: rows of lakes.parquet
        tiles: rows of scores.parquet of the same run
        ground: from `common_ground`
    """
    if ground.kind == "scene":
        return clusters_of(lakes, "scene")
    if ground.kind == "tile":
        return clusters_of(lakes, "tile")
    return lakes["tile"].map(dict(zip(tiles["tile"], clusters_of(tiles, ground.kind), strict=True))).astype(str)
