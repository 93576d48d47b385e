"""Two maps of lakes: what appeared, vanished, grew and shrank, and what is within the uncertainty."""

import errno
import os
import re
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from announced import Announced
from tiny_scenes import NORTH, WEST, lake

from glidexp import cli
from glidexp.data.scenes import polygons, versions
from glidexp.errors import DataError
from glidexp.mapping import diff, lake_map, verb_inventory


def written(path: Path, lakes: list[shapely.Polygon], bound_km2: float, ground: shapely.Polygon) -> Path:
    area = [one.area / 1e6 for one in lakes]
    columns = {
        "lake_id": [f"L{i}" for i in range(len(lakes))],
        "area_low_km2": [value - bound_km2 for value in area],
        "area_high_km2": [value + bound_km2 for value in area],
    }
    geopandas.GeoDataFrame(columns, geometry=lakes, crs=32645).to_file(path, layer="lakes")
    geopandas.GeoDataFrame(geometry=[ground], crs=32645).to_file(path, layer="ground")
    return path


def test_changes_and_their_uncertainty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "shown_steps", announced := Announced())
    wide = lake(0, 0, 50_000)
    old = [lake(0, 0, 300), lake(2000, 0, 300), lake(4000, 0, 300), lake(6000, 0, 200), lake(30_000, 0, 100)]
    new = [lake(0, 0, 400), lake(2000, 0, 200), lake(4000, 0, 305), lake(8000, 0, 200)]
    first = written(tmp_path / "old.gpkg", old, 0.02, wide)
    second = written(tmp_path / "new.gpkg", new, 0.02, lake(0, 0, 20_000))
    assert verb_inventory.run(["diff", str(first), str(second), "--out", str(tmp_path / "out.gpkg")]) == 0
    assert announced.works == {"changes": [6, 6]}
    table = geopandas.read_file(tmp_path / "out.gpkg")
    found = {(row.old_ids or row.new_ids, row.change) for row in table.itertuples()}
    assert found == {
        ("L0", "grown"), ("L1", "shrunk"), ("L2", "unchanged"), ("L3", "vanished"), ("L4", "not_seen"),
        ("L3", "appeared"),
    }  # fmt: skip
    grown = table[table["change"] == "grown"].iloc[0]
    assert grown["uncertainty_km2"] == pytest.approx(0.02 * 2**0.5, rel=1e-6)
    assert grown["change_km2"] == pytest.approx((new[0].area - old[0].area) / 1e6, rel=2e-3)
    assert "1 appeared, 1 vanished, 1 grown, 1 shrunk, 1 unchanged, 1 not seen" in capsys.readouterr().out
    # both in one file, each with its interval
    both = tmp_path / "both.gpkg"
    for layer, path in (("y2000", first), ("y2020", second)):
        geopandas.read_file(path, layer="lakes").to_file(both, layer=layer)
    layers = ["--old-layer", "y2000", "--new-layer", "y2020"]
    assert verb_inventory.run(["diff", str(both), str(both), *layers]) == 0
    assert "1 appeared, 2 vanished, 1 grown, 1 shrunk, 1 unchanged, 0 not seen" in capsys.readouterr().out


def test_the_bound_of_a_thin_lake_is_half_a_pixel_of_its_shore(tmp_path: Path) -> None:
    """It is more than the lake's area, and the interval stops at 0."""
    path = written(tmp_path / "map.gpkg", [lake(0, 0, 50), lake(2000, 0, 50)], 0.004, lake(0, 0, 9000))
    frame = geopandas.read_file(path, layer="lakes")
    area = frame.area / 1e6
    frame.assign(area_low_km2=[0.0, area[1] - 0.004], area_high_km2=area.add([0.012, 0.004])).to_file(
        path, layer="lakes"
    )
    assert lake_map.read(path, "OLD", None).bound_km2 == pytest.approx([0.012, 0.004], rel=1e-3)


