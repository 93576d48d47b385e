"""Many scenes: what each needs, and one after the other in this process."""

import logging
import os
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from glidexp.data import sensors
from glidexp.data.scenes import polygons
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.steps import Step, shown_steps
from glidexp.data.workers import cores
from glidexp.errors import ConfigError
from glidexp.mapping.predict import SceneMap, SceneTask, map_scene
from glidexp.mapping.settings import MapSettings
from glidexp.models.load import find_named

log = logging.getLogger("glidexp")
TOLD = "told"
"""file beside the work files of a scene that another process maps: rows of windows that are done, that were done
before, and all"""
LOOK_S = 2.0
"""seconds between two looks at these"""
COPY = ".model"
"""folder below the maps for a model that comes from a server or a checkpoint, which other machines can see"""


def tasks_of(given: Namespace, files: Sequence[SceneFile], settings: MapSettings, out: Path) -> list[SceneTask]:
    """A task a scene.

    Args:
        given: options model, mlruns, uri, glaciers, glaciers_layer, again
        files: the scenes
        settings: for all of them
        out: folder of the maps

    Raises:
        GlidexpError: no such model, or glaciers that cannot be read
    """
    model = find_named(given.model, mlruns=given.mlruns, uri=given.uri, folder=out / COPY)
    glaciers, ice = ice_of(given.glaciers, given.glaciers_layer)
    name = model.run_id or model.uri
    return [
        SceneTask(
            file if model.card.get("terrain") else replace(file, dem=()), model.bundle.absolute(), out, settings, name,
            heights=file.dem, glaciers=glaciers, ice=ice, again=given.again,
            own_sensors=sensors.own(),
        )
        for file in files
    ]  # fmt: skip


def ice_of(place: str | None, layer: str | None) -> tuple[polygons.Inventory | None, tuple[str, int, int] | None]:
    """The glaciers that an option names, and what tells their file from others; nothing where none is named.

    Raises:
        GlidexpError: they cannot be read, or a layer is named without a file
    """
    if not place:
        if layer:
            raise ConfigError(f"--glaciers-layer={layer} is a layer of --glaciers, which is not given.")
        return None, None
    glaciers = polygons.read(place, "--glaciers", layer=layer)
    stat = os.stat(place)
    name = Path(place).name
    return glaciers, (f"{name}|layername={layer}" if layer else name, stat.st_size, stat.st_mtime_ns)


def with_threads(tasks: Sequence[SceneTask], workers: int) -> list[SceneTask]:
    """The cores of this machine shared out among processes."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    mine = int(wanted) if wanted.isdigit() and int(wanted) else max(cores() // workers, 1)
    return [replace(task, threads=mine) for task in tasks]


def on_one_process(tasks: Sequence[SceneTask]) -> list[SceneMap]:
    """One scene after the other, with progress by rows of windows; of several scenes a row is a part of a scene."""
    if len(tasks) == 1:
        with _Steps() as rows:
            return [map_scene(tasks[0], rows)]
    maps = []
    with shown_steps(len(tasks), "scenes", True, what="map") as step:
        for task in tasks:
            row = _Part(step)
            maps.append(map_scene(task, row))
            # all of it where it was finished before or cannot be mapped
            step(task.file.scene, row.left, before=maps[-1].found)
    return maps


def map_and_tell(task: SceneTask) -> SceneMap:
    """`map_scene` in another process or on another machine, which leaves word of how far it is."""
    place, counts = task.aside / TOLD, [0, 0]

    def row(total: int, name: str, *, before: bool = False) -> None:
        counts[before] += 1
        with suppress(OSError):  # word of it is worth no map
            place.write_text(f"{counts[0]} {counts[1]} {total}", encoding="ascii")

    return map_scene(task, row)


@contextmanager
def followed(tasks: Sequence[SceneTask]) -> Iterator[Callable[[SceneMap], None]]:
    """Shows how far scenes are that are mapped by `map_and_tell`; gives a function to call with each finished map."""
    for task in tasks:
        with suppress(OSError):  # of a killed run
            (task.aside / TOLD).unlink()
    done, one_by_one, over = {task.file.scene: Fraction(0) for task in tasks}, threading.Lock(), threading.Event()
    with shown_steps(len(tasks), "scenes", True, what="map") as step:

        def look() -> None:
            for task in tasks:
                name = task.file.scene
                with suppress(OSError, ValueError), one_by_one:
                    new, before, rows = map(int, (task.aside / TOLD).read_text(encoding="ascii").split())
                    for part, found in ((Fraction(before, rows), True), (Fraction(new + before, rows), False)):
                        if done[name] < part < 1:  # all of it is told with the finished map
                            step(name, part - done[name], before=found)
                            done[name] = part

        def watch() -> None:
            while not over.wait(LOOK_S):
                look()

        def finished(one: SceneMap) -> None:
            with one_by_one:
                step(one.scene, 1 - done[one.scene], before=one.found)
                done[one.scene] = Fraction(1)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield finished
        finally:
            over.set()
            thread.join()


class _Part:
    """Tells of a row of windows as a part of its scene, so that what is left is known of all scenes together."""

    def __init__(self, step: Step) -> None:
        self._step, self.left = step, Fraction(1)

    def __call__(self, total: int, name: str, *, before: bool = False) -> None:
        self.left -= Fraction(1, total)
        self._step(name, Fraction(1, total), before=before)


class _Steps:
    """Progress of one scene, that learns how many rows of windows there are from the first of them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._inner: Step | None = None

    def __enter__(self) -> "_Steps":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def __call__(self, total: int, name: str, *, before: bool = False) -> None:
        if self._inner is None:
            self._inner = self._stack.enter_context(shown_steps(total, "rows of windows", True, what="map"))
        self._inner(name, before=before)
