"""A run's numbers made anew from what it left (masks, histograms) and its tiles: by the docs, without `scoring`.

What is not made anew is named in `ELSEWHERE`, so that a new score without a check here is seen.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from runs import small_config, undrawn
from scipy import ndimage
from scipy.optimize import minimize_scalar
from scipy.spatial import cKDTree
from skimage import measure
from sklearn.metrics import average_precision_score, log_loss

from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training.run import run

pytestmark = pytest.mark.slow
WORDS = (
    *("dataset.synthetic.sensors=[sentinel2,landsat8]", "dataset.synthetic.scenes_per_sensor=4"),
    *("dataset.buffer_m=2500", "dataset.empty_share=0.3"),
    *("dataset.split.by=block", "dataset.split.block_m=4000", "dataset.split.test=0.4"),  # which cuts lakes
    *("train.epochs=4", "optimizer.lr=0.004", "train.select=val/f1_pooled"),
)
SIZES = (0, 0.0054, 0.01, 0.05, 0.1, 1)
SIZE_NAMES = ("under_0.0054km2", "0.0054-0.01km2", "0.01-0.05km2", "0.05-0.1km2", "0.1-1km2", "over_1km2")
ICE_KM, ICE_NAMES = (0, 2, 5, 10), ("0-2km", "2-5km", "5-10km", "over_10km")
OF_PREDICTED = ("lakes_predicted", "lake_precision")
OF_STRATA = ("lakes", "lakes_predicted", "lakes_compared")
OF_STRATA += ("lake_recall", "lake_precision", "lake_recall_iou50", "lake_precision_iou50")
OF_STRATA += ("area_bias_percent", "area_error_percent", "boundary_f1_2px", "boundary_iou", "assd_px", "assd_m")
ELSEWHERE = (
    r"test/(fp_share/(?!shoreline).*|hd95_(px|m))|"
    r"val/(?!naive/).*(lake(s|_re|_pr|_sp|_me)|area_|assd|hd95|boundary).*"
)
"""classes by look (test_attribution); all shores at once, here by lake; lakes of val, whose masks are not kept"""
Scores = dict[str, float]


@dataclass(frozen=True)
class Left:
    """What a run left, read without glidexp."""

    metrics: Scores
    artifacts: Path
    store: Path
    index: pd.DataFrame
    images: Any
    labels: Any
    table: pd.DataFrame
    """scores.parquet by tile"""

    def hist(self, split: str) -> Any:
        """(n, 2, 256) of the split's tiles, in the order of the index: background, lake."""
        rows = self.table.loc[self.index["tile"][self.index["split"] == split]]
        return np.stack([np.stack(rows["hist_background"]), np.stack(rows["hist_lake"])], axis=1)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    import mlflow

    data, mlruns = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("mlruns")
    config = small_config(data, mlruns, *WORDS)
    with undrawn():
        outcome = run(config, choices={"dataset": "smoke"})
    client = open_store(tracking_uri(config.tracking, config.paths), mlruns).client
    uri = f"sqlite:///{mlruns}/mlflow.db"
    artifacts = Path(mlflow.artifacts.download_artifacts(run_id=outcome.run_id, tracking_uri=uri))
    (store,) = (data / "stores").glob("*/manifest.json")
    manifest, store = json.loads(store.read_text()), store.parent
    index = pd.read_parquet(store / "index.parquet")
    shape = (len(index), manifest["tile_px"], manifest["tile_px"])
    images = np.fromfile(store / "images.u8", np.uint8).reshape(*shape, manifest["channels"])
    labels = np.fromfile(store / "masks.u8", np.uint8).reshape(shape)
    metrics = client.get_run(outcome.run_id).data.metrics
    table = pd.read_parquet(artifacts / "scores.parquet").set_index("tile")
    return Left(metrics, artifacts, store, index, images, labels, table)


def share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def of_counts(tp: float, fp: float, fn: float, tn: float) -> Scores:
    iou, other = share(tp, tp + fp + fn), share(tn, tn + fp + fn)
    of_lake = {"precision": share(tp, tp + fp), "recall": share(tp, tp + fn), "f1": share(2 * tp, 2 * tp + fp + fn)}
    return of_lake | {"lake_iou": iou, "miou_two_class": (iou + other) / 2}


