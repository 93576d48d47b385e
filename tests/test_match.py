"""`--match`: tiles find their place by their lakes and by each other's edges; what is not known stays unknown."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from PIL import Image
from scipy import ndimage

from glidexp import cli
from glidexp.data.ready import match, match_edges, outlines, placing
from glidexp.data.ready.pairs import find_pairs
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError

WEST, SOUTH, SIDE = 450_000.0, 3_080_000.0, 40_000.0
CRS = "EPSG:32645"
GSDS = (4.0, 10.0, 30.0)


def lakes(seed: int, n: int = 2500) -> np.ndarray:
    """Lakes of a power law of sizes and of shapes of their own, in a square of 40 km."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    found = []
    for area in np.minimum(1500 * (1 - rng.random(n)) ** (-1 / 0.9), 3e6):
        waves = [rng.normal(0, 0.25 / j) * np.cos(j * angle + 2 * np.pi * rng.random()) for j in (1, 2, 3, 4)]
        radius = np.sqrt(area / np.pi) * np.clip(1 + sum(waves), 0.3, 2)
        longer, turn = rng.uniform(0.5, 1), np.pi * rng.random()
        x, y = radius * np.cos(angle) * longer, radius * np.sin(angle) / longer
        east, north = rng.random(2) * SIDE + (WEST, SOUTH)
        ring = [x * np.cos(turn) - y * np.sin(turn) + east, x * np.sin(turn) + y * np.cos(turn) + north]
        found.append(shapely.make_valid(shapely.Polygon(np.stack(ring, axis=1))))
    return shapely.get_parts(shapely.union_all(found))


@pytest.fixture(scope="module")
def zones() -> list[outlines.Outlines]:
    return [outlines._outlines(CRS, lakes(0))]


def cut(where: outlines.Outlines, rng: np.random.Generator, px: int) -> tuple[np.ndarray, float, tuple[float, float]]:
    """A label drawn at a random place that is not on any grid."""
    while True:
        gsd_m = float(rng.choice(GSDS))
        east, north = rng.random(2) * (SIDE - px * gsd_m)
        origin = (WEST + east, SOUTH + north + px * gsd_m)
        mask = outlines.drawn(where, origin, gsd_m, px)
        if mask.any():
            return mask, gsd_m, origin


@pytest.mark.timeout(300)
def test_400_tiles_find_their_place(zones: list[outlines.Outlines]) -> None:
    rng = np.random.default_rng(1)
    many, right, wrong = 0, 0, 0
    for _ in range(400):
        mask, gsd_m, origin = cut(zones[0], rng, 128)
        place = match.find(mask, zones, GSDS)
        near = place is not None and place.gsd_m == gsd_m
        near = near and max(abs(a - b) for a, b in zip(place.origin, origin, strict=True)) <= gsd_m
        sure = place is not None and place.confidence > match.ACCEPTED
        if ndimage.label(mask, np.ones((3, 3)))[1] >= 3:
            many += 1
            right += sure and near
        wrong += sure and not near
    assert many > 100 and wrong == 0
    assert right >= 0.9 * many, f"{right} of {many}"


def test_lakes_that_no_outline_has_stay_unknown(zones: list[outlines.Outlines]) -> None:
    rng = np.random.default_rng(2)
    other = outlines._outlines(CRS, lakes(77))
    places = [match.find(cut(other, rng, 128)[0], zones, GSDS) for _ in range(40)]
    assert not [place for place in places if place is not None and place.confidence > match.ACCEPTED]
    assert match.find(np.zeros((64, 64), bool), zones, GSDS) is None


def test_area_and_moments_by_hand() -> None:
    # a rectangle of 4 x 2: moments w^2/12 and h^2/12 by area; with a hole that takes a quarter away from its middle
    box = shapely.box(10, 20, 14, 22)
    holed = shapely.Polygon(box.exterior.coords, [shapely.box(11, 20.5, 13, 21.5).exterior.coords])
    turned = shapely.reverse(holed)
    area, centre, moments = outlines.shape_of(np.array([box, holed, turned], dtype=object))
    assert np.allclose(area, [8, 6, 6]) and np.allclose(centre, [[12, 21]] * 3)
    assert np.allclose(moments[0], [(16 / 12) / 8, (4 / 12) / 8, 0])
    inner = np.array([8 * 16 / 12 - 2 * 4 / 12, 8 * 4 / 12 - 2 * 1 / 12, 0]) / 36
    assert np.allclose(moments[1:], inner)
    # the same rectangle on pixels gives the same moments
    mask = np.zeros((40, 40), bool)
    mask[10:20, 5:25] = True
    seen = match.lakes_of(mask)
    assert seen.area.tolist() == [200] and seen.centre.tolist() == [[15, 15]]
    assert np.allclose(seen.moments[0], [(400 / 12) / 200, (100 / 12) / 200, 0])


