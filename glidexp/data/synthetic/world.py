"""The embedded data set: georeferenced 16-bit scenes of four sensors and regions, with lake and glacier inventories."""

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.affinity

from glidexp.beside import folder_beside
from glidexp.config import SyntheticConfig
from glidexp.config.data import GENERATED_BANDS
from glidexp.data import sensors
from glidexp.data.synthetic.covers import CLASSES, build_ground
from glidexp.data.synthetic.heights import write_dem
from glidexp.data.synthetic.lakes import FILTER_M, Lake, place_lakes
from glidexp.data.synthetic.light import Sky, cast_shadow, expose, light
from glidexp.data.synthetic.regions import RADIOMETRY, REGIONS
from glidexp.data.synthetic.tables import write_tables
from glidexp.data.synthetic.terrain import MARGIN, SIDE, Ice, build_terrain
from glidexp.data.workers import mapped
from glidexp.errors import ConfigError, unknown_name
from glidexp.wording import many

SPACING_M = 70_000.0
"""distance between the corners of neighbouring scenes of a region"""
APART_M = 20_000.0
"""least distance between scenes: beyond it no lake or glacier of one is within 10 km of the other"""
COLUMNS = 6
SPAWN_PIXELS = 2_000_000
"""below this, starting processes costs more time than it saves"""
KILLED = (
    "a process that makes scenes was killed, most often for want of memory: free some, or make smaller ones with "
    "dataset.synthetic.scene_px; the same command begins the scenes anew."
)
FAR_CORNER_EXTENT_M = 14_000.0
"""scenes at least this wide have a corner that is more than 10 km from ice"""


@dataclass(frozen=True, slots=True)
class Plan:
    """One scene to be made: who, where, how large."""

    name: str
    sensor: str
    region: str
    gsd_m: float
    side_px: int
    west_m: float
    north_m: float
    seed: tuple[int, ...]


@dataclass(slots=True)
class Made:
    """What a worker hands back: the day of the picture and the inventories in map coordinates."""

    plan: Plan
    taken: date
    lakes: list[Lake]
    lake_shapes: list[shapely.Polygon]
    glacier_shapes: list[shapely.Polygon]


def check(cfg: SyntheticConfig) -> None:
    """Raises ConfigError for what cannot be made."""
    for key, values, known in (("sensors", cfg.sensors, RADIOMETRY), ("regions", cfg.regions, REGIONS)):
        for value in values:
            if value not in known:
                raise unknown_name(f"dataset.synthetic.{key}", value, known)
        if not values or len(set(values)) != len(values):
            raise ConfigError(
                f"dataset.synthetic.{key}={values} must name at least one and none twice: {', '.join(known)}."
            )
    if cfg.scenes_per_sensor < 1:
        raise ConfigError(f"dataset.synthetic.scenes_per_sensor={cfg.scenes_per_sensor} must be at least 1.")
    if not 128 <= cfg.scene_px <= 8192 or cfg.scene_px % 2:
        raise ConfigError(f"dataset.synthetic.scene_px={cfg.scene_px} must be even and within 128-8192 pixels.")
    if cfg.seed < 0:
        raise ConfigError(f"dataset.synthetic.seed={cfg.seed} must not be negative.")


def plan_scenes(cfg: SyntheticConfig) -> list[Plan]:
    """Names and footprints of all scenes, far enough apart that no glacier is near the lakes of another scene.

    Raises:
        ConfigError: unknown sensor or region, sizes that cannot be made, or scenes that would share ground
    """
    check(cfg)
    slots = dict.fromkeys(cfg.regions, 0)
    plans = []
    for s, sensor in enumerate(cfg.sensors):
        for k in range(cfg.scenes_per_sensor):
            name = cfg.regions[(s + k) % len(cfg.regions)]
            slot, region = slots[name], REGIONS[name]
            slots[name] += 1
            side = int(cfg.scene_px * RADIOMETRY[sensor].scene_scale)
            gsd = sensors.get(sensor).gsd_m
            pitch = max(SPACING_M, side * gsd + 40_000)
            west = 250_000 + slot % COLUMNS * pitch
            north = region.northing_m + slot // COLUMNS * pitch + side * gsd
            key = (cfg.seed, sorted(RADIOMETRY).index(sensor), sorted(REGIONS).index(name), k)
            plans.append(Plan(f"{sensor}_{name}_{k:02d}", sensor, name, gsd, side, west, north, key))
    _refuse_shared_ground(plans, cfg)
    return plans