def mean(values: Any) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else math.nan


def averaged(counts: Any, scenes: Any, prefix: str) -> Scores:
    """Pooled, and means over tiles and over scenes, from (n, 4)."""
    found = {f"{prefix}/{name}_pooled": value for name, value in of_counts(*counts.sum(axis=0)).items()}
    of_scenes = [counts[scenes == scene].sum(axis=0) for scene in np.unique(scenes)]
    for how, rows in (("per_image", counts), ("per_scene", of_scenes)):
        each = [of_counts(*row) for row in rows]
        for name in ("precision", "recall", "f1", "lake_iou"):
            found[f"{prefix}/{name}_{how}"] = mean([one[name] for one in each])
    return found


def at_edge(hist: Any, edge: int) -> Any:
    """(n, 4): tp, fp, fn, tn with lake from that bin on."""
    above, below = hist[..., edge:].sum(axis=-1), hist[..., :edge].sum(axis=-1)
    return np.stack([above[:, 1], above[:, 0], below[:, 1], below[:, 0]], axis=1)


def best_edge(hist: Any) -> int:
    iou = [of_counts(*at_edge(hist, edge).sum(axis=0))["lake_iou"] for edge in range(1, 256)]
    best = [edge for edge, value in enumerate(iou, 1) if value == np.nanmax(iou)]
    return min(best, key=lambda edge: abs(edge - 128))


def calibrated(hist: Any, temperature: float) -> tuple[float, float]:
    """ECE and negative log likelihood of probabilities at the middle of each bin."""
    background, lake = hist.sum(axis=0)
    probability = 1 / (1 + np.exp(-((np.arange(256) - 127.5) / 8) / temperature))
    truth, seen = np.repeat([0, 1], 256), np.tile(probability, 2)
    weight = np.concatenate([background, lake])
    part = np.minimum(np.floor(15 * probability), 14)
    gaps = [abs(((background + lake) * probability)[part == k].sum() - lake[part == k].sum()) for k in range(15)]
    return sum(gaps) / weight.sum(), log_loss(truth, seen, sample_weight=weight)


def of_pixels(left: Left, split: str, edge: int, temperature: float) -> Scores:
    hist, index = left.hist(split), left.index[left.index["split"] == split]
    counts, scenes = at_edge(hist, edge), index["scene"].to_numpy()
    found = averaged(counts, scenes, split)
    half = of_counts(*at_edge(hist, 128).sum(axis=0))
    found |= {f"{split}/at_0.5/{name}_pooled": value for name, value in half.items()}
    for kind in ("sensor", "region"):
        for name in index[kind].unique():
            own = (index[kind] == name).to_numpy()
            scores = of_counts(*counts[own].sum(axis=0))
            scores.pop("miou_two_class")
            found |= {f"{split}/{kind}/{name}/{score}_pooled": value for score, value in scores.items()}
            found[f"{split}/{kind}/{name}/tiles"] = own.sum()
            found[f"{split}/{kind}/{name}/scenes"] = len(set(scenes[own]))
    truth, bins = np.repeat([0, 1], 256), np.tile(np.arange(256), 2)
    weight = hist.sum(axis=0).ravel()
    found[f"{split}/average_precision"] = average_precision_score(truth, bins, sample_weight=weight)
    found[f"{split}/ece"], found[f"{split}/nll"] = calibrated(hist, 1.0)
    found[f"{split}/ece_calibrated"], found[f"{split}/nll_calibrated"] = calibrated(hist, temperature)
    found |= {f"{split}/threshold": 1 / (1 + math.exp(-(edge - 128) / 8)), f"{split}/temperature": temperature}
    found |= {f"{split}/tiles": len(index), f"{split}/scenes": len(set(scenes))}
    tp, fp, fn, _ = counts.T
    found |= {f"{split}/tiles_with_lake": (tp + fn > 0).sum(), f"{split}/tiles_predicted": (tp + fp > 0).sum()}
    return found | {f"{split}/tiles_empty": (tp + fp + fn == 0).sum()}


