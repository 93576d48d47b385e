"""A training whose phases are timed, for bench/startup.py: `python -X importtime bench/startup_phases.py FILE WORDS`.

FILE gets a JSON object, seconds on the clock by phase; they add up to the life of the process, late imports included
where they fall. The import timer itself writes to stderr and adds to all of it.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

PHASES = {"prepared": "data", "build_parts": "network", "fit": "training", "score": "final_scoring"}
"""functions that `glidexp.training.run` calls, and what they are called here"""


def by_package(timer: str) -> dict[str, float]:
    """Seconds that modules of each package took of themselves, from what `-X importtime` writes; dearest first."""
    found: dict[str, float] = {}
    for line in timer.splitlines():
        if line.startswith("import time:") and not line.endswith("imported package"):
            own, _, name = line.removeprefix("import time:").split("|")
            package = name.strip().split(".")[0]
            found[package] = found.get(package, 0.0) + int(own) / 1e6
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    born = psutil.Process().create_time()
    out, words = Path(sys.argv[1]), sys.argv[2:]
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from glidexp import cli
    from glidexp.training import run

    spent: dict[str, float] = {}
    began, real_run = 0.0, run.run

    def timed(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.time()
            try:
                return real(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.time() - start

        return call

    def whole(*args: Any, **kwargs: Any) -> Any:
        nonlocal began
        began = time.time()
        try:
            return real_run(*args, **kwargs)
        finally:
            ended = time.time()
            told = {"before": began - born, **spent}
            out.write_text(json.dumps(told | {"tracking_and_rest": ended - began - sum(spent.values())}))

    for name, phase in PHASES.items():
        setattr(run, name, timed(phase, getattr(run, name)))
    run.run = whole
    cli.main(["train", *words])


if __name__ == "__main__":
    main()
