"""Ground that lies on two sides of a split by scene or region, along the edges of scenes that all but touch.

Scenes that share less than a thousandth of their ground are not kept together (`splits.scene_groups`): edges of
neighbours in two CRSs differ by rounding, and a whole mosaic would become one unit. Where they do share a strip, tiles
along it may show the same ground on two sides. This says how many.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from glidexp.data.leakage import EARTH, same_place
from glidexp.data.scenes.reading import Scene
from glidexp.data.splits import overlaps
from glidexp.data.store import SPLITS
from glidexp.wording import many

NAMED = 5
"""pairs of scenes that are named"""


def across_sides(
    scenes: Sequence[Scene], records: Sequence[Mapping[str, Any]], sides: Mapping[str, str], tile_px: int
) -> dict[str, Any]:
    """Tiles of val and test on ground that a tile of a side before theirs (train, val, test) shows as well.

    As `glidexp evaluate` has it: by footprints, of which they share a hundredth of the smaller one. A footprint ends at
    the scene's edge; pixels without data count.

    Args:
        scenes: of the store
        records: of its tiles
        sides: of ground, as the split has them
        tile_px: side of a tile

    Returns:
        number of such tiles by side, and the pairs of scenes; empty where there are none
    """
    near = _of_neighbours(scenes, sides)
    if not near:
        return {}
    rows = []
    for record in (record for record in records if record["scene"] in near):
        scene = near[record["scene"]]
        right, bottom = min(tile_px, scene.width - record["col"]), min(tile_px, scene.height - record["row"])
        rows.append({key: record[key] for key in ("crs", "transform", "scene", "split")})
        rows[-1] |= {"world": EARTH, "box": [0, 0, right, bottom]}
    tiles = pd.DataFrame(rows, columns=["world", "crs", "transform", "box", "scene", "split"])
    found: dict[str, Any] = {}
    pairs: set[tuple[str, str]] = set()
    for place, side in enumerate(SPLITS[1:], 1):
        before, own = tiles[tiles["split"].isin(SPLITS[:place])], tiles[tiles["split"] == side]
        shared = same_place(before, own)
        found[side] = len({b for _, b in shared})
        pairs |= {tuple(sorted((tiles["scene"][a], tiles["scene"][b]))) for a, b in shared}
    return {**found, "scenes": [list(pair) for pair in sorted(pairs)]} if pairs else {}


def told(found: Mapping[str, Any]) -> str:
    """A sentence with the way out."""
    count = " and ".join(f"{many(found[side], 'tile')} of {side}" for side in SPLITS[1:] if found[side])
    pairs = [" and ".join(pair) for pair in found["scenes"]]
    more = f" and {len(pairs) - NAMED} more pairs" * (len(pairs) > NAMED)
    return (
        f"{count} on ground that lies on another side as well, as scenes that share less than a thousandth of their "
        f"ground are apart ({'; '.join(pairs[:NAMED])}{more}): cut one of each pair off there, or set "
        "dataset.split.by=block"
    )


def _of_neighbours(scenes: Sequence[Scene], sides: Mapping[str, str]) -> dict[str, Scene]:
    """Scenes by name whose outline shares ground with that of a scene on another side."""
    side = [sides[scene.ground] for scene in scenes]
    met = {i for a, b, shared in overlaps(scenes) if shared and side[a] != side[b] for i in (a, b)}
    return {scenes[i].name: scenes[i] for i in sorted(met)}
