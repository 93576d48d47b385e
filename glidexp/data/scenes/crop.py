"""Scenes larger than some 150 km are cut into parts, as the published data set's were.

The rule: no part is longer than `part_km` on a side. Along each side a scene gets the fewest parts that allow this, all
of one length but the last, a multiple of 1024 px where that is still short enough, else of 512, 256 ... px. So tiles of
128 to 1024 px fit a part without a rest wherever a part has room for them, and no pixel is in two parts or in none.
The rule knows nothing of tiles, so parts, and with them splits, are the same at every tile size.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from affine import Affine

from glidexp.data.scenes.reading import Scene

LARGEST_MULTIPLE = 1024
"""pixels: the largest usual tile"""


def parts_of(scene: Scene, part_km: float) -> list[Scene]:
    """The scene itself where it is small enough, else its parts, row by row, named NAME_p0_0, NAME_p0_1 ...

    Args:
        scene: a whole scene
        part_km: longest side of a part, kilometres; 0 never cuts
    """
    rows, cols = (
        _edges(count, side_m, part_km) for count, side_m in zip((scene.height, scene.width), scene.pixel_m, strict=True)
    )
    if len(rows) == len(cols) == 2:
        return [scene]
    return [
        replace(
            scene,
            part=f"_p{r}_{c}",
            top=scene.top + top,
            left=scene.left + left,
            height=rows[r + 1] - top,
            width=cols[c + 1] - left,
            transform=scene.transform @ Affine.translation(left, top),
            warnings=scene.warnings if r == c == 0 else (),  # said once
        )
        for r, top in enumerate(rows[:-1])
        for c, left in enumerate(cols[:-1])
    ]


def told(scenes: Sequence[Scene], part_km: float) -> dict[str, Any]:
    """What the manifest says of scenes that were cut; empty where none was.

    Args:
        scenes: whole ones and parts
        part_km: as it was given to `parts_of`
    """
    cut: dict[str, list[Scene]] = {}
    for scene in scenes:
        if scene.part:
            cut.setdefault(scene.file.scene, []).append(scene)
    if not cut:
        return {}
    return {
        "part_km": part_km,
        "rule": "fewest parts of at most part_km a side, of a length that is the largest multiple of 1024, 512 ... px",
        "scenes": {
            name: {
                "rows": sorted({scene.top for scene in parts}),
                "cols": sorted({scene.left for scene in parts}),
                "height": max(scene.top + scene.height for scene in parts),
                "width": max(scene.left + scene.width for scene in parts),
            }
            for name, parts in cut.items()
        },
    }


def _edges(count: int, side_m: float, part_km: float) -> list[int]:
    """Where parts begin along one side, and its end, pixels."""
    most = math.floor(part_km * 1000 / side_m) if part_km else count
    if count <= max(most, 1):
        return [0, count]
    parts = math.ceil(count / max(most, 1))
    multiple = LARGEST_MULTIPLE
    while (step := math.ceil(count / parts / multiple) * multiple) > most and multiple > 1:
        multiple //= 2
    return [*range(0, count, step), count]
