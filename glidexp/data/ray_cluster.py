"""What is asked of a Ray cluster beside its tasks: is anybody at the address, is its head still there, what it says.

Ray itself is handed in, so that nothing here needs it installed.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("glidexp")

ANSWER_S = 10.0
LOOK_S = 5.0
"""seconds between two questions to the head"""
GONE_S = 30.0
"""seconds without an answer after which it counts as gone; after 60 Ray ends the process that joined, without a word"""


def ask(address: str) -> None:
    """Asks whether anybody answers at HOST:PORT, where Ray would try for minutes; other words are let by.

    `auto` is what `RAY_ADDRESS` says, else the cluster that was last started on this machine, which may be gone.

    Raises:
        OSError: nobody does
    """
    if address == "auto":
        last = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
        address = os.environ.get("RAY_ADDRESS") or (last.read_text(encoding="utf-8").strip() if last.exists() else "")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()


class Head:
    """The head of the cluster that this process has joined.

    Args:
        ray: the module, initialised
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._asked = self._answered = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() - self._asked >= LOOK_S

    def answers(self) -> bool:
        """Asks it. Of a cluster that is reached as ray:// Ray itself finds out."""
        self._asked = time.monotonic()
        client = getattr(getattr(self._ray, "util", None), "client", None)
        if client is None or not client.ray.is_connected():
            try:
                ask(self._ray.get_runtime_context().gcs_address)
            except OSError:
                return False
        self._answered = time.monotonic()
        return True

    def gone(self) -> bool:
        """Whether it has not answered for so long that it will not."""
        return time.monotonic() - self._answered > GONE_S


def words_in_a_line(ray: Any) -> None:
    """Ray prints 45 lines about itself where a node is lost: the first sentence of each text is told instead, once."""
    told = set[str]()

    def tell(data: Mapping[str, Any], *_: object, **__: object) -> None:
        for text in data.get("lines", ()):
            line = " ".join(str(text).split()).partition(". ")[0][:300]
            if line and line not in told:
                told.add(line)
                log.warning("Ray: %s", line)

    with suppress(AttributeError):  # no public name; without it the lines come as they are
        worker = ray._private.worker
        if callable(worker.print_to_stdstream):
            worker.print_to_stdstream = tell
