"""From a data set's settings to an opened tile store: named by its recipe, built once, then only opened.

Nothing heavy is imported here, so that settings are checked and a recipe is named without torch, GDAL or pandas.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import astuple
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.config import DatasetConfig, DatasetKind, SplitBy, StretchConfig, to_dict
from glidexp.config.data import GENERATED
from glidexp.data import sensors
from glidexp.data.builder.earlier import COPIES_VERSION, PLACES_VERSION, built_before, differs
from glidexp.data.builder.making import GENERATOR_VERSION, Making, digest, locked
from glidexp.data.csv_rows import read_csv
from glidexp.data.ready import inputs
from glidexp.data.scenes import dem
from glidexp.data.scenes.catalogue import WHAT, SceneFile, find
from glidexp.data.scenes.stand import Row, row_of, stand
from glidexp.data.workers import Crew
from glidexp.errors import ConfigError, DataError

if TYPE_CHECKING:
    from glidexp.data.ready.regions import RegionPlace
    from glidexp.data.store import TileStore

log = logging.getLogger("glidexp")
BUILD_VERSION = 1
"""bumped when the same input gives other tiles than before"""
READ_VERSION = 2
"""likewise, where files of a user are read otherwise: generated scenes keep their stores.
2: bands by their sensors' codes, outlines across 180 degrees and in collections, no spikes, labels of 0, 1 and 255"""


def recipe_id(dataset: DatasetConfig, tile_px: int) -> str:
    """Names the store that `prepare` would give, without building it.

    All that changes tiles or split is in it; files enter by name, size and time of last change, not by their content.

    Raises:
        ConfigError, DataError: an input is not given or not there
    """
    return digest(_recipe(dataset, tile_px))


def prepare(
    dataset: DatasetConfig,
    tile_px: int,
    data_dir: Path,
    *,
    progress: bool = True,
    path: Path | None = None,
    crew: Crew | None = None,
    skip_failed: bool = False,
) -> "TileStore":
    """Opens the store of a data set, after building it where it is not there yet.

    Stores lie at data_dir/stores/<recipe id>, generated scenes at data_dir/scenes, frozen splits at data_dir/splits.
    A lock lets one process build while others wait for it.

    Args:
        dataset: settings
        tile_px: side of a tile
        data_dir: `paths.data`
        progress: show scenes as they are done
        path: folder of the store, if it is not to be the usual one
        crew: processes and memory for scenes; by default this process alone. More need a `__main__` that can be
            imported
        skip_failed: where scenes cannot be used, make the store without them: another recipe, so another store

    Raises:
        ConfigError, DataError: one sentence about the setting or the file
        RunFailed: some of several scenes cannot be used, a full disk; what is finished is kept
    """
    from glidexp.data.store import TileStore

    recipe = _recipe(dataset, tile_px)
    if dataset.kind == DatasetKind.store:
        return TileStore.open(str(dataset.root))
    usual = Path(data_dir) / "stores" / digest(recipe)
    path = path.resolve() if path else usual  # a link to a folder stays one
    making = Making(dataset, tile_px, Path(data_dir), recipe, progress, crew or Crew(workers=1))
    if skip_failed and path == usual:
        path = making.made_without() or path
    if not _taken(path):
        with locked(path):
            if not _taken(path):
                for sentence in built_before(usual.parent, recipe):
                    log.warning("%s", sentence)
                path = making.write(path, skip_failed)
    else:
        making.drop_left(path)
    if path != usual:  # also where another process was first
        _refuse_other(path, recipe, skip_failed)
    return TileStore.open(path, classes=bool(dataset.classes))


