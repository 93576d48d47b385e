"""Scenes and stores held against what a model was trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glidexp.data.steps import shown_steps
from glidexp.data.store import TileStore
from glidexp.mapping import domain
from glidexp.mapping.validity import judge, looked_over
from glidexp.models.export import load_bundle
from glidexp.models.load import FoundModel
from glidexp.models.survey import Rows, Tiles, verdicts
from glidexp.models.validity import Validity, Verdict
from glidexp.training.bands import places_of_bands

if TYPE_CHECKING:
    from glidexp.data.scenes.catalogue import SceneFile


@dataclass(frozen=True, slots=True)
class Judged:
    """A scene, and whether it is like what the model was trained on."""

    name: str
    sensor: str
    region: str
    """empty where it is not known"""
    verdict: Verdict | None
    """None where too few pixels are valid"""
    said: tuple[str, ...] = ()
    """what else the model was not trained for: sensor, pixel size"""


def of_files(validity: Validity, found: FoundModel, files: "Sequence[SceneFile]") -> Iterable[Judged]:
    """Scenes from their files, stretched as `glidexp predict` would.

    Args:
        validity: of the model
        found: the model
        files: of the scenes

    Raises:
        DataError: a scene or the model's weights cannot be read
    """
    predictor = load_bundle(found.bundle)
    with shown_steps(len(files), "scenes", True, what="distance", late=True) as step:
        for file in files:
            scene = domain.header(found.card, file)
            limits, _ = domain.limits_of(found.card, scene)
            sample = looked_over(scene, validity.tile_px, limits, domain.method_of(found.card))
            said = (*scene.warnings, *domain.outside(found.card, scene))
            predictor.tell(sensor=file.sensor, gsd_m=scene.gsd_m)
            yield Judged(scene.name, file.sensor, "", judge(validity, sample, file.sensor, predictor, sure=True), said)
            step(scene.name)


def of_store(validity: Validity, found: FoundModel, store: TileStore, rows: Rows) -> Iterable[Judged]:
    """The scenes of some tiles of a store.

    Args:
        validity: of the model
        found: the model
        store: opened
        rows: which tiles

    Raises:
        DataError: the store lacks a band, or the model's weights cannot be read
    """
    tiles = Tiles(store, places_of_bands(found.card, store), validity.bands)
    known = store.index.groupby(store.index["scene"].astype(str))[["sensor", "region"]].first()
    for name, verdict in verdicts(validity, tiles, rows, load_bundle(found.bundle), sure=True):
        yield Judged(name, str(known.loc[name, "sensor"]), str(known.loc[name, "region"]), verdict)
