"""What a recipe must know of ready tiles and of a finished store: which files there are. Nothing is decoded here."""

import json
from pathlib import Path
from typing import Any

from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.csv_rows import read_csv
from glidexp.data.ready.layout import GLID_COUNTS, PARTS, describe, folder_place, glid_places
from glidexp.data.sensors import RGB
from glidexp.errors import ConfigError, DataError


def check_glid(dataset: DatasetConfig) -> None:
    """Refuses a place that does not hold both parts of the published set.

    Raises:
        DataError: says what to download, and what is there
    """
    there = glid_places(dataset.root)
    missing = [f"{name}/{part}" for name in GLID_COUNTS if name not in there for part in PARTS]
    if missing:
        where = f"under dataset.root={dataset.root}" if dataset.root else "as dataset.root is not given"
        held = f" What is there: {'; '.join(describe(dataset.root))}." if dataset.root else ""
        raise DataError(
            f"the published GLID is not there ({', '.join(missing)} missing, {where}): download GLID.rar (6.6 GiB) and "
            "val.zip (1.0 GiB) from Zenodo record 14838695 (https://zenodo.org/records/14838695) into one folder, as "
            "they are or unpacked, so that GLID/images, GLID/labels, val/images and val/labels lie in it, and set "
            f"dataset.root to it.{held}"
        )


def tile_files(dataset: DatasetConfig, root: Path) -> dict[str, list[Path]]:
    """Files of ready tiles: of a folder its pictures, of an archive itself."""
    if dataset.kind == DatasetKind.glid:
        places = {f"{name}/": place for name, place in glid_places(dataset.root).items()}
    elif (dataset.images, dataset.labels) == (DatasetConfig().images, DatasetConfig().labels):
        places = {"": folder_place(str(dataset.root))}
    elif root.is_file():
        return {"archive": [root]}
    else:
        from glidexp.data.ready.pairs import find_pairs

        images, labels = zip(*(pair.files for pair in find_pairs(root, dataset.images, dataset.labels)), strict=True)
        return {"images": list(images), "labels": sorted(set(labels))}
    files: dict[str, list[Path]] = {}
    for name, place in places.items():
        if place.archived:
            files[f"{name}archive"] = [place.source]
            continue
        for part in PARTS:
            files[name + part] = sorted(p for p in (place.source / part).rglob("*") if p.is_file())
    return files


def in_several_crs(dataset: DatasetConfig, files: dict[str, list[Path]]) -> bool:
    """Whether tiles may have positions in several CRSs: by a table of origins that names these, or as TIFFs.

    Args:
        dataset: settings
        files: from `tile_files`
    """
    if any(file.suffix.lower() in (".tif", ".tiff") for listed in files.values() for file in listed):
        return True
    rows = read_csv(Path(dataset.manifest), known=("crs",))[1] if dataset.manifest else []
    return len({row["crs"] for row in rows if row.get("crs")}) > 1


def bands_of(dataset: DatasetConfig) -> list[str]:
    """Names of the bands that tiles will have, as far as settings and a finished store tell."""
    if dataset.kind == DatasetKind.store:
        return [str(band) for band in manifest_of(dataset.root).get("bands", RGB)]
    return dataset.bands if dataset.kind in (DatasetKind.scenes, DatasetKind.synthetic) else list(RGB)


def manifest_of(root: str | None) -> dict[str, Any]:
    """Manifest of a store that is opened as it is, read without what reads its tiles.

    Raises:
        ConfigError, DataError: no folder given, or no store there
    """
    if not root:
        raise ConfigError("dataset.root is not given: for dataset=store it must be the folder of a tile store.")
    try:
        manifest = json.loads((Path(root) / "manifest.json").read_bytes())
        assert isinstance(manifest["recipe"], dict) and isinstance(manifest["sensors"], dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise DataError(
            f"dataset.root={root} is no tile store: give a folder that `glidexp data import --out` made, or one below "
            "paths.data/stores."
        ) from None
    return dict(manifest)


def recipe_of(root: str, tile_px: int) -> dict[str, Any]:
    """The recipe that a store was made by.

    Raises:
        ConfigError, DataError: no store, or one of another tile size
    """
    manifest = manifest_of(root)
    if manifest.get("tile_px") != tile_px:
        raise ConfigError(
            f"dataset.root={root} holds tiles of {manifest.get('tile_px')} px, not tile_size.px={tile_px}: "
            f"give tile_size={manifest.get('tile_px')}."
        )
    return dict(manifest["recipe"])
