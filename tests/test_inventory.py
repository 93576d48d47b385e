"""Inventories: repair, CRS, distance to ice."""

import logging
import shutil
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely
from test_inventory_diff import across_180
from tiny_scenes import NORTH, WEST, lake, write_polygons, write_scene

from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.builder.tile_records import known_ice
from glidexp.data.scenes import inventory, polygons
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.copies import alike, tell_copies
from glidexp.data.scenes.lake_mask import LakeMask
from glidexp.data.scenes.reading import read_header
from glidexp.errors import ConfigError, DataError


@pytest.fixture
def scene(tmp_path: Path):
    return read_header(SceneFile(write_scene(tmp_path / "s.tif"), "s", "sentinel2"))


def test_bow_tie_is_repaired_and_counted_and_z_dropped(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(1000, 0), (1002, 2), (1002, 0), (1000, 2)])
    with_z = shapely.Polygon([(10, 0, 5), (12, 0, 5), (12, 2, 5)])
    # a ring that runs out along a spike and back: the repair leaves a polygon and a line, of which the polygon stays
    spike = shapely.Polygon([(20, 0), (22, 0), (22, 2), (22, 9), (22, 2), (20, 2)])
    found = polygons.read(write_polygons(tmp_path / "l.gpkg", [bow_tie, with_z, spike, None]), "dataset.lakes")
    assert (found.read, found.repaired, found.unusable) == (4, 2, 1)
    assert not shapely.has_z(found.geometries).any() and shapely.is_valid(found.geometries).all()
    assert shapely.area(found.geometries).tolist() == [2.0, 2.0, 4.0]


@pytest.mark.parametrize("name", ["l.gpkg", "l.parquet"])
def test_a_coordinate_that_is_no_number_costs_its_feature_alone(tmp_path: Path, name: str) -> None:
    """And a collection that holds a polygon is one: both come out of other programs' repairs and exports."""
    lost = shapely.Polygon([(WEST, NORTH), (WEST + 100, NORTH), (float("inf"), NORTH + 100)])
    mixed = shapely.GeometryCollection([lake(0, 0, 20), shapely.LineString([(WEST, NORTH), (WEST + 1, NORTH)])])
    frame = geopandas.GeoDataFrame({"id": list("abcd")}, geometry=[lost, mixed, None, lake(100, 0, 20)], crs=32645)
    (frame.to_parquet if name.endswith("parquet") else frame.to_file)(tmp_path / name)
    found = polygons.read(tmp_path / name, "dataset.lakes")
    assert (found.read, found.repaired, found.unusable, found.ids.tolist()) == (4, 1, 2, ["b", "d"])
    assert shapely.equals_exact(found.geometries[0], lake(0, 0, 20), 1e-6, normalize=True)


@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:4326"])
def test_lakes_on_both_sides_of_180_degrees_are_met(tmp_path: Path, crs: str) -> None:
    """However the scene and the inventory write longitudes there: from -180 to 180, or from 0 to 360."""
    west, north, gsd = 179.9, 66.0, 0.001
    if crs != "EPSG:4326":
        (west, north), gsd = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(west, north), 100.0
    path = write_scene(tmp_path / "s.tif", crs=crs, west=west, north=north, gsd_m=gsd, width=200, height=200)
    met = read_header(SceneFile(path, "s", "unknown"))
    at = [(179.95, "west"), (-179.95, "east"), (180.05, "east, on")]
    boxes = [shapely.box(lon, 65.91, lon + 0.01, 65.92) for lon, _ in at]
    frame = geopandas.GeoDataFrame({"id": [name for _, name in at]}, geometry=boxes, crs="EPSG:4326")
    frame.to_file(tmp_path / "l.gpkg")
    lakes = polygons.read(tmp_path / "l.gpkg", "dataset.lakes")
    found = inventory.lakes_of(met, lakes, None, buffer_m=0, min_lake_px=0)
    assert found.ids.tolist() == ["west", "east", "east, on"]
    mask = LakeMask(met, found.kept).strip(0, 200)
    area_m2 = 0.01**2 * 111_320 * 111_500 * np.cos(np.radians(65.915))
    assert mask.sum() == pytest.approx(2 * area_m2 / met.gsd_m**2, rel=0.05), "the last two are one place"