def test_what_an_edge_cuts_has_not_grown_where_the_other_map_shows_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two scenes that overlap: lakes that the edge of one cuts say nothing; a whole one in the strip that the coarse
    ground lacks counts."""
    west, east = (
        shapely.box(WEST + left, NORTH - 9000, WEST + right, NORTH + 9000) for left, right in ((-9000, 3000), (0, 9000))
    )
    lakes = [lake(2800, 0, 400), lake(1000, 0, 300), lake(-150, -3000, 300), lake(2960, 5000, 50)]
    grown = lakes[3].buffer(12)
    first = written(tmp_path / "old.gpkg", [one.intersection(west) for one in lakes[:3]] + lakes[3:], 0.0001, west)
    second = written(tmp_path / "new.gpkg", [one.intersection(east) for one in lakes[:3]] + [grown], 0.0001, east)
    for path, number in ((first, 0), (second, 2)):
        frame = geopandas.read_file(path, layer="lakes")
        frame.assign(cut=frame.index == number).to_file(path, layer="lakes")
    out = tmp_path / "out.gpkg"
    assert verb_inventory.run(["diff", str(first), str(second), "--out", str(out)]) == 0
    found = geopandas.read_file(out).set_index("old_ids")["change"]
    assert dict(found) == {"L0": "not_seen", "L1": "unchanged", "L2": "not_seen", "L3": "grown"}
    km2 = [(lakes[1].area + one.area) / 1e6 for one in (lakes[3], grown)]
    assert f"2 not seen, 0 too small, 0 half seen; {km2[0]:.3f}" in (told := capsys.readouterr().out)
    assert f"km2, +{km2[1] - km2[0]:.4f} +- 0.0002 km2" in told


def test_finer_pixels_make_no_small_lake_appear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pixels of 30 m show lakes of 5.5 x 900 m2 and more; a file that tells no pixels is believed."""
    wide, lakes = lake(0, 0, 50_000), [lake(0, 0, 300), lake(2000, 0, 35), lake(4000, 0, 45)]
    coarse, fine = tmp_path / "coarse.gpkg", tmp_path / "fine.gpkg"
    for path, some, side in ((coarse, lakes[:1], 30), (fine, lakes, 10)):
        written(path, some, 0.001, wide)
        frame = geopandas.read_file(path, layer="lakes")
        frame.assign(area_px=[round(one.area / side**2) for one in some]).to_file(path, layer="lakes")
    for names, change in (((coarse, fine), "appeared"), ((fine, coarse), "vanished")):
        out = tmp_path / f"{change}.gpkg"
        assert verb_inventory.run(["diff", *map(str, names), "--out", str(out)]) == 0
        assert sorted(geopandas.read_file(out)["change"]) == sorted(["unchanged", "too_small", change])
        told = capsys.readouterr().out
        assert "0 not seen, 1 too small, 0 half seen; 0.28" in told and f"{lakes[2].area / 1e6:.4f} +-" in told
    blind = tmp_path / "blind.gpkg"
    written(blind, lakes[:1], 0.001, wide)
    assert verb_inventory.run(["diff", str(blind), str(fine)]) == 0
    assert "2 appeared" in capsys.readouterr().out


def test_the_largest_changes_are_listed_and_the_file_has_them_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = lake(0, 0, 50_000)
    vanished = [lake(1000 * i, 0, 100 + 10 * i) for i in range(25)]
    old = written(tmp_path / "old.gpkg", vanished, 0.0001, wide)
    new = written(tmp_path / "new.gpkg", [lake(0, 5000, 50)], 0.0001, wide)
    assert verb_inventory.run(["diff", str(old), str(new), "--out", str(out := tmp_path / "out.gpkg")]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"vanished +L(\d+)", told) == [str(i) for i in range(24, 4, -1)]
    assert f"... and 6 that changed less; all are in {out}\n" in told and len(geopandas.read_file(out)) == 26
    assert verb_inventory.run(["diff", str(old), str(new)]) == 0
    assert "... and 6 that changed less; --out writes all\n" in capsys.readouterr().out