def naive(left: Left, split: str) -> Scores:
    red, green = (left.images[..., band].astype(float) for band in (0, 1))
    values = np.divide(green - red, green + red, out=np.zeros_like(red), where=green + red > 0)
    valid, own = left.labels != 255, (left.index["split"] == split).to_numpy()
    of_val = values[(left.index["split"] == "val").to_numpy()[:, None, None] & valid]
    distinct, many = np.unique(of_val, return_counts=True)
    upper = [np.average(distinct[k:], weights=many[k:]) for k in range(1, len(distinct))]
    lower = [np.average(distinct[:k], weights=many[:k]) for k in range(1, len(distinct))]
    below = np.cumsum(many)[:-1] / many.sum()
    threshold = distinct[1 + np.argmax(below * (1 - below) * (np.array(upper) - lower) ** 2)]
    found = {f"{split}/naive/index_threshold/threshold": threshold}
    lake, ground = (left.labels == 1)[own], (left.labels == 0)[own]
    for name, said in (("background", np.zeros_like(lake)), ("index_threshold", values[own] >= threshold)):
        pairs = ((said, lake), (said, ground), (~said, lake), (~said, ground))
        counts = np.stack([(one & other).sum(axis=(1, 2)) for one, other in pairs], axis=1)
        found |= averaged(counts, left.index["scene"][own].to_numpy(), f"{split}/naive/{name}")
    return found


def scene_lakes(left: Left, scene: str) -> tuple[list[dict[str, Any]], dict[str, float], dict[str, Any]]:
    """Lakes of a test scene, counts of its shores, and its false alarms; tiles do not overlap."""
    index = left.index[(left.index["scene"] == scene) & (left.index["split"] == "test")]
    px = left.labels.shape[1]
    size = index["row"].max() + px, index["col"].max() + px
    label, said, bright = np.full(size, 255, np.uint8), np.zeros(size, bool), np.zeros(size)
    covered = np.zeros(size, bool)
    for place, tile in index.iterrows():
        at = slice(tile["row"], tile["row"] + px), slice(tile["col"], tile["col"] + px)
        label[at], bright[at], covered[at] = left.labels[place], left.images[place].mean(axis=2), True
        with rasterio.open(left.artifacts / "masks" / f"{tile['tile']}.tif") as mask:
            said[at] = mask.read(1) == 255
    valid = label != 255
    piece = measure.label(covered, connectivity=2)
    middle = {k: np.median(bright[valid & (piece == k)]) for k in range(1, piece.max() + 1)}
    both = {"true": label == 1, "predicted": said & valid}
    named = {kind: measure.label(mask, connectivity=2) for kind, mask in both.items()}
    edge = ndimage.binary_dilation(np.pad(~valid, 1, constant_values=True), np.ones((3, 3)))[1:-1, 1:-1]
    shore = {k: m & ndimage.binary_dilation(valid & ~m) for k, m in both.items()}
    bands = [m & ndimage.binary_dilation(valid & ~m, np.ones((5, 5))) for m in both.values()]
    place = {name: index[name].iloc[0] for name in ("scene", "sensor", "region", "gsd_m")}
    counts: dict[str, Any] = place | {"both": (bands[0] & bands[1]).sum(), "either": (bands[0] | bands[1]).sum()}
    lakes = []
    for kind, other in (("true", "predicted"), ("predicted", "true")):
        counts[f"{kind}_shore"] = shore[kind].sum()
        for reach in (1, 2):
            away = ndimage.distance_transform_edt(~shore[other])
            counts[f"{kind}_{reach}px"] = (away[shore[kind]] <= reach).sum() if shore[other].any() else 0
        for region in measure.regionprops(named[kind]):
            rows, cols = region.coords.T
            met, shared = np.unique(named[other][rows, cols], return_counts=True)
            met, shared = met[met > 0], shared[met > 0]
            areas = [int((named[other] == k).sum()) for k in met]
            padded = np.pad(region.image, 1).astype(int)
            edges = sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in (0, 1))
            lake = place | {"kind": kind, "number": region.label, "rows": rows, "cols": cols, "area": len(rows)}
            lake |= {"met": dict(zip(met.tolist(), shared.tolist(), strict=True)), "cut": bool(edge[rows, cols].any())}
            ious = [n / (len(rows) + area - n) for n, area in zip(shared, areas, strict=True)]
            lake |= {"iou": max(ious, default=0), "bound": math.pi / 4 * edges / 2}
            lake |= {"bright": (np.median(bright[rows, cols]) + 1) / (middle[piece[rows[0], cols[0]]] + 1)}
            lakes.append(lake)
    true, predicted = ({lake["number"]: lake for lake in lakes if lake["kind"] == kind} for kind in both)
    for lake in true.values():
        others = [predicted[k] for k in lake["met"]]
        lake["compared"] = bool(others) and not lake["cut"] and not any(one["cut"] for one in others)
        parts = [one["area"] * lake["met"][one["number"]] / sum(one["met"].values()) for one in others]
        lake["error"] = sum(parts) - lake["area"]
        if lake["compared"] and all(len(one["met"]) == 1 for one in others):
            mine = np.argwhere(shore["true"] & (named["true"] == lake["number"]))
            theirs = np.argwhere(shore["predicted"] & np.isin(named["predicted"], list(lake["met"])))
            lake["distances"] = [*cKDTree(theirs).query(mine)[0], *cKDTree(mine).query(theirs)[0]]
    wrong = both["predicted"] & ~both["true"]
    near = wrong & (ndimage.distance_transform_edt(~both["true"]) <= 2) if both["true"].any() else wrong & False
    alarms = {"number": measure.label(near, connectivity=2).max() + measure.label(wrong & ~near, connectivity=2).max()}
    return lakes, counts, alarms | {"area": wrong.sum(), "shore": near.sum()}