@pytest.mark.parametrize("way", ["metres", "beyond", "cut", "jump"])
@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:4326", "EPSG:4269"])
def test_a_lake_across_180_degrees_is_drawn_whole(tmp_path: Path, crs: str, way: str) -> None:
    """And so is ground that is labelled, whichever way a file writes either, and in whichever CRS the scene lies."""
    west, north, gsd = 179.95, 66.02, 0.0005
    if crs == "EPSG:32660":
        (west, north), gsd = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(west, north), 50.0
    path = write_scene(tmp_path / "s.tif", crs=crs, west=west, north=north, gsd_m=gsd, width=200, height=80)
    met = read_header(SceneFile(path, "s", "unknown"))
    shapes = [shapely.Point(x, 0).buffer(r) for x, r in ((50, 800), (1800, 300), (-1400, 300))]
    written = across_180(tmp_path / "l.gpkg", way, shapes, shapely.box(-1000, -900, 2200, 900))
    lakes = polygons.read(written, "dataset.lakes", layer="lakes")
    found = inventory.lakes_of(met, lakes, lakes, buffer_m=1.0, min_lake_px=0)
    assert found.area_px * met.gsd_m**2 == pytest.approx([shape.area for shape in shapes], rel=0.01)
    mask = LakeMask(met, found.kept).strip(0, 80)
    assert mask.sum() * met.gsd_m**2 == pytest.approx(sum(shape.area for shape in shapes), rel=0.03)
    within = inventory.ground_of(met, polygons.read(written, "dataset.within", layer="ground"))
    assert LakeMask(met, within).strip(0, 80).sum() * met.gsd_m**2 == pytest.approx(3200 * 1800, rel=0.03)


def test_distance_to_the_nearest_glacier_decides(tmp_path: Path, scene) -> None:
    # squares of 20 m at 0, 100, 101 and 500 m east of the ice's edge; the ice lies outside the scene
    ice = shapely.box(WEST - 1000, NORTH - 600, WEST, NORTH)
    lakes = [shapely.box(WEST + d, NORTH - 120, WEST + d + 20, NORTH - 100) for d in (0, 100, 101, 500)]
    water = polygons.read(write_polygons(tmp_path / "l.gpkg", lakes), "dataset.lakes")
    glaciers = polygons.read(write_polygons(tmp_path / "g.gpkg", [ice]), "dataset.glaciers")
    judged = inventory.lakes_of(scene, water, glaciers, buffer_m=100.0, min_lake_px=0)
    assert judged.distance_m == pytest.approx([0, 100, 101, 500], abs=1e-6)
    assert judged.far.tolist() == [False, False, True, True]
    assert judged.area_px == pytest.approx([4, 4, 4, 4])
    everything = inventory.lakes_of(scene, water, None, buffer_m=0.0, min_lake_px=0)
    assert len(everything.kept) == 4 and np.isnan(everything.distance_m).all()
    assert inventory.lakes_of(scene, water, None, buffer_m=0.0, min_lake_px=4.01).small.all()
    assert not inventory.lakes_of(scene, water, None, buffer_m=0.0, min_lake_px=4.0).small.any(), "4 px are enough"


def test_a_buffer_of_a_thousandth_of_a_metre_needs_no_more_points_than_pixels_do(tmp_path: Path, scene) -> None:
    """It ended with a trace, for want of memory."""
    ice = shapely.box(WEST - 20_000, NORTH - 20_000, WEST, NORTH)
    glaciers = polygons.read(write_polygons(tmp_path / "g.gpkg", [ice]), "dataset.glaciers")
    found = inventory.to_ice(scene, glaciers, np.array([0.0, 3.0]), np.array([30.0, 30.05]), buffer_m=0.001)
    assert found == pytest.approx([0.0, 30.0], abs=0.05)


def test_distance_from_degrees_is_in_metres(tmp_path: Path, scene) -> None:
    ice = shapely.box(WEST - 1000, NORTH - 600, WEST, NORTH)
    lakes = [lake(300, 300, 50)]
    exact = 250.0
    water = polygons.read(write_polygons(tmp_path / "l.gpkg", lakes, to="EPSG:4326"), "dataset.lakes")
    glaciers = polygons.read(write_polygons(tmp_path / "g.gpkg", [ice], to="EPSG:4326"), "dataset.glaciers")
    judged = inventory.lakes_of(scene, water, glaciers, buffer_m=1000.0, min_lake_px=0)
    assert judged.distance_m == pytest.approx([exact], abs=0.1)


