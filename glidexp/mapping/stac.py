"""A STAC item of what was made of a scene: where it lies, what it shows, by which model, under which settings."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.affinity import translate

from glidexp.beside import write_bytes
from glidexp.data.builder.parts import writing
from glidexp.data.scenes.polygons import polygons_of
from glidexp.data.scenes.reading import Scene

VERSION = "1.0.0"
SLIVER = 1e-3
"""part of the smaller of two scenes up to which they share no ground, as tiles that were cut side by side"""
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
KINDS = {
    "probability": (COG, ["data"], "lake probability times 254; 255: no data"),
    "spread": (COG, ["data"], "standard deviation of the networks' probabilities times 254; 255: no data"),
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
    geometry, bbox = on_globe(scene.outline_lonlat)
    epsg = scene.crs.to_epsg()
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    when = f"{scene.file.date}T00:00:00Z" if scene.file.date else made
    item = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [PROJECTION],
        "id": path.stem,
        "geometry": shapely.geometry.mapping(geometry),
        "bbox": bbox,
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
        write_bytes(path, (json.dumps(item, indent=1, allow_nan=False) + "\n").encode())
    return path


def on_globe(outline: shapely.Polygon) -> tuple[shapely.Geometry, list[float]]:
    """An outline and its box (west, south, east, north) as RFC 7946 wants them: cut in two where it crosses 180 degrees
    (3.1.9), where the west of the box is then the larger number (5.2); around a pole it has all longitudes (5.3).

    Args:
        outline: in degrees, which go on beyond 180 or -180
    """
    west, south, east, north = outline.bounds
    whole = outline if outline.is_valid else polygons_of(shapely.make_valid(outline))
    if west >= -180 and east <= 180:
        return whole, [west, south, east, north]
    turn = -360.0 if east > 180 else 360.0
    there = shapely.box(180, -90, 540, 90) if turn < 0 else shapely.box(-540, -90, -180, 90)
    moved = translate(shapely.intersection(whole, there), turn)
    pieces = shapely.get_parts([shapely.intersection(whole, shapely.box(-180, -90, 180, 90)), moved])
    parts = [piece for piece in pieces if piece.geom_type == "Polygon" and not piece.is_empty]
    if east - west >= 360:
        return polygons_of(shapely.MultiPolygon(parts)), [-180.0, south, 180.0, north]
    west, east = (v + turn if not -180 <= v <= 180 else v for v in (west, east))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts), [west, south, east, north]


def done_before(path: Path, key: str) -> dict[str, Any] | None:
    """What an item tells of a scene that was mapped with this key, where all of its files are there."""
    try:
        item = json.loads(path.read_text(encoding="utf-8"))
        whole = all((path.parent / asset["href"]).is_file() for asset in item["assets"].values())
        told: dict[str, Any] = item["properties"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return told if whole and told.get("glidexp:key") == key else None


def sharing_ground(items: Sequence[Path]) -> list[str]:
    """Names of the maps that share ground with another one, of the items beside them."""
    told = [json.loads(path.read_text(encoding="utf-8")) for path in items]
    shapes = np.array([shapely.geometry.shape(one["geometry"]) for one in told], dtype=object)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    first, second = first[first != second], second[first != second]
    common = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    met = common > SLIVER * np.minimum(*(shapely.area(shapes[some]) for some in (first, second)))
    return [str(told[i]["id"]) for i in np.unique(first[met]).tolist()]