def _taken(path: Path) -> bool:
    """Whether something is there; an empty folder is not."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _refuse_other(path: Path, recipe: dict[str, Any], skip_failed: bool) -> None:
    """Refuses a store that was not made by a recipe, nor by it without scenes that failed where these may be left out.

    Raises:
        DataError: it is another one, or no store
    """
    if not (path / "manifest.json").is_file():
        raise DataError(f"{path} is there and is no tile store: give another folder, or an empty one.")
    found = inputs.manifest_of(str(path))["recipe"]
    found = {key: value for key, value in found.items() if not (skip_failed and key == "without")}
    if digest(found) == digest(recipe):
        return
    if changed := differs(found, json.loads(json.dumps(recipe))):
        raise DataError(
            f"{path} is of the same settings and files, built by an earlier version whose tiles may be others "
            f"({changed}): give another folder, delete it to have it built anew, or open it with dataset=store."
        )
    raise DataError(f"{path} holds another store, recipe {digest(recipe)} is wanted: give another folder.")


def declared_sensors(dataset: DatasetConfig) -> list[str] | None:
    """Sensors a data set says it has, as far as settings tell before a build; None when they do not."""
    if dataset.kind == DatasetKind.store:
        return sorted(inputs.manifest_of(dataset.root)["sensors"])
    if dataset.kind == DatasetKind.synthetic:
        return sorted(dataset.synthetic.sensors)
    if dataset.kind == DatasetKind.scenes:
        files = scenes_of(dataset, Path(dataset.root)) if dataset.root else []
        return sorted({file.sensor for file in files}) or [dataset.sensor]
    if dataset.kind == DatasetKind.glid_transfer:
        return sorted({region.sensor for region in _regions(dataset)})
    table = Path(dataset.manifest) if dataset.manifest else None
    if table is None:
        return None if dataset.kind == DatasetKind.glid else [dataset.sensor]
    _, rows = read_csv(table, known=("sensor",))
    if not rows:
        raise DataError(f"{table} has no rows: write one a scene or tile below its first line.")
    return sorted({row.get("sensor") or dataset.sensor for row in rows})


def declared_regions(dataset: DatasetConfig) -> list[str] | None:
    """Regions a data set says it has, as far as settings tell before a build; None when they do not."""
    if dataset.kind == DatasetKind.glid_transfer:
        return sorted({region.name for region in _regions(dataset)})
    return sorted(dataset.synthetic.regions) if dataset.kind == DatasetKind.synthetic else None


def _regions(dataset: DatasetConfig) -> "tuple[RegionPlace, ...]":
    """What the layout of the transferability set says, once its place is known to be there."""
    from glidexp.data.ready.regions import place_of, read_layout

    place_of(dataset)
    return read_layout(str(dataset.layout))


def _recipe(dataset: DatasetConfig, tile_px: int) -> dict[str, Any]:
    """Everything that decides a store's bytes, as plain values."""
    _check_inputs(dataset)
    _check_overlap(dataset, tile_px)
    if dataset.kind == DatasetKind.store:
        return inputs.recipe_of(str(dataset.root), tile_px)
    settings = to_dict(dataset)
    recipe: dict[str, Any] = {"build": BUILD_VERSION, "tile_px": tile_px, "split": _split_recipe(dataset, tile_px)}
    recipe |= {key: settings[key] for key in ("kind", "empty_share")}
    if dataset.kind in (DatasetKind.synthetic, DatasetKind.scenes):
        recipe |= {key: settings[key] for key in ("buffer_m", "min_lake_px")}
        recipe |= _later(dataset, "bands", "all_touched", "overlap_px")
        recipe["stretch"] = {key: settings["stretch"][key] for key in ("method", "low", "high")}
        recipe["stretch"] |= _later(dataset.stretch, "scope", "sample_blocks")
    if dataset.kind == DatasetKind.synthetic:
        recipe |= {"generator": GENERATOR_VERSION, "synthetic": settings["synthetic"]}
        recipe |= {"dem": {"levels": dem.LEVELS_VERSION, "of": GENERATED}} if dataset.terrain else {}
        return recipe | ({"classes": dataset.classes} if dataset.classes else {})
    return recipe | _recipe_of_files(dataset)


def _recipe_of_files(dataset: DatasetConfig) -> dict[str, Any]:
    """What of a recipe says which files of a user are read, and how."""
    recipe: dict[str, Any] = {"read": READ_VERSION, "sensor": dataset.sensor}
    for key in ("lake_type_column", "lake_id_column", "lakes_crs", "glaciers_crs", "lakes_layer", "glaciers_layer"):
        if getattr(dataset, key):  # not there in recipes of earlier stores
            recipe[key] = getattr(dataset, key)
    if dataset.classes:
        recipe["classes"] = _fingerprint([Path(dataset.classes)])
    if dataset.kind in (DatasetKind.folder, DatasetKind.glid_transfer):
        recipe["copies"] = COPIES_VERSION
    if dataset.kind == DatasetKind.folder:
        recipe |= _later(dataset, "images", "labels")
    if dataset.kind == DatasetKind.glid_transfer:
        recipe["layout"] = [[str(part) for part in astuple(region)] for region in _regions(dataset)]
    if dataset.kind == DatasetKind.scenes:
        recipe |= _later(dataset, "part_km", "mask_clouds")
        if heights := dem.read_of(dem.files_of(dataset.dem, "dataset.dem")):
            recipe["dem"] = {"levels": dem.LEVELS_VERSION, **_fingerprint(heights, scenes=True)}
        for key in ("previous", "within"):  # the earlier lakes change no tile and no split, but the manifest
            if value := getattr(dataset, key):
                layer = getattr(dataset, f"{key}_layer")
                recipe |= {key: _fingerprint(_stem_files(value))} | ({f"{key}_layer": layer} if layer else {})
    found, scenes = _inputs(dataset), dataset.kind == DatasetKind.scenes
    if not scenes and inputs.in_several_crs(dataset, found):
        recipe["places"] = PLACES_VERSION
    recipe["inputs"] = {key: _fingerprint(files, scenes=scenes and key == "root") for key, files in found.items()}
    return recipe


def _later(settings: DatasetConfig | StretchConfig, *keys: str) -> dict[str, Any]:
    """Settings that came later: at their defaults they stay out of a recipe, so that earlier stores are found."""
    found, usual = to_dict(settings), to_dict(type(settings)())
    return {key: found[key] for key in keys if found[key] != usual[key]}


