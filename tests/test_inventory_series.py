"""Lakes over many dates: rates that are known, noise that is none, what was not seen, splits, scenes side by side."""

import json
import math
import re
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio.features
import shapely
from rasterio.transform import from_origin
from rasterio.warp import calculate_default_transform, reproject
from scipy import stats
from test_inventory_diff import across_180
from tiny_scenes import NORTH, WEST, lake

from glidexp import cli
from glidexp.errors import DataError
from glidexp.mapping import diff, doubt, lake_map, trend, verb_inventory
from glidexp.mapping.series import Series
from glidexp.mapping.settings import MapSettings
from glidexp.mapping.sudden import sudden_loss
from glidexp.mapping.trend import NONE
from glidexp.mapping.verb_series import told

WIDE = lake(20_000, 20_000, 60_000).envelope
pytestmark = pytest.mark.usefixtures("plain_figures")
YEARS = (2000, 2004, 2009, 2013, 2018)


def written(
    path: Path,
    lakes: list[shapely.Geometry],
    date: str | int | None,
    *,
    bound_km2: float = 0.001,
    ground: shapely.Geometry | None = WIDE,
    cut: tuple[int, ...] = (),
    crs: int = 32645,
    px_m: float | None = None,
) -> Path:
    """A map as `glidexp predict` leaves one, of lakes in metres of UTM 45 N."""
    area = np.array([one.area / 1e6 for one in lakes], dtype=np.float64)
    columns: dict[str, Any] = {
        "lake_id": [f"L{i}" for i in range(len(lakes))],
        "area_low_km2": area - bound_km2,
        "area_high_km2": area + bound_km2,
        "cut": [i in cut for i in range(len(lakes))],
    }
    if px_m:
        columns["area_px"] = np.rint(area * 1e6 / px_m**2).astype(np.int64)
    if date is not None:
        columns["date"] = [date] * len(lakes)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = geopandas.GeoDataFrame(columns, geometry=lakes, crs=32645).to_crs(crs)
    frame.to_file(path, layer="lakes")
    if ground is not None:
        geopandas.GeoDataFrame(geometry=[ground], crs=32645).to_crs(crs).to_file(path, layer="ground")
    return path


