"""What a series says of lakes in maps of a trained network, against what was drawn.

    python bench/series_maps.py MODEL [--mlruns FOLDER] [--folder PLACE]

Generated scenes of other seeds (two of Sentinel-2, one of Landsat-8) at eight dates in 21 years: the same ground under
another sun, with other noise and clouds, one small lake in eight frozen on a date. The shores of a fifth of the lakes
move out by 2 m a year, of a fifth in by as much, one in 14 comes in 2010 and one in 14 goes, the rest stays.
MODEL maps every date; the series is made with the maps' probabilities beside them and without. Prints lakes by what was
drawn and by verdict as JSON, and of those that stay how many seem to come or go, with the probabilities over without.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import geopandas
import numpy as np
import shapely

from glidexp.config import SyntheticConfig
from glidexp.data.synthetic import world
from glidexp.data.synthetic.lakes import Lake, place_lakes

ROOT = Path(__file__).resolve().parent.parent
YEARS = range(2000, 2022, 3)
TURN = 2010
LAWS = {"grows": 0.2, "shrinks": 0.2, "appears": 0.07, "vanishes": 0.07, "stays": 0.46}
M_A_YEAR, FROZEN = 2.0, 0.12
SMALL = 0.002
"""share of the scene below which a lake may be frozen, as the generator has it"""
SCENES = (("sentinel2", 3, 0), ("sentinel2", 4, 1), ("landsat8", 5, 2))
"""sensor, seed and number of the scene"""
GONE = ("appeared", "vanished", "came_and_went")
COMMON = 0.1
"""of the smaller outline, from which two are of one lake"""


def as_it_is(lake: Lake, law: str, year: int, gsd_m: float) -> Lake | None:
    """A lake in a year; None where there is none."""
    moved = {"grows": M_A_YEAR, "shrinks": -M_A_YEAR}.get(law, 0.0) * (year - TURN) / gsd_m
    shape = lake.polygon.buffer(moved) if moved else lake.polygon
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
                self.true.append({"number": number, "law": law, "geometry": world._to_map(self.plan, one.polygon)})
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


def verdicts(series: Path, years: Years) -> list[tuple[str, str]]:
    """Of each lake of a series what was drawn there and what is said of it."""
    lakes = geopandas.read_file(series / "series.gpkg", layer="lakes").to_crs(world.REGIONS[years.plan.region].epsg)
    drawn = geopandas.GeoDataFrame(years.true, crs=lakes.crs).dissolve("number", aggfunc="first")
    mapped, true = drawn.sindex.query(lakes.geometry, predicate="intersects")
    a, b = lakes.geometry.values[mapped], drawn.geometry.values[true]
    same = a.intersection(b).area >= COMMON * np.minimum(a.area, b.area)
    laws: dict[int, set[str]] = {}
    for lake, law in zip(mapped[same].tolist(), drawn["law"].iloc[true[same]], strict=True):
        laws.setdefault(lake, set()).add(law)
    kinds = [laws.get(i, {"no lake"}) for i in range(len(lakes))]
    return [
        (kind.pop() if len(kind) == 1 else "several", said) for kind, said in zip(kinds, lakes["verdict"], strict=True)
    ]


def main() -> None:
    """Draws, maps, follows, counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--mlruns", default="mlruns")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    counts: dict[str, Counter[tuple[str, str]]] = {"with": Counter(), "without": Counter()}
    with tempfile.TemporaryDirectory() as aside:
        for sensor, seed, number in SCENES:
            years, place = Years(sensor, seed, number), (given.folder or Path(aside)) / f"{sensor}_{seed}_{number}"
            place.mkdir(parents=True)
            scenes = [years.draw(year, place) for year in YEARS]
            mlruns = ["--mlruns", Path(given.mlruns).resolve()]
            glidexp("predict", given.model, *scenes, "--out", place / "maps", "--sensor", sensor, *mlruns)
            shutil.copytree(place / "maps", place / "bare", ignore=shutil.ignore_patterns("*_probability.tif"))
            for kind, maps in (("with", "maps"), ("without", "bare")):
                found = place / f"series_{kind}"
                glidexp("inventory", "series", *sorted((place / maps).glob("*_lakes.gpkg")), "--out", found)
                counts[kind].update(verdicts(found, years))
    told: dict[str, Any] = {"what": "verdicts of a series on maps of a trained network", "dates": len(YEARS)}
    for kind, count in counts.items():
        told[kind] = {
            law: {said: n for (of, said), n in sorted(count.items()) if of == law} for law, _ in sorted(count)
        }
    seem = {kind: sum(count["stays", said] for said in GONE) for kind, count in counts.items()}
    told |= {"stay_and_seem_to_come_or_go": seem, "ratio": round(seem["with"] / seem["without"], 3)}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
