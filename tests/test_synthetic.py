"""The embedded scene generator on tiny scenes: same bytes, right place, truth that agrees with the inventories."""

import hashlib
import heapq
import os
import signal
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from rasterio.enums import ColorInterp
from rasterio.features import rasterize

from glidexp.config import SyntheticConfig
from glidexp.data import sensors
from glidexp.data.synthetic import CLASSES, generate
from glidexp.data.synthetic.lakes import SIZE_EXPONENT, draw_areas
from glidexp.data.synthetic.light import cast_shadow
from glidexp.data.synthetic.noise import fractal
from glidexp.data.synthetic.regions import REGIONS
from glidexp.data.synthetic.terrain import OUTLET, SIDE, drain
from glidexp.data.synthetic.truth import read_classes
from glidexp.data.synthetic.world import plan_scenes
from glidexp.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

TINY = SyntheticConfig(seed=3, sensors=["worldview2", "landsat8"], scenes_per_sensor=2, scene_px=192)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(TINY, tmp_path_factory.mktemp("synthetic") / "tiny", progress=False)


def test_files_and_columns(tiny: Path) -> None:
    scenes = pd.read_csv(tiny / "scenes.csv")
    assert list(scenes.columns) == ["path", "scene", "sensor", "region", "gsd_m", "date"]
    assert len(scenes) == 4 and scenes.scene.is_unique
    assert all((tiny / path).is_file() for path in scenes.path)
    assert pd.to_datetime(scenes.date).between("2014-01-01", "2022-12-31").all()
    lakes, glaciers = geopandas.read_file(tiny / "lakes.gpkg"), geopandas.read_file(tiny / "glaciers.gpkg")
    assert {"lake_id", "region", "kind", "frozen", "turbidity", "area_m2"} <= set(lakes.columns)
    assert lakes.crs.to_epsg() == glaciers.crs.to_epsg() == 4326
    assert lakes.lake_id.is_unique and lakes.geometry.is_valid.all() and glaciers.geometry.is_valid.all()
    assert set(lakes.kind) <= {"supraglacial", "proglacial", "ice_marginal", "unconnected", "nonglacial"}
    assert not list(tiny.parent.glob(".*.part*"))


def test_georeference_of_every_scene(tiny: Path) -> None:
    for row in pd.read_csv(tiny / "scenes.csv").itertuples():
        with rasterio.open(tiny / row.path) as scene, rasterio.open(tiny / "classes" / f"{row.scene}.tif") as truth:
            assert scene.crs.to_epsg() == REGIONS[row.region].epsg
            assert scene.res == (row.gsd_m, row.gsd_m) == (sensors.get(row.sensor).gsd_m,) * 2
            assert scene.dtypes == ("uint16",) * 3 and scene.nodata == 0
            assert scene.descriptions == ("red", "green", "blue")
            assert (truth.transform, truth.crs, truth.shape) == (scene.transform, scene.crs, scene.shape)
            assert (scene.read().min() > 0) == (truth.read(1).min() > CLASSES["nodata"])


def test_same_settings_give_the_same_bytes_with_any_number_of_workers(tiny: Path, tmp_path: Path) -> None:
    from glidexp.data.synthetic import world

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "SPAWN_PIXELS", 0)
        again = generate(TINY, tmp_path / "again", progress=False, workers=2)
    assert digest(again) == digest(tiny)


def test_near_infrared_is_a_fourth_band_and_changes_nothing_else(tiny: Path, tmp_path: Path) -> None:
    """Water is dark in it, and it is no layer of transparency, which a reader would take for a mask."""
    four = generate(TINY, tmp_path / "four", progress=False, nir=True)
    before, after = digest(tiny), digest(four)
    assert {name for name in before if before[name] != after[name]} == {name for name in before if "scenes/" in name}
    for row in pd.read_csv(four / "scenes.csv").itertuples():
        with rasterio.open(tiny / row.path) as three, rasterio.open(four / row.path) as scene:
            image = scene.read()
            assert np.array_equal(three.read(), image[:3])
            assert scene.descriptions == ("red", "green", "blue", "nir") and scene.nodata == 0
            assert ColorInterp.alpha not in scene.colorinterp
        codes = read_classes(four, row.scene)
        assert ((image[3] == 0) == (codes == CLASSES["nodata"])).all()
        green, nir = image[1].astype(float), image[3].astype(float)
        index = (green - nir) / np.maximum(green + nir, 1)
        lake = codes == CLASSES["lake"]
        dry = np.isin(codes, [CLASSES[name] for name in ("rock", "moraine", "vegetation")])
        assert np.median(index[lake]) > np.quantile(index[dry], 0.95) and lake.sum() > 50


