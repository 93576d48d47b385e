"""How good a map is: scores that are known, samples that are drawn and looked at, intervals that hold the truth."""

import importlib.util
import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from announced import Announced
from rasterio.transform import from_origin
from scipy import stats
from test_inventory_series import written
from tiny_scenes import NORTH, WEST

from glidexp import cli
from glidexp.data import steps
from glidexp.data.steps import Step
from glidexp.errors import GlidexpError, RunFailed
from glidexp.mapping import sample_files, verb_inventory
from glidexp.mapping.against import against
from glidexp.mapping.doubt import doubted
from glidexp.mapping.joined import joined
from glidexp.scoring.assess_plots import Interval, assess_figure
from glidexp.scoring.sheet import POINTS
from glidexp.scoring.stratified import Sample

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("plain_figures")
SIDE = 10_000.0
GROUND = shapely.box(WEST, NORTH - SIDE, WEST + SIDE, NORTH)


def square(x: float, y: float, side: float = 200.0) -> shapely.Geometry:
    """A lake, metres east and south of the corner of the ground."""
    return shapely.box(WEST + x, NORTH - y - side, WEST + x + side, NORTH - y)


def inventory(path: Path, lakes: list[shapely.Geometry], **columns: Any) -> Path:
    geopandas.GeoDataFrame(columns, geometry=lakes, crs=32645).to_file(path)
    return path


def assess(tmp_path: Path, maps: list[Path], reference: Path, *more: str) -> pd.DataFrame:
    """The table of scores, by name."""
    out = tmp_path / "assessed"
    words = ["assess", *map(str, maps), "--reference", str(reference), "--out", str(out), *more]
    assert verb_inventory.run(words) == 0
    return pd.read_csv(out / "assessed.csv").set_index("name")


