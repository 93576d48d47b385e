"""What the process of `worker.py` does with a scene: maps it as `glidexp predict` does. Imported there alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from glidexp.config import Embed
from glidexp.data import sensors
from glidexp.data.scenes.dem import files_of
from glidexp.errors import GlidexpError, RunFailed
from glidexp.mapping.many import ice_of, with_threads
from glidexp.mapping.network import network
from glidexp.mapping.predict import RowStep, SceneTask, map_scene
from glidexp.models.card import read_card
from glidexp.models.told import told_of
from glidexp.serving.judge import Judged
from glidexp.serving.refusal import Refusal
from glidexp.serving.results import Result, collect
from glidexp.serving.worker import Answer, Setup, Step, Task


def begin(setup: Setup) -> Answer:
    """Loads network and glaciers, finds the DEM; gives what maps a scene.

    Raises:
        GlidexpError: a bundle, a file of glaciers or a DEM that cannot be used
    """
    sensors.add(setup.own_sensors)
    maps, card = setup.settings.maps, read_card(setup.bundle)
    network(setup.bundle, card, maps.tta, maps.device)
    glaciers, ice = ice_of(setup.settings.glaciers, setup.settings.glaciers_layer)
    around = {"glaciers": glaciers, "ice": ice, "heights": files_of(setup.settings.dem, "--dem")}

    def answer(task: Task, step: Step) -> Result:
        judged, wish = task.scene, task.wish
        settings = maps if wish.threshold is None else replace(maps, threshold=wish.threshold)
        ground: dict[str, Any] = around if judged.placed else {}
        task.out.mkdir()
        one = SceneTask(judged.file, setup.bundle, task.out, settings, setup.model, **ground, image=True)
        try:
            made = map_scene(with_threads([one], 1)[0], counted(step))
        except RunFailed as error:
            raise Refusal(500, str(error)) from None
        except GlidexpError as error:
            raise Refusal(422, by_name(str(error), judged)) from None
        if made.failed:
            raise Refusal(422, by_name(made.failed, judged))
        said = [by_name(words, judged) for words in made.said]
        sized = judged.placed or wish.gsd_m is not None
        if not sized:  # what mapping says of a pixel's size is of the ground on which the picture was laid
            said = [words for words in said if "pixel is" not in words]
        if not judged.placed:
            said = [without(sized, judged.gsd_m, needed=needs_gsd(card)), *said]
        elif wish.gsd_m is not None:
            said = [
                f"gsd_m={wish.gsd_m:g} is not used: by its position a pixel of the scene is {judged.gsd_m:g} m.",
                *said,
            ]
        return collect(task.out, judged.name, placed=judged.placed, sized=sized, said=said, model=setup.model)

    return answer


def by_name(words: str, judged: Judged) -> str:
    """What is said of a scene's file, said of the scene."""
    path = judged.file.path
    return words.replace(f"{path.parent}/", "").replace(path.name, judged.name)


def counted(step: Step) -> RowStep:
    """Turns calls after each row of windows into how many are done."""
    done = 0

    def one_more(total: int, name: str, *, before: bool = False) -> None:
        nonlocal done
        done += 1
        step(done, total)

    return one_more


def needs_gsd(card: Mapping[str, Any]) -> bool:
    """Whether a network's answer depends on metres to a pixel, beside the pixels."""
    told = told_of(card)
    return told.kind is Embed.gsd or told.gsd_m is not None


def without(sized: bool, gsd_m: float, *, needed: bool) -> str:
    """What is said of a picture without position.

    Args:
        sized: the request says metres to a pixel
        gsd_m: these, or what is taken for them
        needed: by the network
    """
    told = f"a pixel is taken as {gsd_m:g} m" if sized else "areas are in pixels (give gsd_m for km2)"
    if needed and not sized:
        told += f"; the network is told that a pixel is {gsd_m:g} m, so give gsd_m where it is not"
    return f"the scene has no position: lakes are told in pixels, and {told}."