def test_a_place_that_takes_no_file_is_the_user_s_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before the maps are read: here they are not even there."""
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "kept").mkdir(mode=0o500)

    def refused(out: Path) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(["inventory", "diff", str(tmp_path / "a.gpkg"), str(tmp_path / "b.gpkg"), "--out", str(out)])
        told = capsys.readouterr().err.strip()
        assert ended.value.code == 2 and "\n" not in told
        return told

    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert f"--out={folder} cannot be written to (Not a directory): give another" in refused(folder / "out.gpkg")
    if os.geteuid() == 0:  # to whom everything is allowed: as the system answers everybody else

        def deny(*, dir: Path) -> None:
            assert dir == tmp_path / "kept"
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("glidexp.data.scenes.geopackage.tempfile.TemporaryFile", deny)
    for folder in (tmp_path / "kept", tmp_path / "kept" / "new"):
        assert f"--out={folder} cannot be written to (Permission denied)" in refused(folder / "out.gpkg")
    assert not list((tmp_path / "kept").iterdir())


def test_without_interval_the_pixel_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "plain.gpkg"
    geopandas.GeoDataFrame({"n": [1]}, geometry=[lake(0, 0, 300)], crs=32645).to_file(path)
    assert lake_map.read(path, "OLD", None).notes
    perimeter = lake(0, 0, 300).length
    assert lake_map.read(path, "OLD", 10.0).bound_km2[0] == pytest.approx(0.5 * 10 * perimeter / 1e6, rel=2e-3)


def test_an_outline_that_stands_there_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "twice.gpkg"
    geopandas.GeoDataFrame(geometry=[lake(0, 0, 300), lake(0, 0, 300), lake(900, 0, 300)], crs=32645).to_file(path)
    (note,) = lake_map.read(path, "OLD", 10.0).notes
    assert note.startswith("twice.gpkg has 1 outline more than once, which counts as often in areas")


def test_a_map_without_lakes_is_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = lake(0, 0, 50_000)
    full = written(tmp_path / "full.gpkg", [lake(0, 0, 300), lake(2000, 0, 300)], 0.02, wide)
    none = written(tmp_path / "none.gpkg", [], 0.02, wide)
    said = {}
    for old, new in ((full, none), (none, full), (none, none)):
        assert verb_inventory.run(["diff", str(old), str(new), "--out", str(tmp_path / "out.gpkg")]) == 0
        said[old.stem, new.stem] = capsys.readouterr().out
    assert "0 appeared, 2 vanished" in said["full", "none"]
    assert "2 appeared, 0 vanished" in said["none", "full"]
    assert "0 appeared, 0 vanished" in said["none", "none"] and "note:" not in said["none", "none"]
    points = tmp_path / "points.gpkg"
    geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(5e5, 3e6)], crs=32645).to_file(points)
    degrees = tmp_path / "degrees.gpkg"
    geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.box(86, 27, 87, 28)], crs=32645).to_file(degrees)
    with pytest.raises(DataError, match=r"look like degrees.*: write it into the file, with ogr2ogr -a_srs EPSG:4326"):
        lake_map.read(degrees, "NEW", 30)
    with pytest.raises(DataError, match="no polygon"):
        lake_map.read(points, "OLD", None)


def test_lakes_without_an_interval_get_the_pixel_s(tmp_path: Path) -> None:
    path = written(tmp_path / "some.gpkg", [lake(0, 0, 300), lake(2000, 0, 300)], 0.02, lake(0, 0, 50_000))
    frame = geopandas.read_file(path, layer="lakes")
    frame.loc[1, ["area_low_km2", "area_high_km2"]] = None
    path.unlink()
    frame.to_file(path)
    assert lake_map.read(path, "OLD", None).notes and not lake_map.read(path, "OLD", 10.0).notes
    pixel = 0.5 * 10 * lake(0, 0, 300).length / 1e6
    assert lake_map.read(path, "OLD", 10.0).bound_km2 == pytest.approx([0.02, pixel], rel=2e-3)
    frame[["area_low_km2", "area_high_km2"]] = None  # read as text without any
    path.unlink()
    frame.to_file(path)
    assert lake_map.read(path, "OLD", 10.0).bound_km2 == pytest.approx([pixel, pixel], rel=2e-3)


def test_the_bound_is_the_wider_of_half_a_pixel_and_what_the_network_leaves_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.01 km2 of half a pixel; the network leaves 0.03 below, 0.02 above, or nothing is known of that."""
    place, wide = [lake(2000 * i, 0, 300) for i in range(3)], lake(0, 0, 50_000)
    path = written(tmp_path / "map.gpkg", place, 0.01, wide)
    # areas on the ellipsoid, which the scale of UTM makes a little larger
    area = lake_map.read(path, "OLD", None).area_km2
    frame = geopandas.read_file(path, layer="lakes")
    ends = np.array([[0.03, 0.002, np.nan], [0.02, 0.004, np.nan]])
    frame["area_p05_km2"], frame["area_p95_km2"] = area - ends[0], area + ends[1]
    frame.to_file(path, layer="lakes")
    assert lake_map.read(path, "OLD", None).bound_km2 == pytest.approx([0.03, 0.01, 0.01])
    assert lake_map.read(path, "OLD", None, half_pixel=True).bound_km2 == pytest.approx([0.01] * 3)
    grown = written(tmp_path / "new.gpkg", [lake(2000 * i, 0, 308) for i in range(3)], 0.001, wide)
    shares = {}
    for more in ((), ("--half-pixel",)):
        assert verb_inventory.run(["diff", str(path), str(grown), *more]) == 0
        shares[more] = capsys.readouterr().out
    # 0.0152 km2 more each
    assert "2 grown, 0 shrunk, 1 unchanged" in shares[()] and "3 grown" in shares["--half-pixel",]
    # of a file without the first interval the other is known, of a lake without either the pixel's
    frame.drop(columns=["area_low_km2", "area_high_km2"]).to_file(path, layer="lakes")
    assert lake_map.read(path, "OLD", None).bound_km2 == pytest.approx([0.03, 0.004, 0.0])
    assert lake_map.read(path, "OLD", None).lacking == 1
    pixel = 0.5 * 20 * lake(0, 0, 300).length / 1e6  # counts where it is more
    assert lake_map.read(path, "OLD", 20.0).bound_km2 == pytest.approx([0.03, pixel, pixel], rel=2e-3)
    frame.assign(area_p05_km2="low").to_file(path, layer="lakes")
    with pytest.raises(DataError, match="its column area_p05_km2 holds text that is no number"):
        lake_map.read(path, "OLD", None)
    assert lake_map.read(path, "OLD", None, half_pixel=True).bound_km2 == pytest.approx([0.01] * 3)
    frame.assign(area_p95_km2=0.0).to_file(path, layer="lakes")
    with pytest.raises(
        DataError, match=r"2 lakes have an area_p05_km2 above area_p95_km2, .*: put them right, or give --half-pixel"
    ):
        lake_map.read(path, "OLD", None)