def test_another_seed_is_another_world(tiny: Path, tmp_path: Path) -> None:
    cfg = SyntheticConfig(seed=4, sensors=["worldview2"], scenes_per_sensor=1, scene_px=192)
    other = digest(generate(cfg, tmp_path / "other", progress=False))
    assert other["scenes/worldview2_himalaya_00.tif"] != digest(tiny)["scenes/worldview2_himalaya_00.tif"]


def test_a_scene_does_not_depend_on_the_others(tiny: Path, tmp_path: Path) -> None:
    cfg = SyntheticConfig(seed=3, sensors=["worldview2"], scenes_per_sensor=1, scene_px=192)
    alone = digest(generate(cfg, tmp_path / "alone", progress=False))
    assert alone["classes/worldview2_himalaya_00.tif"] == digest(tiny)["classes/worldview2_himalaya_00.tif"]


def test_generating_again_replaces_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()
    (out / "stale.txt").write_text("old")
    generate(SyntheticConfig(sensors=["gaofen2"], scenes_per_sensor=1, scene_px=128), out, progress=False)
    assert not (out / "stale.txt").exists() and (out / "scenes.csv").is_file()


def test_classes_agree_with_the_lake_polygons(tiny: Path) -> None:
    lakes = geopandas.read_file(tiny / "lakes.gpkg")
    for row in pd.read_csv(tiny / "scenes.csv").itertuples():
        with rasterio.open(tiny / "classes" / f"{row.scene}.tif") as source:
            codes, transform, crs = source.read(1), source.transform, source.crs
        mine = lakes[lakes.lake_id.str.startswith(row.scene + "_")].to_crs(crs)
        seen = codes != CLASSES["nodata"]
        drawn = rasterize(mine.geometry, out_shape=codes.shape, transform=transform)[seen] > 0
        truth = np.isin(codes, [CLASSES["lake"], CLASSES["frozen_lake"]])[seen]
        assert truth.sum() > 0
        assert (drawn & truth).sum() / (drawn | truth).sum() > 0.995
        assert np.allclose(mine.area, mine.area_m2, rtol=1e-3)


def test_kinds_keep_to_their_side_of_the_ice(tiny: Path) -> None:
    lakes, glaciers = geopandas.read_file(tiny / "lakes.gpkg"), geopandas.read_file(tiny / "glaciers.gpkg")
    for region in lakes.region.unique():
        epsg = REGIONS[region].epsg
        ice = glaciers[glaciers.region == region].to_crs(epsg).union_all()
        for lake in lakes[lakes.region == region].to_crs(epsg).itertuples():
            on_ice = lake.geometry.intersection(ice).area / lake.geometry.area
            assert on_ice > 0.8 if lake.kind == "supraglacial" else on_ice < 0.2, lake.lake_id