def drawn_from(left: Left, lakes: list[dict[str, Any]]) -> None:
    """Adds the inventory's id, type and distance to ice of the lake with most pixels."""
    inventory = pd.read_parquet(left.store / "inventory.parquet")
    inventory = inventory[inventory["px"] > 0]
    at = {(row.scene, row.row, row.col, row.Index): row for row in inventory.itertuples()}
    for lake in lakes:
        pixels = set(zip(lake["rows"].tolist(), lake["cols"].tolist(), strict=True))
        mine = [row for key, row in at.items() if key[0] == lake["scene"] and key[1:3] in pixels]
        sums: dict[str, int] = {}
        for row in mine:
            sums[row.lake] = sums.get(row.lake, 0) + row.px
        lake |= {"id": "", "type": "", "ice_km": math.nan}
        if mine:  # a second part of a lake that a tile's edge cuts in two has no pixel in the inventory
            most = next(row for row in mine if row.lake == max(sums, key=lambda name: sums[name]))
            lake |= {"id": most.lake, "type": most.lake_type, "ice_km": most.glacier_distance_m / 1000}


def ice_class(km: float) -> str:
    return ICE_NAMES[sum(km >= low for low in ICE_KM) - 1] if km == km else ""


def of_lakes(lakes: list[dict[str, Any]], shores: list[dict[str, float]] | None) -> Scores:
    true = [lake for lake in lakes if lake["kind"] == "true"]
    predicted = [lake for lake in lakes if lake["kind"] == "predicted"]
    compared = [lake for lake in true if lake["compared"]]
    found: Scores = {"lakes": len(true), "lakes_predicted": len(predicted), "lakes_compared": len(compared)}
    found["lakes_cut"] = sum(lake["cut"] for lake in true)
    for name, some in (("lake_recall", true), ("lake_precision", predicted)):
        found[name] = mean([bool(lake["met"]) for lake in some])
        found[f"{name}_iou50"] = mean([lake["iou"] >= 0.5 for lake in some])
    found["lake_splits"] = sum(len(lake["met"]) > 1 for lake in true)
    found["lake_merges"] = sum(len(lake["met"]) > 1 for lake in predicted)
    found["area_within_bound"] = mean([abs(lake["error"]) <= lake["bound"] for lake in compared])
    for unit, scale in (
        ("percent", lambda lake: 100 / lake["area"]),
        ("km2", lambda lake: lake["gsd_m"] ** 2 / 1e6),
    ):
        found[f"area_bias_{unit}"] = mean([lake["error"] * scale(lake) for lake in compared])
        found[f"area_error_{unit}"] = mean([abs(lake["error"]) * scale(lake) for lake in compared])
        found[f"area_bound_{unit}"] = mean([lake["bound"] * scale(lake) for lake in compared])
    areas = [sum(lake["area"] * lake["gsd_m"] ** 2 / 1e6 for lake in some) for some in (true, predicted)]
    found |= {"area_true_km2": areas[0], "area_predicted_km2": areas[1]}
    found["area_total_bias_percent"] = 100 * share(areas[1] - areas[0], areas[0])
    if shores is not None:
        total = pd.DataFrame(shores).drop(columns=["scene", "sensor", "region", "gsd_m"]).sum()
        for reach in (1, 2):
            near, shore = ([total[f"{k}_{what}"] for k in ("predicted", "true")] for what in (f"{reach}px", "shore"))
            shares = [part / whole if whole else 0.0 for part, whole in zip(near, shore, strict=True)]
            harmonic = 2 * math.prod(shares) / sum(shares) if sum(shares) else 0.0
            found[f"boundary_f1_{reach}px"] = harmonic if any(shore) else math.nan
        found["boundary_iou"] = share(total["both"], total["either"])
    return found


