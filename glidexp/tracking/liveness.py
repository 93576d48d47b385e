"""Whether a run that the store calls RUNNING is at work, or died without a word."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from glidexp.tracking.spool import is_held

PROCESS_TAG = "glidexp.process"
"""`host:pid:start` of the process that writes a run"""
BEAT_TAG = "glidexp.heartbeat"
"""seconds since 1970 by the clock of that process's host, about once a minute"""
STALE_S = 180.0
"""age at which a sign of life of another host no longer counts: three of them are missing"""


def process_mark() -> str:
    """Names this process by host, number and start time, for the tag `glidexp.process`."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def marks() -> dict[str, str]:
    """The tags by which others see that this process is at work."""
    return {PROCESS_TAG: process_mark()} | beat()


def beat() -> dict[str, str]:
    """The sign of life of this moment."""
    return {BEAT_TAG: f"{time.time():.0f}"}


def at_work(tags: Mapping[str, str], spool: Path) -> bool:
    """Whether somebody works on a run.

    Args:
        tags: of the run
        spool: folder of the run's spool, if it has one on this machine

    A held lock is proof. On this machine so is a free one of the other, and without a spool the process is looked for.
    Of another host, which may have its own spool, the sign of life is asked: a process that died there counts as at
    work until its last sign is three minutes old.
    """
    held = is_held(spool)
    if held:
        return True
    mark = tags.get(PROCESS_TAG, "")
    if mark.partition(":")[0] == platform.node():
        return held is None and is_alive(mark)
    return seconds_since_beat(tags) < STALE_S


def seconds_since_beat(tags: Mapping[str, str]) -> float:
    """Age of the last sign of life; infinite without one."""
    try:
        return time.time() - float(tags.get(BEAT_TAG, "-inf"))
    except ValueError:
        return float("inf")


def is_alive(mark: str) -> bool:
    """Whether the process of a `process_mark` still runs on this machine; False for one of another machine."""
    host, _, rest = mark.partition(":")
    number, _, started = rest.partition(":")
    if host != platform.node() or not number.isdigit():
        return False
    try:
        process = psutil.Process(int(number))
        return process.status() != psutil.STATUS_ZOMBIE and f"{process.create_time():.0f}" == started
    except psutil.Error:
        return False


def ended_here(mark: str) -> bool:
    """Whether the process of a `process_mark` was of this machine, and is there no more. False for one of another."""
    return mark.partition(":")[0] == platform.node() and not is_alive(mark)
