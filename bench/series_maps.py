"""What a series says of lakes in maps of a trained network, against what was drawn.

    python bench/series_maps.py MODEL [--mlruns FOLDER] [--folder PLACE]

Generated scenes of other seeds (two of Sentinel-2, one of Landsat-8) at eight dates in 21 years: the same ground under
another sun, with other noise and clouds, one small lake in eight frozen on a date. The shores of a fifth of the lakes
move out by 2 m a year, of a fifth in by as much, in 2010 one in 14 comes, one in 14 goes and one in 14 bursts, so that
three tenths of its area are left; the rest stays.
MODEL maps every date. The series is made as it is by itself (`as_it_is`), without the maps' probabilities beside them
(`no_probabilities`), and so with bounds of half a pixel alone (`bare`). Prints as JSON lakes by what was drawn and by
verdict, how many are listed for a sudden loss, how often the bounds hold the true area of lakes that are mapped one to
one, and how many lakes that stay are said to be otherwise, as it is over `bare`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import geopandas
import numpy as np
import shapely
import shapely.affinity

from glidexp.config import SyntheticConfig
from glidexp.data.synthetic import world
from glidexp.data.synthetic.lakes import Lake, place_lakes
from glidexp.mapping import lake_map
from glidexp.mapping.sudden import HELD

ROOT = Path(__file__).resolve().parent.parent
YEARS = range(2000, 2022, 3)
TURN = 2010
LAWS = {"grows": 0.2, "shrinks": 0.2, "appears": 0.07, "vanishes": 0.07, "bursts": 0.07, "stays": 0.39}
M_A_YEAR, FROZEN, LEFT = 2.0, 0.12, 0.3
SMALL = 0.002
"""share of the scene below which a lake may be frozen, as the generator has it"""
SCENES = (("sentinel2", 3, 0), ("sentinel2", 4, 1), ("landsat8", 5, 2))
"""sensor, seed and number of the scene"""
LOST = "sudden_loss"
FAIR = ("no_change", "too_few_dates")
"""verdicts that are not wrong of a lake that stays"""
COMMON = 0.1
"""of the smaller outline, from which two are of one lake"""


def as_it_is(lake: Lake, law: str, year: int, gsd_m: float) -> Lake | None:
    """A lake in a year; None where there is none."""
    moved = {"grows": M_A_YEAR, "shrinks": -M_A_YEAR}.get(law, 0.0) * (year - TURN) / gsd_m
    shape = lake.polygon.buffer(moved) if moved else lake.polygon
    if law == "bursts" and year >= TURN:
        shape = shapely.intersection(shape, shapely.affinity.scale(shape, LEFT**0.5, LEFT**0.5))
    if shape.is_empty or (law == "appears" and year < TURN) or (law == "vanishes" and year >= TURN):
        return None
    return replace(lake, polygon=max(shapely.get_parts(shape), key=lambda part: part.area))


class Years:
    """A scene of the generator in one year after the other."""

    def __init__(self, sensor: str, seed: int, number: int) -> None:
        self.plan = world.plan_scenes(SyntheticConfig(seed=seed, sensors=[sensor], scenes_per_sensor=number + 1))[
            number
        ]
        self.key = (seed, number)
        self.lakes: list[Lake] = []
        self.laws: list[str] = []
        self.true: list[dict[str, Any]] = []
        self.year = 0
        self._light, self._sky = world.light, world._sky

    def draw(self, year: int, out: Path) -> Path:
        """Writes the scene as it is in a year; gives its file."""
        self.year = year
        changed = {"place_lakes": self._placed, "light": self._lit, "_sky": self._under}
        with tempfile.TemporaryDirectory() as aside, mock.patch.multiple(world, **changed):
            for folder in ("scenes", "classes"):
                Path(aside, folder).mkdir()
            world.make_scene(self.plan, Path(aside))
            file = out / f"{self.plan.name}_{year}-09-15.tif"
            shutil.move(Path(aside, "scenes", f"{self.plan.name}.tif"), file)
        return file

    @property
    def drawn(self) -> geopandas.GeoDataFrame:
        """All lakes of all years."""
        return geopandas.GeoDataFrame(self.true, crs=world.REGIONS[self.plan.region].epsg)

    def _placed(self, rng: np.random.Generator, *rest: Any) -> list[Lake]:
        if not self.lakes:  # where lakes start hangs on the shadows, so all years take those of the first
            self.lakes = place_lakes(rng, *rest)
            self.laws = np.random.default_rng(self.key).choice([*LAWS], len(self.lakes), p=[*LAWS.values()]).tolist()
        kept = []
        for number, (lake, law) in enumerate(zip(self.lakes, self.laws, strict=True)):
            one = as_it_is(lake, law, self.year, self.plan.gsd_m)
            if one is not None:
                small = one.polygon.area < SMALL * self.plan.side_px**2 and lake.kind != "nonglacial"
                one.frozen = small and bool(self._rng(number).random() < FROZEN)
                kept.append(one)
                self.true.append(
                    {"year": self.year, "number": number, "law": law, "geometry": world._to_map(self.plan, one.polygon)}
                )
        rng.bit_generator.state = np.random.default_rng(self.key).bit_generator.state  # the same ground in all years
        return kept

    def _lit(self, rng: np.random.Generator, *rest: Any) -> Any:
        rng.bit_generator.state = self._rng().bit_generator.state
        return self._light(rng, *rest)

    def _under(self, rng: np.random.Generator, plan: world.Plan) -> Any:
        self._sky(rng, plan)
        return replace(self._sky(self._rng(), plan), taken=date(self.year, 9, 15))

    def _rng(self, *more: int) -> np.random.Generator:
        return np.random.default_rng((*self.key, self.year, *more))


def glidexp(*words: object) -> None:
    """Runs a verb; its words go to stderr."""
    subprocess.run([sys.executable, "-m", "glidexp.cli", *map(str, words)], check=True, cwd=ROOT, stdout=sys.stderr)


def pairs(lakes: Any, drawn: Any) -> tuple[Any, Any]:
    """Rows of mapped and of drawn lakes that are the same."""
    mapped, true = drawn.sindex.query(lakes.geometry, predicate="intersects")
    a, b = lakes.geometry.values[mapped], drawn.geometry.values[true]
    same = a.intersection(b).area >= COMMON * np.minimum(a.area, b.area)
    return mapped[same], true[same]


def verdicts(series: Path, years: Years) -> list[tuple[str, str]]:
    """Of each lake of a series what was drawn there and what is said of it; `LOST` besides where it is listed so."""
    drawn = years.drawn.dissolve("number", aggfunc="first")
    lakes = geopandas.read_file(series / "series.gpkg", layer="lakes").to_crs(drawn.crs)
    laws: dict[int, set[str]] = {}
    for lake, true in zip(*pairs(lakes, drawn), strict=True):
        laws.setdefault(int(lake), set()).add(drawn["law"].iloc[true])
    kinds = [laws.get(i, {"no lake"}) for i in range(len(lakes))]
    names = [kind.pop() if len(kind) == 1 else "several" for kind in kinds]
    lost = [(name, LOST) for name, held in zip(names, lakes["loss_held"], strict=True) if held >= HELD]
    return [*zip(names, lakes["verdict"], strict=True), *lost]


def held(maps: Sequence[Path], years: Years) -> list[tuple[bool, bool]]:
    """Whether half a pixel holds the true area, and whether the wider bound does, of lakes mapped one to one."""
    found = []
    for path, year in zip(maps, YEARS, strict=True):
        drawn = years.drawn[years.drawn["year"] == year].reset_index()
        lakes = geopandas.read_file(path, layer="lakes").to_crs(drawn.crs)
        mapped, true = pairs(lakes, drawn)
        bounds = [lake_map.read(path, "MAP", None, half_pixel=half).bound_km2 for half in (True, False)]
        alone = (np.bincount(mapped)[mapped] == 1) & (np.bincount(true)[true] == 1) & ~lakes["cut"].to_numpy()[mapped]
        off = np.abs(lakes["area_km2"].to_numpy()[mapped] - drawn.area.to_numpy()[true] / 1e6)
        found += [tuple(bool(off[k] <= bound[mapped[k]]) for bound in bounds) for k in np.flatnonzero(alone).tolist()]
    return found


def main() -> None:
    """Draws, maps, follows, counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--mlruns", default="mlruns")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    kinds = {"as_it_is": ("maps", []), "no_probabilities": ("bare", []), "bare": ("bare", ["--half-pixel"])}
    counts: dict[str, Counter[tuple[str, str]]] = {kind: Counter() for kind in kinds}
    bounds: list[tuple[bool, bool]] = []
    with tempfile.TemporaryDirectory() as aside:
        for sensor, seed, number in SCENES:
            years, place = Years(sensor, seed, number), (given.folder or Path(aside)) / f"{sensor}_{seed}_{number}"
            place.mkdir(parents=True)
            scenes = [years.draw(year, place) for year in YEARS]
            mlruns = ["--mlruns", Path(given.mlruns).resolve()]
            glidexp("predict", given.model, *scenes, "--out", place / "maps", "--sensor", sensor, *mlruns)
            shutil.copytree(place / "maps", place / "bare", ignore=shutil.ignore_patterns("*_probability.tif"))
            bounds += held(sorted((place / "maps").glob("*_lakes.gpkg")), years)
            for kind, (maps, options) in kinds.items():
                found = place / f"series_{kind}"
                glidexp("inventory", "series", *sorted((place / maps).glob("*_lakes.gpkg")), "--out", found, *options)
                counts[kind].update(verdicts(found, years))
    told: dict[str, Any] = {"what": "verdicts of a series on maps of a trained network", "dates": len(YEARS)}
    for kind, count in counts.items():
        told[kind] = {
            law: {said: n for (of, said), n in sorted(count.items()) if of == law} for law, _ in sorted(count)
        }
    half, wider = np.mean(bounds, axis=0).tolist()
    told["bounds_hold"] = {"lakes": len(bounds), "half_pixel": round(half, 3), "wider": round(wider, 3)}
    wrong = {
        kind: sum(n for (of, said), n in count.items() if of == "stays" and said not in (*FAIR, LOST))
        for kind, count in counts.items()
    }
    told |= {"stay_and_said_otherwise": wrong, "ratio": round(wrong["as_it_is"] / wrong["bare"], 3)}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