def test_a_sample_of_which_the_design_is_not_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file to draw in comes last: while it is not there, the same command draws the sample."""
    one = written(tmp_path / "map_lakes.gpkg", MAPPED, None, ground=GROUND)
    folder = tmp_path / "sample"
    words = ["sample", str(one), "--out", str(folder), "--cells", "5"]

    def refused(*_: object, **__: object) -> None:
        raise RunFailed("no room")

    for name in ("write_bytes", "write_layers"):
        with monkeypatch.context() as patch:
            patch.setattr(sample_files, name, refused)
            with pytest.raises(RunFailed):
                verb_inventory.run(words)
        assert not (folder / "sample.gpkg").exists()
    assert verb_inventory.run(words) == 0
    assert {path.name for path in folder.iterdir()} == {"sample.gpkg", "design.json"}


def fails(*words: object) -> str:
    with pytest.raises(GlidexpError) as caught:
        verb_inventory.run([str(word) for word in words])
    return str(caught.value)


def drawn(folder: Path, lakes: list[shapely.Geometry], *, checked: int | None = None, value: Any = 1) -> None:
    """Somebody looks at the first cells, all when not given, and draws what is there."""
    path = folder / "sample.gpkg"
    cells = geopandas.read_file(path, layer="cells")
    cells.loc[cells["cell_id"] <= (len(cells) if checked is None else checked), "checked"] = value
    cells.to_file(path, layer="cells")
    geopandas.GeoDataFrame(geometry=lakes, crs=32645).to_crs(4326).to_file(path, layer="lakes")


MAPPED = [square(1000, 1000), square(3000, 1000), square(5000, 1000), square(7000, 1000), square(1000, 5000, 50)]
TRUE = [
    square(1000, 1000),
    square(3100, 1000),  # half of it: IoU 1/3
    square(5000, 1000, 400),  # four times the area: IoU 1/4
    square(1000, 3000),  # missed
    square(3000, 3000, 60),  # missed, small
    square(7200, 1000),  # touches the mapped one at a side: no common ground
    square(SIDE + 500, 1000),  # beyond the ground
]


@pytest.mark.usefixtures("real_figures")
def test_scores_against_an_inventory_are_those_of_all_lakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "map_lakes.gpkg", MAPPED, None, ground=GROUND)
    kinds = ["a", "a", "b", "b", "", "b", "a"]
    reference = inventory(tmp_path / "true.gpkg", TRUE, lake_type=kinds)
    table = assess(tmp_path, [one], reference)
    both, mapped, true = 0.04 + 0.02 + 0.04, 4 * 0.04 + 0.0025, 4 * 0.04 + 0.16 + 0.0036
    # UTM stretches by some 0.04 % here, alike on both sides
    assert table["value"][["precision_pooled", "recall_pooled", "f1_pooled", "lake_iou_pooled"]].tolist() == (
        pytest.approx([both / mapped, both / true, 2 * both / (mapped + true), both / (mapped + true - both)], rel=1e-5)
    )
    assert table["value"][["area_predicted_km2", "area_true_km2"]].tolist() == pytest.approx([mapped, true], rel=2e-3)
    assert table["value"]["area_total_bias_percent"] == pytest.approx(100 * (mapped / true - 1), rel=1e-5)
    lakes = ["lake_recall", "lake_recall_iou50", "lake_precision", "lake_precision_iou50"]
    assert table["value"][lakes].tolist() == pytest.approx([3 / 6, 1 / 6, 3 / 5, 1 / 5])
    assert table["units"][lakes].tolist() == [6, 6, 5, 5]
    assert (table["low"] == table["value"]).all() and (table["high"] == table["value"]).all()
    assert table["value"]["lake_type/a/lake_recall"] == 1 and table["units"]["lake_type/b/lake_recall"] == 3
    assert table["value"]["size/0.01-0.05km2/lake_recall"] == 0.5 and table["units"]["size/0.1-1km2/lake_recall"] == 1
    layers = {
        name: geopandas.read_file(tmp_path / "assessed" / "assessed.gpkg", layer=name) for name in ("mapped", "true")
    }
    assert layers["mapped"]["verdict"].tolist() == ["right", "right", "right", "false", "false"]
    assert layers["true"]["verdict"].tolist() == ["found", "found", "found", "missed", "missed", "missed"]
    assert layers["true"]["best_iou"].tolist() == pytest.approx([1, 1 / 3, 1 / 4, 0, 0, 0], abs=1e-4)
    assert (tmp_path / "assessed" / "assessed_column.pdf").stat().st_size > 1000
    assert "no error of sampling" in capsys.readouterr().out and not (tmp_path / "assessed" / "strata.csv").exists()

    # the small ones count neither way, but a true one that is small still makes a mapped lake right
    large = assess(tmp_path, [one], reference, "--min-km2", "0.01")
    assert large["value"][["lake_recall", "lake_precision"]].tolist() == pytest.approx([3 / 5, 3 / 4])
    both, mapped, true = 0.04 + 0.02 + 0.04, 4 * 0.04, 4 * 0.04 + 0.16  # without the two of 50 and 60 m
    assert large["value"][["precision_pooled", "recall_pooled", "lake_iou_pooled"]].tolist() == (
        pytest.approx([both / mapped, both / true, both / (mapped + true - both)], rel=1e-5)
    )
    assert large["value"][["area_predicted_km2", "area_true_km2"]].tolist() == pytest.approx([mapped, true], rel=2e-3)
    larger = assess(tmp_path, [one], reference, "--min-km2", "0.1")
    assert larger["units"].get("lake_recall") == 1 and "lake_precision" not in larger.index
    half = inventory(tmp_path / "half.gpkg", [square(0, 0, 2500)])
    within = assess(tmp_path, [one], reference, "--within", str(half))
    assert within["units"][["lake_recall", "lake_precision"]].tolist() == [1, 1]


@pytest.mark.parametrize("sampled", [False, True])
def test_a_minimum_is_one_of_numbers_and_of_areas(tmp_path: Path, sampled: bool) -> None:
    """An inventory without small lakes made the area of mapped ones false."""
    mapped = [
        square(1000, 1000, 400),
        square(3000, 1000, 60),  # on a large one: right
        square(5000, 1000, 80),  # of which the inventory has none
        square(7000, 1000, 300),  # on a small one
        square(1000, 5000, 50),  # on a small one
    ]
    true = [
        square(1000, 1000, 300),
        square(3000, 1000, 200),
        square(7000, 1000, 90),
        square(1000, 5000, 50),
        square(5000, 5000, 70),  # missed
        square(7000, 5000, 500),  # missed
    ]
    one = written(tmp_path / "map_lakes.gpkg", mapped, None, ground=GROUND)
    reference = inventory(tmp_path / "true.gpkg", true)
    if sampled:
        reference = tmp_path / "sample"
        words = ["sample", str(one), "--out", str(reference), "--cells", "9999", "--cell-km", "2"]
        assert verb_inventory.run(words) == 0
        drawn(reference, true)
    table = assess(tmp_path, [one], reference, "--min-km2", "0.01")["value"]
    right, false, missed = 0.09 + 0.0036 + 0.0081, 0.07 + 0.09 - 0.0081, 0.04 - 0.0036 + 0.25
    assert table[["precision_pooled", "recall_pooled", "lake_iou_pooled"]].tolist() == pytest.approx(
        [right / (right + false), right / (right + missed), right / (right + false + missed)], rel=1e-4
    )
    assert table["area_predicted_km2"] == pytest.approx(0.16 + 0.09, rel=2e-3)
    assert table["area_true_km2"] == pytest.approx(0.09 + 0.04 + 0.25, rel=2e-3)
    all_of_them = assess(tmp_path, [one], reference, "--min-km2", "0")["value"]
    assert all_of_them["area_true_km2"] == pytest.approx(0.38 + 0.0081 + 0.0025 + 0.0049, rel=2e-3)
    none = assess(tmp_path, [one], reference, "--min-km2", "5")
    assert none["value"][["area_predicted_km2", "area_true_km2"]].tolist() == [0, 0]


def test_the_smallest_lake_is_that_of_the_coarsest_map(tmp_path: Path) -> None:
    """Six pixels; and ground that two maps show counts as the first says."""
    west, east = shapely.box(*GROUND.bounds[:2], WEST + 6000, NORTH), shapely.box(WEST + 4000, *GROUND.bounds[1:])
    first = written(tmp_path / "a_lakes.gpkg", [square(1000, 1000), square(4500, 1000)], None, ground=west, px_m=10)
    lakes = [square(4500, 1050), square(4500, 5000), square(8000, 1000)]
    second = written(tmp_path / "b_lakes.gpkg", lakes, None, ground=east, px_m=30)
    true = [square(1000, 1000), square(4500, 1000), square(8000, 1000), square(2000, 8000, 70)]
    reference = inventory(tmp_path / "true.gpkg", true)
    table = assess(tmp_path, [first, second], reference)  # 6 x 900 m2 are more than 70 m square
    assert table["value"][["lake_recall", "lake_precision", "lake_iou_pooled"]].tolist() == pytest.approx(
        [1, 1, 0.12 / 0.1249], rel=1e-4
    )
    assert table["units"][["lake_recall", "lake_precision"]].tolist() == [3, 3]
    turned = assess(tmp_path, [second, first], reference)
    assert turned["value"]["lake_precision"] == 3 / 4 and turned["value"]["lake_iou_pooled"] < 0.8


def test_maps_are_told_of_and_nothing_works_while_a_bar_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar of the maps that were read stood at its end while they were laid over the reference."""
    announced, stages = Announced(), []

    @contextmanager
    def stage(what: str, *, late: bool = False) -> Iterator[None]:
        assert all(done == total for total, done in announced.works.values())
        stages.append(what)
        yield

    monkeypatch.setattr(steps, "shown_steps", announced)
    monkeypatch.setattr(steps, "shown_stage", stage)
    one = written(tmp_path / "map_lakes.gpkg", MAPPED, None, ground=GROUND)
    assess(tmp_path, [one, one], inventory(tmp_path / "true.gpkg", [square(1000, 1000)]))
    assert announced.works == {"reading": [2, 2]} and stages == ["map against reference", "writing the files"]
    assert verb_inventory.run(["sample", str(one), "--out", str(tmp_path / "s"), "--cells", "9"]) == 0
    assert stages[2:] == ["drawing cells and writing them"]


