"""Land cover of the generated world: the tiles of a lake store once more, with the class of every pixel as label."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glidexp.data.store import INVALID, TileStore
from glidexp.data.synthetic.covers import CLASSES
from glidexp.data.synthetic.truth import read_classes
from glidexp.data.writer import StoreWriter

NAMES = tuple(name for name in CLASSES if name != "nodata")
"""classes in the order of their labels"""
OF_THE_WRITER = ("manifest_sha256", "inventory_sha256", "ice_sha256")
"""of the lake store alone"""


def relabel(lakes: TileStore, scenes: Path, path: Path, known: Mapping[str, Any]) -> None:
    """Writes a store with the images, places and sides of `lakes`, and classes in place of lakes.

    Args:
        lakes: of generated scenes
        scenes: their folder, holding classes/
        path: folder of the new store
        known: recipe, recipe_id and what else its manifest says otherwise
    """
    labels = np.full(256, INVALID, dtype=np.uint8)
    labels[[CLASSES[name] for name in NAMES]] = np.arange(len(NAMES))
    px = lakes.tile_px
    maps: dict[str, Any] = {}
    with StoreWriter(path, tile_px=px, bands=[str(band) for band in lakes.manifest["bands"]]) as writer:
        for place, found in enumerate(lakes.index.to_dict("records")):
            record = {str(key): value for key, value in found.items()}
            scene, row, col = record["scene"], record["row"], record["col"]
            if scene not in maps:
                maps = {scene: read_classes(scenes, scene)}  # tiles of a scene follow each other
            label = np.full((px, px), INVALID, dtype=np.uint8)
            part = labels[maps[scene][row : row + px, col : col + px]]
            label[: part.shape[0], : part.shape[1]] = part
            label[lakes.labels[place] == INVALID] = INVALID
            writer.add(np.asarray(lakes.images[place]), label, record)
        manifest = {key: value for key, value in lakes.manifest.items() if key not in OF_THE_WRITER}
        writer.close({**manifest, **known, "classes": list(NAMES)})
