"""What is known of generated scenes: the table of scenes, and the inventories of lakes and glaciers."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import shapely

from glidexp.data.synthetic.regions import REGIONS

if TYPE_CHECKING:
    from glidexp.data.synthetic.world import Made


def write_tables(made: "list[Made]", out: Path) -> None:
    """Writes scenes.csv, lakes.gpkg and glaciers.gpkg, the same bytes whenever they are written."""
    with (out / "scenes.csv").open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(["path", "scene", "sensor", "region", "gsd_m", "date"])
        for m in made:
            p = m.plan
            writer.writerow([f"scenes/{p.name}.tif", p.name, p.sensor, p.region, p.gsd_m, m.taken.isoformat()])
    lakes, glaciers = [], []
    for m in made:
        epsg = REGIONS[m.plan.region].epsg
        for i, (lake, shape) in enumerate(zip(m.lakes, m.lake_shapes, strict=True)):
            row = {
                "lake_id": f"{m.plan.name}_{i:03d}",
                "region": m.plan.region,
                "kind": lake.kind,
                "frozen": lake.frozen,
            }
            row |= {"turbidity": round(lake.turbidity, 4), "area_m2": round(shape.area, 2)}
            lakes.append((epsg, shape, row))
        for i, shape in enumerate(m.glacier_shapes):
            row = {"glacier_id": f"{m.plan.name}_{i:03d}", "region": m.plan.region, "area_m2": round(shape.area, 2)}
            glaciers.append((epsg, shape, row))
    _write_layer(lakes, out / "lakes.gpkg")
    _write_layer(glaciers, out / "glaciers.gpkg")


def _write_layer(rows: list[tuple[int, shapely.Geometry, dict]], path: Path) -> None:
    import geopandas
    import pandas
    import pyogrio

    from glidexp.data.scenes.features import without_locks

    parts = []
    for epsg in sorted({row[0] for row in rows}):
        chosen = [row for row in rows if row[0] == epsg]
        frame = geopandas.GeoDataFrame([r[2] for r in chosen], geometry=[r[1] for r in chosen], crs=f"EPSG:{epsg}")
        parts.append(frame.to_crs("EPSG:4326"))
    table = pandas.concat(parts, ignore_index=True)
    # a GeoPackage carries the time it was written, which would make equal data differ in bytes
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2020-01-01T00:00:00.000Z"})
    try:
        with without_locks():
            table.to_file(path, driver="GPKG", engine="pyogrio", layer=path.stem)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