def test_a_lake_goes_on_from_one_map_to_the_next(tmp_path: Path) -> None:
    """What the first cut at its edge is whole again, and what --within cuts keeps its area there."""
    west, east = shapely.box(*GROUND.bounds[:2], WEST + 6000, NORTH), shapely.box(WEST + 4000, *GROUND.bounds[1:])
    whole = [shapely.box(WEST + x, NORTH - 1200, WEST + x + 400, NORTH - 1000) for x in (5500, 5700, 3900)]
    first = [one for lake in whole if (one := lake.intersection(west)).area > 0]
    second = [one for lake in whole if (one := lake.intersection(east)).area > 0]
    maps = [
        written(tmp_path / "a_lakes.gpkg", [first[0].union(first[1]), first[2]], None, ground=west),
        written(tmp_path / "b_lakes.gpkg", [second[0].union(second[1]), second[2]], None, ground=east),
    ]
    reference = inventory(tmp_path / "true.gpkg", [whole[0].union(whole[1]), whole[2]])
    for order in (maps, maps[::-1]):
        table = assess(tmp_path, order, reference)
        assert table["value"][["lake_iou_pooled", "lake_recall_iou50", "lake_precision_iou50"]].tolist() == (
            pytest.approx([1, 1, 1], abs=1e-4)
        )
        assert table["units"][["lake_recall", "lake_precision"]].tolist() == [2, 2]
    # its point lies beyond this ground, a third of it within
    near = inventory(tmp_path / "near.gpkg", [shapely.box(WEST, NORTH - 2000, WEST + 5700, NORTH)])
    table = assess(tmp_path, maps, reference, "--within", str(near))
    assert table["value"]["lake_iou_pooled"] == pytest.approx(1, abs=1e-4)
    assert table["units"][["lake_recall", "lake_precision"]].tolist() == [1, 1]


def test_a_lake_goes_on_to_a_map_that_lies_beside_and_shares_no_ground(tmp_path: Path) -> None:
    """Tiles of one mosaic: rounding lays some lakes a hair's breadth apart."""
    middle = WEST + 5000
    west, east = shapely.box(*GROUND.bounds[:2], middle, NORTH), shapely.box(middle, *GROUND.bounds[1:])
    # corners along the edge are not the same on both sides
    lakes = [
        (square(4800 - 7 * i, 100 * i, 60 + i % 9).union(square(5000 - i, 100 * i + i % 5, 40))) for i in range(99)
    ]
    lakes = [one.envelope for one in lakes]
    maps = [
        written(tmp_path / f"{name}_lakes.gpkg", [one.intersection(side) for one in lakes], None, ground=side)
        for name, side in (("a", west), ("b", east))
    ]
    for order in (maps, maps[::-1]):
        table = assess(tmp_path, order, inventory(tmp_path / "true.gpkg", lakes))
        assert table["units"][["lake_recall", "lake_precision"]].tolist() == [99, 99]
        assert table["value"]["lake_precision_iou50"] == 1


def test_lakes_side_by_side_share_no_ground(tmp_path: Path) -> None:
    """Such of one grid of pixels, whose corners differ: moved into another plane, the line between is no longer one."""
    places = [(300 * i, 300 * j, 10 + 10 * ((i + j) % 3)) for i in range(12) for j in range(12)]
    one = written(tmp_path / "map_lakes.gpkg", [square(x, y, 50) for x, y, _ in places], None, ground=GROUND)
    beside = inventory(tmp_path / "true.gpkg", [square(x + 50, y + down, 30) for x, y, down in places])
    table = assess(tmp_path, [one], beside)
    assert table["value"][["lake_recall", "lake_precision"]].tolist() == [0, 0]
    over = inventory(tmp_path / "over.gpkg", [square(x + 49, y + down, 30) for x, y, down in places])
    table = assess(tmp_path, [one], over)
    assert table["value"][["lake_recall", "lake_precision"]].tolist() == [1, 1]