def test_footprints_do_not_touch_and_glaciers_stay_10_km_from_strange_scenes() -> None:
    plans = plan_scenes(SyntheticConfig(scenes_per_sensor=12))
    for region in REGIONS:
        boxes = [
            shapely.box(p.west_m, p.north_m - p.side_px * p.gsd_m, p.west_m + p.side_px * p.gsd_m, p.north_m)
            for p in plans
            if p.region == region
        ]
        gaps = [a.distance(b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert min(gaps) > 20_000
        assert all(b.bounds[0] > 166_000 and b.bounds[2] < 834_000 for b in boxes), "outside the UTM zone"


def test_scenes_that_would_share_ground_are_refused() -> None:
    """Each lies in a slot as wide as itself: a narrow one after wide ones came to lie on a wide one's ground."""
    turned = ["landsat8", "sentinel2", "gaofen2", "worldview2"]
    with pytest.raises(ConfigError, match=r"scene_px=2048 puts scenes .*\[worldview2,gaofen2,sentinel2,landsat8\]"):
        plan_scenes(SyntheticConfig(sensors=turned, scene_px=2048))
    assert len(plan_scenes(SyntheticConfig(sensors=turned))) == 24, "there is room at the usual size"
    assert len(plan_scenes(SyntheticConfig(sensors=turned[::-1], scene_px=8192, scenes_per_sensor=8))) == 32


def test_every_sensor_meets_every_region() -> None:
    plans = plan_scenes(SyntheticConfig())
    for sensor in SyntheticConfig().sensors:
        assert {p.region for p in plans if p.sensor == sensor} == set(REGIONS)
    assert {p.side_px for p in plans if p.sensor == "sentinel2"} == {1536}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sensors": ["sentinel"]}, "Did you mean 'sentinel2'"),
        ({"regions": ["alps"]}, "dataset.synthetic.regions='alps'"),
        ({"regions": []}, "at least one"),
        ({"sensors": ["landsat8", "landsat8"]}, "twice"),
        ({"scenes_per_sensor": 0}, "dataset.synthetic.scenes_per_sensor=0"),
        ({"scene_px": 100}, "dataset.synthetic.scene_px=100"),
        ({"seed": -1}, "dataset.synthetic.seed=-1"),
    ],
)
def test_wrong_settings_say_what_is_allowed(change: dict, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        generate(SyntheticConfig(**change), tmp_path / "never", progress=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "never").exists()


def test_drawn_areas_follow_the_size_law() -> None:
    rng = np.random.default_rng(0)
    areas = np.concatenate([draw_areas(rng, 1024) for _ in range(60)])
    # maximum likelihood of a Pareto law; the upper truncation at 640 times the smallest biases it by about 0.02
    assert 1 / np.mean(np.log(areas / areas.min())) == pytest.approx(SIZE_EXPONENT, abs=0.06)


def test_water_takes_the_lowest_way_out_and_every_cell_counts_once() -> None:
    """The drainage tree against one walked cell by cell: no way to the outlet has a lower highest pass."""
    rng = np.random.default_rng(4)
    height = rng.random((SIDE, SIDE))
    tree = drain(height)
    place = {cell: i for i, level in enumerate(tree.levels) for cell in level.tolist()}
    assert sorted(place) == [*range(SIDE * SIDE)]
    to, z = tree.receiver.tolist(), [*height.ravel().tolist(), -1.0]
    assert all((to[cell] == OUTLET) == (i == 0) and (i == 0 or place[to[cell]] == i - 1) for cell, i in place.items())
    area, highest = [1.0] * (OUTLET + 1), [-1.0] * (OUTLET + 1)
    for cell in sorted(place, key=place.__getitem__, reverse=True):
        area[to[cell]] += area[cell]
    for cell in sorted(place, key=place.__getitem__):
        highest[cell] = max(highest[to[cell]], z[cell])
    assert tree.area.tolist() == area[:OUTLET] and area[OUTLET] == SIDE * SIDE + 1
    flooded = [np.inf] * (OUTLET + 1)  # a priority flood from the rim
    rows, columns = np.divmod(np.arange(OUTLET), SIDE)
    rim = np.flatnonzero((rows % (SIDE - 1) == 0) | (columns % (SIDE - 1) == 0))
    queue = [(z[cell], cell) for cell in rim.tolist()]
    heapq.heapify(queue)
    while queue:
        level, cell = heapq.heappop(queue)
        if level >= flooded[cell]:
            continue
        flooded[cell] = level
        row, column = divmod(cell, SIDE)
        for r in range(max(row - 1, 0), min(row + 2, SIDE)):
            for c in range(max(column - 1, 0), min(column + 2, SIDE)):
                heapq.heappush(queue, (max(level, z[r * SIDE + c]), r * SIDE + c))
    found = np.array(highest[:OUTLET])
    # a thousandth of the lower end's height breaks ties, and may so prefer a pass that is higher by as much
    assert (np.abs(found - flooded[:OUTLET]) < 1e-3).all() and (found == flooded[:OUTLET]).mean() > 0.95


@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_noise_has_the_spectrum_it_is_asked_for(beta: float) -> None:
    field = fractal(np.random.default_rng(1), 256, beta)
    assert field.dtype == np.float32 and abs(field.mean()) < 1e-4 and field.std() == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.fft2(field)) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    bins = [(0.02, 0.04), (0.2, 0.4)]
    low, high = (np.log(power[(k > a) & (k < b)]).mean() for a, b in bins)
    steps = np.diff([np.log(k[(k > a) & (k < b)]).mean() for a, b in bins])[0]
    assert -(high - low) / steps == pytest.approx(beta, abs=0.15)


