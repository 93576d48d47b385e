"""`--match`: where each of many tiles lies, as a table that `dataset.manifest` takes.

Tiles are found by their lakes (match.py). Those found give their neighbours a place by common edges
(match_edges.py), which is taken where the neighbour's own lakes bear it out. What stays unknown stays unknown.
"""

import csv
import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from glidexp.beside import beside
from glidexp.data.ready.match import ACCEPTED, Found, Label, compared, find, refined, with_confidence
from glidexp.data.ready.match_edges import edges_of, neighbours
from glidexp.data.ready.origins import COLUMNS
from glidexp.data.ready.outlines import Outlines, read_outlines
from glidexp.data.ready.pairs import Pair
from glidexp.data.ready.pictures import allow_no_position, read_pair

log = logging.getLogger("glidexp")
MATCH_VERSION = 2
"""bumped when the same tiles and outlines give another table than before"""
GLID_SENSORS = {2.0: "worldview2", 4.0: "gaofen2", 10.0: "sentinel2", 30.0: "landsat8"}
"""of the published set, the sensor by its pixel size"""


def place_tiles(
    pairs: Sequence[Pair],
    annotation: Path,
    gsds_m: Sequence[float],
    out: Path,
    *,
    glid: bool,
    step: Callable[[str], None],
    layer: str | None = None,
) -> Counter[str]:
    """Finds tiles and writes the table.

    Args:
        pairs: the tiles; those that are not square are left alone
        annotation: outlines that the labels were drawn by
        gsds_m: ground sample distances that come into question, metres
        out: CSV, written aside and renamed
        glid: the tiles are the published set, whose sensors follow from their pixel size
        step: called after each tile
        layer: of the outlines, where several may hold polygons

    Returns:
        numbers of tiles: all, found by lakes, found by edges

    Raises:
        DataError: the outlines or a tile cannot be read
    """
    zones = read_outlines(annotation, layer)
    allow_no_position()

    def work(pair: Pair) -> tuple[Label | None, Found | None, np.ndarray]:
        picture, label = read_pair(pair)
        if label.lake.shape[0] != label.lake.shape[1]:
            return None, None, np.zeros((4, 0), np.float32)
        return Label.of(label.lake), find(label.lake, zones, gsds_m), edges_of(picture.image)

    labels: list[np.ndarray | None] = []
    found: list[Found | None] = []
    edges = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for pair, (label, place, edge) in zip(pairs, pool.map(work, pairs), strict=True):
            labels.append(None if label is None else np.packbits(label.mask, axis=1))
            found.append(place)
            edges.append(edge)
            step(pair.name)
    by_lakes = sum(_sure(place) for place in found)
    for same in _of_one_size(labels):
        some = [found[i] for i in same]
        spread(some, [labels[i] for i in same], np.stack([edges[i] for i in same]), zones)
        for i, place in zip(same, some, strict=True):
            found[i] = place
    by_edges = sum(_sure(place) for place in found) - by_lakes
    _write(out, pairs, found, zones, glid)
    return Counter({"tiles": len(pairs), "found by lakes": by_lakes, "found by edges": by_edges})


def _of_one_size(labels: Sequence[np.ndarray | None]) -> list[list[int]]:
    """Places of the tiles of each size; those that are not square, which have no label here, are in none."""
    found: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        if label is not None:
            found.setdefault(len(label), []).append(place)
    return list(found.values())


def spread(
    found: list[Found | None], labels: Sequence[np.ndarray | None], edges: np.ndarray, zones: Sequence[Outlines]
) -> None:
    """Gives the neighbours of known tiles a place, as long as there are new ones; all tiles are of one size.

    A neighbour that lies elsewhere by its own lakes makes the two doubt: both fall to the confidence that is not taken.
    """
    beside: dict[int, list[tuple[int, int, int, float]]] = {}
    for link in neighbours(edges):
        right, down = (1, 0) if link.right else (0, 1)
        beside.setdefault(link.a, []).append((link.b, right, down, link.correlation))
        beside.setdefault(link.b, []).append((link.a, -right, -down, link.correlation))
    waiting = [i for i, place in enumerate(found) if _sure(place)]
    doubted: set[int] = set()
    while waiting:
        i = waiting.pop()
        place, packed = found[i], labels[i]
        if place is None or packed is None or not _sure(place):
            continue
        px = len(packed)
        for j, right, down, correlation in beside.get(i, []):
            there = (
                place.origin[0] + right * px * place.gsd_m,
                place.origin[1] - down * px * place.gsd_m,
            )
            own, other = found[j], labels[j]
            if own is not None and _sure(own):
                apart = max(abs(a - b) for a, b in zip(own.origin, there, strict=True))
                if (own.zone, own.gsd_m) != (place.zone, place.gsd_m) or apart > 3 * place.gsd_m:
                    doubted |= {i, j}
                continue
            if other is None:
                continue
            mask = np.unpackbits(other, axis=1, count=px).astype(bool)
            if not mask.any():
                continue
            label = Label.of(mask)
            trial = refined(label, zones, compared(label, zones, place.zone, place.gsd_m, there))
            moved = max(abs(a - b) for a, b in zip(trial.origin, there, strict=True))
            # one lake is enough here, since the place was not looked for by it
            judged = with_confidence(mask, dataclasses.replace(trial, lakes=max(trial.lakes, 2)), 0.0)
            if trial.lakes and moved <= 2 * place.gsd_m and judged.confidence * correlation > ACCEPTED * ACCEPTED:
                confidence = min(place.confidence, ACCEPTED + 0.1 * judged.confidence * correlation)
                found[j] = dataclasses.replace(judged, lakes=trial.lakes, confidence=round(confidence, 4))
                waiting.append(j)
    for i in doubted:
        place = found[i]
        if place is not None:
            found[i] = dataclasses.replace(place, confidence=min(place.confidence, ACCEPTED))


def _sure(place: Found | None) -> bool:
    return place is not None and place.confidence > ACCEPTED


def _write(
    out: Path, pairs: Sequence[Pair], found: Sequence[Found | None], zones: Sequence[Outlines], glid: bool
) -> None:
    """A row a tile; where nothing is sure, only the confidence of the best guess."""
    columns = [column for column in COLUMNS if column not in ("row", "col", "block", "split")]
    with beside(out) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, [*columns, "confidence", "iou", "lakes"], restval="")
        table.writeheader()
        for pair, place in zip(pairs, found, strict=True):
            row: dict[str, object] = {"tile": pair.name, **{k: v for k, v in pair.said.items() if k in columns}}
            if place is not None:
                row |= {"confidence": place.confidence, "iou": round(place.iou, 4), "lakes": place.lakes}
                if _sure(place):
                    x, y = place.origin
                    transform = (place.gsd_m, 0.0, x, 0.0, -place.gsd_m, y)
                    row |= {"gsd_m": place.gsd_m, "crs": zones[place.zone].crs}
                    row["transform"] = " ".join(repr(float(value)) for value in transform)
                    if glid and place.gsd_m in GLID_SENSORS:
                        row["sensor"] = GLID_SENSORS[place.gsd_m]
            table.writerow(row)
