"""The files of a mapped scene beside its rasters: lakes as GeoPackage and GeoParquet, the summary by size."""

from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from glidexp.beside import beside
from glidexp.data.builder.parts import writing
from glidexp.data.scenes.features import GROUND
from glidexp.data.scenes.geopackage import write_layers
from glidexp.data.scenes.reading import Scene
from glidexp.data.sizes import SIZES_KM2
from glidexp.mapping.areas import FAR_M, columns_of, ids_of
from glidexp.mapping.polygons import Geometries

Floats = npt.NDArray[np.float64]
SUMMARY = "summary.csv"
"""lakes of all maps of a command by size class"""
LAKES = "lakes"
"""layers of the GeoPackage; the second is what was looked at, so that a lake that is not there is not taken for gone"""


def lakes_table(
    scene: Scene, shapes: Geometries, table: pd.DataFrame, distance_m: Floats, *, model: str
) -> geopandas.GeoDataFrame:
    """A row a lake, columns of `areas.columns_of` and geometry, sorted by id.

    Args:
        scene: its header
        shapes: outlines in the scene's CRS
        table: of `areas.measured`, with columns of `heights` where there is a DEM
        distance_m: to the nearest glacier; infinite where none is near, NaN where none was given
        model: what names it
    """
    found, columns = table.copy(), columns_of("agreement" in table, "slope_deg" in table)
    far = np.isnan(distance_m)
    found["glacier_distance_m"] = np.where(np.isinf(distance_m), np.nan, distance_m)
    found["within_10km"] = pd.array(
        [None if gone else bool(d <= FAR_M) for d, gone in zip(distance_m, far, strict=True)], "boolean"
    )
    for name, value in (
        ("scene", scene.name),
        ("sensor", scene.file.sensor),
        ("date", scene.file.date),
        ("model", model),
    ):
        found[name] = value
    found["lake_id"] = ""
    geometry = [one if one.geom_type == "MultiPolygon" else shapely.MultiPolygon([one]) for one in shapes]
    frame = geopandas.GeoDataFrame(found.reindex(columns=columns), geometry=geometry, crs=scene.crs)
    frame = frame.sort_values(["lon", "lat", "area_km2"], ignore_index=True)
    frame["lake_id"] = ids_of(frame["lon"].to_numpy(dtype=np.float64), frame["lat"].to_numpy(dtype=np.float64))
    kinds = {"cut": bool, "area_px": "int64", "mean_probability": float}
    texts = dict.fromkeys(("lake_id", "size_class", "scene", "sensor", "date", "model"), object)
    numbers = {
        name: float
        for name in columns
        if name.endswith(("km2", "_km", "_m", "_deg", "agreement")) and not name.startswith("within")
    }
    return frame.astype(kinds | texts | numbers | {"lon": float, "lat": float})


def write_lakes(frame: geopandas.GeoDataFrame, ground: shapely.Geometry, base: Path) -> tuple[Path, Path]:
    """Writes BASE_lakes.gpkg and BASE_lakes.parquet, aside and renamed.

    Args:
        frame: lakes
        ground: what was looked at, in the frame's CRS
        base: folder and name of the scene
    """
    looked = geopandas.GeoDataFrame({"looked_at": [True]}, geometry=[ground], crs=frame.crs)

    lakes = write_layers(base.with_name(f"{base.name}_lakes.gpkg"), {LAKES: frame, GROUND: looked}, "MultiPolygon")
    table = base.with_name(f"{base.name}_lakes.parquet")
    with writing(table), beside(table) as place:
        frame.to_parquet(place, index=False)
    return lakes, table


def by_size(frame: pd.DataFrame) -> pd.DataFrame:
    """Lakes and km2 by size class: size_class, lakes, area_km2, area_low_km2, area_high_km2; the last row is all."""
    columns = ["area_km2", "area_low_km2", "area_high_km2"]
    sums = frame.groupby("size_class")[columns].sum().reindex(SIZES_KM2, fill_value=0.0)
    sums.insert(0, "lakes", frame["size_class"].value_counts().reindex(SIZES_KM2, fill_value=0))
    sums.loc["all"] = sums.sum()
    sums["lakes"] = sums["lakes"].astype(int)
    return sums.rename_axis("size_class").reset_index()