def _refuse_shared_ground(plans: list[Plan], cfg: SyntheticConfig) -> None:
    """Slots are as wide as their own scene, so that a wide scene reaches into a later slot of a narrow one."""
    for region in cfg.regions:
        own = [plan for plan in plans if plan.region == region]
        boxes = [
            shapely.box(p.west_m, p.north_m - p.side_px * p.gsd_m, p.west_m + p.side_px * p.gsd_m, p.north_m)
            for p in own
        ]
        if not own:
            continue
        for a, b in shapely.STRtree(boxes).query(boxes, predicate="dwithin", distance=APART_M).T.tolist():
            if a < b:
                rising = sorted(cfg.sensors, key=lambda name: RADIOMETRY[name].scene_scale * sensors.get(name).gsd_m)
                raise ConfigError(
                    f"dataset.synthetic.sensors={cfg.sensors} with scene_px={cfg.scene_px} puts scenes {own[a].name} "
                    f"and {own[b].name} onto or next to the same ground: name sensors with wide scenes last, "
                    f"[{','.join(rising)}], or make scenes smaller."
                )


def make_scene(plan: Plan, out: Path, *, dem: bool = False, nir: bool = False) -> Made:
    """Makes one scene and writes its image and class map, and its DEM if that is asked for, under `out`."""
    rng = np.random.default_rng(plan.seed)
    region = REGIONS[plan.region]
    extent_m = plan.side_px * plan.gsd_m
    base, allowed = _lay_of_the_land(rng, extent_m)
    terrain = build_terrain(
        rng,
        plan.side_px,
        base=base,
        ice_allowed=allowed,
        ice_share=float(rng.uniform(*region.ice_share)),
        ice_thickness=region.ice_thickness,
        ruggedness=region.relief,
    )
    ice = Ice.of(terrain)
    sky = _sky(rng, plan)
    relief_px = 0.23 * region.relief * plan.side_px * (extent_m / 4000.0) ** -0.12
    shade = cast_shadow(terrain.height * np.float32(relief_px), sky.sun_elevation_deg, sky.sun_azimuth_deg)
    lakes = place_lakes(rng, terrain, ice, shade, plan.gsd_m, region)
    ground = build_ground(rng, terrain, ice, lakes, region, bands=4 if nir else 3)
    if dem:
        metres = np.float32(relief_px * plan.gsd_m)
        place = out / "dem" / f"{plan.name}.tif"
        write_dem(plan, terrain.height * metres, ground.height * metres, ground.water, place)
    del terrain, shade  # memory: the light needs as much again
    beyond = np.random.default_rng((*plan.seed, 2))  # of its own, as that of a DEM
    image = expose(rng, light(rng, ground, sky, relief_px), RADIOMETRY[plan.sensor], beyond)
    if RADIOMETRY[plan.sensor].wedge and plan.seed[-1] % 3 == 2:
        unseen = _beyond_swath(rng, plan.side_px)
        image[:, unseen] = 0
        ground.codes[unseen] = CLASSES["nodata"]
    _write(plan, image, out / "scenes" / f"{plan.name}.tif", list(GENERATED_BANDS[: len(image)]), 0)
    _write(plan, ground.codes[None], out / "classes" / f"{plan.name}.tif", ["class"], None)
    return Made(plan, sky.taken, lakes, [_to_map(plan, lake.polygon) for lake in lakes], _glaciers(plan, ice.mask))


