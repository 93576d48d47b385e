"""The files of an assessment: table of scores, lakes of both sides with what became of them, picture."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd

from glidexp.beside import flushed, sweep, together
from glidexp.data.builder.parts import writing
from glidexp.data.scenes.degrees import LONLAT
from glidexp.data.scenes.geopackage import write_layers
from glidexp.data.scenes.polygons import multi
from glidexp.mapping.against import Met
from glidexp.mapping.assessment import Assessment
from glidexp.mapping.joined import off
from glidexp.scoring.assess_plots import Interval, assess_figure
from glidexp.scoring.sheet import files_of

OUTLINES, SCORES, STRATA, PICTURE = "assessed.gpkg", "assessed.csv", "strata.csv", "assessed"
MAPPED, TRUE = "mapped", "true"
"""layers"""
AFTER = "nothing is lost, and the same command makes all of it anew"
SHOWN = {
    "lake_recall": "lakes found", "lake_recall_iou50": "found at IoU 0.5", "lake_precision": "mapped lakes right",
    "lake_precision_iou50": "right at IoU 0.5", "recall_pooled": "lake area found",
    "precision_pooled": "mapped area right", "lake_iou_pooled": "lake IoU (area)",
}  # fmt: skip


def write_assessed(found: Assessment, out: Path) -> list[Path]:
    """Writes all files into a folder; gives their paths.

    Raises:
        RunFailed: the disk refuses it
    """
    files = {SCORES: _csv(found.scores)}
    if found.strata is not None:
        files[STRATA] = _csv(found.strata)
    files |= files_of(PICTURE, lambda sheet: assess_figure(*_drawn(found), sheet=sheet))
    plane = found.maps.plane
    layers = {}
    for name, shapes, side in ((MAPPED, found.maps.shapes, found.met.mapped), (TRUE, found.reference, found.met.true)):
        frame = geopandas.GeoDataFrame(
            _columns(side, found.least_km2, name), geometry=[*map(multi, off(plane, shapes))], crs=LONLAT
        )
        if name == MAPPED:
            frame.insert(0, "lake_id", found.maps.ids)
        layers[name] = frame
    paths = [out / name for name in (OUTLINES, *files)]
    with writing(out, AFTER):
        for path in (*paths, out / STRATA):
            sweep(path)
        earlier = [out / STRATA] if found.strata is None else []
        with together(paths, without=earlier) as (outlines, *places):
            write_layers(out / OUTLINES, layers, "MultiPolygon", after=AFTER, place=outlines)
            for place, content in zip(places, files.values(), strict=True):
                flushed(place, content)
    return paths


def _columns(side: Met, least_km2: float, name: str) -> pd.DataFrame:
    good, bad = ("right", "false") if name == MAPPED else ("found", "missed")
    verdict = np.where(side.touched, good, bad).astype(object)
    verdict[side.area_km2 < least_km2] = "too_small"
    verdict[side.cell < 0] = "not_looked_at"
    return pd.DataFrame({"verdict": verdict, "area_km2": side.area_km2, "best_iou": side.best_iou})


def _drawn(found: Assessment) -> tuple[list[Interval], list[Interval], np.ndarray, np.ndarray]:
    """What the picture shows: scores, recall by size, and areas of lakes that both sides have."""
    rows = {
        name: rest for name, *rest in found.scores[["name", "value", "low", "high", "units"]].itertuples(index=False)
    }
    scores = [Interval(label, *rows[name]) for name, label in SHOWN.items() if name in rows]
    sizes = [
        Interval(name.split("/")[1].removesuffix("km2").replace("_", " "), *row)
        for name, row in rows.items()
        if name.startswith("size/")
    ]
    met = found.met
    some = (met.true.cell >= 0) & (met.true.area_km2 >= found.least_km2) & (met.partner >= 0)
    # a lake that an edge cuts is on the map what lies before it, so it is in the reference
    some &= (met.true.shown_km2 > 0) & (np.append(met.mapped.shown_km2, 0.0)[met.partner] > 0)
    return scores, sizes, met.true.shown_km2[some], met.mapped.shown_km2[met.partner[some]]


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n", float_format="%.8g").encode()