def test_edges_of_one_scene_find_each_other() -> None:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8))
    scene = np.asarray(coarse.resize((256, 256), Image.Resampling.BICUBIC))
    tiles = [scene[r : r + 64, c : c + 64] for r in range(0, 256, 64) for c in range(0, 256, 64)]
    tiles.append(np.full((64, 64, 3), 250, np.uint8))  # snow has no neighbours
    found = {
        (link.a, link.b, link.right) for link in match_edges.neighbours(np.stack([*map(match_edges.edges_of, tiles)]))
    }
    beside = {(i, i + 1, 1) for i in range(16) if i % 4 < 3} | {(i, i + 4, 0) for i in range(12)}
    assert found <= beside and len(found) >= 0.8 * len(beside)


def write_scene(root: Path, where: outlines.Outlines) -> tuple[Path, dict[str, tuple[float, float]]]:
    """Tiles of one scene at 10 m that lie side by side, shuffled; their corners by name."""
    px, n = 128, 6
    rng = np.random.default_rng(4)
    coarse = Image.fromarray(rng.integers(0, 256, (150, 150, 3)).astype(np.uint8))
    scene = np.asarray(coarse.resize((px * n, px * n), Image.Resampling.BICUBIC))
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    corners, number = {}, 0
    for at in rng.permutation(n * n).tolist():
        r, c = divmod(at, n)
        corner = (WEST + 5003.0 + c * px * 10, SOUTH + 30007.0 - r * px * 10)
        mask = outlines.drawn(where, corner, 10.0, px)
        if not mask.any():
            continue
        number += 1
        corners[str(number)] = corner
        Image.fromarray(scene[r * px : (r + 1) * px, c * px : (c + 1) * px]).save(root / "images" / f"{number}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / "labels" / f"{number}.png")
    return root, corners


def test_the_verb_writes_a_table_and_the_store_has_positions(
    zones: list[outlines.Outlines], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, corners = write_scene(tmp_path / "tiles", zones[0])
    geopandas.GeoSeries(zones[0].polygons, crs=CRS).to_crs("EPSG:4326").to_file(tmp_path / "lakes.gpkg")
    words = ["import", str(root), "--match", str(tmp_path / "lakes.gpkg"), "--data", str(tmp_path / "data")]
    with pytest.raises(ConfigError, match="metres above 0"):
        cli.data([*words, "--gsd", "ten"])
    assert cli.data([*words, "--gsd", "10,30"]) == 0
    said = capsys.readouterr().out
    (table,) = (tmp_path / "data" / "matches").glob("*.csv")
    rows = {row["tile"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert rows.keys() == corners.keys()
    known = {name: row for name, row in rows.items() if row["transform"]}
    assert len(known) >= 0.85 * len(corners)
    for name, row in known.items():
        assert float(row["confidence"]) > match.ACCEPTED and row["crs"] == CRS
        _, _, x, _, _, y = map(float, row["transform"].split())
        assert max(abs(x - corners[name][0]), abs(y - corners[name][1])) <= 10.0
    assert f"known: position of {len(known)} tiles" in said and str(table) in said
    (store,) = (tmp_path / "data" / "stores").glob("[!.]*")
    index = TileStore.open(store).index.set_index("tile")
    assert index.loc[list(known), "crs"].eq(CRS).all() and index.loc[list(known), "gsd_m"].eq(10.0).all()
    # the same command takes the same table and the same store
    before = table.stat().st_mtime_ns
    assert cli.data([*words, "--gsd", "10,30"]) == 0
    assert table.stat().st_mtime_ns == before and len([*(tmp_path / "data" / "stores").glob("[!.]*")]) == 1


def test_a_zone_reaches_over_180_degrees(tmp_path: Path) -> None:
    east, west = (shapely.box(lon, 66.5, lon + 0.01, 66.51) for lon in (179.5, -179.5))
    geopandas.GeoSeries([east, west], crs="EPSG:4326").to_file(tmp_path / "lakes.gpkg")
    found = outlines.read_outlines(tmp_path / "lakes.gpkg")
    assert [one.crs for one in found] == ["EPSG:32601", "EPSG:32660"]
    for one in found:
        assert len(one.polygons) == 2 and np.ptp(one.centre[:, 0]) == pytest.approx(44_500, rel=0.01)


def test_tiles_of_other_sizes_leave_the_edges_of_the_rest(zones: list[outlines.Outlines], tmp_path: Path) -> None:
    """One that is not square took the edges from all of them, and edges of 256 px look like those of 128."""
    root, _ = write_scene(tmp_path / "tiles", zones[0])
    geopandas.GeoSeries(zones[0].polygons, crs=CRS).to_crs("EPSG:4326").to_file(tmp_path / "lakes.gpkg")

    def counts(name: str) -> Counter[str]:
        pairs, out = find_pairs(root), tmp_path / f"{name}.csv"
        found = placing.place_tiles(pairs, tmp_path / "lakes.gpkg", [10.0], out, glid=False, step=lambda _: None)
        rows = {row["tile"]: row["transform"] for row in csv.DictReader(out.read_text().splitlines())}
        places.append({tile: place for tile, place in rows.items() if tile.isdigit()})
        return found

    places: list[dict[str, str]] = []
    alone = counts("alone")
    assert alone["found by edges"] > 0, "nothing to lose"
    for name, (height, width) in {"oblong": (100, 128), "large": (256, 256)}.items():
        for part, bands in (("images", 3), ("labels", 1)):
            picture = np.asarray(Image.open(root / part / "1.png").resize((width, height), Image.Resampling.NEAREST))
            assert picture.shape[2:] == (3,) * (bands == 3)
            Image.fromarray(picture).save(root / part / f"{name}.png")
    more = counts("more")
    assert more["tiles"] == alone["tiles"] + 2 and places[0] == places[1]
    assert more["found by edges"] == alone["found by edges"]


def test_outlines_that_cannot_be_used(tmp_path: Path) -> None:
    bare = tmp_path / "bare.shp"
    geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs="EPSG:4326").to_file(bare)
    bare.with_suffix(".prj").unlink()
    with pytest.raises(DataError, match="has no CRS"):
        outlines.read_outlines(bare)
    points = tmp_path / "points.gpkg"
    geopandas.GeoSeries([shapely.Point(86, 28)], crs="EPSG:4326").to_file(points)
    with pytest.raises(DataError, match="holds no polygon"):
        outlines.read_outlines(points)
    (tmp_path / "no.gpkg").write_text("x")
    with pytest.raises(DataError, match=r"--match=\S+no.gpkg cannot be read as polygons"):
        outlines.read_outlines(tmp_path / "no.gpkg")


def test_outlines_of_several_layers_and_files(tmp_path: Path) -> None:
    """Of a GeoPackage a layer has to be named; of a ZIP all shapefiles are read, or the one that is named."""
    layers = {"lakes": 2, "ice": 3}
    for name, count in layers.items():
        boxes = geopandas.GeoSeries([shapely.box(86 + k, 28, 86.01 + k, 28.01) for k in range(count)], crs="EPSG:4326")
        boxes.to_file(tmp_path / "all.gpkg", layer=name)
        (tmp_path / "in").mkdir(exist_ok=True)
        boxes.to_file(tmp_path / "in" / f"{name}.shp")
        boxes.to_frame("geometry").to_parquet(tmp_path / f"{name}.parquet")
    packed = Path(shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "in"))

    def read(path: Path, layer: str | None = None) -> int:
        return sum(len(one.polygons) for one in outlines.read_outlines(path, layer) if one.crs == "EPSG:32645")

    with pytest.raises(
        DataError, match=r"several layers that may hold polygons \(lakes, ice\): name one with --match-l"
    ):
        read(tmp_path / "all.gpkg")
    assert [
        read(tmp_path / "all.gpkg", "ice"),
        read(packed, "lakes"),
        read(packed),
        read(tmp_path / "ice.parquet"),
    ] == [3, 2, 5, 3]
    with pytest.raises(
        DataError, match=r"--match-layer=x is no layer of a file in \S+all\.zip: they have ice, lakes\."
    ):
        read(packed, "x")