def test_without_ice_anywhere_near_all_lakes_are_far(tmp_path: Path, scene) -> None:
    water = polygons.read(write_polygons(tmp_path / "l.gpkg", [lake(300, 300, 50)]), "dataset.lakes")
    glaciers = polygons.read(write_polygons(tmp_path / "g.gpkg", [lake(90_000, 0, 50)]), "dataset.glaciers")
    judged = inventory.lakes_of(scene, water, glaciers, buffer_m=10_000.0, min_lake_px=0)
    assert judged.far.all() and np.isinf(judged.distance_m).all()


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.lakes=.* does not exist"):
        polygons.read(tmp_path / "none.gpkg", "dataset.lakes")
    (tmp_path / "text.gpkg").write_text("not a database")
    with pytest.raises(DataError, match=r"text\.gpkg cannot be read as polygons: [^;]+[^.]\.$"):
        polygons.read(tmp_path / "text.gpkg", "dataset.lakes")
    with pytest.raises(DataError, match=r"dataset\.lakes=\S+ is a folder that cannot be read as polygons: name a file"):
        polygons.read(tmp_path, "dataset.lakes")
    nothing = geopandas.GeoDataFrame({"n": []}, geometry=[], crs=32645)
    nothing.to_file(tmp_path / "empty.gpkg")
    with pytest.raises(DataError, match=r"empty\.gpkg holds no feature: give a file with outlines\.$"):
        polygons.read(tmp_path / "empty.gpkg", "dataset.lakes")
    with pytest.raises(DataError, match="no polygon"):
        polygons.read(write_polygons(tmp_path / "p.gpkg", [shapely.Point(0, 0)]), "dataset.lakes")


