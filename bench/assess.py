"""How often the intervals of `glidexp inventory assess` hold the truth, on maps of made-up lakes that are all known.

Lakes lie in clumps, areas are log-normal, the map misses small ones more often, shifts and swells the others, and has
false ones; half of the missed lakes lie in cells that are in doubt. Cells are drawn and scored as the product does it,
again and again; the truth is the score over all cells. Beside each interval the textbook's: value and 1.96 standard
errors of the stratified ratio, without room for what kinds of cells hold in which little was met.

    python bench/assess.py [--samples 400] [--worlds 8]
"""

import argparse
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from glidexp.mapping.against import Against, against
from glidexp.mapping.assessed import Assessed, assessed
from glidexp.mapping.cells import KINDS, LAKE, Cells, divided, drawn
from glidexp.mapping.doubt import Doubt
from glidexp.mapping.joined import Joined
from glidexp.scoring.stratified import Sample

Ints = NDArray[np.int64]
WORLDS: dict[str, dict[str, float]] = {
    "a fair map": {"lakes": 900, "missed": 0.3, "false": 0.07},
    "a good map": {"lakes": 900, "missed": 0.05, "false": 0.01},
    "few lakes": {"lakes": 200, "missed": 0.3, "false": 0.07},
}
"""lakes; share of those of 0.02 km2 that are missed; false ones a lake"""
CELLS = (60, 120, 240)
SIDE_M = 60_000.0
SCORES = ("precision_pooled", "recall_pooled", "lake_iou_pooled", "lake_precision", "lake_recall", "area_true_km2")
KIND_OF_LAKE = np.array([kind == LAKE for kind in KINDS])


