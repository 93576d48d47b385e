"""A STAC item of what was made of a scene: where it lies, what it shows, by which model, under which settings."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import shapely

from glidexp.data.builder.parts import writing
from glidexp.data.scenes.reading import Scene
from glidexp.models.card import write_whole

VERSION = "1.0.0"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
KINDS = {
    "probability": (COG, ["data"], "lake probability times 254; 255: no data"),
    "mask": (COG, ["data"], "1 lake, 0 none, 255 no data"),
    "lakes": ("application/geopackage+sqlite3", ["data"], "outlines of lakes, and the ground that was looked at"),
    "lakes_parquet": ("application/vnd.apache.parquet", ["data"], "outlines of lakes as GeoParquet"),
    "image": ("image/png", ["thumbnail"], "the stretched image, small"),
    "quicklook": ("image/png", ["overview"], "image and outlines"),
}


def write_item(path: Path, scene: Scene, assets: Mapping[str, Path], told: Mapping[str, Any]) -> Path:
    """Writes the item; it is the last file of a scene, so that its presence says that the scene is whole.

    Args:
        path: of the JSON
        scene: its header
        assets: files by name, beside the item
        told: what else is said, under glidexp:
    """
    outline = scene.outline_lonlat
    epsg = scene.crs.to_epsg()
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    when = f"{scene.file.date}T00:00:00Z" if scene.file.date else made
    item = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [PROJECTION],
        "id": path.stem,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {
            "datetime": when,
            "created": made,
            **({} if scene.file.date else {"glidexp:datetime_is": "when it was made: the scene has no date"}),
            "gsd": scene.gsd_m,
            "proj:code": f"EPSG:{epsg}" if epsg else None,
            **({} if epsg else {"proj:wkt2": scene.crs.to_wkt()}),
            "proj:shape": [scene.height, scene.width],
            "proj:transform": list(scene.transform[:6]),
            **{f"glidexp:{key}": value for key, value in told.items()},
        },
        "links": [],
        "assets": {
            name: {"href": f"./{file.name}", "type": KINDS[name][0], "roles": KINDS[name][1], "title": KINDS[name][2]}
            for name, file in assets.items()
        },
    }
    with writing(path):
        write_whole(path, (json.dumps(item, indent=1, allow_nan=False) + "\n").encode())
    return path


def done_before(path: Path, key: str) -> dict[str, Any] | None:
    """What an item tells of a scene that was mapped with this key, where all of its files are there."""
    try:
        item = json.loads(path.read_text(encoding="utf-8"))
        whole = all((path.parent / asset["href"]).is_file() for asset in item["assets"].values())
        told: dict[str, Any] = item["properties"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return told if whole and told.get("glidexp:key") == key else None
