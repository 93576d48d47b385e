"""Which ground trains, which chooses (val), which reports (test): decided for ground, before and apart from tiles.

Ground is a scene (by=scene), a region (by=region), a square block of an absolute metric grid (by=block) or a group of
numbered tiles (no scene known). `choose` gives every unit of ground a side; a tile takes the side of the ground its
whole footprint lies on and has none where that ground is divided. So one split serves every tile size, and its hash
says so.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import shapely

from glidexp.beside import write_text
from glidexp.config import SplitBy, SplitConfig
from glidexp.data.geodesy import TURNS, turned
from glidexp.data.sharing import deal, held_out, may_test
from glidexp.data.store import canonical
from glidexp.errors import DataError
from glidexp.wording import many

if TYPE_CHECKING:  # a training knows splits too, and does without GDAL
    from glidexp.data.ready.origins import Origin
    from glidexp.data.scenes.catalogue import SceneFile
    from glidexp.data.scenes.reading import Scene

FORMAT = "glidexp-split"
APART = 1e-3
"""share of the smaller of two scenes up to which they are units of their own"""
Place = tuple[str, str | None]
"""unit of ground a tile belongs to, and its side (None: divided ground, the tile is left out)"""


@dataclass(frozen=True, slots=True)
class Unit:
    """Ground that must not be divided."""

    key: str
    stratum: str
    """units are shared out within each stratum: the sensors of the ground"""
    region: str = "unknown"
    names: frozenset[str] = frozenset()
    """sensors and regions that have a scene on it: what `leave_out` may name"""

    @classmethod
    def of(cls, key: str, stratum: str, members: "Sequence[SceneFile | Origin]") -> Self:
        """Ground that these scenes, or ready tiles, lie on."""
        sensors, regions = {one.sensor for one in members}, {one.region for one in members}
        return cls(key, stratum, joined(regions), frozenset(sensors | regions))


@dataclass(frozen=True, slots=True)
class Split:
    """The frozen list of ground and its side."""

    rule: dict[str, Any]
    sides: dict[str, str]

    @property
    def hash(self) -> str:
        """sha256 of the sorted list of (ground, side): the same for every tile size."""
        return hashlib.sha256(canonical(sorted(self.sides.items()))).hexdigest()


def joined(names: Iterable[str]) -> str:
    """Names as one, whatever their order and however often they come."""
    return "+".join(sorted(set(names)))


def rule_of(config: SplitConfig) -> dict[str, Any]:
    """The settings that decided a split, as the manifest keeps them."""
    rule: dict[str, Any] = {"by": config.by.value, "val": config.val, "test": config.test, "seed": config.seed}
    if config.by == SplitBy.block:
        rule |= {"block_m": config.block_m, "buffer_m": config.buffer_m}
    if config.folds:
        rule |= {"folds": config.folds, "fold": config.fold}
    if config.leave_out:
        rule |= {"leave_out": config.leave_out}
    return rule


def choose(units: Sequence[Unit], config: SplitConfig) -> dict[str, str]:
    """Gives each unit a side.

    Within each stratum, round(share * n) units go to test and to val, at least one each and at least one left to train.
    Strata too small for that share one pool; a pool still too small trains. Regions with the fewest units held out so
    far come first, then the order of a hash of (seed, side, unit). With `folds`, `sharing.deal` does it instead; with
    `leave_out`, all ground of that sensor or region is test and only the rest is shared out.

    Raises:
        DataError: too few units for the sides asked for
        ConfigError: no ground is of the sensor or region to leave out
    """
    if config.folds:
        return deal(units, config)
    if config.leave_out:
        held = held_out(units, config.leave_out)
        rest = choose([u for u in units if u.key not in held], replace(config, leave_out=None, test=0.0))
        return {unit.key: rest.get(unit.key, "test") for unit in units}
    sides = [(side, share) for side, share in (("test", config.test), ("val", config.val)) if share > 0]
    strata: dict[str, list[Unit]] = {}
    for unit in units:
        strata.setdefault(unit.stratum, []).append(unit)
    pool = [unit for members in strata.values() if len(members) <= len(sides) for unit in members]
    groups = [members for _, members in sorted(strata.items()) if len(members) > len(sides)]
    if len(pool) > len(sides):
        groups.append(pool)
    if not groups:
        wanted = ", ".join(["train", *(side for side, _ in reversed(sides))])
        way = "set a smaller dataset.split.block_m"
        if config.by == SplitBy.scene:
            way = "set dataset.split.by=block for scenes; ready tiles without positions need more groups"
        elif config.by == SplitBy.region:
            way = "name more regions in the catalogue's column region, or set dataset.split.by=scene or block"
        raise DataError(f"{many(len(units), config.by.value)} of ground cannot be shared out to {wanted}: {way}.")
    chosen: dict[str, str] = {}
    regions = Counter(unit.region for unit in units)
    for members in groups:
        free = len(members) - 1
        for position, (side, share) in enumerate(sides):
            left_for_others = len(sides) - 1 - position
            count = min(max(1, math.floor(share * len(members) + 0.5)), free - left_for_others)
            free -= count
            _take(members, count, chosen, units, regions, side, config.seed)
    return {unit.key: chosen.get(unit.key, "train") for unit in units}


def _take(
    members: Sequence[Unit],
    count: int,
    chosen: dict[str, str],
    units: Sequence[Unit],
    regions: Counter[str],
    side: str,
    seed: int,
) -> None:
    """Lets the next `count` units of a stratum leave train for `side`.

    Ready tiles of no known scene and no running numbers are a unit each: tens of thousands. So each unit is hashed
    once, and waits in its region's line.
    """
    same = Counter(unit.region for unit in units if chosen.get(unit.key) == side)
    out = Counter(unit.region for unit in units if unit.key in chosen)
    waiting: dict[str, list[tuple[str, str]]] = {}
    for unit in members:
        if unit.key not in chosen:
            word = hashlib.sha256(f"{seed}/{side}/{unit.key}".encode()).hexdigest()
            waiting.setdefault(unit.region, []).append((word, unit.key))
    for line in waiting.values():
        line.sort(reverse=True)

    def rank(region: str) -> tuple[float, float, str]:
        total = regions[region]
        return same[region] / total, out[region] / total, waiting[region][-1][0]

    for _ in range(count):
        region = min(waiting, key=rank)
        chosen[waiting[region].pop()[1]] = side
        same[region] += 1
        out[region] += 1
        if not waiting[region]:
            del waiting[region]


def scene_groups(scenes: "Sequence[Scene]") -> "dict[str, list[Scene]]":
    """Scenes that share ground, together: the units of by=scene. The key joins their names.

    Footprints that only touch, or overlap by less than a thousandth of the smaller one, are apart. Parts of one scene
    are together: one day, one light and one atmosphere, and lakes that reach over the seam.
    """
    links = [(a, b) for a, b, shared in overlaps(scenes) if shared > APART]
    links += _alike([scene.file.scene for scene in scenes])
    groups = connected(len(scenes), links)
    # a scene that was cut is named once
    return {"+".join(dict.fromkeys(scenes[i].file.scene for i in g)): [scenes[i] for i in g] for g in groups}


def overlaps(scenes: "Sequence[Scene]") -> list[tuple[int, int, float]]:
    """Pairs of scenes, the first one first, whose outlines meet, and what share of the smaller outline they share."""
    outlines = np.array([scene.outline_lonlat for scene in scenes], dtype=object)
    tree, found = shapely.STRtree(outlines), []
    # of two scenes at 180 degrees one may be written on either side of the line
    for turn in TURNS:
        moved = turned(outlines, turn)
        for a, b in tree.query(moved, predicate="intersects").T.tolist():
            if a < b:
                shared = shapely.intersection(moved[a], outlines[b]).area
                found.append((a, b, shared / min(outlines[a].area, outlines[b].area)))
    return found


def region_groups(scenes: "Sequence[Scene]") -> "dict[str, list[Scene]]":
    """Scenes of one region, together: the units of by=region. Regions whose scenes share ground are one unit."""
    place = {scene.name: i for i, scene in enumerate(scenes)}
    links = _alike([scene.file.region for scene in scenes])
    for members in scene_groups(scenes).values():
        links += [(place[members[0].name], place[other.name]) for other in members[1:]]
    groups = connected(len(scenes), links)
    return {joined(scenes[i].file.region for i in g): [scenes[i] for i in g] for g in groups}


def _alike(names: Sequence[str]) -> list[tuple[int, int]]:
    """Links between equal names."""
    first: dict[str, int] = {}
    return [(first.setdefault(name, i), i) for i, name in enumerate(names)]


def connected(n: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected sets of 0..n-1, each ascending, in the order of their first member."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for i in range(n):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


class ScenePlaces:
    """by=scene and by=region: a tile takes the side of its scene or of its region."""

    def __init__(self, scenes: "Sequence[Scene]", config: SplitConfig) -> None:
        by_region = config.by == SplitBy.region
        groups = region_groups(scenes) if by_region else scene_groups(scenes)
        units = []
        for key, members in groups.items():
            files = [scene.file for scene in members]
            # regions are few: they are shared out as one stratum, whatever sensors looked at them
            units.append(Unit.of(key, "" if by_region else joined(file.sensor for file in files), files))
        sides = choose(units, config)
        self._kept = {scene.name for scene in scenes if may_test(scene, config.leave_out)}
        self._group = {scene.name: key for key, members in groups.items() for scene in members}
        self._ground = {scene.name: scene.ground for scene in scenes}
        self.sides = {scene.ground: sides[key] for key, members in groups.items() for scene in members}

    def of(self, scene: "Scene", windows: npt.NDArray[np.int64], sides: dict[str, str]) -> list[Place]:
        """Place of each window; see BlockPlaces.of."""
        side: str | None = sides[self._ground[scene.name]]
        if side == "test" and scene.name not in self._kept:  # ground that what is left out is tested on
            side = None
        return [(self._group[scene.name], side)] * len(windows)


def freeze(path: Path, split: Split) -> Split:
    """Writes a split where none is, else checks that the one there is the same ground and takes it.

    Raises:
        DataError: the file is damaged or speaks of other ground
    """
    if not path.exists():
        content = {"format": FORMAT, "rule": split.rule, "ground": sorted(split.sides.items()), "hash": split.hash}
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return split
    frozen = load(path)
    if frozen.sides.keys() != split.sides.keys():
        raise DataError(f"{path} is of other ground than these scenes: delete it to share out the ground anew.")
    return frozen


def load(path: Path) -> Split:
    """Reads a frozen split and checks its hash."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        split = Split(rule=content["rule"], sides=dict(content["ground"]))
        stated = content["hash"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a split: {error!r}; restore it or delete it.") from None
    if split.hash != stated:
        raise DataError(
            f"{path} was changed since it was frozen: restore it, or delete it to share out the ground anew."
        )
    return split