def world(rng: np.random.Generator, lakes: int, missed: float, false: float) -> tuple[Cells, Against]:
    """The cells of a map, and both sides on all of them."""
    middles = rng.uniform(0, SIDE_M, (max(lakes // 20, 2), 2))
    places = np.clip(middles[rng.integers(0, len(middles), lakes)] + rng.normal(0, 4e3, (lakes, 2)), 1e3, SIDE_M - 1e3)
    radius = np.sqrt(np.exp(rng.normal(-3.6, 1.1, lakes)) * 1e6 / np.pi)
    true = shapely.get_parts(shapely.union_all(shapely.buffer(shapely.points(places), radius, quad_segs=8)))
    area_km2 = shapely.area(true) / 1e6
    seen = rng.random(len(true)) > missed * np.minimum(1.0, 0.02 / area_km2) ** 0.7
    moved = [
        shapely.affinity.translate(one.buffer(rng.normal(0, 8)), *rng.normal(0, 8, 2))
        for one, there in zip(true, seen, strict=True)
        if there
    ]
    wrong = shapely.buffer(shapely.points(rng.uniform(1e3, SIDE_M - 1e3, (int(lakes * false), 2))), 60.0)
    mapped = shapely.get_parts(shapely.union_all([*moved, *wrong]))
    ground = shapely.box(0, 0, SIDE_M, SIDE_M)
    shapely.prepare(ground)
    plane = pyproj.CRS.from_proj4("+proj=laea +lat_0=28 +lon_0=86 +datum=WGS84 +units=m")
    maps = Joined(mapped, np.arange(len(mapped)).astype(object), ground, 0.0, plane)
    half = shapely.get_coordinates(shapely.centroid(true[~seen & (rng.random(len(true)) < 0.5)])) // 1e3
    doubt = Counter({(int(x), int(y)): 99 for x, y in half})
    cells = divided(maps, 1.0, Doubt(doubt, ()))
    return cells, against(mapped, true, cells.boxes)


def scored(found: Against, cells: Cells, chosen: Ints) -> tuple[Assessed, Against, Sample]:
    """Scores of some cells."""
    place = np.full(len(cells.boxes), -1)
    place[chosen] = np.arange(len(chosen))
    sides = [replace(side, cell=np.where(side.cell >= 0, place[side.cell], -1)) for side in (found.mapped, found.true)]
    km2 = [one[chosen] for one in (found.mapped_km2, found.true_km2, found.both_km2)]
    some = Against(sides[0], sides[1], km2[0], km2[1], km2[2], found.partner)
    sample = Sample(cells.kind[chosen], np.array(cells.numbers, np.float64))
    types = np.full(len(found.true.cell), "", dtype=object)
    made = assessed(
        some, sample, KINDS, mapped_km2=float(found.mapped_km2.sum()), least_km2=0.0, types=types, held_in=KIND_OF_LAKE
    )
    return made, some, sample


def textbook(some: Against, sample: Sample) -> dict[str, tuple[float, float]]:
    """Wald's intervals of the same scores."""

    def count(side: str, right: bool) -> NDArray[np.float64]:
        one = getattr(some, side)
        which = (one.cell >= 0) & (one.touched if right else True)
        return np.bincount(one.cell[which], minlength=len(some.both_km2)).astype(float)

    pairs = {
        "precision_pooled": (some.both_km2, some.mapped_km2),
        "recall_pooled": (some.both_km2, some.true_km2),
        "lake_iou_pooled": (some.both_km2, some.mapped_km2 + some.true_km2 - some.both_km2),
        "lake_precision": (count("mapped", True), count("mapped", False)),
        "lake_recall": (count("true", True), count("true", False)),
    }
    found = {}
    for name, (part, whole) in pairs.items():
        below = sample.sum(whole)[0]
        value = sample.sum(part)[0] / below if below else np.nan
        half = 1.96 * sample.sum(part - value * whole)[1] ** 0.5 / below if below else np.nan
        found[name] = (value - half, value + half)
    value, variance, _ = sample.sum(some.true_km2 - some.mapped_km2)
    found["area_true_km2"] = (value - 1.96 * variance**0.5, value + 1.96 * variance**0.5)
    return found


def tried(
    rng: np.random.Generator, kind: dict[str, float], *, cells: int, samples: int, worlds: int
) -> dict[str, dict[str, float]]:
    """Coverage of both kinds of intervals, and the median width of ours, by score."""
    made = [world(rng, int(kind["lakes"]), kind["missed"], kind["false"]) for _ in range(worlds)]
    truths = [scored(all_, of, np.arange(len(of.boxes)))[0].scores.set_index("name")["value"] for of, all_ in made]
    hits: dict[str, list[tuple[bool, bool, float]]] = {one: [] for one in SCORES}
    for number in range(samples):
        (of, all_), truth = made[number % worlds], truths[number % worlds]
        found, some, sample = scored(all_, of, drawn(of, cells, number))
        table, plain = found.scores.set_index("name"), textbook(some, sample)
        for score in SCORES:
            if score not in table.index:  # no lake was met
                continue
            low, high = table.loc[score, "low"], table.loc[score, "high"]
            below, above = plain[score]
            more = float(all_.mapped_km2.sum()) if score.startswith("area") else 0.0
            right = below + more <= truth[score] <= above + more
            hits[score].append((bool(low <= truth[score] <= high), bool(right), float(high - low)))
    found_by = {}
    for score, own in hits.items():
        ours, theirs, widths = zip(*own, strict=True)
        shares = {"coverage": np.mean(ours), "coverage_textbook": np.mean(theirs), "median_width": np.median(widths)}
        found_by[score] = {name: round(float(value), 3) for name, value in shares.items()}
    return found_by


def main() -> None:
    """Prints a JSON line for each kind of map and number of cells."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--worlds", type=int, default=8)
    given = parser.parse_args()
    for name, kind in WORLDS.items():
        for count in CELLS:
            told = tried(np.random.default_rng(0), kind, cells=count, samples=given.samples, worlds=given.worlds)
            print(json.dumps({"map": name, "cells": count, "wanted": 0.95, "samples": given.samples} | told))


if __name__ == "__main__":
    main()