def test_a_map_is_not_blamed_for_what_lies_beyond_its_edge(tmp_path: Path) -> None:
    """Of lakes that go on beyond the ground a map shows all that lies on it, and no more: a perfect one is perfect."""
    true = [square(1000, 1000), square(SIDE - 150, 3000), square(SIDE - 50, 5000), square(5000, -120)]
    one = written(tmp_path / "map_lakes.gpkg", [lake.intersection(GROUND) for lake in true], None, ground=GROUND)
    table = assess(tmp_path, [one], inventory(tmp_path / "true.gpkg", true))
    lakes = ["lake_recall", "lake_recall_iou50", "lake_precision", "lake_precision_iou50"]
    assert table["value"][lakes].tolist() == [1, 1, 1, 1]
    layers = (geopandas.read_file(tmp_path / "assessed" / "assessed.gpkg", layer=name) for name in ("mapped", "true"))
    assert [layer["best_iou"].tolist() for layer in layers] == [pytest.approx([1] * 4)] * 2
    # what the picture shows lies on the line, and the size of a lake is that of all of it
    cells, ground = np.array([GROUND], dtype=object), GROUND
    mapped = np.array([lake.intersection(GROUND) for lake in true], dtype=object)
    found = against(mapped, np.array(true, dtype=object), cells, ground=ground)
    assert found.true.shown_km2 == pytest.approx(found.mapped.shown_km2)
    assert found.true.area_km2 == pytest.approx([0.04] * 4) and found.true.shown_km2[2] == pytest.approx(0.01)


def test_a_lake_that_leaves_its_cell_may_be_mapped_beyond_it(tmp_path: Path) -> None:
    """The part that is mapped does not touch the cell in which the lake's point lies."""
    folder, size = tmp_path / "sample", 1000.0
    one = written(tmp_path / "map_lakes.gpkg", [square(20, 20), square(9000, 9000)], None, ground=GROUND)
    assert verb_inventory.run(["sample", str(one), "--out", str(folder), "--cells", "60", "--seed", "1"]) == 0
    drawn(folder, [])
    cells = geopandas.read_file(folder / "sample.gpkg", layer="cells").to_crs(32645)
    whole = cells.geometry[cells.within(GROUND.buffer(-2 * size))]
    for cell in whole:  # one whose eastern neighbour is not looked at
        beyond = shapely.box(cell.bounds[2] + 100, cell.centroid.y - 30, cell.bounds[2] + 160, cell.centroid.y + 30)
        if not cells.intersects(beyond).any():
            break
    lake = cell.buffer(-50).union(beyond).union(shapely.box(cell.centroid.x, beyond.bounds[1] + 20, *beyond.bounds[2:]))
    drawn(folder, [lake, square(20, 20), square(9000, 9000)])
    other = written(tmp_path / "other_lakes.gpkg", [beyond], None, ground=GROUND)
    assess(tmp_path, [other], folder)
    verdicts = geopandas.read_file(tmp_path / "assessed" / "assessed.gpkg", layer="true")
    assert verdicts.loc[verdicts["area_km2"].idxmax(), "verdict"] == "found"


def test_all_cells_looked_at_say_what_the_inventory_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "map_lakes.gpkg", MAPPED, None, ground=GROUND)
    exact = assess(tmp_path, [one], inventory(tmp_path / "true.gpkg", TRUE))
    folder = tmp_path / "sample"
    assert verb_inventory.run(["sample", str(one), "--out", str(folder), "--cells", "9999", "--cell-km", "2"]) == 0
    said = capsys.readouterr().out
    assert "map_lakes.gpkg: no probabilities lie beside" in said
    cells = geopandas.read_file(folder / "sample.gpkg", layer="cells")
    assert [*cells.columns] == ["cell_id", "checked", "note", "geometry"], "no word of what the map says"
    assert cells["cell_id"].tolist() == [*range(1, len(cells) + 1)] and cells.crs.to_epsg() == 4326
    assert len(geopandas.read_file(folder / "sample.gpkg", layer="lakes")) == 0
    drawn(folder, TRUE)
    table = assess(tmp_path, [one], folder)
    shared = ["precision_pooled", "recall_pooled", "lake_iou_pooled", "lake_recall", "lake_precision", "area_true_km2"]
    assert table["value"][shared].tolist() == pytest.approx(exact["value"][shared].tolist(), rel=1e-6)
    assert (table["low"] == table["high"]).all(), "nothing was left out"
    strata = pd.read_csv(tmp_path / "assessed" / "strata.csv").set_index("kind")
    assert (strata["cells"] == strata["looked_at"]).all() and strata["cells"].sum() == len(cells)
    assert strata["with_false"].tolist() == [2, 0] and strata["with_missed"].sum() == 3
    assert assess(tmp_path, [one], inventory(tmp_path / "true2.gpkg", TRUE)) is not None
    assert not (tmp_path / "assessed" / "strata.csv").exists(), "of the sample before"


