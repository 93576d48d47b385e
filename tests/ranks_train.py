"""What torchrun starts in `test_ranks.py`: train.py with a small network that has neither batch statistics nor dropout.

No decoder of ours is without them, and with them two processes are not one.
"""

import hashlib
import itertools
import os
import signal
import sys
from typing import Any

import pytest
import torch

from glidexp import cli
from glidexp.training import loop, run


def network(*_: Any, **__: Any) -> torch.nn.Module:
    """Two convolutions that see five pixels."""
    layers = [torch.nn.Conv2d(3, 8, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 1)]
    return torch.nn.Sequential(*layers)


def patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the network in place of the one that the settings name, which is not even imported; tells what it became."""
    monkeypatch.setattr("glidexp.training.parts.build_model", network)
    real = run.score

    def score(recorder: Any, loader: Any, augment: Any, parts: Any) -> dict[str, float]:
        weights = b"".join(parts.best[name].numpy().tobytes() for name in sorted(parts.best))
        print(f"best weights {hashlib.sha256(weights).hexdigest()}", flush=True)
        return real(recorder, loader, augment, parts)

    monkeypatch.setattr(run, "score", score)


def harm(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """In rank 1's third step: `kill` it without a word, or raise an `error` there."""
    if os.environ["RANK"] != "1":
        return
    real, steps = loop.Meter.step, itertools.count(1)

    def step(self: Any, images: int, loss: torch.Tensor) -> None:
        real(self, images, loss)
        if next(steps) == 3:
            print("rank 1 ends here", flush=True)
            if how == "error":
                raise MemoryError("no more of it in rank 1")
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(loop.Meter, "step", step)


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patches:
        patch(patches)
        if sys.argv[1] in ("kill", "error"):
            harm(patches, sys.argv.pop(1))
        cli.main(["train", *sys.argv[1:]])