def across_180(path: Path, way: str, shapes: list[shapely.Polygon], ground: shapely.Polygon) -> Path:
    """Lakes and ground in metres around 66 N, 180 E, written as files write what lies across 180 degrees."""
    local = pyproj.CRS.from_proj4("+proj=laea +lat_0=66 +lon_0=180 +ellps=WGS84")
    crs = pyproj.CRS.from_epsg(32660 if way == "metres" else 4326)
    turn = pyproj.Transformer.from_crs(local, crs, always_xy=True)

    def written_as(xy: np.ndarray) -> np.ndarray:
        x, y = turn.transform(xy[:, 0], xy[:, 1])
        return np.column_stack([np.where(x < 0, x + 360, x) if way in ("beyond", "cut") else x, y])

    def cut(shape: shapely.Geometry) -> shapely.Geometry:
        east = shapely.intersection(shape, shapely.box(180, 0, 360, 90))
        west = shapely.intersection(shape, shapely.box(0, 0, 180, 90))
        parts = [one for one in (west, shapely.transform(east, lambda p: p - [360, 0])) if not one.is_empty]
        return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)

    moved = [shapely.transform(shape, written_as) for shape in (*shapes, ground)]
    moved = [cut(shape) for shape in moved] if way == "cut" else moved
    bound = [0.001] * len(shapes)
    area = [shape.area / 1e6 for shape in shapes]
    columns = {"lake_id": [f"L{i}" for i in range(len(shapes))]}
    columns |= {"area_low_km2": np.subtract(area, bound), "area_high_km2": np.add(area, bound)}
    geopandas.GeoDataFrame(columns, geometry=moved[:-1], crs=crs).to_file(path, layer="lakes")
    geopandas.GeoDataFrame(geometry=moved[-1:], crs=crs).to_file(path, layer="ground")
    return path