@pytest.mark.usefixtures("real_figures")
def test_a_part_of_the_cells_is_weighed_by_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells with a mapped lake are drawn far more often than others, and so count less each."""
    rng = np.random.default_rng(3)
    # 40 of the 100 places of a grid
    lakes = [square(x * 1000 + 300, y * 1000 + 300) for x, y in rng.permutation(100)[:40, None] // [10, 1] % 10]
    one = written(tmp_path / "map_lakes.gpkg", [*lakes[:20], square(20, 20, 60)], None, ground=GROUND)
    folder = tmp_path / "sample"
    words = ["sample", str(one), "--out", str(folder), "--cells", "40", "--seed", "5", "--outlines", "map"]
    assert verb_inventory.run(words) == 0
    assert len(geopandas.read_file(folder / "sample.gpkg", layer="lakes")) > 3, "begun from those of the map"
    drawn(folder, lakes, checked=30)
    table = assess(tmp_path, [one], folder)
    design = json.loads((folder / "design.json").read_text())
    sizes = design["cells_of_kind"]
    seen = [design["kind_of_cell"][str(i)] for i in range(1, 31)]
    strata = pd.read_csv(tmp_path / "assessed" / "strata.csv").set_index("kind")
    assert strata["looked_at"].to_dict() == {kind: seen.count(kind) for kind in ("lake", "other")}
    # a lake a cell, found where it is mapped: each cell stands for so many
    weight = {kind: sizes[kind] / seen.count(kind) for kind in ("lake", "other")}
    found, missed = (
        (int(strata["with_true"][k] - strata["with_missed"][k]) for k in ("lake", "other")),
        strata["with_missed"],
    )
    there = sum(weight[kind] * n for kind, n in zip(("lake", "other"), found, strict=True))
    gone = sum(weight[kind] * int(missed[kind]) for kind in ("lake", "other"))
    assert gone > 0 and table["value"]["lake_recall"] == pytest.approx(there / (there + gone))
    assert table["low"]["lake_recall"] < table["value"]["lake_recall"] < table["high"]["lake_recall"]
    said = capsys.readouterr().out
    for word in ("flatter the map", "10 cells are not checked", "lakes touch no checked cell"):
        assert word in said
    # a second person on the same cells, who took one lake in two for one
    second = tmp_path / "second"
    shutil.copytree(folder, second)
    drawn(second, lakes[::2], checked=30)
    two = assess(tmp_path, [second / "sample.gpkg"], folder, "--map-layer", "lakes")
    assert two["value"]["lake_precision"] == 1 and 0.2 < two["value"]["lake_recall"] < 0.8
    # another map of the same ground is scored on the same cells; nobody knows where else it has lakes
    other = written(tmp_path / "other_lakes.gpkg", lakes[5:25], None, ground=GROUND)
    table = assess(tmp_path, [other], folder)
    assert "drawn for other maps" in capsys.readouterr().out
    assert table["value"]["lake_precision"] > 0.99 and table["low"]["lake_precision"] < 0.6


def test_cells_are_in_doubt_where_the_network_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "map_lakes.gpkg", [square(1000, 1000)], None, ground=GROUND)
    levels = np.zeros((1000, 1000), np.uint8)
    levels[705:708, 405:407] = 26  # six pixels of 0.102 in the cell at 4 km east, 7 km south
    levels[905:908, 205:206] = 254  # three are too few
    levels[0:300, 900:] = 255  # no data
    profile: dict[str, Any] = {"driver": "GTiff", "height": 1000, "width": 1000, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "map_probability.tif", "w", crs=32645, transform=from_origin(WEST, NORTH, 10, 10), **profile
    ) as file:
        file.write(levels, 1)
    folder = tmp_path / "sample"
    assert verb_inventory.run(["sample", str(one), "--out", str(folder), "--cells", "8", "--cell-km", "0.5"]) == 0
    design = json.loads((folder / "design.json").read_text())
    assert design["cells_of_kind"]["doubt"] in (1, 2)  # the six may lie across two cells of the plane
    cells = geopandas.read_file(folder / "sample.gpkg", layer="cells").to_crs(32645)
    doubtful = [int(i) for i, kind in design["kind_of_cell"].items() if kind == "doubt"]
    there = cells[cells["cell_id"].isin(doubtful)].union_all()
    assert there.intersects(square(4050, 7050, 20)) and "note:" not in capsys.readouterr().out
    with rasterio.open(tmp_path / "map_probability.tif", "w", transform=from_origin(0, 9, 1, 1), **profile) as file:
        file.write(levels, 1)  # lies nowhere on Earth
    assert "map_probability.tif cannot be read" in fails("sample", one, "--out", tmp_path / "again")
    (tmp_path / "map_probability.tif").write_bytes(b"II*\0")
    assert "cannot be read" in fails("sample", one, "--out", tmp_path / "again")


@pytest.mark.parametrize("first_tells", [True, False])
def test_doubtful_pixels_that_two_maps_have_count_once(tmp_path: Path, first_tells: bool) -> None:
    """Three pixels on ground of two maps were six, from which a cell is in doubt."""
    levels = np.zeros((1000, 1000), np.uint8)
    levels[705:708, 405] = 26
    paths = [written(tmp_path / f"{name}_lakes.gpkg", [square(1000, 1000)], None, ground=GROUND) for name in "ab"]
    for name in "ab" if first_tells else "b":
        with rasterio.open(
            tmp_path / f"{name}_probability.tif", "w", driver="GTiff", height=1000, width=1000, count=1,
            dtype="uint8", crs=32645, transform=from_origin(WEST, NORTH, 10, 10),
        ) as file:  # fmt: skip
            file.write(levels, 1)
    step: Step = lambda *_, **__: None  # noqa: E731
    maps = joined(paths, step)
    found = doubted(paths, maps, 1.0, step)
    assert sum(found.pixels.values()) == 3 and not found.in_cells(*np.array([*found.pixels]).T).any()
    assert found.lacking == (() if first_tells else ("a_lakes.gpkg",))


@pytest.mark.parametrize("side", [4000, 20_000])
def test_areas_are_those_of_all_outlines_put_together(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outlines of a side may overlap; those that meet nothing are put together with nothing."""
    rng = np.random.default_rng(0)
    mapped, true = (
        shapely.buffer(shapely.points(rng.uniform(0, 20_000, (400, 2))), rng.uniform(20, 400, 400)) for _ in range(2)
    )
    corners = [(x, y) for x in range(0, 20_000, side) for y in range(0, 20_000, side)]
    cells = np.array([shapely.box(x, y, x + side, y + side) for x, y in corners])
    ground = [[shapely.intersection(shapely.union_all(one), cell) for cell in cells] for one in (mapped, true)]
    wanted = [*ground, [one.intersection(other) for one, other in zip(*ground, strict=True)]]
    together: list[int] = []
    union_all = shapely.union_all
    monkeypatch.setattr(shapely, "union_all", lambda some: (together.append(len(some)), union_all(some))[1])
    found = against(mapped, true, cells)
    for km2, shapes in zip((found.mapped_km2, found.true_km2, found.both_km2), wanted, strict=True):
        np.testing.assert_allclose(km2, shapely.area(shapes) / 1e6, rtol=1e-12, atol=1e-12)
    assert found.both_km2.sum() > 1 and 1 < max(together) < 100


