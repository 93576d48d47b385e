"""How long a person waits: the help page, a setting that is refused, and the smoke run with its data at hand.

    python bench/startup.py [--repeats 5] [--smoke-repeats 1] [--threads 2]

Seconds of fresh processes, after one that is not counted (it makes the smoke run's tiles and warms the page cache).
`limit` is a process that imports what every command of Hydra needs; the smoke run has none. There is no peer. Ratios
are limit over ours. `_wall` lines are what a person sees, `_cpu` lines what others on the machine disturb less.
A last smoke run shows where its seconds go, with Python's import timer on, which adds to them: `smoke_phase_` lines add
up to the life of the process, `smoke_import_` lines are what the modules of a package took of themselves, out of it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from startup_phases import by_package

ROOT = Path(__file__).resolve().parent.parent
LIMIT = ["-c", "import hydra"]
PHASES = Path(__file__).with_name("startup_phases.py")
SHOWN_S = 0.2
"""packages that took less stand in the sum alone"""


def taken(words: list[str], code: int = 0) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process that must end with `code`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != code:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode} instead of {code}:\n{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(name: str, words: list[str], repeats: int, *, code: int = 0, limit: bool = True) -> None:
    """Runs a command and its limit by turns, and prints a line for each clock."""
    ours, bare = [], []
    for repeat in range(repeats + 1):
        pair = taken(words, code), taken(LIMIT) if limit else (0.0, 0.0)
        if repeat > 0:
            ours.append(pair[0])
            bare.append(pair[1])
    for which, clock in enumerate(("wall", "cpu")):
        mine, floor = ([pair[which] for pair in side] for side in (ours, bare))
        median = statistics.median(mine)
        low, _, high = statistics.quantiles(mine, n=4) if repeats > 1 else [median] * 3
        line = {
            "name": f"startup/{name}_{clock}",
            "unit": "s",
            "n": repeats,
            "ours": round(median, 2),
            "peer": None,
            "limit": round(statistics.median(floor), 2) if limit else None,
            "ratio_peer": None,
            "ratio_limit": round(statistics.median(floor) / median, 3) if limit else None,
            "spread": round((high - low) / 2 / median, 3),
        }
        print(json.dumps(line), flush=True)


def show_phases(words: list[str], told: Path) -> None:
    """Prints the phases of a run, and the packages that took longest to import."""
    began = time.perf_counter()
    command = [sys.executable, "-X", "importtime", str(PHASES), str(told), *words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"the timed run ended with {done.returncode}:\n{done.stderr[-2000:]}")
    phases = json.loads(told.read_text(encoding="utf-8"))
    packages = by_package(done.stderr)
    lines = {f"phase_{name}": seconds for name, seconds in phases.items()}
    lines["phase_end"] = wall - sum(phases.values())
    lines["import_all"] = sum(packages.values())
    lines |= {f"import_{name}": seconds for name, seconds in packages.items() if seconds >= SHOWN_S}
    for name, seconds in lines.items():
        line = {"name": f"startup/smoke_{name}", "unit": "s", "n": 1, "ours": round(seconds, 2)}
        print(json.dumps(line | dict.fromkeys(("peer", "limit", "ratio_peer", "ratio_limit", "spread"))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke-repeats", type=int, default=1, help="0 leaves the smoke run out")
    parser.add_argument("--threads", type=int, default=2, help="of the smoke run")
    args = parser.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    measure("help", ["train.py", "--help"], args.repeats)
    measure("refused_setting", ["train.py", "backbone=resnet81"], args.repeats, code=2)
    if args.smoke_repeats:
        with tempfile.TemporaryDirectory() as folder:
            words = ["train.py", "experiment=smoke", "resume=never", f"train.threads={args.threads}"]
            words += [f"paths.data={folder}/data", f"paths.mlruns={folder}/mlruns"]
            measure("smoke", words, args.smoke_repeats, limit=False)
            show_phases(words, Path(folder) / "phases.json")


if __name__ == "__main__":
    main()
