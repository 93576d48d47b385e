"""Two maps of lakes: what appeared, vanished, grew and shrank, and what is within the uncertainty."""

from pathlib import Path

import geopandas
import pytest
import shapely
from tiny_scenes import lake

from glidexp.mapping import diff, verb_inventory


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


def test_changes_and_their_uncertainty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = lake(0, 0, 50_000)
    old = [lake(0, 0, 300), lake(2000, 0, 300), lake(4000, 0, 300), lake(6000, 0, 200), lake(30_000, 0, 100)]
    new = [lake(0, 0, 400), lake(2000, 0, 200), lake(4000, 0, 305), lake(8000, 0, 200)]
    first = written(tmp_path / "old.gpkg", old, 0.02, wide)
    second = written(tmp_path / "new.gpkg", new, 0.02, lake(0, 0, 20_000))
    assert verb_inventory.run(["diff", str(first), str(second), "--out", str(tmp_path / "out.gpkg")]) == 0
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


def test_without_interval_the_pixel_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "plain.gpkg"
    geopandas.GeoDataFrame({"n": [1]}, geometry=[lake(0, 0, 300)], crs=32645).to_file(path)
    assert diff.read(path, "OLD", None).notes
    perimeter = lake(0, 0, 300).length
    assert diff.read(path, "OLD", 10.0).bound_km2[0] == pytest.approx(0.5 * 10 * perimeter / 1e6, rel=2e-3)