def test_ground_across_180_degrees(tmp_path: Path) -> None:
    def square_at(lon: float, lat: float, size: float = 0.01) -> shapely.Geometry:
        return shapely.box(lon, lat, lon + size, lat + size)

    lakes = [square_at(179.95, 70.0), square_at(-179.99, 70.02), square_at(-179.95, 70.05)]
    path = tmp_path / "map_lakes.gpkg"
    ground = shapely.MultiPolygon([shapely.box(179.8, 69.9, 180, 70.2), shapely.box(-180, 69.9, -179.8, 70.2)])
    geopandas.GeoDataFrame(geometry=lakes[:2], crs=4326).to_file(path, layer="lakes")
    geopandas.GeoDataFrame(geometry=[ground], crs=4326).to_file(path, layer="ground")
    reference = tmp_path / "true.gpkg"
    geopandas.GeoDataFrame(geometry=lakes, crs=4326).to_file(reference)
    table = assess(tmp_path, [path], reference)
    assert table["value"][["lake_recall", "lake_precision"]].tolist() == pytest.approx([2 / 3, 1])
    assert table["value"]["area_true_km2"] == pytest.approx(
        3 * 0.01**2 * 111.6 * 111.4 * math.cos(math.radians(70.03)), rel=0.01
    )
    folder = tmp_path / "sample"
    assert verb_inventory.run(["sample", str(path), "--out", str(folder), "--cells", "9999", "--cell-km", "4"]) == 0
    cells = geopandas.read_file(folder / "sample.gpkg", layer="cells")
    assert cells.total_bounds[[0, 2]] == pytest.approx([-180, 180]) and 15 < len(cells) < 60
    cells["checked"] = 1
    cells.to_file(folder / "sample.gpkg", layer="cells")
    geopandas.GeoDataFrame(geometry=lakes, crs=4326).to_file(folder / "sample.gpkg", layer="lakes")
    again = assess(tmp_path, [path], folder)
    assert again["value"]["lake_recall"] == pytest.approx(2 / 3)
    assert again["value"]["area_true_km2"] == pytest.approx(table["value"]["area_true_km2"], rel=1e-5)


@pytest.mark.usefixtures("real_figures")
def test_a_map_without_a_lake_has_missed_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "map_lakes.gpkg", [], None, ground=GROUND)
    table = assess(tmp_path, [one], inventory(tmp_path / "true.gpkg", TRUE))
    assert table["value"][["lake_recall", "recall_pooled", "lake_iou_pooled"]].tolist() == [0, 0, 0]
    assert "lake_precision" not in table.index and math.isnan(table["value"]["precision_pooled"])
    folder = tmp_path / "sample"
    assert verb_inventory.run(["sample", str(one), "--out", str(folder), "--cells", "30"]) == 0
    drawn(folder, [])
    table = assess(tmp_path, [one], folder)
    assert table["value"]["area_true_km2"] == 0 and math.isnan(table["value"]["lake_iou_pooled"])
    # no lake was met that would tell how large others may be: that there is none is not known
    assert math.isnan(table["high"]["area_true_km2"])
    assert re.search(r"area_true_km2 +0 +0 +- +30 cells", capsys.readouterr().out)
    drawn(folder, [square(0, 0, SIDE)])
    table = assess(tmp_path, [one], folder)
    assert table["value"]["area_true_km2"] == pytest.approx(100, rel=0.3) and table["value"]["recall_pooled"] == 0


def test_a_map_of_which_no_lake_is_true(tmp_path: Path) -> None:
    one = written(tmp_path / "map_lakes.gpkg", MAPPED, None, ground=GROUND)
    folder = tmp_path / "sample"
    assert verb_inventory.run(["sample", str(one), "--out", str(folder), "--cells", "40"]) == 0
    drawn(folder, [])
    table = assess(tmp_path, [one], folder)
    assert table["value"][["precision_pooled", "lake_precision", "area_true_km2"]].tolist() == [0, 0, 0]
    assert table["low"]["area_true_km2"] == 0 < table["high"]["area_true_km2"] < 3


