"""The thread that decodes the next strip: in order, with its errors, and it ends however its reader ends."""

import subprocess
import sys
import threading
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from glidexp.data.scenes.strips import Strip, ahead

PIXELS, VALID = np.zeros((3, 2, 4), np.uint8), np.ones((2, 4), bool)


def strips(count: int, met: list[Any], fails: bool = False) -> Generator[Strip, None, None]:
    try:
        for top in range(count):
            met.append(threading.current_thread())
            yield top, PIXELS, VALID
        if fails:
            raise OSError("damaged")
    finally:
        met.append(("closed by", threading.current_thread()))


def test_strips_come_in_order_from_one_thread_that_closes_them() -> None:
    met: list[Any] = []
    assert [top for top, _, _ in ahead(strips(5, met))] == [0, 1, 2, 3, 4]
    thread = met[0]
    assert met == [thread] * 5 + [("closed by", thread)] and thread is not threading.current_thread()
    assert not thread.is_alive()


def test_an_error_comes_where_its_strip_was_to_come() -> None:
    met: list[Any] = []
    seen: list[int] = []
    with pytest.raises(OSError, match="damaged"):
        seen.extend(top for top, _, _ in ahead(strips(2, met, fails=True)))
    assert seen == [0, 1] and not met[0].is_alive()


def test_a_reader_that_stops_early_ends_the_thread() -> None:
    met: list[Any] = []
    reader = ahead(strips(100, met))
    next(reader)
    reader.close()
    assert met[-1] == ("closed by", met[0]) and len(met) <= 4 and not met[0].is_alive()


COLLECTED = """
import gc, sys
sys.path.insert(0, "tests")
from test_ahead import ahead, strips
met = []
for _ in range(20):
    reader = ahead(strips(9, met))
    next(reader)
    held = [reader]
    held.append(held)  # as an exception holds the frames it went through
    del reader, held
    gc.collect()
sys.exit(0 if not any(one.is_alive() for one in met if hasattr(one, "is_alive")) else "alive")
"""


def test_a_reader_that_is_collected_hangs_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