@pytest.mark.parametrize("new_way", ["metres", "beyond", "cut", "jump"])
@pytest.mark.parametrize("old_way", ["metres", "beyond", "cut", "jump"])
def test_lakes_across_180_degrees_are_known_again(tmp_path: Path, old_way: str, new_way: str) -> None:
    """One across the line, one on either side of it, and one that is gone, whichever way either file writes them."""
    circles = [shapely.Point(x, y).buffer(r, 64) for x, y, r in ((50, 0, 400), (3000, 0, 300), (-3000, 0, 300))]
    gone, ground = shapely.Point(-30, 2000).buffer(200, 64), shapely.box(-6000, -6000, 6000, 6000)
    old = lake_map.read(across_180(tmp_path / "old.gpkg", old_way, [*circles, gone], ground), "OLD", None)
    grown = [shapely.Point(50, 0).buffer(500, 64), *circles[1:]]
    new = lake_map.read(across_180(tmp_path / "new.gpkg", new_way, grown, ground), "NEW", None)
    assert old.area_km2 == pytest.approx([shape.area / 1e6 for shape in (*circles, gone)], rel=1e-3)
    table = diff.compared(old, new).set_index("old_ids")
    assert dict(table["change"]) == {"L0": "grown", "L1": "unchanged", "L2": "unchanged", "L3": "vanished"}
    assert dict(table["new_ids"]) == {"L0": "L0", "L1": "L1", "L2": "L2", "L3": ""}
    assert table.loc["L0", "change_km2"] == pytest.approx((grown[0].area - circles[0].area) / 1e6, rel=2e-3)
    assert table.total_bounds[0] >= -180 and table.total_bounds[2] <= 180
    changed = versions.changes(*(polygons.read(tmp_path / f"{one}.gpkg", "dataset.lakes") for one in ("old", "new")))
    assert sorted(zip(changed["change"], changed["old_ids"], strict=True)) == [("removed", "L3"), ("reshaped", "L0")]
    assert changed.set_index("old_ids").loc["L0", "iou"] == pytest.approx((400 / 500) ** 2, rel=1e-3)


def test_half_a_pixel_along_a_shore_is_without_the_cut_at_180_degrees(tmp_path: Path) -> None:
    shape, ground = shapely.Point(0, 0).buffer(400), shapely.box(-6000, -6000, 6000, 6000)
    for way in ("beyond", "cut"):
        frame = geopandas.read_file(across_180(tmp_path / f"{way}.gpkg", way, [shape], ground), layer="lakes")
        frame[["lake_id", "geometry"]].to_file(plain := tmp_path / f"plain_{way}.gpkg")
        assert lake_map.read(plain, "OLD", 10.0).bound_km2 == pytest.approx([0.5 * 10 * shape.length / 1e6], rel=2e-3)
