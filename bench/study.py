"""Fixed cost of a small run inside a study against the same run started alone.

    python bench/study.py [--runs 30] [--alone 2] [--slots 1] [--launcher-warm true|false]

The run: one sensor, tiles of 64 px, one epoch; its tiles are made before. `alone` is `python train.py WORDS` as a fresh
process, `study` one of --runs seeds that `glidexp.study.execution.execute` carries out, its share of the sweep and of
the process that runs are forked off included. Fixed is what is not the loop (`training.loop.fit`): start, imports,
looking at the data, network, tracking, final scores and pictures. CPU seconds, which others on the machine disturb
less, with those of the writer's thread; one JSON line, `ratio` is study over alone and should be at most 0.333.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SMALL = (
    "dataset=smoke", "dataset.synthetic.sensors=[landsat8]", "dataset.synthetic.scenes_per_sensor=3",
    "dataset.synthetic.scene_px=256", "dataset.buffer_m=0", "tile_size.px=64", "backbone=mobilenetv3", "decoder=fcn",
    "train.epochs=1", "train.batch_size=4", "train.precision=fp32", "train.threads=1", "train.device=cpu",
    "tracking.system_metrics=false",
)  # fmt: skip
OUT = "GLIDEXP_BENCH_OUT"
"""file to which each run adds its line"""


def seconds() -> float:
    """CPU time of this process and of those that it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def train(words: tuple[str, ...]) -> Any:
    """As `work.train`; notes what the loop and the whole process took."""
    from glidexp.study.execution import work
    from glidexp.training import run

    loop, real = 0.0, run.fit

    def timed(*args: Any, **kwargs: Any) -> None:
        nonlocal loop
        began = time.process_time()
        real(*args, **kwargs)
        loop += time.process_time() - began

    run.fit = timed
    done = work.train(words)
    run.fit = real
    with Path(os.environ[OUT]).open("a") as lines:
        lines.write(json.dumps({"loop": loop, "all": seconds()}) + "\n")
    return done


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def alone(folder: Path, words: tuple[str, ...]) -> float:
    """Fixed CPU seconds of a fresh process."""
    out = folder / "alone.jsonl"
    command = [sys.executable, str(Path(__file__).resolve()), "--one", *words]
    before = seconds()
    done = subprocess.run(command, env=os.environ | {OUT: str(out)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the run alone ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds() - before - lines(out)[-1]["loop"]


def study(folder: Path, words: tuple[str, ...], runs: int, slots: int, warm: bool) -> list[float]:
    """Fixed CPU seconds of each run in a study, with its share of what they have in common."""
    import psutil

    from glidexp import door
    from glidexp.config.launcher import LauncherConfig
    from glidexp.data.prepare import recipe_id
    from glidexp.identity import config_id
    from glidexp.study.execution.cells import Cell, Plan
    from glidexp.study.execution.execute import execute
    from glidexp.study.execution.work import Order
    from glidexp.tracking.store import open_store

    out = folder / "study.jsonl"
    os.environ[OUT] = str(out)
    cells = []
    for seed in range(runs):
        own = (*words, f"seed={seed}")
        config = door.compose(list(own))
        resolved = {"train.precision": "fp32", "train.compile": "off"}
        key = config_id(config, recipe=recipe_id(config.dataset, config.tile_size.px), resolved=resolved)
        cells.append(Cell("small", seed, own, key))
    plan = Plan("bench", "What does a run cost?", "test/lake_iou_pooled", ("small",), tuple(range(runs)), tuple(cells))
    store = open_store(f"sqlite:///{folder}/study/mlflow.db", folder / "study")
    before = time.process_time()

    def mine(order: Order) -> Order:
        return dataclasses.replace(order, train="study:train")

    with contextlib.redirect_stdout(sys.stderr):  # links to pages are no lines of a measurement
        ledger = execute(
            plan, store, LauncherConfig(slots=slots, warm=warm), experiment=config.tracking.experiment, order=mine
        )
    if not ledger.complete:
        raise SystemExit(f"the study is not complete: {ledger.failed}")
    common = time.process_time() - before
    for process in psutil.Process().children(recursive=True):  # what runs were forked off
        times = process.cpu_times()
        common += times.user + times.system
    return [line["all"] - line["loop"] + common / runs for line in lines(out)]


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        from glidexp import cli

        cli.prepare_process()
        train(tuple(sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--alone", type=int, default=2)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--launcher-warm", choices=("true", "false"), default="true")
    options = parser.parse_args()
    from glidexp import cli, door
    from glidexp.data.prepare import prepare

    cli.prepare_process()
    with tempfile.TemporaryDirectory(prefix="glidexp-bench-") as name:
        folder = Path(name)
        words = (*SMALL, f"paths.data={folder}/data")
        config = door.compose(list(words))
        prepare(config.dataset, config.tile_size.px, folder / "data", progress=False)
        alone_s = [
            alone(folder, (*words, f"paths.mlruns={folder}/alone", f"seed={seed}")) for seed in range(options.alone + 1)
        ][1:]  # the first makes the database
        warm = options.launcher_warm == "true"
        study_s = study(folder, (*words, f"paths.mlruns={folder}/study"), options.runs, options.slots, warm)
        ours, peer = statistics.median(study_s), statistics.median(alone_s)
        line = {
            "name": "study/fixed_cost_of_a_small_run_cpu",
            "unit": "s",
            "n": options.runs,
            "ours": round(ours, 2),
            "alone": round(peer, 2),
            "n_alone": options.alone,
            "ratio": round(ours / peer, 3),
            "ours_max": round(max(study_s), 2),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
