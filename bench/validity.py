"""Whether the intervals and warnings of `glidexp validity` hold on generated regions that had no part in them.

    python bench/validity.py [--scenes 80] [--epochs 20] [--seeds 1] [--world 0]

A tiny network is trained in each of four regions and scored on the test scenes of all of them. Expected scores and
their intervals are made of three regions as targets and held against the scenes of the fourth, each in turn. A false
alarm is a test scene of the region that was trained on that lies outside.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from glidexp import door
from glidexp.scoring.expected import LEVEL, coverage
from glidexp.study.validity.matrix import scenes_of, told_by
from glidexp.tracking.found import finished_runs
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training.run import run

REGIONS = ("alaska", "andes", "greenland", "himalaya")
WORDS = [
    "dataset=smoke",
    "dataset.synthetic.sensors=[landsat8]",
    "dataset.synthetic.scene_px=256",
    "dataset.buffer_m=0",
    "dataset.split.test=0.6",
    "tile_size.px=64",
    "backbone=timm",
    "backbone.name=test_resnet",
    "augmentation=flips",
    "optimizer.lr=0.005",
    "train.batch_size=8",
    "train.precision=fp32",
    "train.threads=1",
    "train.checkpoint_every=100",
    "subset.val_from=source",
    "tracking.system_metrics=false",
    "tracking.probe_tiles=0",
    "tracking.log_masks=false",
]


def line(name: str, unit: str, n: int, ours: float, **more: float) -> None:
    """Prints a figure."""
    found = {"name": f"validity/{name}", "unit": unit, "n": n, "ours": round(ours, 4)}
    print(json.dumps(found | {key: round(value, 4) for key, value in more.items()}), flush=True)


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--world", type=int, default=0, help="seed of the generated scenes")
    parser.add_argument("--keep", metavar="FOLDER", help="data and runs stay there")
    options = parser.parse_args()
    logging.getLogger("glidexp").setLevel(logging.WARNING)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as aside:
        place = Path(options.keep or aside)
        ids = []
        for seed in range(options.seeds):
            for region in REGIONS:
                words = [*WORDS, f"dataset.synthetic.scenes_per_sensor={options.scenes}", f"seed={seed}"]
                words += [f"dataset.synthetic.seed={options.world}"]
                words += [f"train.epochs={options.epochs}", f"subset.regions=[{region}]"]
                words += [f"paths.data={place / 'data'}", f"paths.mlruns={place / 'mlruns'}"]
                config = door.compose(words)
                printed, sys.stdout = sys.stdout, sys.stderr
                try:
                    ids.append(run(config, choices={}).run_id)
                finally:
                    sys.stdout = printed
        store = open_store(tracking_uri(config.tracking, config.paths), Path(config.paths.mlruns))
        runs, _ = finished_runs(store, ids)
        scenes, _ = scenes_of(store, runs)
    trained = {one.run_id: one.params["subset.regions"].strip("[]'") for one in runs}
    home = scenes["region"] == scenes["run"].map(trained)
    given, score, target = told_by(scenes), scenes["score"].to_numpy(), scenes["region"].to_numpy(dtype=str)
    held, blind, far = (coverage(given * of, score, target, level=LEVEL) for of in ([1, 1], [0, 0], [0, 1]))
    line("coverage", "share of scene scores", held.scores, held.share, aimed_at=LEVEL, scenes=scenes["scene"].nunique())
    line(
        "width",
        "points",
        held.scores,
        100 * held.width,
        by_distance_alone=100 * far.width,
        by_nothing=100 * blind.width,
    )
    line("coverage_by_distance_alone", "share of scene scores", far.scores, far.share)
    line("score_at_home", "points", int(home.sum()), 100 * score[home].mean(), elsewhere=100 * score[~home].mean())
    alarms = scenes["outside"].astype(bool)
    line("false_alarms", "share of scenes", int(home.sum()), float(alarms[home].mean()))
    line("warned_elsewhere", "share of scenes", int((~home).sum()), float(alarms[~home].mean()))
    warned = score[~home & alarms].mean() if (~home & alarms).any() else np.nan
    if np.isfinite(warned) and (~home & ~alarms).any():
        line(
            "score_where_warned",
            "points",
            int((~home & alarms).sum()),
            100 * warned,
            not_warned=100 * score[~home & ~alarms].mean(),
        )
    line("cpu", "s", 1, time.process_time() - began)


if __name__ == "__main__":
    main()
