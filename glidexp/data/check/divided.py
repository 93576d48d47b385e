"""Lakes of which tiles of two sides show a part each: their ground is apart, their water, shore and light are one.

Of a long lake across the edge of a block one end trains and the other is scored, and so it is of one across the edge
of two scenes that only touch.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from glidexp.data.store import SPLITS, TileStore
from glidexp.wording import does, many

SAME_AREA = 0.05
"""by what the area of a lake may differ from scene to scene; lakes that differ more share an id alone"""
COLUMNS = ["lake", "side", "tile"]


def divided_lakes(inventory: pd.DataFrame, sides: Mapping[str, str]) -> pd.DataFrame:
    """Tiles of val and test that show a part of a lake which a tile of a side before theirs (train, val, test) shows.

    Args:
        inventory: rows of `store.INVENTORY_SCHEMA`
        sides: of each tile

    Returns:
        columns `COLUMNS`, a row a lake and tile
    """
    shown = inventory[(inventory["tile"] != "") & (inventory["px"] > 0)]
    shown = shown.assign(side=shown["tile"].map(sides)).dropna(subset="side")
    several = shown.groupby("lake")["side"].transform("nunique") > 1
    found = []
    for lake, part in shown[several].groupby("lake", sort=True):
        for place, side in enumerate(SPLITS[1:], 1):
            before = part.loc[part["side"].isin(SPLITS[:place]), "area_km2"].to_numpy()
            for tile, area in part.loc[part["side"] == side, ["tile", "area_km2"]].itertuples(index=False):
                if (abs(before - area) <= SAME_AREA * area).any():
                    found.append((lake, side, tile))
    return pd.DataFrame(found, columns=COLUMNS)


def of_store(tiles: TileStore) -> pd.DataFrame:
    """The same of a store; empty where it knows no lakes, or its split leaks anyway.

    Raises:
        DataError: the inventory was changed
    """
    inventory = tiles.inventory
    if inventory is None or tiles.manifest.get("split_rule", {}).get("by") == "random":
        return pd.DataFrame(columns=COLUMNS)
    return divided_lakes(inventory, dict(zip(tiles.index["tile"], tiles.index["split"], strict=True)))


def told(found: pd.DataFrame, rule: Mapping[str, Any]) -> str:
    """A sentence with the way out.

    Args:
        found: of `divided_lakes`, not empty
        rule: of the split
    """
    counts = found.groupby("side")["lake"].nunique()
    count = " and ".join(f"{many(int(counts[side]), 'lake')} of {side}" for side in SPLITS[1:] if side in counts)
    lie = f"{count} {does(int(counts.sum()), 'lie')}"
    way = "dataset.split.by=block with a dataset.split.buffer_m leaves ground between sides"
    if rule.get("by") == "block":
        way = f"a larger dataset.split.buffer_m than {rule.get('buffer_m', 0):g} leaves more ground between sides"
    return f"{lie} in part in tiles of another side, too, on ground of its own: {way}"