def series(tmp_path: Path, maps: list[Path], *more: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Lakes, lakes by date and totals."""
    out = tmp_path / "out"
    assert verb_inventory.run(["series", *map(str, maps), "--out", str(out), *more]) == 0
    lakes = geopandas.read_file(out / "series.gpkg", layer="lakes")
    return lakes, geopandas.read_file(out / "series.gpkg", layer="dates"), pd.read_csv(out / "totals.csv")


def near(lakes: pd.DataFrame, x: float) -> Any:
    """The lake whose outline is around a place, metres east of the corner."""
    place = geopandas.GeoSeries([shapely.Point(WEST + x, NORTH)], crs=32645).to_crs(4326).iloc[0]
    (row,) = [one for one in lakes.itertuples() if one.geometry.contains(place)]
    return row


def circle(x: float, km2: float) -> shapely.Geometry:
    """A lake of so many km2; 256 corners lack 0.01 % of a circle."""
    return shapely.Point(WEST + x, NORTH).buffer((km2 * 1e6 / np.pi) ** 0.5, 64)


def test_rates_of_known_growth_and_noise_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.array([0.004, -0.006, 0.005, -0.004, 0.006])
    maps = [
        written(
            tmp_path / f"map{i}.gpkg",
            [
                circle(0, 0.10 + 0.02 * (year - 2000)),
                circle(3000, 0.50 - 0.01 * (year - 2000)),
                circle(6000, 0.30 + noise[i]),
                circle(9000, 0.40 + 0.0001 * (year - 2000)),  # steady, but within half a pixel
                *([circle(12_000, 0.2)] if year >= 2009 else []),
                *([circle(15_000, 0.2)] if year < 2013 else []),
                *([circle(18_000, 0.2)] if 2004 <= year <= 2009 else []),
                circle(21_000, (0.2, 0.5, 0.1, 0.5, 0.2)[i]),
            ],
            year,
            bound_km2=0.01,
        )
        for i, year in enumerate(YEARS)
    ]
    lakes, dates, totals = series(tmp_path, maps[::-1])
    verdicts = [near(lakes, x).verdict for x in range(0, 24_000, 3000)]
    assert verdicts == [
        "grows", "shrinks", "no_change", "no_change", "appeared", "vanished", "came_and_went", "varies",
    ]  # fmt: skip
    # 1.0008: the scale of UTM 45 so far from its meridian is in no area on the ellipsoid
    grown, shrunk = near(lakes, 0), near(lakes, 3000)
    assert grown.km2_per_year == pytest.approx(0.02, rel=2e-3) and shrunk.km2_per_year == pytest.approx(-0.01, rel=2e-3)
    # the slopes are all the same, so the interval is what half a pixel at both ends leaves open
    half = 0.01 * 2**0.5 / 18
    assert grown.km2_per_year_high - grown.km2_per_year == pytest.approx(half, rel=1e-3)
    assert grown.change_km2 == pytest.approx(0.36, rel=2e-3) and grown.uncertainty_km2 == pytest.approx(0.01 * 2**0.5)
    assert (grown.first_seen, grown.last_seen, grown.dates) == ("2000", "2018", 5)
    # five dates in a row by chance: twice one of 120 orders; Holm takes the five lakes with a trend as a family
    assert grown.p == pytest.approx(2 / 120) and near(lakes, 6000).p == pytest.approx(58 / 120)  # 3 of 10 pairs fall
    tested = int(lakes["p"].notna().sum())
    assert tested == 5 and grown.p_holm == pytest.approx(tested * 2 / 120)
    come, gone, passed = (near(lakes, x) for x in (12_000, 15_000, 18_000))
    assert (come.absent_before, come.first_seen, come.absent_after) == ("2004", "2009", "")
    assert (gone.last_seen, gone.absent_after, gone.first_km2 > 0.19, gone.last_km2) == ("2009", "2013", True, 0)
    assert (passed.absent_before, passed.first_seen, passed.last_seen, passed.absent_after) == (
        "2000", "2004", "2009", "2013",
    )  # fmt: skip
    assert come.dates == 5 and come.dates_seen == 3 and pd.isna(come.km2_per_year)  # three dates are no trend
    assert totals["date"].tolist() == list(YEARS) and totals["lakes"].tolist() == [6, 7, 8, 6, 6]
    assert totals["common_km2"].tolist() == pytest.approx(totals["area_km2"].tolist())
    assert (totals["area_high_km2"] - totals["area_km2"]).tolist() == pytest.approx((totals["lakes"] * 0.01).tolist())
    rows = dates[dates["lake_id"] == come.lake_id].sort_values("year")
    assert rows["state"].tolist() == ["absent"] * 2 + ["seen"] * 3
    assert rows.geometry.isna().tolist() == [True, True, False, False, False]
    told = capsys.readouterr().out
    assert (
        "lakes: 8, of which 1 grows, 1 shrinks, 1 varies, 2 no change, 1 appeared, 1 vanished, 1 came and went, 0"
        in told
    )
    assert "with a trend (4 dates or more): 5; growing or shrinking beyond bounds and scatter: 2\n" in told
    assert re.search(rf"{grown.lake_id} +grows", told) and "note:" not in told


@pytest.mark.usefixtures("real_figures")
def test_files_agree_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    maps = [written(tmp_path / f"{y}.gpkg", [circle(0, 0.1 + 0.01 * i)], y) for i, y in enumerate(YEARS)]
    lakes, dates, _ = series(tmp_path, maps)
    out = tmp_path / "out"
    names = ["series.csv", "series.gpkg", "series.parquet", "totals.csv"]
    names += [f"series{column}.{end}" for column in ("", "_column") for end in ("pdf", "png")]
    assert sorted(one.name for one in out.iterdir()) == sorted(names)
    plain, whole = pd.read_csv(out / "series.csv"), geopandas.read_parquet(out / "series.parquet")
    assert list(plain.columns) == list(lakes.columns[:-1]) == list(whole.columns[:-1])
    for column in ("first_km2", "km2_per_year", "p"):
        assert plain[column].to_numpy() == pytest.approx(lakes[column].to_numpy(), rel=1e-7)
        assert whole[column].to_numpy() == pytest.approx(lakes[column].to_numpy(), rel=1e-12)
    assert lakes.geometry.iloc[0].equals(whole.geometry.iloc[0])
    assert shapely.area(lakes.geometry.iloc[0]) == pytest.approx(dates.geometry.iloc[-1].area, rel=1e-9)
    before = {one.name: one.read_bytes() for one in out.iterdir() if one.suffix in (".csv", ".png", ".pdf")}
    series(tmp_path, maps)  # again into the same folder
    assert {one.name: one.read_bytes() for one in out.iterdir() if one.suffix in (".csv", ".png", ".pdf")} == before


def test_what_was_not_looked_at_or_is_cut_is_missing_and_not_zero(tmp_path: Path) -> None:
    east = shapely.box(WEST - 60_000, NORTH - 60_000, WEST + 10_000, NORTH + 60_000)
    maps = []
    for i, year in enumerate(YEARS):
        lakes = [circle(0, 0.1), circle(5000, 0.02 if year == 2013 else 0.1)]
        lakes += [] if year == 2009 else [circle(30_000, 0.1)]
        maps.append(
            written(
                tmp_path / f"{i}.gpkg", lakes, year, ground=east if year == 2009 else WIDE,
                cut=(1,) if year == 2013 else (),
            )
        )  # fmt: skip
    lakes, dates, totals = series(tmp_path, maps)
    assert lakes["verdict"].tolist() == ["no_change"] * 3
    assert [near(lakes, x).dates for x in (0, 5000, 30_000)] == [5, 4, 4]
    state = {x: dates[dates["lake_id"] == near(lakes, x).lake_id]["state"].tolist() for x in (5000, 30_000)}
    assert state == {5000: ["seen"] * 3 + ["cut", "seen"], 30_000: ["seen", "seen", "not_looked_at", "seen", "seen"]}
    assert dates[dates["state"] == "not_looked_at"]["area_km2"].isna().all()
    # as mapped, a date with less coverage and one with a cloud look like loss; of the ground that all saw there is none
    assert totals["area_km2"].tolist() == pytest.approx([0.3, 0.3, 0.2, 0.22, 0.3], rel=2e-3)
    assert totals["common_km2"].tolist() == pytest.approx([0.1] * 5, rel=2e-3)
    assert totals["common_lakes"].tolist() == [1] * 5
    # 50 by 100 km are common to both
    assert totals["common_ground_km2"].tolist() == pytest.approx([5000] * 5, rel=5e-3)
    assert totals["ground_km2"].tolist() == pytest.approx([14_400, 14_400, 8400, 14_400, 14_400], rel=5e-3)


@pytest.mark.usefixtures("real_figures")
def test_a_lake_that_coarse_pixels_cannot_show_is_not_absent_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two dates of 30 m, where the smallest lake has 0.0054 km2, three of 10 m."""
    assert MapSettings().min_px == lake_map.LEAST_PX
    small, six = circle(3000, 0.0040), circle(12_000, 0.0006)
    maps = []
    for year in YEARS:
        lakes, fine = [circle(0, 0.1)], year >= 2009
        lakes += [small, circle(6000, 0.02)] if fine else []
        lakes += [circle(9000, 0.0040)] if year >= 2013 else []
        lakes += [six] if fine and year != 2013 else []
        maps.append(written(tmp_path / f"{year}.gpkg", lakes, year, bound_km2=1e-4, px_m=10.0 if fine else 30.0))
    lakes, dates, totals = series(tmp_path, maps)

    def states(x: float) -> list[str]:
        return dates[dates["lake_id"] == near(lakes, x).lake_id].sort_values("year")["state"].tolist()

    assert states(3000) == ["too_small"] * 2 + ["seen"] * 3 and states(6000) == ["absent"] * 2 + ["seen"] * 3
    assert states(9000) == ["too_small", "too_small", "absent", "seen", "seen"]
    assert states(12_000) == ["too_small", "too_small", "seen", "absent", "seen"]  # of 6 pixels, at 10 m
    assert dates[dates["state"] == "too_small"]["area_km2"].isna().all()
    told = {x: (near(lakes, x).verdict, near(lakes, x).absent_before) for x in (0, 3000, 6000, 9000, 12_000)}
    assert told == {
        0: ("no_change", ""), 3000: ("too_few_dates", ""), 6000: ("appeared", "2004"), 9000: ("appeared", "2009"),
        12_000: ("too_few_dates", ""),
    }  # fmt: skip
    assert (near(lakes, 3000).dates, near(lakes, 3000).dates_missing) == (3, 2)
    # the others would be growth in the total
    assert totals["common_km2"].tolist() == pytest.approx([0.1, 0.1, 0.12, 0.12, 0.12], rel=2e-3)
    assert totals["gsd_m"].tolist() == pytest.approx([30, 30, 10, 10, 10], rel=5e-3)
    said = capsys.readouterr().out
    assert "note: pixels are of 30 m on 2000 and of 10 m on 20" in said and "overlooked (gaps above 0): 1\n" in said
    alike = [written(tmp_path / f"{year}.gpkg", [circle(0, 0.1)], year, px_m=10.0) for year in YEARS]
    _, _, totals = series(tmp_path, [*alike[:4], written(tmp_path / "x.gpkg", [circle(0, 0.1)], 2018)])
    assert totals["gsd_m"].isna().tolist() == [False] * 4 + [True]
    said = capsys.readouterr().out
    assert "pixels are" not in said and "gaps" not in said
    # of several maps of a date the coarsest decides
    pair = [written(tmp_path / f"{n}.gpkg", [circle(0, 0.1)], 2000, px_m=n) for n in (10.0, 30.0)]
    _, _, totals = series(tmp_path, [*pair, *alike[1:]])
    assert totals["gsd_m"].tolist() == pytest.approx([30, 10, 10, 10, 10], rel=5e-3)


def square(x: float) -> shapely.Geometry:
    """A lake of 500 by 500 m, on ten by ten of the pixels of `probabilities`."""
    return shapely.box(WEST + x - 250, NORTH - 250, WEST + x + 250, NORTH + 250)


def probabilities(beside: Path, levels: dict[float, list[int]]) -> Path:
    """The raster of a map in pixels of 50 m, 254 times the probability: 5, but of the lake at x the first as given."""
    grid = np.full((200, 400), 5, np.uint8)
    for x, first in levels.items():
        own = np.array(first + [5] * (100 - len(first)), np.uint8)
        column = round((x - 250 + 5000) / 50)
        grid[95:105, column : column + 10] = own.reshape(10, 10)
    profile = {"driver": "GTiff", "width": 400, "height": 200, "count": 1, "dtype": "uint8", "nodata": 255}
    raster = beside.with_name(beside.name.replace("_lakes.gpkg", "_probability.tif"))
    corner = from_origin(WEST - 5000, NORTH + 5000, 50, 50)
    with rasterio.open(raster, "w", crs=32645, transform=corner, **profile) as file:
        file.write(grid, 1)
    return raster


def test_a_lake_that_the_network_half_saw_is_not_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a tenth of its pixels at a probability of 0.1, a level of 25.4, on; pixels without data say nothing."""
    monkeypatch.setattr(doubt, "STRIP_PX", 100)  # the lakes lie across two strips
    places = (0, 2000, 4000, 6000)
    levels = {2000: [26] * 5 + [5] * 90 + [26] * 5, 4000: [26] * 9 + [25] * 91, 6000: [255] * 100}
    maps = []
    for year in YEARS:
        lakes = [square(x) for x in (places if year < 2018 else places[:1])]
        maps.append(written(tmp_path / f"{year}_lakes.gpkg", lakes, year))
        raster = probabilities(maps[-1], levels if year == 2018 else {})
    lakes, dates, totals = series(tmp_path, maps)
    found = [near(lakes, x) for x in places]
    last = [dates[(dates["lake_id"] == one.lake_id) & (dates["year"] > 2018)].iloc[0] for one in found]
    assert [one["state"] for one in last] == ["seen", "half_seen", "absent", "absent"]
    assert np.isnan(last[1]["area_km2"]) and last[2]["area_km2"] == 0
    assert [one.verdict for one in found] == ["no_change", "no_change", "vanished", "vanished"]
    assert [one.dates_missing for one in found] == [0, 1, 0, 0]
    assert totals["common_lakes"].tolist() == [3, 3, 3, 3, 1]
    said = capsys.readouterr().out
    assert "says nothing of them (state half_seen): 1\n" in said and "note:" not in said
    # two maps say the same
    assert verb_inventory.run(["diff", str(maps[0]), str(maps[-1]), "--out", str(tmp_path / "diff.gpkg")]) == 0
    assert "0 appeared, 2 vanished, 0 grown, 0 shrunk, 1 unchanged, 0 not seen, 0 too small, 1 half seen; 0.7" in (
        capsys.readouterr().out
    )
    assert verb_inventory.run(["diff", str(maps[-1]), str(maps[0])]) == 0
    assert "2 appeared, 0 vanished" in (said := capsys.readouterr().out) and "1 half seen; 0.2" in said
    # without the raster it is gone, which is said; one that cannot be read is no reason to say so
    whole = raster.read_bytes()
    raster.unlink()
    lakes, _, _ = series(tmp_path, maps)
    assert (lakes["verdict"] == "vanished").sum() == 3
    assert "note: 2018_lakes.gpkg: no raster NAME_probability.tif lies beside it" in capsys.readouterr().out
    raster.write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"2018_probability\.tif cannot be read .*: map the scene again"):
        series(tmp_path, maps)
    raster.write_text("<VRTDataset/>")  # which GDAL would follow to other files and addresses
    with pytest.raises(DataError, match=r"2018_probability\.tif is no raster but a text that names other files"):
        series(tmp_path, maps)


def test_a_lake_half_seen_by_one_of_two_maps_in_another_crs(tmp_path: Path) -> None:
    """The nearest date that has the lake says where to look: in 2004 it lies 2 km farther east."""
    lake_of = {2000: square(0), 2004: square(2000), 2009: None, 2013: square(2000), 2018: square(2000)}
    joined = shapely.box(WEST - 250, NORTH - 250, WEST + 2250, NORTH + 250)  # what makes one lake of both places
    maps = []
    for year, one in lake_of.items():
        shapes = [joined] if year == 2018 else [one] if one else []
        maps.append(written(tmp_path / f"{year}_lakes.gpkg", shapes, year))
        probabilities(maps[-1], {})
    beside = written(tmp_path / "x_2009_lakes.gpkg", [], 2009)
    raster = probabilities(beside, {2000: [60] * 100})
    with rasterio.open(raster) as source:
        grid, info = source.read(), source.profile
        to, width, height = calculate_default_transform(source.crs, "EPSG:3857", 400, 200, *source.bounds)
        moved = np.full((1, height, width), 255, np.uint8)
        reproject(
            grid, moved, src_transform=source.transform, src_crs=source.crs, dst_transform=to, dst_crs="EPSG:3857"
        )
    with rasterio.open(
        raster, "w", **{**info, "crs": "EPSG:3857", "transform": to, "width": width, "height": height}
    ) as file:
        file.write(moved)

    def state(*more: Path) -> list[str]:
        _, dates, _ = series(tmp_path, [*maps, *more])
        return dates.sort_values("year")["state"].tolist()

    assert state() == ["seen", "seen", "absent", "seen", "seen"]
    assert state(beside) == ["seen", "seen", "half_seen", "seen", "seen"]


def test_probabilities_of_other_ground_or_kind_are_refused(tmp_path: Path) -> None:
    """As they would say of every lake that it is gone; of a map whose ground has none of the lakes nothing is asked."""
    maps = [written(tmp_path / f"{year}_lakes.gpkg", [square(0)], year) for year in YEARS[:2]]
    gone = written(tmp_path / "2009_lakes.gpkg", [], 2009)
    far = written(tmp_path / "x_2009_lakes.gpkg", [], 2009, ground=shapely.box(2e5, 4e6, 3e5, 4.1e6))
    for one in (gone, far):
        raster = probabilities(one, {0: [60] * 100})
    with rasterio.open(raster) as source:
        levels, info = source.read(), source.profile
    with rasterio.open(raster, "w", **{**info, "transform": from_origin(2e5, 4.1e6, 50, 50)}) as file:
        file.write(levels)
    _, dates, _ = series(tmp_path, [*maps, gone, far])
    assert dates["state"].tolist() == ["seen", "seen", "half_seen"]
    moved = probabilities(gone, {})
    moved.write_bytes(raster.read_bytes())
    with pytest.raises(DataError, match=r"2009_probability\.tif lies elsewhere than the ground of 2009_lakes\.gpkg"):
        series(tmp_path, [*maps, gone])
    with rasterio.open(moved, "w", **{**info, "dtype": "float32"}) as file:
        file.write((levels / 254).astype(np.float32))
    for words in (["series", *maps, gone], ["diff", maps[0], gone]):
        with pytest.raises(DataError, match=r"2009_probability\.tif holds float32, where glidexp predict writes uint8"):
            verb_inventory.run(list(map(str, words)))


def test_lakes_on_either_side_of_180_degrees_are_half_seen_in_a_raster_in_degrees(tmp_path: Path) -> None:
    circles = [shapely.Point(x, 0).buffer(400, 64) for x in (-3000, 0, 3000)]
    ground = shapely.box(-6000, -4000, 6000, 4000)
    lakes = across_180(tmp_path / "2000_lakes.gpkg", "metres", circles, ground)
    other = across_180(tmp_path / "2004_lakes.gpkg", "metres", [shapely.Point(0, 3000).buffer(400)], ground)
    profile = {"driver": "GTiff", "width": 400, "height": 100, "count": 1, "dtype": "uint8", "crs": 4326}
    shapes = lake_map.read(lakes, "MAP", None).shapes
    for west in (179.8, -180.2):
        corner = from_origin(west, 66.05, 0.001, 0.001)
        with rasterio.open(tmp_path / "2004_probability.tif", "w", transform=corner, **profile) as file:
            file.write(np.full((100, 400), 60, np.uint8), 1)
        assert doubt.half_seen(lake_map.read(other, "MAP", None), shapes).tolist() == [True, True, True]


def test_a_lake_in_the_strip_that_the_coarse_ground_lacks_is_whole(tmp_path: Path) -> None:
    """The ground of a map is made of squares of 16 pixels: a lake may be whole and lie across its edge."""
    narrow = shapely.box(WEST - 40_000, NORTH - 40_000, WEST, NORTH + 40_000)
    maps = [
        written(tmp_path / f"{year}.gpkg", [circle(0, 0.1)], year, ground=narrow if year == 2009 else WIDE)
        for year in YEARS
    ]
    lakes, _, _ = series(tmp_path, maps)
    assert lakes["dates"].tolist() == [5]
    # of one that has split, the other part may lie where nothing was looked at
    parts = [circle(-300, 0.1), circle(300, 0.1)]
    whole = shapely.union_all([*parts, shapely.LineString([(WEST - 300, NORTH), (WEST + 300, NORTH)]).buffer(30)])
    for year in YEARS:
        one = [whole] if year == 2000 else parts[:1] if year == 2009 else parts
        written(tmp_path / f"{year}.gpkg", one, year, ground=narrow if year == 2009 else WIDE)
    lakes, dates, _ = series(tmp_path, maps)
    assert lakes["dates"].tolist() == [4] and lakes["verdict"].tolist() == ["varies"]  # the strip between the parts
    assert dates["state"].tolist() == ["seen", "seen", "not_looked_at", "seen", "seen"]


def test_splits_and_merges_are_one_lake_with_the_sum_of_areas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It splits, merges, and in 2009 one half alone was mapped: through the other dates it is the same lake."""
    whole = shapely.box(WEST, NORTH, WEST + 1000, NORTH + 400)
    halves = [shapely.box(WEST + x, NORTH, WEST + x + 450, NORTH + 400) for x in (0, 550)]
    shown = {2000: [whole], 2004: halves, 2009: halves[:1], 2013: [whole], 2018: halves}
    maps = [written(tmp_path / f"{y}.gpkg", [*one, circle(9000, 0.1)], y) for y, one in shown.items()]
    lakes, dates, totals = series(tmp_path, maps)
    assert len(lakes) == 2 and lakes["most_parts"].tolist() == [2, 1]
    rows = dates[dates["lake_id"] == lakes["lake_id"][0]]
    assert rows["parts"].tolist() == [1, 2, 1, 1, 2]
    assert rows["area_km2"].tolist() == pytest.approx([0.4, 0.36, 0.18, 0.4, 0.36], rel=2e-3)
    # bounds of parts add up as those of two maps do
    assert (rows["area_high_km2"] - rows["area_km2"]).tolist() == pytest.approx(
        [0.001, 0.001 * 2**0.5, 0.001, 0.001, 0.001 * 2**0.5], rel=1e-6
    )
    outline = geopandas.read_file(maps[0], layer="lakes").to_crs(4326).geometry.iloc[0]
    assert shapely.symmetric_difference(lakes.geometry.iloc[0], outline).area < 1e-3 * outline.area
    assert totals["lakes"].tolist() == [2] * 5
    assert "are sums (most_parts above 1): 1" in capsys.readouterr().out


def test_scenes_of_one_date_side_by_side_count_shared_ground_once(tmp_path: Path) -> None:
    """Two scenes that overlap by 2 km: a lake in both, one that an edge of each cuts, one that a single edge cuts."""
    left = shapely.box(WEST - 20_000, NORTH - 20_000, WEST + 1000, NORTH + 20_000)
    right = shapely.box(WEST - 1000, NORTH - 20_000, WEST + 20_000, NORTH + 20_000)
    long = shapely.box(WEST - 2000, NORTH + 5000, WEST + 2000, NORTH + 5100)  # 0.4 km2, across all of the overlap
    once = shapely.box(WEST + 500, NORTH - 5000, WEST + 1500, NORTH - 4900)
    lakes_of = [circle(0, 0.1), circle(-5000, 0.2), circle(5000, 0.3), long, once]
    maps = []
    for year in YEARS:
        if year == 2000:
            maps.append(written(tmp_path / "all.gpkg", lakes_of, "2000-07-01"))
            continue
        for name, ground, sees in (("left", left, (0, 1, 3, 4)), ("right", right, (0, 2, 3, 4))):
            clipped = [shapely.intersection(lakes_of[i], ground) for i in sees]
            cut = tuple(n for n, i in enumerate(sees) if not ground.contains_properly(lakes_of[i]))
            wide = [one.buffer(5) if i == 0 and name == "right" else one for i, one in zip(sees, clipped, strict=True)]
            bound = 0.001 if name == "left" else 0.002
            day = "07-01" if name == "left" or year < 2013 else "07-08"
            path = tmp_path / f"{name}{year}.gpkg"
            maps.append(written(path, wide, f"{year}-{day}", ground=ground, cut=cut, bound_km2=bound))
    lakes, dates, totals = series(tmp_path, maps, "--by", "year")
    assert totals["date"].tolist() == list(YEARS) and totals["maps"].tolist() == [1, 2, 2, 2, 2]
    assert len(lakes) == 5 and (lakes["dates"] == 5).all() and (lakes["verdict"] == "no_change").all()
    # the sum of both scenes would be 0.05 km2 more in the overlap, and once the lake in both
    assert totals["area_km2"].tolist() == pytest.approx([0.1 + 0.2 + 0.3 + 0.4 + 0.1] * 5, rel=2e-3)
    assert totals["common_km2"].tolist() == pytest.approx(totals["area_km2"].tolist())
    both = dates[dates["lake_id"] == near(lakes, 0).lake_id]
    # of two that show it whole the one with the lesser bound for its size
    assert (both["area_high_km2"] - both["area_km2"]).tolist() == pytest.approx([0.001] * 5)
    # as dates of their own, each scene of 2013 and 2018 lacks the other's ground
    lakes, dates, totals = series(tmp_path, maps)
    assert totals["date"].tolist()[-2:] == ["2018-07-01", "2018-07-08"] and len(totals) == 7
    assert near(lakes, -5000).dates == 5 and near(lakes, 0).dates == 7
    assert (dates["state"] == "cut").sum() == 2 * 3  # long on four dates, once on the left scene's


@pytest.mark.parametrize("crs", [32645, 4326])
def test_lakes_that_one_edge_of_two_passes_cuts_are_not_whole(crs: int, tmp_path: Path) -> None:
    """Two scenes of a footprint in a year: laid over each other they show no more of a lake than each by itself."""
    ground = shapely.box(WEST, NORTH - 20_000, WEST + 20_000, NORTH)
    whole = [lake(30 * (i % 7) - 60, 500 + 900 * i, 200) for i in range(20)]
    part = [one.intersection(ground) for one in whole]
    maps = [
        written(tmp_path / f"{day}.gpkg", part, day, ground=ground, cut=tuple(range(20)), crs=crs)
        for day in ("2000-07-01", "2000-08-01")
    ]
    _, dates, totals = series(tmp_path, [*maps, written(tmp_path / "2010.gpkg", whole, 2010, crs=crs)], "--by", "year")
    assert dates["state"].tolist() == ["cut", "seen"] * 20
    assert totals["common_lakes"].tolist() == [0, 0]


def test_of_two_maps_of_a_date_the_smaller_outlines_are_not_chosen(tmp_path: Path) -> None:
    """Lakes that two scenes show with errors of 5 % are on average as large as they are, whatever the errors."""
    rng = np.random.default_rng(0)
    maps = []
    for name in ("a2000", "b2000", "c2010"):
        lakes = [
            shapely.Point(WEST + 1000 * x, NORTH + 1000 * y).buffer(200 * (1 + rng.normal(0, 0.025)))
            for x in range(12) for y in range(12)
        ]  # fmt: skip
        path = written(tmp_path / f"{name}.gpkg", lakes, int(name[1:]))
        frame = geopandas.read_file(path, layer="lakes")
        area, half_a_pixel = frame.area / 1e6, frame.length * 5 / 1e6
        frame.assign(area_low_km2=area - half_a_pixel, area_high_km2=area + half_a_pixel).to_file(path, layer="lakes")
        maps.append(path)
    _, _, totals = series(tmp_path, maps)
    error = totals["common_km2"] / (144 * circle(0, 0.04 * np.pi).area / 1e6) - 1
    assert totals["maps"].tolist() == [2, 1] and error.abs().max() < 0.01


def test_maps_in_any_crs(tmp_path: Path) -> None:
    codes = (32645, 4326, 32644, 3857, 6933)
    maps = [
        written(tmp_path / f"{year}.gpkg", [circle(0, 0.1 + 0.01 * i), circle(5000, 0.2)], year, crs=code)
        for i, (year, code) in enumerate(zip(YEARS, codes, strict=True))
    ]
    lakes, dates, totals = series(tmp_path, maps)
    assert len(lakes) == 2 and sorted(lakes["verdict"]) == ["grows", "no_change"]
    still = dates[dates["lake_id"] == near(lakes, 5000).lake_id]["area_km2"]
    assert still.tolist() == pytest.approx([still.iloc[0]] * 5, rel=1e-6)
    # a side of 120 km that is written by its ends alone is another line in each of them
    assert totals["ground_km2"].tolist() == pytest.approx([totals["ground_km2"][0]] * 5, rel=1e-4)


def test_a_lake_across_180_degrees_has_its_id_there(tmp_path: Path) -> None:
    """Whichever way the maps write it; the outline is cut at 180, and its middle is not half way round the globe."""
    maps, ground = [], shapely.box(-6000, -6000, 6000, 6000)
    for i, way in enumerate(("metres", "beyond", "cut", "jump", "metres")):
        circles = [shapely.Point(x, 0).buffer(r + 20 * i, 64) for x, r in ((50, 400), (3000, 300))]
        maps.append(across_180(tmp_path / f"map_{YEARS[i]}.gpkg", way, circles, ground))
    lakes, _, _ = series(tmp_path, maps)
    assert lakes["lake_id"].tolist() == ["GL179.9989W66.0000N", "GL179.9339W66.0000N"]
    assert lakes["verdict"].tolist() == ["grows", "grows"] and lakes["dates"].tolist() == [5, 5]
    grown = np.pi * np.array([480**2 - 400**2, 380**2 - 300**2]) / 1e6
    assert lakes["change_km2"].to_numpy() == pytest.approx(grown, rel=2e-3)


def test_maps_as_geoparquet_and_an_empty_file_without_columns(tmp_path: Path) -> None:
    maps = []
    for i, year in enumerate(YEARS):
        source = written(tmp_path / "aside" / f"{year}.gpkg", [circle(0, 0.1 + 0.01 * i)], f"{year}-09-01")
        maps.append(tmp_path / f"m{i}.parquet")
        geopandas.read_file(source, layer="lakes").rename(columns={"date": "day"}).to_parquet(maps[-1])
    empty = tmp_path / "none_2021.geojson"
    empty.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    lakes, _, totals = series(tmp_path, [*maps, empty], "--date", "day")
    assert totals["date"].tolist() == [*(f"{year}-09-01" for year in YEARS), "2021"]
    assert lakes["verdict"].tolist() == ["vanished"] and lakes["km2_per_year"].iloc[0] > 0
    assert lakes["uncertainty_km2"].tolist() == pytest.approx([0.001])


def test_the_edge_of_the_ground_is_as_straight_as_on_the_map(tmp_path: Path) -> None:
    """A side of 110 km along a row of UTM is 100 m off a straight line in degrees, half way."""
    tile = shapely.box(WEST, NORTH, WEST + 110_000, NORTH + 110_000)
    inside = shapely.Point(WEST + 55_000, NORTH + 110_000 - 60).buffer(40)
    beyond = shapely.Point(WEST + 55_000, NORTH - 60).buffer(40)
    for name, one in (("inside", [inside]), ("beyond", [beyond])):
        maps = [written(tmp_path / name / "2000.gpkg", one, None, ground=tile)]
        maps += [written(tmp_path / name / f"{year}.gpkg", [], None, ground=tile) for year in YEARS[1:]]
        _, dates, _ = series(tmp_path / name, maps)
        assert set(dates["state"]) == ({"seen", "absent"} if name == "inside" else {"seen", "not_looked_at"})
        two = [lake_map.read(path, "OLD", None) for path in maps[:2]]
        assert diff.compared(*two)["change"].tolist() == ["vanished" if name == "inside" else "not_seen"]


def test_areas_are_those_of_the_rasters_that_circles_were_drawn_on(tmp_path: Path) -> None:
    """Oracle: 12 lakes whose radius grows by a law, drawn on 10 m pixels; areas by date counted in the rasters."""
    rng = np.random.default_rng(3)
    years = np.array([1998, 2001, 2003, 2007, 2010, 2014, 2019])
    start, speed = rng.uniform(120, 300, 12), np.linspace(-4, 8, 12)
    centres = np.column_stack([np.tile(np.arange(4), 3) * 2000 + 1000.0, np.repeat(np.arange(3), 4) * 2000 + 1000.0])
    px = 10
    rows, cols = np.indices((600, 800)) * px + px / 2
    counted, maps = np.zeros((len(years), 12)), []
    for n, year in enumerate(years.tolist()):
        radius = start + speed * (year - years[0])
        far = [np.hypot(cols - x, rows - y) for x, y in centres]
        mask = np.any([d < r for d, r in zip(far, radius, strict=True)], axis=0).astype(np.uint8)
        counted[n] = [(d < r).sum() * px**2 / 1e6 for d, r in zip(far, radius, strict=True)]
        to_map = from_origin(WEST, NORTH, px, px)
        drawn = [shapely.geometry.shape(one) for one, _ in rasterio.features.shapes(mask, mask > 0, transform=to_map)]
        ground = shapely.box(WEST, NORTH - 6000, WEST + 8000, NORTH)
        path = written(tmp_path / f"drawn_{year}.gpkg", drawn, None, ground=ground)
        frame = geopandas.read_file(path, layer="lakes")
        bound = 0.5 * px * frame.length * np.pi / 4 / 1e6
        frame["area_low_km2"], frame["area_high_km2"] = frame.area / 1e6 - bound, frame.area / 1e6 + bound
        frame.to_file(path, layer="lakes")
        maps.append(path)
    lakes, dates, totals = series(tmp_path, maps)
    assert len(lakes) == 12
    # the ellipsoid against the grid of UTM: one factor for all
    scale = totals["area_km2"].to_numpy() / counted.sum(axis=1)
    assert scale == pytest.approx([scale[0]] * len(years), rel=1e-4) and abs(scale[0] - 1) < 1e-3
    for number, (x, y) in enumerate(centres):
        place = geopandas.GeoSeries([shapely.Point(WEST + x, NORTH - y)], crs=32645).to_crs(4326).iloc[0]
        (row,) = [one for one in lakes.itertuples() if one.geometry.contains(place)]
        own = dates[dates["lake_id"] == row.lake_id]
        assert own["area_km2"].to_numpy() == pytest.approx(scale[0] * counted[:, number], rel=1e-4)
        slopes = stats.theilslopes(scale[0] * counted[:, number], years + 0.5, 0.95)
        assert row.km2_per_year == pytest.approx(slopes.slope, rel=1e-4)
        law = np.pi * ((start + speed * (years[-1] - years[0])) ** 2 - start**2)[number] / 1e6 / (years[-1] - years[0])
        half = float(np.hypot(*(own["area_high_km2"] - own["area_km2"]).to_numpy()[[0, -1]]))
        expected = "no_change" if abs(row.change_km2) <= half else "grows" if speed[number] > 0 else "shrinks"
        assert row.verdict == expected
        if expected != "no_change":
            assert row.km2_per_year_low < law < row.km2_per_year_high
    assert {"grows", "shrinks"} <= set(lakes["verdict"])


def test_dates_of_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a named column, the usual one, the item beside a map without lakes, the name; several in one file."""
    one = [circle(0, 0.1)]
    by_column = written(tmp_path / "a.gpkg", one, None)
    frame = geopandas.read_file(by_column, layer="lakes")
    frame.assign(Year=2003.0).to_file(by_column, layer="lakes")
    usual = written(tmp_path / "b_1999.gpkg", one, "2004-07-01T10:00:00Z")
    named = written(tmp_path / "hi_mag_2008.gpkg", one, None)
    product = written(tmp_path / "LC08_L2SP_140041_20201010_20201105_02_T1_lakes.gpkg", one, None)
    bare = written(tmp_path / "bare_lakes.gpkg", [], None)
    (tmp_path / "bare.json").write_text(json.dumps({"properties": {"datetime": "2012-09-30T00:00:00Z"}}))
    _, dates, totals = series(tmp_path, [usual, named, product, bare])
    assert totals["date"].tolist() == ["2004-07-01", "2008", "2012-09-30", "2020-10-10"]
    middles = [2004 + 182.5 / 366, 2008.5, 2012 + 273.5 / 366, 2020 + 283.5 / 366]
    assert totals["year"].tolist() == pytest.approx(middles)
    assert dates["state"].tolist() == ["seen", "seen", "absent", "seen"]
    # its pixels too: with 200 m the lake of 0.1 km2 has fewer than 6, with 100 m it has 10
    for gsd, state in ((200, "too_small"), (100.0, "absent"), ("100 m", "absent"), (0, "absent")):
        item = {"properties": {"datetime": "2012-09-30T00:00:00Z", "gsd": gsd}}
        (tmp_path / "bare.json").write_text(json.dumps(item))
        _, dates, totals = series(tmp_path, [usual, named, product, bare])
        assert dates["state"].tolist() == ["seen", "seen", state, "seen"]
        assert totals["gsd_m"].isna().tolist() == [True, True, gsd in ("100 m", 0), True]
    capsys.readouterr()
    for broken in ("[", "[]", '{"properties": []}', '{"properties": {}}'):
        (tmp_path / "bare.json").write_text(broken)
        assert "bare_lakes.gpkg does not say of which date it is" in refused(capsys, usual, bare)
    # a month in the name; 02 after a line is no month
    months = [written(tmp_path / f"tile_{name}_lakes.gpkg", one, None) for name in ("2015-07", "2015-10", "2016_02")]
    _, _, totals = series(tmp_path, months)
    assert totals["date"].tolist() == ["2015-07", "2015-10", "2016"]
    several = tmp_path / "several.gpkg"
    rows = [(circle(0, 0.1 + 0.01 * i), f"{year}") for i, year in enumerate(YEARS)]
    columns = {"YEAR_": [year for _, year in rows]}
    geopandas.GeoDataFrame(columns, geometry=[shape for shape, _ in rows], crs=32645).to_file(several)
    lakes, _, totals = series(tmp_path, [several], "--date", "YEAR_", "--gsd", "1")
    assert totals["date"].tolist() == list(YEARS) and lakes["verdict"].tolist() == ["grows"]
    column = written(tmp_path / "d.gpkg", one, None)
    geopandas.read_file(column, layer="lakes").assign(Year="2010-06").to_file(column, layer="lakes")
    _, _, totals = series(tmp_path, [by_column, column], "--date", "Year")
    assert totals["date"].tolist() == ["2003", "2010-06"]


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What a user's mistake is answered with."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["inventory", "series", *map(str, words)])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.err.count("\n") == 1 and not said.out
    return said.err


def test_what_cannot_be_a_series_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = [circle(0, 0.1)]
    first, second = (written(tmp_path / f"lakes_{y}.gpkg", one, None) for y in (2000, 2010))
    undated, odd = written(tmp_path / "lakes.gpkg", one, None), written(tmp_path / "odd.gpkg", one, "autumn")
    two = written(tmp_path / "from_2000_to_2010.gpkg", one, None)
    how = "name the column that holds it with --date, or write it into the file's name, as in lakes_2015-10-30.gpkg."
    for path in (undated, odd, two):
        assert f"MAP={path} does not say of which date it is: {how}" in refused(capsys, first, path)
    assert "--date=date" in (said := refused(capsys, odd, first, "--date", "date")) and "'autumn'" in said
    assert "which has lake_id, area_low_km2, area_high_km2, cut" in refused(capsys, first, second, "--date", "Jahr")
    mixed = written(tmp_path / "lakes_2020.gpkg", [circle(0, 0.1), circle(900, 0.1)], None)
    frame = geopandas.read_file(mixed, layer="lakes").assign(date=["2020-01-01", "autumn"])
    frame.to_file(mixed, layer="lakes")
    assert "holds dates in its column date, and 'autumn', which is none" in refused(capsys, first, mixed)
    assert "MAP: the one file is of one date (2000): a series needs two or more; add maps" in refused(capsys, first)
    assert f"MAP: {first} is given twice: give it once." in refused(capsys, first, second, first)
    days = [written(tmp_path / f"l_2000-0{m}-01.gpkg", one, None) for m in (7, 8)]
    assert (
        "all 2 files are of one year (2000)" in (said := refused(capsys, *days, "--by", "year"))
        and "leave out --by year" in said
    )
    assert f"MAP={tmp_path / 'no_2000.gpkg'} does not exist" in refused(capsys, first, tmp_path / "no_2000.gpkg")
    assert "--map-layer=y is no layer of" in refused(capsys, first, second, "--map-layer", "y")
    assert "'0' is no number above 0" in refused(capsys, first, second, "--gsd", "0")
    geopandas.read_file(first, layer="lakes").to_parquet(tmp_path / "lakes_2000.parquet")
    assert "are one map: give one of them" in refused(capsys, first, tmp_path / "lakes_2000.parquet", second)
    (tmp_path / "file").write_text("no folder")
    assert "cannot be written to" in refused(capsys, first, second, "--out", tmp_path / "file")
    both = written(tmp_path / "both.gpkg", [*one, circle(3000, 0.1)], None)
    frame = geopandas.read_file(both, layer="lakes").assign(date=["2000", "2010"])
    frame.to_file(both, layer="lakes")
    assert "one layer ground: give a file a date, or one without that layer" in refused(capsys, both)
    (lone := tmp_path / "lone").mkdir()
    frame.assign(date=["2000", None]).iloc[[0, 1, 0]].assign(date=["2000", None, "2001"]).to_file(lone / "some.gpkg")
    assert "and 1 lake without any" in refused(capsys, lone / "some.gpkg")
    for name in ("area_low_km2", "area_px"):
        geopandas.read_file(second, layer="lakes").assign(area_px=9).assign(**{name: "0,1 m"}).to_file(
            tmp_path / "t_2006.gpkg"
        )
        assert f"its column {name} holds text that is no number: write" in refused(
            capsys, first, tmp_path / "t_2006.gpkg"
        )
    crossed = geopandas.read_file(second, layer="lakes")
    for high in (crossed["area_low_km2"] - 1e-3, np.inf):
        crossed.assign(area_high_km2=high).to_file(tmp_path / "crossed_2006.gpkg")
        said = refused(capsys, first, tmp_path / "crossed_2006.gpkg")
        assert "1 lake has an area_low_km2 above area_high_km2, or an infinite one: put" in said
    (tmp_path / "text_2004.gpkg").write_text("no file of GDAL")
    assert "cannot be read as polygons" in refused(capsys, first, tmp_path / "text_2004.gpkg")


@pytest.mark.usefixtures("real_figures")
def test_maps_without_lakes_are_dates_without_lakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = [written(tmp_path / f"none_{y}.gpkg", [], None) for y in YEARS[:2]]
    lakes, dates, totals = series(tmp_path, none)
    assert len(lakes) == len(dates) == 0 and totals["area_km2"].tolist() == [0, 0]
    assert "lakes: 0, of which 0 grows" in capsys.readouterr().out
    maps = [*none, *(written(tmp_path / f"one_{y}.gpkg", [circle(0, 0.1)], y) for y in YEARS[2:])]
    lakes, _, totals = series(tmp_path, maps)
    assert lakes["verdict"].tolist() == ["appeared"] and totals["lakes"].tolist() == [0, 0, 1, 1, 1]


def test_inventories_that_say_neither_ground_nor_bounds_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = []
    for i, year in enumerate(YEARS):
        path = tmp_path / f"inventory_{year}.geojson"
        shapes = [circle(0, 0.1 + 0.0005 * i), *([circle(3000, 0.1)] if year < 2013 else [])]
        geopandas.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=32645).to_crs(4326).to_file(path)
        maps.append(path)
    lakes, _, _ = series(tmp_path, maps)
    said = capsys.readouterr().out
    assert "inventory_2000.geojson, inventory_2004.geojson, inventory_2009.geojson and 2 more: no layer ground" in said
    assert "8 lakes have no interval of areas" in said
    assert near(lakes, 0).verdict == "grows" and near(lakes, 3000).verdict == "vanished"
    lakes, _, _ = series(tmp_path, maps, "--gsd", "30")
    assert near(lakes, 0).verdict == "no_change" and "no interval" not in capsys.readouterr().out


def test_few_dates_have_a_change_and_no_trend(tmp_path: Path) -> None:
    maps = [written(tmp_path / f"{y}.gpkg", [circle(0, 0.1 + 0.1 * i)], y) for i, y in enumerate(YEARS[:3])]
    lakes, _, _ = series(tmp_path, maps)
    (row,) = lakes.itertuples()
    assert row.verdict == "too_few_dates" and pd.isna(row.km2_per_year) and pd.isna(row.p)
    assert row.change_km2 == pytest.approx(0.2, rel=2e-3) and row.uncertainty_km2 == pytest.approx(0.001 * 2**0.5)


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    """2,000 series with a known slope and independent errors; of four dates Sen's interval holds it in 11 of 12."""
    rng = np.random.default_rng(5)
    for n, low, high in ((4, 0.90, 0.935), (6, 0.95, 0.995), (10, 0.94, 0.98)):
        years = 2000.0 + np.arange(n)
        held = 0
        for _ in range(2000):
            found = trend.trend(years, 1 + 0.01 * (years - 2000) + 0.05 * rng.standard_normal(n), np.zeros(n))
            held += found.low <= 0.01 <= found.high
        assert low < held / 2000 < high, n


def test_a_wrong_last_date_is_no_growth() -> None:
    """The line rises, yet the last map is back at the first one's area."""
    years = 2000.0 + np.arange(12)
    area, bound, there = 0.1 + 0.02 * np.arange(12), np.full(12, 0.01), np.ones(12, dtype=bool)
    assert trend.course(years, area, bound, there).verdict == "grows"
    area[-1] = 0.1
    found = trend.course(years, area, bound, there)
    assert found.trend.sure and found.verdict == "varies"
    assert trend.course(years, np.full(12, 0.1), bound, there).trend.p == 1.0
    there[5], area[5], area[-1] = False, 0.0, 0.32
    assert (found := trend.course(years, area, bound, there)).gaps == 1 and found.verdict == "grows"
    assert trend.course(years[:2], np.array([0.0, 0.005]), bound[:2], np.array([False, True])).verdict == "no_change"
    assert trend.course(years[:2], np.array([0.0, 0.1]), bound[:2], np.array([False, False])).verdict == "too_few_dates"


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        ([4, 4, 4, 1, 1], (2, 3.0, 2)),
        ([4, 4, 4, 4, 0], (3, 4.0, 1)),  # the last date may have overlooked it
        ([4, 4, 0, 4, 4], (1, 4.0, 1)),  # so may one between
        ([4, 4, 4, 2.1, 2.1], None),  # less than half
        ([4, 4, 4, 2, 2], (2, 2.0, 2)),
        ([4, 3, 2, 1.5, 1], None),  # bit by bit
        ([0.5, 0.5, 0.2, 0.2], None),  # within the bounds, which are 0.4 together
        ([9, 0, 9, 9, 4, 4, 3, 0], (3, 5.0, 2)),  # what two dates hold to counts more than 9 that one does
        ([6, 6, 3, 3, 0, 0], (1, 3.0, 2)),  # of two that as many hold to the larger; the first of equal ones
        ([3, 3, 1, 1, 3.5, 3.5, 1, 1], (5, 2.5, 2)),
        ([4], None),
        ([], None),
    ],
)
def test_a_sudden_loss_is_what_dates_on_either_side_hold_to(
    area: list[float], expected: tuple[int, float, int] | None
) -> None:
    found = sudden_loss(np.array(area, dtype=np.float64), np.full(len(area), 0.4 / 2**0.5))
    assert expected == (None if found is None else (found.date, found.km2, found.held))