def weighted(rows: pd.DataFrame) -> Scores:
    """ASSD from the rows of lakes.parquet, each with its number of distances."""
    rows = rows[rows["compared"]]
    many = rows["shore_distances"].sum()
    px = (rows["assd_px"] * rows["shore_distances"]).sum()
    metres = (rows["assd_px"] * rows["shore_distances"] * rows["gsd_m"]).sum()
    return {"assd_px": share(px, many), "assd_m": share(metres, many)}


def test_scores_of_pixels_are_those_of_masks_and_histograms(left: Left) -> None:
    edge, of_val = best_edge(left.hist("val")), left.hist("val")
    fitted = minimize_scalar(
        lambda t: calibrated(of_val, math.exp(t))[1], bounds=(math.log(0.05), math.log(20)), method="bounded"
    )
    expected: Scores = {}
    for split in ("val", "test"):
        made = of_pixels(left, split, edge, left.metrics["test/temperature"]) | naive(left, split)
        expected |= {name: value for name, value in made.items() if value == value}
    assert math.exp(fitted.x) == pytest.approx(left.metrics["test/temperature"], rel=1e-3)
    assert {name: left.metrics.get(name) for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9)
    test, counts = left.index[left.index["split"] == "test"], at_edge(left.hist("test"), edge)
    for (place, tile), of_hist in zip(test.iterrows(), counts, strict=True):
        with rasterio.open(left.artifacts / "masks" / f"{tile['tile']}.tif") as mask:
            said, lake, ground = mask.read(1) == 255, left.labels[place] == 1, left.labels[place] == 0
        pairs = ((said, lake), (said, ground), (~said, lake), (~said, ground))
        assert of_hist.tolist() == [(one & other).sum() for one, other in pairs]


