"""What is to be done of each scene of a build, and by how many processes."""

import logging
from collections.abc import Sequence
from pathlib import Path

from glidexp.data.builder.report import Job
from glidexp.data.builder.scene_part import Places, SceneTask
from glidexp.data.host_memory import free_host_bytes
from glidexp.data.scenes import inventory
from glidexp.data.scenes.numbers import bytes_of
from glidexp.data.scenes.reading import STRIP_PX, Scene
from glidexp.data.workers import Crew, cores
from glidexp.errors import ConfigError

log = logging.getLogger("glidexp")
WORTH_POOLING = 100_000_000
"""values of all bands below which other processes take longer to start than they save"""
PROCESS_BYTES = 280 << 20
"""what a process takes without a scene: the interpreter, its libraries, GDAL's cache"""


def share_out(scenes: Sequence[Scene], job: Job, crew: Crew) -> tuple[int, int]:
    """Processes, and most rows of a strip, that memory allows.

    Args:
        scenes: all scenes
        job: tile size
        crew: what was asked for

    Raises:
        ConfigError: not even one process has room for one row of tiles
    """
    values = [scene.width * scene.height * scene.channels for scene in scenes]
    # a strip that is worked on, one that is decoded meanwhile, what is made of them and GDAL's cache
    row_bytes = max(scene.width * (4 * bytes_of(scene.numbers) * scene.channels + 10) for scene in scenes)
    memory = crew.memory_bytes or int(0.7 * free_host_bytes())
    least = PROCESS_BYTES + row_bytes * job.tile_px
    wanted = crew.workers or (cores() if sum(values) > WORTH_POOLING else 1)
    workers = max(min(wanted, len(scenes), memory // least), 1)
    if crew.memory_bytes and memory < least:
        raise ConfigError(
            f"--memory={memory / 1e9:.2g}GB is too little: a row of tiles of {job.tile_px} px in the widest scene "
            f"needs {least / 1e9:.2g}GB; give that much, or a smaller tile_size."
        )
    if workers < min(crew.workers, len(scenes)):
        log.warning("memory allows %d of %d workers (--memory, dataset tile_size.px)", workers, crew.workers)
    room = (memory // workers - PROCESS_BYTES) // row_bytes
    return workers, int(min(max(room, job.tile_px) // job.tile_px * job.tile_px, STRIP_PX))


def tasks_of(
    job: Job,
    scenes: Sequence[Scene],
    outlines: tuple[inventory.Inventory, inventory.Inventory | None, inventory.Inventory | None],
    where: tuple[Places, dict[str, str]],
    parts: Path,
    *,
    most_px: int,
    threads: int,
) -> list[SceneTask]:
    """A task a scene, with the outlines that are near it.

    Args:
        job: settings
        scenes: headers of all scenes
        outlines: of lakes, glaciers, and ground that is labelled
        where: how tiles find their unit of ground, and the side of each
        parts: folder for what is finished of single scenes
        most_px: most rows of a strip
        threads: of a process
    """
    water, ice, ground = outlines
    margin_m = max(job.dataset.buffer_m, inventory.SEARCH_M)
    return [
        SceneTask(
            scene=scene,
            stand=scene.file.stand,
            water=inventory.near(scene, water),
            ice=inventory.near(scene, ice, margin_m) if ice else None,
            ground=inventory.near(scene, ground) if ground else None,
            places=where[0],
            sides=where[1],
            dataset=job.dataset,
            tile_px=job.tile_px,
            folder=parts,
            most_px=most_px,
            threads=threads,
        )
        for scene in scenes
    ]
