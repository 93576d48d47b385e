"""Clusters: pieces of ground that are taken as independent when intervals are made."""

from dataclasses import dataclass

import pandas as pd

from glidexp.data.check.divided import SAME_AREA
from glidexp.scoring.confusion import UNKNOWN_SCENES
from glidexp.scoring.lakes import TRUE

UNTOLD = (0, "")
"""scenes that share ground where nothing says which do, and what they share"""
_PART = r"_p\d+_\d+$"
"""ending of the name of a part of a large scene"""
_SQUARE = r"utm\d\d/"
"""how blocks of the split by block are called"""


@dataclass(frozen=True, slots=True)
class Ground:
    """What the runs were scored on."""

    clusters: tuple[str, ...]
    kind: str
    """scene, block or tile: what is drawn together when intervals are made"""
    tiles: int
    sharing: int = 0
    """scenes that lie on ground of other ones, in part at least"""
    shared: str = "ground"
    """what they have in common, as far as is known: ground, blocks of ground, lakes"""
    scene: str = ""
    """the one that all tiles are of; "" where they are of several, or some do not say"""

    @property
    def one_piece(self) -> bool:
        """Whether all of it is one scene and no part of it is known that could stand for other ground."""
        return self.kind == "tile" and bool(self.scene)

    @property
    def caveat(self) -> str:
        """A sentence where the clusters are less than one could wish; else empty."""
        if self.kind == "tile":
            why = f"all of them are of scene {self.scene}" if self.scene else "no scene or block is known"
            return f"tiles treated as independent: {why}"
        if self.kind == "scene" and self.sharing:
            return (
                f"{self.sharing} of {len(self.clusters)} scenes share {self.shared} with others, and are treated as "
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


def scene_of_all(table: pd.DataFrame) -> str:
    """The scene that all tiles are of; "" where they are of several, or some do not say."""
    names = {*table["scene"].astype(object).where(table["scene"].notna(), "").astype(str)}
    return names.pop() if len(names) == 1 and not names & {*UNKNOWN_SCENES} else ""


def clusters_of(table: pd.DataFrame, kind: str) -> "pd.Series[str]":
    """The cluster of each row, by the name of its scene, block or tile."""
    return table[kind].astype(str)


def scenes_that_share(table: pd.DataFrame) -> tuple[int, str] | None:
    """How many scenes of these tiles lie on ground of others, and what is shared; None where blocks do not tell.

    A split by scene names what it keeps together, as it overlaps, after all of these scenes; parts of one scene are
    apart. Of a split by block those scenes are counted that have tiles on a block of another's.

    Args:
        table: with scene and block
    """
    scenes = table[["scene", "block"]].astype(str).drop_duplicates()
    scenes["whole"] = scenes["scene"].str.replace(_PART, "", regex=True)
    if scenes["block"].str.match(_SQUARE).all():
        return _several(scenes, "block"), "blocks of ground"
    for whole in ("scene", "whole"):
        named = [f"+{scene}+" in f"+{block}+" for scene, block in zip(scenes[whole], scenes["block"], strict=True)]
        if all(named):
            return _several(scenes.assign(whole=scenes[whole]), "block"), "ground"
    return None


def scenes_of_one_lake(lakes: pd.DataFrame) -> int:
    """How many scenes show a lake that another one shows, too, as far as the inventory knows them by an id of its own.

    Args:
        lakes: rows of lakes.parquet
    """
    known = lakes[(lakes["kind"] == TRUE) & (lakes["inventory_id"].fillna("") != "")]
    shown = known.groupby(["inventory_id", "scene"])["inventory_area_km2"].max().reset_index()
    met: set[str] = set()
    for _, part in shown[shown["inventory_id"].duplicated(keep=False)].groupby("inventory_id"):
        area = part["inventory_area_km2"].to_numpy()
        # of lakes that differ in size the id alone is common
        near = abs(area[:, None] - area) <= SAME_AREA * area
        whole = part["scene"].str.replace(_PART, "", regex=True).to_numpy()
        alike = (near & (whole[:, None] != whole)).any(axis=1)
        met.update(part["scene"][alike])
    return len(met)


def _several(scenes: pd.DataFrame, by: str) -> int:
    """Scenes in a group that has several whole ones."""
    return int(scenes[scenes.groupby(by)["whole"].transform("nunique") > 1]["scene"].nunique())


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