def test_shadow_of_a_wall_is_as_long_as_the_sun_says() -> None:
    height = np.zeros((128, 128), np.float32)
    height[:, 90] = 20.0
    shadow = cast_shadow(height, elevation_deg=45.0, azimuth_deg=90.0)  # light from the east
    row = shadow[64] > 0.5
    assert row[72:90].all() and not row[:69].any() and not row[91:].any()
    assert not (cast_shadow(height, 45.0, 270.0)[64, :90] > 0.5).any()


def test_flat_ground_has_no_shadow() -> None:
    assert cast_shadow(np.zeros((64, 64), np.float32), 30.0, 140.0).max() == 0


def test_a_signal_to_the_whole_group_ends_the_making_without_a_trace(tmp_path: Path) -> None:
    """As a scheduler sends it: the processes that draw scenes die of it while others wait for their turn."""
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom glidexp.config import SyntheticConfig\n"
        "from glidexp.data.synthetic import world\n"
        "from glidexp.signals import sigterm_as_ctrl_c\n"
        "if __name__ == '__main__':\n"
        "    world.SPAWN_PIXELS = 0\n"
        "    with sigterm_as_ctrl_c():\n"
        "        try:\n"
        "            world.generate(SyntheticConfig(scenes_per_sensor=9), Path(sys.argv[1]), workers=2)\n"
        "        except KeyboardInterrupt:\n"
        "            sys.exit(5)\n"
    )
    (tmp_path / "make.py").write_text(code)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "make.py"), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as job:  # fmt: skip
        assert job.stderr is not None and job.stderr.readline().startswith("synthetic scene 1/36")
        os.killpg(job.pid, signal.SIGTERM)
        said = job.stderr.read()
    assert job.returncode == 5 and "Traceback" not in said, said
    assert list(tmp_path.iterdir()) == [tmp_path / "make.py"]


def test_a_process_that_is_killed_is_told_in_a_line(tmp_path: Path) -> None:
    """As the system does it that has no memory left."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom glidexp.config import SyntheticConfig\n"
        "from glidexp.data.synthetic import world\n"
        "from glidexp.errors import RunFailed\n"
        "world.SPAWN_PIXELS = 0\n"
        "if os.environ.get('HERE') != str(os.getpid()):\n"
        "    world.make_scene = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    os.environ['HERE'] = str(os.getpid())\n"
        "    try:\n"
        "        world.generate(SyntheticConfig(scenes_per_sensor=2), Path(sys.argv[1]), workers=2)\n"
        "    except RunFailed as error:\n"
        "        sys.exit(str(error))\n"
    )
    (tmp_path / "make.py").write_text(code)
    job = subprocess.run(
        [sys.executable, str(tmp_path / "make.py"), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    (line,) = job.stderr.splitlines()
    assert job.returncode == 1 and "was killed, most often for want of memory" in line and "scene_px" in line
    assert list(tmp_path.iterdir()) == [tmp_path / "make.py"]
