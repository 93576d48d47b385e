"""The life of one run: params, metrics by epoch, pictures, files, inputs, the model, and a status that is true.

    with Run.start(store, experiment="glidexp", run_name="unet-resnet18", config_flat=flat(config)) as run:
        run.metrics({"val/lake_iou_pooled": 0.71}, step=3)

Everything but the start goes through a spool on disk and a writer thread: a store that is gone stops and loses nothing.
"""

import io
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from glidexp.identity import RESULTS_VERSION, VERSION_TAG
from glidexp.tracking import environment
from glidexp.tracking.database import first_line, told_as
from glidexp.tracking.liveness import marks
from glidexp.tracking.load import PREFIX, LoadMonitor
from glidexp.tracking.resume import head, reopen
from glidexp.tracking.sink import PARAM_LIMIT, PARAMS_A_CALL, TAG_LIMIT, Sink, batches, cut, finite
from glidexp.tracking.spool import Spool
from glidexp.tracking.status import true_status
from glidexp.tracking.store import ID_TAG, Store, import_pyfunc
from glidexp.tracking.writer import Writer

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("glidexp.tracking")

GROUPS = ("dataset", "sensor_mix", "tile_size", "backbone", "decoder", "augmentation", "loss", "optimizer", "init")
"""Config groups whose choice is a param beside the flat keys."""
DIGEST_LIMIT = 36
"""characters that MLflow keeps of a data set's digest"""
STOPPED_S = 20.0
"""seconds for what waits when a run is stopped by a signal: a scheduler kills soon after, and the spool keeps it"""