def test_what_cannot_be_assessed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "map_lakes.gpkg", MAPPED, None, ground=GROUND)
    bare = written(tmp_path / "bare.gpkg", MAPPED, None, ground=None)
    true = inventory(tmp_path / "true.gpkg", TRUE)
    far = inventory(tmp_path / "far.gpkg", [square(90_000, 0)])
    folder = tmp_path / "sample"
    assert "layer ground" in fails("assess", bare, "--reference", true)
    assert (
        verb_inventory.run(
            ["assess", str(bare), "--reference", str(true), "--within", str(inventory(tmp_path / "g.gpkg", [GROUND]))]
        )
        == 0
    )
    assert "none of its lakes lies" in fails("assess", one, "--reference", far)
    assert "looked at the ground of --within" in fails("assess", one, "--reference", true, "--within", far)
    assert "--min-km2=-1.0" in fails("assess", one, "--reference", true, "--min-km2", "-1")
    assert "no sample" in fails("assess", one, "--reference", tmp_path)
    assert "too few" in fails("sample", one, "--out", folder, "--cells", "3")
    assert "at most 100 km" in fails("sample", one, "--out", folder, "--cell-km", "1e9")
    assert "--seed=-1" in fails("sample", one, "--out", folder, "--seed", "-1")
    assert "--cell-km=0.001" in fails("sample", one, "--out", folder, "--cell-km", "0.001")
    assert not folder.exists()
    assert verb_inventory.run(["sample", str(one), "--out", str(folder), "--cells", "12"]) == 0
    assert "holds a sample already" in fails("sample", one, "--out", folder)
    assert "no cell is checked" in fails("assess", one, "--reference", folder)
    assert "leave it out" in fails("assess", one, "--reference", folder, "--within", far)
    drawn(folder, TRUE, checked=1)
    assert "two are the least" in fails("assess", one, "--reference", folder)
    drawn(folder, TRUE)
    west = written(
        tmp_path / "west_lakes.gpkg", MAPPED, None, ground=shapely.box(*GROUND.bounds[:2], WEST + 900, NORTH)
    )
    assert "were looked at are not, or not whole" in fails("assess", west, "--reference", folder)
    path = folder / "sample.gpkg"
    cells = geopandas.read_file(path, layer="cells")
    pd.concat([cells, cells.head(1)]).to_file(path, layer="cells")
    assert "added, copied or renumbered" in fails("assess", one, "--reference", folder)
    cells.assign(cell_id="a").to_file(path, layer="cells")
    assert "added, copied or renumbered" in fails("assess", one, "--reference", folder)
    for column in ("checked", "cell_id"):
        cells.drop(columns=column).to_file(path, layer="cells")
        assert f"lost its column {column}" in fails("assess", one, "--reference", folder)
    cells.assign(checked="done").to_file(path, layer="cells")
    assert "sample.gpkg: checked: done is neither yes nor no: write 1 or 0" in fails(
        "assess", one, "--reference", folder
    )
    ground = geopandas.read_file(path, layer="ground")
    cells.to_file(path, layer="cells")
    ground[:0].to_file(path, layer="ground")
    assert "the layer ground is empty" in fails("assess", one, "--reference", folder)
    ground.to_file(path, layer="ground")
    for change in (lambda cell: shapely.affinity.scale(cell, 0.5, 0.5), lambda cell: cell.buffer(0).difference(cell)):
        shapes = [change(cells.geometry[0]), *cells.geometry[1:]]
        cells.set_geometry(shapes, crs=4326).to_file(path, layer="cells")
        assert "moved or reshaped" in fails("assess", one, "--reference", folder)
    gone = cells.set_geometry([shapely.affinity.translate(cells.geometry[0], 3), *cells.geometry[1:]], crs=4326)
    gone.to_file(path, layer="cells")
    assert "moved or reshaped" in fails("assess", one, "--reference", folder)
    cells.tail(len(cells) - 1).to_file(path, layer="cells")
    capsys.readouterr()
    assert verb_inventory.run(["assess", str(one), "--reference", str(folder)]) == 0
    assert "1 cell is not checked" in capsys.readouterr().out, "one that was deleted"
    assert "give the folder that holds it" in fails("assess", one, "--reference", path)
    design = folder / "design.json"
    design.write_text(design.read_text().replace('"lake"', '"pond"'))
    assert "was changed" in fails("assess", one, "--reference", folder)
    told = json.loads(design.read_text().replace('"pond"', '"lake"'))
    for wrong in (1, "many", 5.5):
        design.write_text(json.dumps(told | {"cells_of_kind": told["cells_of_kind"] | {"other": wrong}}))
        assert design.name in fails("assess", one, "--reference", folder)
    with pytest.raises(SystemExit) as left:
        cli.main(["inventory", "assess", str(one), "--reference", str(folder)])
    assert left.value.code == 2


