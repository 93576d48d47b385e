"""Load of processor, memory, disk, network and GPU: MLflow's collectors, and a thread that hands on what they find.

MLflow's own monitor asks the server for the run before each value and ends at the first one that is not answered.
"""

import logging
import threading
from collections.abc import Callable

from glidexp.tracking.database import first_line

log = logging.getLogger("glidexp.tracking")

PREFIX = "system/"
INTERVAL_S = 10.0


class LoadMonitor:
    """Takes a value of everything every ten seconds, or as MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says.

    Args:
        run_id: of the run; the collectors want it
        uri: of the store, likewise
        hand_on: called in the thread with values by name and their step
        step: the first one
    """

    def __init__(self, run_id: str, uri: str, hand_on: Callable[[dict[str, float], int], None], *, step: int) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._collectors = SystemMetricsMonitor(run_id, INTERVAL_S, tracking_uri=uri)
        self._hand_on = hand_on
        self._step = step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="glidexp-load", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._collect()
        except Exception as error:  # noqa: BLE001 - drivers of any make may fail here; the run does without
            log.warning("Tracking: no more system metrics (%s).", first_line(error))

    def _collect(self) -> None:
        while True:
            self._collectors.collect_metrics()
            if self._stop.wait(self._collectors.sampling_interval):
                return
            values = self._collectors.aggregate_metrics()
            for monitor in self._collectors.monitors:
                monitor.clear_metrics()
            self._hand_on({PREFIX + name: value for name, value in values.items()}, self._step)
            self._step += 1