class Run:
    """One run in the store. Made by `Run.start`, best used as a context manager, which ends it with its true status."""

    def __init__(self, store: Store, run_id: str, experiment_id: str, spool: Spool | None = None) -> None:
        self.store = store
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._last_step: dict[str, int] = {}
        self._drawn: set[tuple[str, int]] = set()
        self._monitor: LoadMonitor | None = None
        self._ended = False
        self.lost = 0
        """scores, files and models for want of which the run stands as FAILED in the store, known after `finish`"""
        self.waiting = 0
        """entries that stay in the spool because the store did not take them in time, known after `finish`"""
        self._spool = spool or Spool.open(store.spool_folder(run_id), head(store))
        sink = Sink(store, run_id, experiment_id, self._spool)
        self._writer = Writer(sink, self._spool, beat=sink.beat)

    @classmethod
    def start(
        cls,
        store: Store,
        *,
        experiment: str,
        run_name: str,
        config_flat: Mapping[str, Any],
        choices: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        config_id: str | None = None,
        parent_run_id: str | None = None,
        resume_run_id: str | None = None,
        system_metrics: bool = False,
    ) -> Self:
        """Begins a run, or goes on with one.

        Args:
            store: from `open_store`
            experiment: name; made where it is missing
            run_name: shown in the table
            config_flat: the whole config by dotted key (`config.flat`)
            choices: name of the chosen option by group; groups other than GROUPS are left out
            tags: further tags, e.g. `glidexp.split_hash`
            config_id: becomes the tag `glidexp.config_id`, by which `Store.find_run` finds the run again
            parent_run_id: the sweep's parent run, which may live in another process
            resume_run_id: an interrupted run to go on with; its name stays, its params stay, and metrics and pictures
                of steps that it already holds are left out
            system_metrics: load of processor, memory, disk, network and GPU, every 10 s

        Raises:
            TrackingError: the store does not take the run, or another process has it
        """
        params = {group: str(choices[group]) for group in GROUPS if choices and choices.get(group) is not None}
        params |= {key: str(value) for key, value in config_flat.items()}
        all_tags = environment.process_tags() | dict(tags or {})
        if config_id:
            all_tags |= {ID_TAG: config_id, VERSION_TAG: str(RESULTS_VERSION)}
        if parent_run_id:
            all_tags["mlflow.parentRunId"] = parent_run_id
        with told_as("The tracking store does not take the run"):
            if resume_run_id is None:
                run = cls._create(store, experiment, run_name, cut(all_tags, TAG_LIMIT))
                run._params(cut(params, PARAM_LIMIT))
            else:
                run = cls._resume(store, resume_run_id, cut(params, PARAM_LIMIT), cut(all_tags, TAG_LIMIT))
        if system_metrics:
            run._start_monitor()
        return run

    @classmethod
    def _create(cls, store: Store, experiment: str, run_name: str, tags: dict[str, str]) -> Self:
        experiment_id = store.experiment_id(experiment)
        made = store.client.create_run(experiment_id, tags=tags | marks(), run_name=run_name)
        return cls(store, made.info.run_id, experiment_id)

    @classmethod
    def _resume(cls, store: Store, run_id: str, params: dict[str, str], tags: dict[str, str]) -> Self:
        spool, held = reopen(store, run_id, params)
        run = cls(store, run_id, held.experiment_id, spool)
        run._last_step, run._drawn = held.last_step, held.drawn
        run._params(held.new_params)
        run.tags(tags | held.tags)
        return run

    def _params(self, params: dict[str, str]) -> None:
        for part in batches(params, PARAMS_A_CALL):
            self._writer.put("params", params=part)

    def _start_monitor(self) -> None:
        step = max((step + 1 for key, step in self._last_step.items() if key.startswith(PREFIX)), default=0)
        try:
            self._monitor = LoadMonitor(self.run_id, self.store.uri, self.metrics, step=step)
        except Exception as error:  # noqa: BLE001 - drivers of any make may fail here; the run does without
            log.warning("Tracking: no system metrics (%s).", first_line(error))

    def metrics(self, values: Mapping[str, float], step: int, **of: str) -> None:
        """Logs scores in one call. Left out: values that are not finite, steps that a resumed run already holds.

        Args:
            values: by name, e.g. `val/lake_iou_pooled`
            step: epoch, from 0
            of: model_id of the logged model whose page shall show them, dataset_name and dataset_digest of its input
        """
        new = {key: value for key, value in finite(values).items() if step > self._last_step.get(key, -1)}
        if new:
            self._writer.put("metrics", values=new, step=step, **of)

    def model_input(self, model_id: str) -> None:
        """Names the logged model that the run used."""
        self._writer.put("model_input", model_id=model_id)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags of the run."""
        self._writer.put("tags", tags=cut(tags, TAG_LIMIT))

    def image(self, name: str, image_HWC: np.ndarray, step: int) -> None:
        """Logs a picture that can be followed over the steps in the run's image grid.

        Args:
            name: groups the steps of one picture, e.g. `probe/0003_sentinel2`
            image_HWC: uint8, 1, 3 or 4 channels
            step: epoch, from 0

        Raises:
            ValueError: not uint8 (MLflow would rescale each picture by its own range)
        """
        if image_HWC.dtype != np.uint8:
            raise ValueError(f"picture '{name}' is {image_HWC.dtype}: give uint8 in 0-255.")
        name = re.sub(r"[^A-Za-z0-9_\-./ ]", "_", name)
        if (name, step) not in self._drawn:
            self._writer.put_file("image", "image.npy", lambda to: _save(to, image_HWC), name=name, step=step)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Logs a file or a whole folder. It is copied at once: the caller may change or delete it right after.

        Args:
            path: what to log; keeps its name
            folder: where in the run, e.g. `plots`
        """
        self._writer.put_file("artifact", path.name, lambda to: _copy(path, to), folder=folder)

    def text(self, text: str, name: str) -> None:
        """Logs text as the file `name`, e.g. `environment/requirements.txt`."""
        self.file(name, lambda to: to.write_text(text))

    def table(self, table: "pd.DataFrame", name: str) -> None:
        """Logs a table as the file `name`, ending in .parquet or .csv.

        Raises:
            ValueError: another ending
        """
        if not name.endswith((".parquet", ".csv")):
            raise ValueError(f"table '{name}': the name must end in .parquet or .csv.")
        write = table.to_parquet if name.endswith(".parquet") else table.to_csv
        self.file(name, lambda to: write(to, index=False))

    def file(self, name: str, make: Callable[[Path], object]) -> None:
        """Logs the file or folder `name`, such as `plots/pr_test.png`, which `make` writes at the path that it gets."""
        folder = str(Path(name).parent)
        self._writer.put_file("artifact", Path(name).name, make, folder="" if folder == "." else folder)

    def dataset_input(
        self, name: str, *, digest: str, context: str, source: str, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Names the data that the run used.

        Args:
            name: of the data set
            digest: hash of the tiles; cut at 36 characters
            context: `train`, `val` or `test`
            source: folder of the tile store, or another address
            facts: plain values to be shown beside it: recipe, split, tiles by sensor
        """
        digest = digest[:DIGEST_LIMIT]
        self._writer.put("dataset", name=name, digest=digest, context=context, source=source, facts=dict(facts or {}))

    def environment(self, tags: Mapping[str, str] | None = None) -> None:
        """Logs commit, uncommitted changes, installed packages and machine.

        Args:
            tags: what only the caller knows, e.g. accelerator and version of torch
        """
        found = environment.machine() | dict(tags or {})
        git = environment.own_code()
        if git is not None:
            found |= {environment.COMMIT_TAG: git.commit, "mlflow.source.git.branch": git.branch}
            found["glidexp.git_dirty"] = str(git.dirty).lower()
            if git.diff:
                self.text(git.diff, "environment/diff.patch")
        self.text(environment.requirements(), "environment/requirements.txt")
        self.tags(found)

    def model(
        self, bundle: Path, *, in_channels: int, pip_requirements: list[str], tags: Mapping[str, str] | None = None
    ) -> None:
        """Logs the network as the run's model `model`: a bundle (safetensors and card), no pickle.

        Args:
            bundle: folder made by `models.export.save_bundle`; copied at once
            in_channels: bands of the input
            pip_requirements: what is needed to load it, as `name==version`
            tags: of the logged model
        """
        import_pyfunc()  # here rather than in the writer's thread: it turns warnings off for a moment, for all threads
        values = {"in_channels": in_channels, "pip_requirements": pip_requirements, "tags": dict(tags or {})}
        self._writer.put_file("model", "bundle", lambda to: _copy(bundle, to), **values)

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Waits until everything is in the store. False when the store does not take it."""
        return self._writer.flush(timeout_s)

    def finish(self, status: str = "FINISHED", error: str = "") -> None:
        """Writes what waits and ends the run. A second call does nothing.

        A store that does not answer is tried twice more; what it does not take stays in the spool, the end of the run
        included, and `glidexp sync` sends it. A run of which the store, though it answers, did not take everything ends
        as FAILED.

        Args:
            status: FINISHED, FAILED or KILLED
            error: one line for the tag `glidexp.error`
        """
        if self._ended:
            return
        self._ended = True
        if self._monitor is not None:
            self._monitor.finish()
        self._writer.put("end", status=status, error=error)
        self.waiting = self._writer.close(at_most_s=STOPPED_S if status == "KILLED" else math.inf)
        self.lost = self._writer.refused + (self.waiting - 1 if self._writer.marked else 0)
        if self.waiting:
            log.warning(
                "Tracking: %d entries of run %s wait in %s: `glidexp sync%s` sends them once the store takes them.",
                self.waiting,
                self.run_id,
                self._spool.folder,
                "" if self.store.mlruns == Path("mlruns").resolve() else f" --mlruns {self.store.mlruns}",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(*true_status(error))


def _save(target: Path, array: np.ndarray) -> None:
    """As .npy, by way of memory: NumPy's own writing to a file does not say why it came to an end."""
    held = io.BytesIO()
    np.save(held, array)
    target.write_bytes(held.getbuffer())


def _refused(error: OSError) -> NoReturn:
    """Of a folder that cannot be listed, which `os.walk` would leave out without a word."""
    raise error


def _copy(source: Path, target: Path) -> None:
    """A file or a folder.

    Raises:
        OSError: of the first file that failed, with its number: `copytree` gathers them in an error without one
    """
    if source.is_dir():
        for folder, _, names in os.walk(source, onerror=_refused, followlinks=True):
            there = target / Path(folder).relative_to(source)
            there.mkdir(parents=True)
            for name in names:
                shutil.copyfile(Path(folder, name), there / name)
    else:
        shutil.copyfile(source, target)
