"""A store in the making: who builds it, under which lock, where its split and its finished scenes lie.

Nothing heavy is imported before something is built.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.beside import lock, write_text
from glidexp.config import DatasetConfig, DatasetKind, to_dict
from glidexp.data.steps import shown_steps
from glidexp.data.workers import Crew
from glidexp.errors import DataError

if TYPE_CHECKING:
    from glidexp.data.builder.report import Job

log = logging.getLogger("glidexp")
GENERATOR_VERSION = 1
"""bumped when the generator makes other scenes from the same settings than before"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file beside `path`, so that of several processes one builds and the others wait."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.with_name(f".{path.name}.lock").open("w")
    except OSError as error:
        raise DataError(
            f"nothing can be written to {path.parent} ({error.strerror}): give another folder as paths.data."
        ) from None
    with stream:
        lock(stream, Path(stream.name))
        yield


def digest(value: Any, digits: int = 16) -> str:
    """Hexadecimal digits of a hash of plain values: the name of a recipe."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def split_id(recipe: dict[str, Any]) -> str:
    """Names the split file: the ground and the rule, not what is done with the ground."""
    keys = ("kind", "split", "generator", "synthetic", "sensor", "part_km", "inputs", "without", "layout", "places")
    within = ("within", "within_layer")  # what nobody labelled is on no side
    return digest({key: recipe[key] for key in (*keys, *within) if key in recipe})


@dataclass(frozen=True, slots=True)
class Making:
    """A store in the making."""

    dataset: DatasetConfig
    tile_px: int
    data_dir: Path
    recipe: dict[str, Any]
    progress: bool
    crew: Crew

    @property
    def _note(self) -> Path:
        """Names the store that was made without scenes of this recipe, so that these are not tried again."""
        return self.data_dir / "stores" / f"{digest(self.recipe)}.without.json"

    def made_without(self) -> Path | None:
        """The store that was made before without scenes that failed, if there is one."""
        if not self._note.is_file():
            return None
        path = self._note.with_name(json.loads(self._note.read_text(encoding="utf-8"))["recipe_id"])
        return path if path.exists() else None

    def write(self, path: Path, skip_failed: bool) -> Path:
        """Builds into a folder that is not there yet, and gives the place of the store.

        That is another one where scenes failed and are left out, as the recipe then is another.
        """
        from glidexp.data.builder.from_scenes import ScenesFailed

        try:
            self._build(path)
        except ScenesFailed as error:
            if not skip_failed:
                raise
            without = replace(self, recipe=self.recipe | {"without": sorted(error.reasons)})
            if path != self.data_dir / "stores" / digest(self.recipe):
                without._build(path, error.reasons)
                return path
            path = path.with_name(digest(without.recipe))
            with locked(path):
                if not path.exists():
                    without._build(path, error.reasons)
                else:  # by a build that was killed before it could note it
                    self.drop_left(path, certain=True)
            note = {"recipe_id": path.name, "without": error.reasons}
            write_text(self._note, json.dumps(note, indent=1) + "\n")
        return path

    def drop_left(self, path: Path, *, certain: bool = False) -> None:
        """Removes the finished scenes of a store that is whole, which a build that was killed could not.

        Args:
            path: of the store
            certain: also where the scenes themselves do not say that it was made of them
        """
        parts = path.with_name(f".{parts_id(self.recipe)}.parts")
        if not parts.is_dir():
            return
        from glidexp.data.builder.parts import WHOLE, drop_parts

        with suppress(OSError), parts.with_name(f"{parts.name}.lock").open("w") as stream:
            if not lock(stream, Path(stream.name), wait=False):
                return  # another store is being made of them
            certain = certain or not any(parts.iterdir())
            if certain or (parts / WHOLE).read_text(encoding="utf-8") == path.name:
                drop_parts(parts)

    def _build(self, path: Path, skipped: dict[str, str] | None = None) -> None:
        """Builds into a folder that is not there yet."""
        from glidexp.data.builder.report import Job, log_summary

        started, dataset = time.monotonic(), self.dataset
        _clear(path.parent, f".{path.name}.*.partial")
        job = Job(
            path=path,
            split_path=self.data_dir / "splits" / f"{split_id(self.recipe)}.json",
            tile_px=self.tile_px,
            dataset=dataset,
            recipe=self.recipe,
            recipe_id=digest(self.recipe),
            data_dir=self.data_dir,
        )
        if dataset.kind in (DatasetKind.folder, DatasetKind.glid, DatasetKind.glid_transfer):
            from glidexp.data.ready.archive import build_pairs

            build_pairs(job, partial(shown_steps, progress=self.progress))
        elif dataset.classes:
            self._land_cover(job)
            return  # what was built is told of the store with lakes
        else:
            self._from_scenes(job, skipped or {})
        log_summary(path, time.monotonic() - started)

    def _from_scenes(self, job: "Job", skipped: dict[str, str]) -> None:
        from glidexp.data.builder.from_scenes import Sources, build_scenes
        from glidexp.data.builder.parts import WHOLE
        from glidexp.data.scenes.catalogue import check_clouds, find
        from glidexp.data.scenes.dem import files_of

        dataset = self.dataset
        root, lakes = Path(dataset.root or ""), Path(dataset.lakes or "")
        glaciers = Path(dataset.glaciers) if dataset.glaciers else None
        if dataset.kind == DatasetKind.synthetic:
            folder = generated(dataset, self.data_dir, self.progress)
            root, lakes, glaciers = folder / "scenes.csv", folder / "lakes.gpkg", folder / "glaciers.gpkg"
        heights = files_of(dataset.dem, "dataset.dem")
        if dataset.kind == DatasetKind.synthetic and dataset.terrain:
            heights = files_of(folder / "dem", "dataset.dem")
        files = find(root, dataset.sensor, mask_clouds=dataset.mask_clouds, dem=heights)
        if dataset.mask_clouds:
            check_clouds(files, "dataset.mask_clouds=true")
        sources = Sources(files, lakes, glaciers)
        name = f"{parts_id(self.recipe)}.parts"
        parts = job.path.with_name(f".{name}")
        with locked(job.path.with_name(name)):
            _clear(parts, ".*.partial")
            _clear(parts, WHOLE)  # of an earlier store; these are for another
            try:
                build_scenes(
                    job,
                    sources,
                    lambda total: shown_steps(total, "scenes", self.progress),
                    parts=parts,
                    crew=self.crew,
                    skipped=skipped,
                )
            except DataError:  # these settings will never make a store of what was finished
                shutil.rmtree(parts, ignore_errors=True)
                raise

    def _land_cover(self, job: "Job") -> None:
        """Labels of generated scenes by class; the store with lakes is made first, which has the same tiles."""
        from glidexp.data.store import TileStore
        from glidexp.data.synthetic.land_cover import relabel

        recipe = {key: value for key, value in self.recipe.items() if key != "classes"}
        lakes = replace(self, dataset=replace(self.dataset, classes=None), recipe=recipe)
        path = self.data_dir / "stores" / digest(recipe)
        with locked(path):
            if not path.exists():
                lakes.write(path, skip_failed=False)
        known = {"recipe": job.recipe, "recipe_id": job.recipe_id, "lakes": {}}
        scenes = generated(self.dataset, self.data_dir, self.progress)
        relabel(TileStore.open(path), scenes, job.path, known)
        made = TileStore.open(job.path, classes=True)
        log.info("the same %d tiles with land cover in place of lakes: %s", len(made), ", ".join(made.classes))


def _clear(folder: Path, half_written: str) -> None:
    """Removes what a killed build left half-written; who calls holds the lock."""
    for left in folder.glob(half_written):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def parts_id(recipe: dict[str, Any]) -> str:
    """Names the folder of finished scenes: the recipe but for the scenes, of which each part knows its own.

    So a scene that is repaired or taken out leaves the parts of the others as they are.
    """
    inputs = {key: value for key, value in recipe.get("inputs", {}).items() if key != "root"}
    return digest({**{key: value for key, value in recipe.items() if key != "without"}, "inputs": inputs})


def generated(dataset: DatasetConfig, data_dir: Path, progress: bool) -> Path:
    """Folder of the generated scenes, made where it is not there yet; with DEM and near infrared where asked for."""
    with_dem, with_nir = bool(dataset.terrain), "nir" in dataset.bands
    also = [*(["dem"] if with_dem else []), *(["nir"] if with_nir else [])]
    made_of = [GENERATOR_VERSION, to_dict(dataset.synthetic), *also]
    folder = data_dir / "scenes" / digest(made_of)
    if not folder.exists():
        with locked(folder):
            if not folder.exists():
                from glidexp.data.builder.parts import writing
                from glidexp.data.synthetic import generate

                with writing(folder, "the same command begins anew"):
                    generate(dataset.synthetic, folder, progress=progress, dem=with_dem, nir=with_nir)
    return folder