@pytest.mark.parametrize("nothing", [shapely.MultiPolygon([shapely.Polygon()]), shapely.Point(WEST, NORTH)])
def test_maps_that_looked_at_no_ground_are_told(nothing: shapely.Geometry, tmp_path: Path) -> None:
    """As that of a scene whose gaps meet every square of 16 pixels."""
    one = written(tmp_path / "gaps_lakes.gpkg", MAPPED, None, ground=nothing)
    reference = inventory(tmp_path / "true.gpkg", TRUE)
    for words in (("sample", one, "--out", tmp_path / "s"), ("assess", one, "--reference", reference)):
        assert "MAP: gaps_lakes.gpkg: no ground was looked at, by the layer ground" in fails(*words)


def test_a_map_may_lack_a_rim_of_narrow_cells(tmp_path: Path) -> None:
    """Half a metre is much of a cell that the ground's edge cuts, and nothing of a whole one."""
    one, folder = written(tmp_path / "map_lakes.gpkg", MAPPED, None, ground=GROUND), tmp_path / "sample"
    assert verb_inventory.run(["sample", str(one), "--out", str(folder), "--cells", "9999"]) == 0
    drawn(folder, TRUE)
    widths = geopandas.read_file(folder / "sample.gpkg", layer="cells").to_crs(32645).intersection(GROUND).area / 1000
    assert widths.min() < 500, "of some it is more than a thousandth"
    near, less = (written(tmp_path / f"{m}_lakes.gpkg", MAPPED, None, ground=GROUND.buffer(-m)) for m in (0.5, 5.0))
    assert verb_inventory.run(["assess", str(near), "--reference", str(folder)]) == 0
    assert "not, or not whole" in fails("assess", less, "--reference", folder)


def test_totals_and_shares_are_those_of_the_textbook() -> None:
    """Two strata of 10 and 100 cells, worked out by hand."""
    sample = Sample(np.array([0, 0, 0, 1, 1, 1, 1]), np.array([10.0, 100.0]))
    values = np.array([2.0, 4.0, 6.0, 0.0, 1.0, 0.0, 3.0])
    value, variance, freedom = sample.sum(values)
    parts = [100 * 0.7 * 4 / 3, 10_000 * 0.96 * 2 / 4]
    assert value == pytest.approx(10 * 4 + 100 * 1) and variance == pytest.approx(sum(parts))
    assert freedom == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3))
    whole = Sample(np.zeros(3, np.int64), np.array([3.0]))
    assert whole.whole and whole.total(values[:3], 1.0).low == 12
    # of 20 lakes in as many of very many cells none is wrong: Clopper and Pearson, who leave room for what was not met
    many = Sample(np.zeros(20, np.int64), np.array([1e9]))
    share = many.share(np.ones(20), np.zeros(20), 20, 1.0, np.array([False]))
    # of two kinds the one that can hold any was looked at whole: nothing is left to chance
    part = Sample(np.array([0, 0, 0, 1, 1]), np.array([3.0, 100.0]))
    ones = np.array([1.0, 0, 1, 0, 0])
    right = part.share(ones, 1 - ones - np.array([0, 0, 0, 1, 1]), 3, 1.0, np.array([True, False]))
    assert right.low == right.value == right.high == pytest.approx(2 / 3)
    assert part.share(ones, 1 - ones - np.array([0, 0, 0, 1, 1]), 3, 1.0).low < 2 / 3
    assert share.value == 1 and share.high == 1 and share.low == pytest.approx(0.025 ** (1 / 20))
    # and where cells without may hide some: Jeffreys' limit of the share of cells, a lake each
    room = many.share(np.ones(20), np.zeros(20), 20, 1.0)
    limit = stats.beta(0.5, 20.5).ppf(0.975)
    hidden = 1 - 1 / (1 + limit)
    assert room.low == pytest.approx(1 - math.hypot(1 - share.low, hidden), rel=1e-6)
    assert math.isnan(many.share(np.zeros(20), np.zeros(20), 0, 1.0).value)
    half = np.repeat([1.0, 0.0], 10)  # a draw of lakes one by one: the interval of a plain share
    plain = many.share(half, 1 - half, 20, 1.0, np.array([False]))
    known = stats.binomtest(10, 20).proportion_ci()
    assert (plain.low, plain.high) == pytest.approx((known.low, known.high), abs=0.01)


def test_numbers_of_areas_have_the_size_of_all_text() -> None:
    """Where one lake was found, those of a part of a decade stand at the small ticks."""
    one = Interval("lakes found", 0.8, 0.6, 0.9, 3)
    figure = assess_figure([one], [], np.array([0.0222]), np.array([0.0244]))
    figure.canvas.draw()
    sizes = [
        text.get_fontsize()
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for text in (*axis.get_majorticklabels(), *axis.get_minorticklabels())
        if text.get_text()
    ]
    assert len(sizes) > 6 and {*sizes} == {POINTS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a fair map", "a good map", "few lakes"])
def test_intervals_hold_the_truth(kind: str) -> None:
    """On made-up maps, where the textbook's miss it; bench/assess.py has more."""
    spec = importlib.util.spec_from_file_location("assess_bench", ROOT / "bench" / "assess.py")
    assert spec is not None and spec.loader is not None
    bench: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    told = bench.tried(np.random.default_rng(11), bench.WORLDS[kind], cells=120, samples=120, worlds=4)
    chance = math.sqrt(0.05 * 0.95 / 120)
    for score, one in told.items():
        assert one["coverage"] >= 0.95 - 2 * chance, score
    assert told["lake_recall"]["coverage_textbook"] < 0.9