def test_features_without_a_polygon_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A lake drawn as a point would be missing in silence."""
    shapes = [lake(100, 100, 20), shapely.Point(WEST, NORTH), shapely.LineString([(WEST, NORTH), (WEST, NORTH - 9)])]
    frame = geopandas.GeoDataFrame({"n": range(3)}, geometry=shapes, crs=32645)
    frame.to_file(tmp_path / "mixed.geojson")
    assert len(polygons.read(tmp_path / "mixed.geojson", "--within").geometries) == 1
    told = "mixed.geojson: 2 of 3 features are no polygon (points, lines, or nothing) and left out."
    assert f"--within={tmp_path}/{told}" in caplog.text
    caplog.clear()
    frame[:1].to_file(tmp_path / "whole.geojson")
    polygons.read(tmp_path / "whole.geojson", "--within")
    assert not caplog.text


def outlines(count: int) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(
        {"n": range(count)}, geometry=[lake(100 * (k + 1), 100, 20) for k in range(count)], crs=32645
    )


def test_the_one_layer_that_may_hold_polygons_is_read(tmp_path: Path) -> None:
    """Beside points that come first, an empty layer, a table without geometry, and the ground of a map."""
    frame, path = outlines(2), tmp_path / "l.gpkg"
    points = frame.set_geometry(frame.centroid)
    for layer, content in (("points", points), ("empty", frame[:0]), ("lakes", frame), ("ground", outlines(1))):
        content.to_file(path, layer=layer)
    pyogrio.write_dataframe(pd.DataFrame({"n": [1]}), path, layer="styles", append=True)
    assert polygons.read(path, "dataset.lakes").read == 2


def test_of_several_layers_one_must_be_named(tmp_path: Path, scene) -> None:
    path = tmp_path / "l.gpkg"
    for layer, count in (("Ice", 1), ("Lakes 2020", 3)):
        outlines(count).to_file(path, layer=layer)
    with pytest.raises(
        DataError, match=r"lakes=\S+l\.gpkg has several layers that may hold polygons \(Ice, Lakes 2020\):"
    ):
        polygons.read(path, "dataset.lakes")
    for setting, beside in (
        ("dataset.lakes", "dataset.lakes_layer"),
        ("--glaciers", "--glaciers-layer"),
        ("OLD", "--old-layer"),
    ):
        with pytest.raises(DataError, match=rf": name one with {beside}\.$"):
            polygons.read(path, setting)
        with pytest.raises(DataError, match=rf"^{beside}=ice2 is no layer of \S+l\.gpkg: it has Ice, Lakes 2020\.$"):
            polygons.read(path, setting, layer="ice2")
    settings = DatasetConfig(kind=DatasetKind.scenes, lakes_layer="lakes 2020", glaciers_layer="Ice")
    lakes, ice = polygons.read_both(path, path, settings)
    assert ice is not None and (lakes.read, ice.read) == (3, 1)
    assert polygons.told(lakes, [scene])["layer"] == "lakes 2020"
    outlines(1).to_parquet(tmp_path / "l.parquet")
    with pytest.raises(DataError, match=r"dataset\.lakes_layer=a: \S+l\.parquet has no layers, so leave it out"):
        polygons.read(tmp_path / "l.parquet", "dataset.lakes", layer="a")


def test_shapefiles_of_a_folder_or_zip_are_its_layers(tmp_path: Path) -> None:
    folder = tmp_path / "glims"
    folder.mkdir()
    outlines(2).to_file(folder / "outlines.shp")
    outlines(3).set_geometry(outlines(3).centroid).to_file(folder / "centres.shp")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    for place in (folder, Path(packed)):
        assert polygons.read(place, "dataset.glaciers").read == 2
    above = shutil.make_archive(str(tmp_path / "above"), "zip", tmp_path, "glims")
    with pytest.raises(
        DataError, match=r"above\.zip cannot be read as polygons: .*\. Unpack it, and name the file in it"
    ):
        polygons.read(above, "dataset.glaciers")
    outlines(4).to_file(folder / "debris.shp")
    with pytest.raises(
        DataError, match=r"several layers that may hold polygons \((outlines, debris|debris, outlines)\)"
    ):
        polygons.read(folder, "dataset.glaciers")
    assert polygons.read(folder, "dataset.glaciers", layer="debris").read == 4


def with_columns(path: Path, **columns: list) -> Path:
    shapes = [lake(100 * k, 100, 20) for k in range(2)]
    geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32645").to_file(path, engine="pyogrio")
    return path


@pytest.mark.parametrize(
    ("columns", "ids", "types"),
    [
        ({"n": [7, 8]}, ["1", "2"], ["", ""]),
        ({"GL_ID": ["a", None], "Type": ["supraglacial", None]}, ["a", "2"], ["supraglacial", ""]),
        ({"kind": ["p", "q"], "lake_id": [5, 6], "Lake_Type": ["r", "s"]}, ["5", "6"], ["r", "s"]),
    ],
    ids=["none", "ICIMOD", "first of the known"],
)
def test_ids_and_types_of_lakes(tmp_path: Path, columns: dict, ids: list[str], types: list[str]) -> None:
    found = polygons.read(with_columns(tmp_path / "l.gpkg", **columns), "dataset.lakes")
    assert (found.ids.tolist(), found.types.tolist()) == (ids, types)


def test_an_id_may_be_a_list_as_tables_have_it(tmp_path: Path) -> None:
    shapes = [lake(100 * k, 100, 20) for k in range(2)]
    frame = geopandas.GeoDataFrame({"id": [[1, 2], None]}, geometry=shapes, crs="EPSG:32645")
    frame.to_parquet(tmp_path / "l.parquet")
    assert polygons.read(tmp_path / "l.parquet", "dataset.lakes").ids.tolist() == ["[1 2]", "1"]


def test_a_named_type_column_is_taken_and_must_be_there(tmp_path: Path) -> None:
    path = with_columns(tmp_path / "l.gpkg", type=["a", "b"], Dammed_By=[" ice", "rock "])
    assert polygons.read(path, "dataset.lakes", type_column="Dammed_By").types.tolist() == ["ice", "rock"]
    with pytest.raises(DataError, match=r"lake_type_column=dam is no column of .*, which has type, Dammed_By: name"):
        polygons.read(path, "dataset.lakes", type_column="dam")


def test_a_table_without_geometry_is_told(tmp_path: Path) -> None:
    """As geopandas writes a CSV, in which GDAL looks for a column WKT; this ended in a trace."""
    pd.DataFrame({"id": [1], "geometry": [lake(0, 0, 20).wkt]}).to_csv(tmp_path / "l.csv", index=False)
    with pytest.raises(
        DataError, match=r"lakes=\S+l\.csv holds no geometry: give outlines, in a CSV as WKT in a column"
    ):
        polygons.read(tmp_path / "l.csv", "dataset.lakes", crs="EPSG:32645")


def test_lakes_that_come_twice_or_share_an_id_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shapes = [lake(0, 0, 20), lake(100, 0, 20), shapely.reverse(lake(0, 0, 20)), lake(200, 0, 20)]
    settings = DatasetConfig(kind=DatasetKind.scenes)

    def said(ids: list[str]) -> str:
        caplog.clear()
        path = tmp_path / "l.gpkg"
        path.unlink(missing_ok=True)
        geopandas.GeoDataFrame({"id": ids}, geometry=shapes[: len(ids)], crs=32645).to_file(path)
        tell_copies(polygons.read_both(path, None, settings)[0])
        return caplog.text

    assert not said(["a", "b"])
    assert "1 copy of others among 3 outlines counts as a lake again" in said(["a", "b", "a"])
    assert "another one's" not in caplog.text
    assert "1 of 2 lakes has another one's id: those of a scene count as one" in said(["a", "a"])


def test_lakes_of_two_inventories_in_one_file_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same lakes drawn by two people; not lakes that touch, lie within larger ones, or overlap a little."""

    def found(*shapes: shapely.Polygon) -> list[list[int]]:
        ids = [f"L{number}" for number in range(len(shapes))]
        geopandas.GeoDataFrame({"id": ids}, geometry=list(shapes), crs=32645).to_file(tmp_path / "l.gpkg")
        lakes = polygons.read(tmp_path / "l.gpkg", "dataset.lakes")
        caplog.clear()
        tell_copies(lakes)
        return alike(lakes).tolist()

    box = shapely.box
    assert found(box(0, 0, 100, 100), box(500, 0, 600, 100), box(5, 5, 104, 103)) == [[0, 2]]
    assert "1 of 3 outlines covers another one for half of what both cover or more (L0 and L2)" in caplog.text
    apart = [box(0, 0, 100, 100), box(100, 0, 200, 100), box(0, 100, 10, 110), box(0, -60, 100, 40)]
    assert found(*apart) == [] and not caplog.text  # the last one shares a fourth of both
    half = [box(0, 0, 300, 100), box(100, 0, 400, 100), box(250, 0, 550, 100)]
    assert found(*half) == [[0, 1]]  # 200 of 400; of the next ones 150 of 450
    assert found(box(0, 0, 100, 100), box(0, 0, 100, 100)) == [] and "1 copy of others" in caplog.text
    more = [box(n, 0, n + 100, 100) for n in range(5)]
    assert len(found(*more)) == 10 and "4 of 5 outlines cover another one" in caplog.text
    assert "(L0 and L1, L0 and L2, L0 and L3 ...)" in caplog.text