def test_lakes_that_burst_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = []
    for year in YEARS:
        lakes = [circle(0, 0.4 if year < 2009 else 0.1), circle(6000, 0.2)]
        lakes += [circle(3000, 0.3)] * (year < 2013) + [circle(9000, 0.3)] * (year != 2018)
        maps.append(written(tmp_path / f"{year}.gpkg", lakes, year, ground=None if year == 2009 else WIDE))
    lakes, _, _ = series(tmp_path, maps)
    rows = [near(lakes, x) for x in (0, 3000, 6000, 9000)]
    assert [(row.loss_from or "", row.loss_to or "", row.loss_held) for row in rows] == [
        ("2004", "2009", 2), ("2009", "2013", 2), ("", "", 0), ("2013", "2018", 1),
    ]  # fmt: skip
    assert [row.loss_km2 for row in rows] == pytest.approx([0.3, 0.3, np.nan, 0.3], rel=2e-3, nan_ok=True)
    said = capsys.readouterr().out.split("stayed so:\n")[1].split("\n\n")[0].splitlines()
    # of 0.3 km2 each, one of them at a place where UTM is of another scale
    assert sorted(line.split()[0] for line in said[1:]) == sorted([rows[0].lake_id, rows[1].lake_id])


@pytest.mark.parametrize("dates", [4, 6, 10])
def test_noise_anywhere_within_half_a_pixel_is_no_change(dates: int) -> None:
    """Of 1,000 lakes that stay none varies; under 2.5 % grow or shrink, half of what the interval lets pass."""
    rng, years = np.random.default_rng(1), 2000.0 + np.arange(dates)
    bound, there = np.full(dates, 0.02), np.ones(dates, dtype=bool)
    found = [trend.course(years, 0.3 + rng.uniform(-0.02, 0.02, dates), bound, there).verdict for _ in range(1000)]
    assert found.count("varies") == 0 and found.count("no_change") > 975
    apart = np.where(np.arange(dates) % 2, 0.32, 0.3) + 0.021 * (np.arange(dates) == 1)
    assert trend.course(years, apart, bound, there).verdict == "varies"


def test_a_slow_rate_and_a_small_p_are_no_zeros() -> None:
    row = {"lake_id": "GL1", "verdict": "grows", "dates": 20, "first_km2": 0.006, "last_km2": 0.0064}
    row |= {"km2_per_year": 2e-5, "km2_per_year_low": 3e-6, "km2_per_year_high": 4e-5, "p": 1e-9}
    lakes: Any = pd.DataFrame([row | {"loss_held": 0, "loss_km2": math.nan, "most_parts": 1, "gaps": 0}])
    total = {"maps": 1, "lakes": 1, "area_km2": 0.006, "area_low_km2": 0.005, "area_high_km2": 0.007}
    totals = pd.DataFrame([total | {"date": "2000", "common_lakes": 0, "common_km2": 0.0}])
    dates: Any = pd.DataFrame({"lake_id": ["GL1"], "state": ["seen"]})
    line = next(line for line in told(Series(lakes, dates, totals, NONE, ()), "").split("\n") if "GL1" in line)
    assert line.split()[5:] == ["0.000020", "0.000003", "0.000040", "<0.00001"]
