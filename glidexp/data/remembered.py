"""What was found out by looking at tiles, kept for the further runs of a process: they would find the same again."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

from glidexp.data.store import TileStore

KEPT = 16
"""answers of each function; the oldest goes first"""

Found = TypeVar("Found")


def remembered(look: Callable[..., Found]) -> Callable[..., Found]:
    """Asks a function of (store, rows, plain values) once for the same tiles and values.

    The store's manifest names all its bytes, so a store that was built anew is looked at anew. Answers are copies.
    """
    kept: dict[str, Found] = {}

    @wraps(look)
    def known(store: TileStore, rows: npt.NDArray[np.int64], *plain: object) -> Found:
        asked = repr((str(store.path), store.manifest["manifest_sha256"], plain)).encode()
        key = xxhash.xxh3_128_hexdigest(asked + rows.tobytes())
        if key not in kept:
            if len(kept) == KEPT:
                del kept[next(iter(kept))]
            kept[key] = look(store, rows, *plain)
        return copy.deepcopy(kept[key])

    return known