def test_ids_stay_with_their_polygons_when_others_are_left_out(tmp_path: Path) -> None:
    shapes = [None, lake(0, 0, 20), shapely.Point(0, 0), lake(100, 0, 20)]
    frame = geopandas.GeoDataFrame({"id": list("abcd")}, geometry=shapes, crs="EPSG:32645")
    frame.to_file(tmp_path / "l.gpkg", engine="pyogrio")
    assert polygons.read(tmp_path / "l.gpkg", "dataset.lakes").ids.tolist() == ["b", "d"]


def test_a_named_id_column_and_the_ids_of_rgi(tmp_path: Path, scene) -> None:
    path = with_columns(tmp_path / "l.gpkg", id=["a", "b"], HAGL=["x1", "x2"])
    assert polygons.read(path, "dataset.lakes", id_column="HAGL").ids.tolist() == ["x1", "x2"]
    with pytest.raises(DataError, match=r"dataset\.lake_id_column=hagl is no column of .*, which has id, HAGL: name"):
        polygons.read(path, "dataset.lakes", id_column="hagl")
    for n, (column, ids, source) in enumerate(
        (("RGIId", ["RGI60-15.03410", "RGI60-15.1"], "RGI 6.0"), ("rgi_id", ["RGI2000-v7.0-G-15-1", "q"], "RGI 7.0"))
    ):
        found = polygons.read(with_columns(tmp_path / f"g{n}.gpkg", **{column: ids}), "dataset.glaciers")
        assert found.ids.tolist() == ids and polygons.told(found, [scene])["source"] == source