def _split_recipe(dataset: DatasetConfig, tile_px: int) -> dict[str, Any]:
    """What of the split's settings decides it; what came later stays out at its default."""
    split = dataset.split
    rule: dict[str, Any] = to_dict(split)
    if split.by != SplitBy.block:
        del rule["block_m"], rule["buffer_m"]
    if not split.folds:
        del rule["folds"], rule["fold"]
    if not split.leave_out:
        del rule["leave_out"]
    if split.by == SplitBy.random:  # drawn by tile, not by ground: another size is another split
        rule["tile_px"] = tile_px
    return rule


def _check_overlap(dataset: DatasetConfig, tile_px: int) -> None:
    """Refuses an overlap that tiles of this size or this split cannot have."""
    if dataset.overlap_px * 2 > tile_px:
        raise ConfigError(
            f"dataset.overlap_px={dataset.overlap_px} must be from 0 to half of tile_size.px={tile_px}: more only "
            "repeats what other tiles show."
        )
    if dataset.overlap_px and dataset.split.by == SplitBy.random:
        raise ConfigError(
            f"dataset.overlap_px={dataset.overlap_px} does not go with dataset.split.by=random: tiles for training "
            "would show pixels that are scored. Use another split, or no overlap."
        )


def _check_inputs(dataset: DatasetConfig) -> None:
    """Refuses settings that lack an input, before anything is read."""
    if dataset.sensors_file:
        sensors.register_file(dataset.sensors_file)
    sensors.get(dataset.sensor)
    if dataset.kind == DatasetKind.glid:
        inputs.check_glid(dataset)
    elif dataset.kind == DatasetKind.glid_transfer:
        _regions(dataset)
    elif dataset.kind == DatasetKind.folder:
        _need("dataset.root", dataset.root, "a folder that holds images/N.png and labels/N.png")
        if dataset.classes and not Path(dataset.classes).is_file():
            raise DataError(f"dataset.classes={dataset.classes} is not there: give a CSV of the classes.")
    elif dataset.kind == DatasetKind.scenes:
        _need("dataset.root", dataset.root, WHAT)
        _need("dataset.lakes", dataset.lakes, "a vector file of lake outlines")
        if dataset.buffer_m > 0 and not dataset.glaciers:
            raise ConfigError(
                f"dataset.glaciers is not given, but dataset.buffer_m={dataset.buffer_m:g} needs glacier outlines: "
                "give a vector file, or dataset.buffer_m=0 to keep all lakes."
            )


def _need(setting: str, value: str | None, what: str) -> None:
    if not value:
        raise ConfigError(f"{setting} is not given: it must be {what}.")


def _inputs(dataset: DatasetConfig) -> dict[str, list[Path]]:
    """Files of each input setting."""
    root = Path(dataset.root or "")
    files: dict[str, list[Path]] = {}
    if dataset.kind == DatasetKind.scenes:
        # of one that is not there the build says so
        rasters = [path for file in scenes_of(dataset, root) for path in file.files if path.is_file()]
        files["root"] = [*([root] if root.is_file() and root not in rasters else []), *rasters]
        for setting in ("lakes", "glaciers"):
            value = getattr(dataset, setting)
            files[setting] = _stem_files(value) if value else []
    elif dataset.kind == DatasetKind.glid_transfer:
        from glidexp.data.ready.regions import files_of

        files["regions"] = files_of(dataset)
    else:
        files |= inputs.tile_files(dataset, root)
    for setting in ("manifest", "sensors_file"):
        value = getattr(dataset, setting)
        files[setting] = [Path(value)] if value else []
    return files


def scenes_of(dataset: DatasetConfig, root: Path) -> list[SceneFile]:
    """The scenes below a root, with their DEM, and their clouds where these are to be masked."""
    return find(root, dataset.sensor, mask_clouds=dataset.mask_clouds, dem=dem.files_of(dataset.dem, "dataset.dem"))


def _stem_files(value: str) -> list[Path]:
    """A vector file; a shapefile is several files of one stem, and several of them or a geodatabase are a folder.

    What a GeoPackage has beside it only while a program looks at it is left out.
    """
    path, files = Path(value), list[Path]()
    named = sorted(path.parent.glob(f"{escape(path.stem)}.*"))
    if path.is_dir() and path not in named:
        named.append(path)
    for one in named:
        files += sorted(path.rglob("*")) if one == path and path.is_dir() else [one]
    return [file for file in files if not _passing(file)]


def _passing(file: Path) -> bool:
    """Whether this is a lock, or what SQLite keeps beside a GeoPackage while it is open; a full journal is not."""
    return file.suffix == ".lock" or file.name[-4:] == "-shm" or (file.name[-4:] == "-wal" and not file.stat().st_size)


def _fingerprint(files: Iterable[Path], *, scenes: bool = False) -> dict[str, Any]:
    """Names, sizes and times of files, in one hash; of scenes also of what beside them changes their pixels."""
    rows: list[Row] = []
    for file in files:
        try:
            rows += stand(file) if scenes else [row_of(file)]
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from None
    return {"files": len(rows), "bytes": sum(row[1] for row in rows), "sha256": digest(rows, 64)}