def _lay_of_the_land(rng: np.random.Generator, extent_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Large-scale height, falling to one corner, and where ice may be: in wide scenes far from that corner."""
    axis = (np.arange(SIDE) - MARGIN + 0.5) / (SIDE - 2 * MARGIN)
    corner = rng.integers(0, 2, 2)
    away = np.hypot(axis[:, None] - corner[0], axis[None, :] - corner[1])
    base = np.clip(away / 1.2, 0, 1)
    if extent_m < FAR_CORNER_EXTENT_M:
        return base, np.ones((SIDE, SIDE), bool)
    return base, away * extent_m > FILTER_M + max(0.16 * extent_m, 2500.0)


def _beyond_swath(rng: np.random.Generator, side: int) -> np.ndarray:
    """A slim wedge along the western or eastern edge."""
    wide, narrow = float(rng.uniform(0.09, 0.14)), float(rng.uniform(0.0, 0.03))
    edge = np.linspace(wide, narrow, side)[:, None] * side
    columns = np.arange(side)[None, :]
    return columns < edge if rng.random() < 0.5 else columns > side - edge


def _sky(rng: np.random.Generator, plan: Plan) -> Sky:
    region = REGIONS[plan.region]
    taken = date(int(rng.integers(2014, 2023)), int(rng.choice(region.months)), int(rng.integers(1, 29)))
    return Sky(
        sun_elevation_deg=float(rng.uniform(*region.sun_elevation_deg)),
        sun_azimuth_deg=float(rng.uniform(*region.sun_azimuth_deg)),
        haze=float(rng.uniform(*region.haze)),
        cloud_share=float(rng.choice([0.0, 0.02, 0.05])),
        taken=taken,
    )


def _to_map(plan: Plan, shape: shapely.Geometry) -> shapely.Geometry:
    return shapely.affinity.affine_transform(shape, [plan.gsd_m, 0, 0, -plan.gsd_m, plan.west_m, plan.north_m])


def _glaciers(plan: Plan, ice: np.ndarray) -> list[shapely.Polygon]:
    from rasterio.features import shapes

    outlines = (shapely.geometry.shape(s) for s, v in shapes(ice.astype(np.uint8), mask=ice) if v)
    return [_to_map(plan, outline.simplify(1.0)) for outline in outlines]


def _write(plan: Plan, bands: np.ndarray, path: Path, names: list[str], nodata: int | None) -> None:
    import rasterio
    from affine import Affine

    profile: dict[str, Any] = {
        "driver": "GTiff", "width": plan.side_px, "height": plan.side_px, "count": len(bands),
        "dtype": bands.dtype.name, "tiled": True, "blockxsize": 256, "blockysize": 256, "nodata": nodata,
        "crs": f"EPSG:{REGIONS[plan.region].epsg}",
        "transform": Affine(plan.gsd_m, 0, plan.west_m, 0, -plan.gsd_m, plan.north_m),
    }  # fmt: skip
    if len(bands) == 1:
        profile["compress"] = "deflate"
    else:
        profile.update(photometric="RGB", interleave="pixel", **({"alpha": "no"} if len(bands) > 3 else {}))
    with rasterio.open(path, "w", **profile) as sink:
        sink.write(bands)
        for i, name in enumerate(names, 1):
            sink.set_band_description(i, name)
        if names == ["class"]:
            sink.update_tags(**{f"class_{code}": name for name, code in CLASSES.items()})


def generate(
    cfg: SyntheticConfig,
    out: Path,
    *,
    progress: bool = True,
    workers: int | None = None,
    dem: bool = False,
    nir: bool = False,
) -> Path:
    """Makes the whole data set under `out`; the same settings give the same bytes, whatever the number of workers.

    Args:
        cfg: seed, sensors, regions, number and size of scenes
        out: folder to make; what it held before is replaced once the new one is complete
        progress: a line a scene on stderr
        workers: processes; all cores when not given
        dem: also heights of the ground, which change no other file
        nir: scenes have a fourth band, near infrared, which changes nothing else

    Returns:
        `out`, holding scenes/, classes/, scenes.csv, lakes.gpkg, glaciers.gpkg, and dem/ if it was asked for.

    Raises:
        ConfigError: unknown sensor or region, or sizes that cannot be made
        RunFailed: a worker was killed
    """
    plans = plan_scenes(cfg)
    out = Path(out)
    with folder_beside(out) as aside:
        for folder in ("scenes", "classes", *(["dem"] if dem else [])):
            (aside / folder).mkdir()
        made = _make_all(plans, aside, workers or os.cpu_count() or 1, progress, (dem, nir))
        write_tables(made, aside)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(aside, out)
    return out


def _make_all(plans: list[Plan], out: Path, workers: int, progress: bool, also: tuple[bool, bool]) -> list[Made]:
    if sum(plan.side_px**2 for plan in plans) < SPAWN_PIXELS:
        workers = 1
    made: dict[str, Made] = {}
    for one in mapped(_make_task, [(plan, out, *also) for plan in plans], workers=workers, killed=KILLED):
        made[one.plan.name] = one
        _say(progress, one, len(made), len(plans))
    return [made[plan.name] for plan in plans]


def _make_task(task: tuple[Plan, Path, bool, bool]) -> Made:
    plan, out, dem, nir = task
    return make_scene(plan, out, dem=dem, nir=nir)


def _say(progress: bool, made: Made, done: int, total: int) -> None:
    if progress:
        print(
            f"synthetic scene {done}/{total}: {made.plan.name}, {many(len(made.lakes), 'lake')}",
            file=sys.stderr,
            flush=True,
        )


__all__ = ["CLASSES", "generate", "plan_scenes"]