def test_a_crs_is_taken_from_the_file_else_from_the_settings(
    tmp_path: Path, scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    metres, degrees = [lake(300, 300, 50)], tmp_path / "d.shp"
    write_polygons(degrees, metres, to="EPSG:4326")
    degrees.with_suffix(".prj").unlink()
    with pytest.raises(DataError, match=r"d\.shp has no CRS: set dataset\.lakes_crs, EPSG:4326 if the coordinates"):
        polygons.read(degrees, "dataset.lakes")
    found = polygons.read(degrees, "dataset.lakes", crs="EPSG:4326")
    judged = inventory.lakes_of(scene, found, None, buffer_m=0.0, min_lake_px=0)
    assert judged.geometries[0].area == pytest.approx(metres[0].area, rel=1e-6)
    told = polygons.told_of(found, None, [scene], ground=None, aloud=True)["lakes"]
    assert (told["crs"], told["crs_given"], told["transformed_to"]) == ("EPSG:4326", True, ["EPSG:32645"])
    assert "dataset.lakes is in EPSG:4326: transformed to that of the scenes (EPSG:32645)" in caplog.text
    with pytest.raises(ConfigError, match=r"dataset\.lakes_crs=utm is no CRS"):
        polygons.read(degrees, "dataset.lakes", crs="utm")
    degrees.with_suffix(".prj").write_text('LOCAL_CS["plan",UNIT["metre",1]]')  # of CAD
    with pytest.raises(DataError, match=r"d\.shp has no CRS: set dataset\.lakes_crs"):
        polygons.read(degrees, "dataset.lakes")


def test_degrees_in_metres_and_metres_in_degrees_are_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    degrees = geopandas.GeoSeries([lake(300, 300, 50)], crs="EPSG:32645").to_crs(4326).to_list()
    path = write_polygons(tmp_path / "d.gpkg", degrees, crs="EPSG:32645")
    with pytest.raises(
        DataError, match=r"look like degrees, but EPSG:32645 has metres: set dataset\.lakes_crs=EPSG:4326\.$"
    ):
        polygons.read(path, "dataset.lakes")
    assert polygons.read(path, "dataset.lakes", crs="EPSG:4326").crs.is_geographic
    assert "says it is in EPSG:32645, but is taken as EPSG:4326" in caplog.text
    path = write_polygons(tmp_path / "m.gpkg", [lake(300, 300, 50)], crs="EPSG:4326")
    with pytest.raises(DataError, match=r"are no degrees, but EPSG:4326 has degrees: set dataset\.glaciers_crs"):
        polygons.read(path, "dataset.glaciers")


@pytest.mark.parametrize(
    ("box", "degrees"),
    [
        ((-360, -90, -350, -80), True), ((350, 80, 360, 90), True), ((-361, 0, -350, 10), False),
        ((350, 0, 361, 10), False), ((10, -91, 20, -80), False), ((10, 80, 20, 91), False),
    ],
)  # fmt: skip
def test_only_what_lies_on_the_globe_looks_like_degrees(
    tmp_path: Path, box: tuple[float, float, float, float], degrees: bool
) -> None:
    """A site's own grid of metres may begin near zero."""
    path = write_polygons(tmp_path / "l.gpkg", [shapely.box(*box)], crs="EPSG:32645")
    if degrees:
        with pytest.raises(DataError, match="look like degrees"):
            polygons.read(path, "dataset.lakes")
    else:
        assert shapely.bounds(polygons.read(path, "dataset.lakes").geometries[0]).tolist() == list(box)


def test_distances_beyond_the_buffer_are_true_up_to_15_km(tmp_path: Path, scene) -> None:
    """A lake 12 km from ice is dropped at 10 km, and a report can say that a buffer of 15 km would keep it."""
    water = polygons.read(write_polygons(tmp_path / "l.gpkg", [lake(300, 300, 50)]), "dataset.lakes")
    ice = polygons.read(write_polygons(tmp_path / "g.gpkg", [lake(300, 12_400, 50)]), "dataset.glaciers")
    judged = inventory.lakes_of(scene, water, ice, buffer_m=5_000.0, min_lake_px=0)
    assert judged.far.all() and judged.distance_m[0] == pytest.approx(12_000, abs=1)


def test_distances_of_the_ground_to_ice(tmp_path: Path, scene) -> None:
    """Round ice in a scene of 960 by 640 m, its outline in degrees; none near; none given, and no buffer."""
    ice = polygons.read(write_polygons(tmp_path / "g.gpkg", [lake(480, 100, 50)], to="EPSG:4326"), "dataset.glaciers")
    (row,) = known_ice(scene, ice, 400.0)
    assert (row["step_px"], row["across"]) == (2, 49)
    south, east = np.meshgrid(np.arange(0, 641, 20), np.arange(0, 961, 20), indexing="ij")
    exact = np.maximum(np.hypot(south - 100, east - 480) - 50, 0)
    wrong = np.abs(row["distance_m"].reshape(exact.shape) - exact)
    assert wrong.max() < 2 and wrong[exact > 100].max() < 0.1 and (row["distance_m"] == 0).sum() == (exact == 0).sum()
    far = polygons.read(write_polygons(tmp_path / "f.gpkg", [lake(90_000, 0, 50)]), "dataset.glaciers")
    for buffer_m, known_to in ((10_000.0, inventory.SEARCH_M), (20_000.0, 20_000.0)):
        (row,) = known_ice(scene, far, buffer_m)
        assert np.isfinite(row["distance_m"]).all() and (row["distance_m"] > known_to).all()
    assert known_ice(scene, None, 10_000.0) == [] and known_ice(scene, ice, 0.0) == []
    (row,) = known_ice(scene, ice, 1.0)  # no more than a pixel is known of a pixel
    assert row["step_px"] == 1


@pytest.mark.parametrize("name", ["l.geojson", "l.fgb", "l.shp", "l.parquet", "l.kml", "l.gml", "l.shp.zip"])
def test_every_vector_format_gives_the_same_polygons(tmp_path: Path, name: str) -> None:
    drawn = [lake(200, 200, 137.0), shapely.MultiPolygon([lake(640, 380, 91.0), lake(640, 640, 20.0)])]
    table = geopandas.GeoDataFrame({"gl_id": ["a", "b"]}, geometry=drawn, crs="EPSG:32645").to_crs(4326)
    if name.endswith("parquet"):
        table.to_parquet(tmp_path / name)
    elif name.endswith("zip"):
        table.to_file(tmp_path / "l.shp", engine="pyogrio")
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for part in sorted(tmp_path.glob("l.[a-z][a-z][a-z]")):
                archive.write(part, part.name)
    else:
        table.to_file(tmp_path / name, engine="pyogrio")
    found = polygons.read(tmp_path / name, "dataset.lakes", id_column=None if name.endswith("kml") else "gl_id")
    assert found.crs.to_epsg() == 4326 and (found.repaired, found.unusable) == (0, 0)
    # FlatGeobuf sorts features by place, and some formats know no single polygon beside a multiple one
    order = np.argsort(shapely.area(found.geometries))[::-1]
    assert len(order) == 2 and shapely.hausdorff_distance(found.geometries[order], table.geometry).max() < 1e-7
    assert shapely.area(found.geometries[order]) == pytest.approx(shapely.area(table.geometry), rel=1e-6)
    if not name.endswith("kml"):
        assert found.ids[order].tolist() == ["a", "b"]


def test_a_parquet_that_holds_no_polygons_is_one_line(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "plain.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    for name in ("plain", "cut"):
        with pytest.raises(DataError, match=rf"^dataset\.lakes=\S+{name}\.parquet cannot be read as polygons: .+$"):
            polygons.read(tmp_path / f"{name}.parquet", "dataset.lakes")


@pytest.mark.parametrize(
    ("written", "names"), [("UTF-8", ["glaciärsjö", "冰湖", "moraine"]), ("ISO-8859-1", ["glaciärsjö", "moraine"])]
)
def test_a_shapefile_that_does_not_say_its_encoding_is_read_as_it_was_written(
    written: str, names: list[str], tmp_path: Path
) -> None:
    """Without its .cpg, which is often left behind; GDAL takes Latin-1 then."""
    from glidexp.data.scenes.features import read_features

    boxes = [shapely.box(i, 0, i + 1, 1) for i in range(len(names) + 1)]
    frame = geopandas.GeoDataFrame({"type": [*names, None], "number": range(len(boxes))}, geometry=boxes, crs=32645)
    frame.to_file(tmp_path / "lakes.shp", encoding=written)
    assert read_features(tmp_path / "lakes.shp", "dataset.lakes", ["type"]).values["type"].tolist() == [*names, None]
    (tmp_path / "lakes.cpg").unlink()
    found = read_features(tmp_path / "lakes.shp", "dataset.lakes", ["type", "number"]).values
    assert found["type"].tolist() == [*names, None] and found["number"].tolist() == list(range(len(boxes)))
