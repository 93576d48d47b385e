"""Stands in for the process that maps scenes: does what the scene's name says. Not a test, and without torch."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from glidexp.errors import DataError
from glidexp.serving.refusal import Refusal


def begin(setup: Any) -> Any:
    """Writes its process id beside the bundle, so that a test can look for it."""
    (Path(setup.bundle) / "pid").write_text(str(os.getpid()))

    def answer(task: Any, step: Any) -> Any:
        step(1, 2)
        if task.scene.name == "forever":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)
        if task.scene.name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if task.scene.name == "wrong":
            raise Refusal(422, "the scene has no red band.")
        if task.scene.name == "bug":
            raise ZeroDivisionError("by zero")
        return SimpleNamespace(files={}, summary={"lakes": 7, "pid": os.getpid()})

    return answer


def begin_forever(setup: Any) -> Any:
    """Whatever the scene is, it takes for ever."""
    answer = begin(setup)

    def forever(task: Any, step: Any) -> Any:
        return answer(SimpleNamespace(scene=SimpleNamespace(name="forever")), step)

    return forever


def begin_badly(setup: Any) -> Any:
    """A bundle that cannot be loaded."""
    raise DataError("weights.safetensors is damaged.")
