"""A run small enough for a test: one sensor, tiles of 64 px, two epochs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from glidexp import door
from glidexp.config import Config

SMALL = [
    "dataset=smoke",
    "dataset.synthetic.sensors=[landsat8]",
    "dataset.synthetic.scenes_per_sensor=3",
    "dataset.synthetic.scene_px=256",
    "dataset.buffer_m=0",
    "tile_size.px=64",
    "backbone.name=test_resnet",  # timm's smallest
    "decoder=fcn",
    "train.epochs=2",
    "train.batch_size=4",
    "train.precision=fp32",
    "train.threads=1",
    "tracking.system_metrics=false",
    "tracking.probe_tiles=2",
]

BACKBONE = re.compile(r"backbone(\.name)?=").match


def words(data: Path, mlruns: Path, *overrides: str) -> list[str]:
    """The command line of a small run."""
    begun = [word for word in SMALL if not word.startswith("backbone.") or not any(map(BACKBONE, overrides))]
    return [*begun, f"paths.data={data}", f"paths.mlruns={mlruns}", *overrides]


def small_config(data: Path, mlruns: Path, *overrides: str) -> Config:
    """The config of a small run."""
    return door.compose(words(data, mlruns, *overrides))


REAL = (Figure.savefig, Figure.findobj)


@contextmanager
def _figures(save: Any, look: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(Figure, "savefig", save)
        patches.setattr(Figure, "findobj", look)
        yield


@contextmanager
def undrawn() -> Iterator[None]:
    """Figures are a dot: drawing them is a third of a small run, and where this is used nobody looks at them."""
    from PIL import Image

    def dot(figure: object, place: Any, **_: object) -> None:
        Image.new("RGB", (1, 1)).save(place, "PNG")

    with _figures(dot, lambda *_, **__: []):  # looking for texts would make every tick
        yield


@contextmanager
def drawn() -> Iterator[None]:
    """Within `undrawn`, figures are themselves again."""
    with _figures(*REAL):
        yield