def test_scores_of_lakes_are_those_of_masks_and_inventory(left: Left) -> None:
    lakes: list[dict[str, Any]] = []
    shores, alarms = [], []
    for scene in left.index["scene"][left.index["split"] == "test"].unique():
        of_scene, counts, wrong = scene_lakes(left, scene)
        lakes, shores, alarms = lakes + of_scene, [*shores, counts], [*alarms, wrong]
    true = [lake for lake in lakes if lake["kind"] == "true"]
    drawn_from(left, true)
    for lake in lakes:
        lake["size"] = SIZE_NAMES[sum(lake["area"] * lake["gsd_m"] ** 2 / 1e6 >= low for low in SIZES) - 1]
    assert any(lake["cut"] for lake in true) and any("distances" in lake for lake in true)
    table = pd.read_parquet(left.artifacts / "lakes.parquet")
    table = table[table["split"] == "test"]
    assert len(table) == len(lakes)
    rows = {(row["kind"], row["scene"], round(row["row"], 6), round(row["col"], 6)): row for _, row in table.iterrows()}
    for lake in lakes:
        row = rows[(lake["kind"], lake["scene"], round(lake["rows"].mean(), 6), round(lake["cols"].mean(), 6))]
        whole = (row["area_px"], row["size_class"], row["cut"], row["overlaps"], row["overlap_px"])
        assert whole == (lake["area"], lake["size"], lake["cut"], len(lake["met"]), sum(lake["met"].values()))
        assert (row["best_iou"], row["area_bound_px"]) == pytest.approx((lake["iou"], lake["bound"]))
        if lake["kind"] == "true":
            known = (row["inventory_id"], row["lake_type"], row["compared"])
            assert known == (lake["id"], lake["type"], lake["compared"])
            assert row["area_error_px"] == pytest.approx(lake["error"] if lake["compared"] else math.nan, nan_ok=True)
        if "distances" in lake:
            far = np.percentile(lake["distances"], 95)
            assert row["shore_distances"] == len(lake["distances"])
            assert (row["assd_px"], row["hd95_px"]) == pytest.approx((np.mean(lake["distances"]), far))
    expected = {"test/" + name: value for name, value in (of_lakes(lakes, shores) | weighted(table)).items()}
    for name in ("lake_recall", "lake_precision", "boundary_f1_2px"):
        each = [of_lakes([one for one in lakes if one["scene"] == own["scene"]], [own])[name] for own in shores]
        expected[f"test/{name}_per_scene"] = mean(each)
    for kind in ("sensor", "region"):
        for name in {own[kind] for own in shores}:
            own = [one for one in shores if one[kind] == name]
            scores = of_lakes([lake for lake in lakes if lake[kind] == name], own)
            scores |= weighted(table[table[kind] == name])
            expected |= {f"test/{kind}/{name}/{score}": scores[score] for score in OF_STRATA}
    for lake in true:
        lake["glacier_distance"] = ice_class(lake["ice_km"])
    groups = {"size": table["size_class"], "lake_type": table["lake_type"]}
    groups["glacier_distance"] = (table["glacier_distance_m"] / 1000).map(ice_class)
    for kind, of_row in groups.items():
        key = "type" if kind == "lake_type" else kind
        for name in {lake[key] for lake in (lakes if kind == "size" else true)} - {""}:
            scores = of_lakes([lake for lake in lakes if lake.get(key) == name], None) | weighted(table[of_row == name])
            kept = [s for s in OF_STRATA if "boundary" not in s and (kind == "size" or not s.startswith(OF_PREDICTED))]
            expected |= {f"test/{kind}/{name}/{score}": scores[score] for score in kept}
    looks = {"darker": (0, 2 / 3), "alike": (2 / 3, 1.5), "brighter": (1.5, math.inf)}
    by_look = {name: [k for k in true if low < k["bright"] <= high] for name, (low, high) in looks.items()}
    by_size = {name: [k for k in true if k["size"] == name] for name in SIZE_NAMES}
    for kind, classes in (("brightness", by_look), ("size", by_size)):
        for name, some in classes.items():
            missed = [lake for lake in some if not lake["met"]]
            if some:
                expected |= {f"test/missed/{kind}/{name}/lakes": len(missed)}
                expected |= {f"test/missed/{kind}/{name}/share": len(missed) / len(some)}
    expected["test/fp_share/shoreline"] = sum(w["shore"] for w in alarms) / sum(w["area"] for w in alarms)
    expected = {name: float(value) for name, value in expected.items() if value == value}
    assert {name: left.metrics.get(name) for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    errors = pd.read_parquet(left.artifacts / "errors.parquet")
    of_alarms = errors[errors["kind"] == "false_alarm"]
    assert (len(of_alarms), of_alarms["area_px"].sum()) == tuple(sum(w[k] for w in alarms) for k in ("number", "area"))
    pixels = set(of_pixels(left, "val", 128, 1.0)) | set(of_pixels(left, "test", 128, 1.0))
    pixels |= set(naive(left, "val")) | set(naive(left, "test"))
    logged = {name for name in left.metrics if name.startswith(("val/", "test/")) and not re.fullmatch(ELSEWHERE, name)}
    assert logged - pixels - set(expected) == set()
