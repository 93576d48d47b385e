"""The table at the end of a run."""

import io

import numpy as np
import pandas as pd
from rich.console import Console

from glidexp.scoring.counts import BINS
from glidexp.scoring.scores import score_split
from glidexp.scoring.tables import lake_table, summary_table


def printed(metrics: dict[str, float]) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(summary_table(metrics))
    return out.getvalue()


def some_metrics() -> dict[str, float]:
    hist = np.zeros((4, 2, BINS), dtype=np.int32)
    hist[:3, 1, 200], hist[:3, 0, 190], hist[:3, 1, 20], hist[:, 0, 5] = 60, 20, 20, 900
    index = pd.DataFrame(
        {
            "scene": list("aabb"),
            "sensor": ["sentinel2", "sentinel2", "landsat8", "landsat8"],
            "region": ["andes", "alaska", "andes", "alaska"],
        }
    )
    found = score_split(index, hist, 0.5, "test") | {"test/threshold": 0.378}
    naive = {"lake_iou_pooled": 0.41, "f1_pooled": 0.55}
    return found | {f"test/naive/index_threshold/{name}": value for name, value in naive.items()}


def row(text: str, label: str, cells: int = 6) -> list[str]:
    return next(line for line in text.splitlines() if line.strip().startswith(label)).split()[-cells:]


def test_rows_hold_the_scores_and_the_numbers_behind_them() -> None:
    text = printed(some_metrics())
    assert row(text, "pooled, threshold 0.378") == ["4", "2", "0.7500", "0.7500", "0.7500", "0.6000"]
    assert row(text, "mean over tiles")[0] == "3" and "in no mean over tiles: 1" in text.replace("\n", " ")
    assert row(text, "sentinel2") == ["2", "1", "0.7500", "0.7500", "0.7500", "0.6000"]
    assert row(text, "andes")[:2] == ["2", "2"]
    assert row(text, "naive: index threshold") == ["4", "2", "-", "-", "0.5500", "0.4100"]
    assert "naive: background" not in text and "average precision" in text and "two-class mIoU" in text


def test_means_of_precision_and_recall_say_of_how_many_tiles_they_are() -> None:
    metrics = some_metrics()
    assert "in the mean over tiles" not in printed(metrics)  # three tiles have all of the scores
    said = " ".join(printed(metrics | {"test/tiles_predicted": 2.0}).split())
    assert "precision is of the 2 with predicted lake, recall of the 3 with true lake" in said


def test_it_fits_80_characters_and_a_log_gets_no_escape_codes() -> None:
    text = printed(some_metrics())
    assert "\x1b" not in text and max(len(line) for line in text.splitlines()) <= 80


def test_names_with_brackets_are_text_and_missing_values_a_dash() -> None:
    metrics = {"test/sensor/x [bold]/lake_iou_pooled": 0.5}
    text = printed(metrics)
    assert "x [bold]" in text and row(text, "mean over scenes") == ["-"] * 6


def test_strata_that_say_nothing_are_left_out() -> None:
    metrics = {"test/lake_iou_pooled": 0.5, "test/sensor/unknown/lake_iou_pooled": 0.5}
    metrics |= {"test/region/andes/lake_iou_pooled": 0.4, "test/region/unknown/lake_iou_pooled": 0.6}
    shown = [str(cell) for cell in summary_table(metrics).columns[0].cells]
    assert shown.count("unknown") == 1
    assert "andes" in shown


def lakes_printed(metrics: dict[str, float]) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(lake_table(metrics))
    return out.getvalue()


def test_lakes_by_size_in_the_order_of_size_whatever_the_order_of_the_metrics() -> None:
    metrics = {"lakes": 7.0, "lake_recall": 0.5, "lake_recall_iou50": 0.25, "assd_m": 12.0, "boundary_f1_2px": 0.81}
    sizes = ["over_1km2", "0.1-1km2", "0.01-0.05km2", "0.0054-0.01km2", "under_0.0054km2"]
    metrics |= {f"size/{name}/lakes": float(k) for k, name in enumerate(sizes)}
    metrics |= {"glacier_distance/0-2km/lake_recall": 0.75, "lake_type/ice_marginal/area_error_percent": 13.2}
    metrics |= {"lakes_predicted": 31.0, "lakes_compared": 2.0, "size/over_1km2/lakes_predicted": 12345.0}
    text = lakes_printed({f"test/{name}": value for name, value in metrics.items()})
    shown = ["over 1 km²", "0.1-1 km²", "0.01-0.05 km²", "0.0054-0.01 km²", "under 0.0054 km²"]
    places = [text.index(f" {name} ") for name in shown]
    assert places == sorted(places, reverse=True)
    assert row(text, "any overlap", 7) == ["7", "0.500", "31", "-", "2", "-", "12.00"]
    assert row(text, "IoU 0.5 or more", 7) == ["7", "0.250", "31", "-", "-", "-", "-"]
    assert row(text, "over 1 km²", 7) == ["0", "-", "12345", "-", "-", "-", "-"]
    assert row(text, "ice marginal")[-3:] == ["13.2", "%", "-"] and "ice at 0-2 km " in text and "0.810 at 2 px" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_where_nothing_was_compared_that_is_said_and_no_unit_stands_alone() -> None:
    metrics = {"lakes": 2.0, "lakes_compared": 0.0, "boundary_iou": 0.1, "lake_splits": 0.0, "lakes_cut": 1.0}
    text = " ".join(lakes_printed({f"test/{name}": value for name, value in metrics.items()}).split())
    # none of them may be cut itself: what a network joins and carries to the edge is
    told = "no lake was found where nothing of it and of what it meets is cut, so no area and no shore was compared"
    assert f"{told}; boundary IoU" in text
    assert "HD95" not in text and "area bias" not in text and "split 0, merged -" in text and "ground: 1;" in text


def test_no_lake_no_table_and_pixels_where_there_are_no_metres() -> None:
    assert lake_table({"test/lakes": 0.0}) is None and lake_table({}) is None
    assert "ASSD [px]" in lakes_printed({"test/lakes": 1.0, "test/assd_px": 0.5})
