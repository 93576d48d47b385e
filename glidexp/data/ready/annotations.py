"""Labels that are outlines instead of pictures: COCO (polygons and run lengths) and GeoJSON, drawn on their image.

A pixel is lake where its centre lies in an outline, as everywhere.
"""

import fnmatch
import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.data.ready.layout import Source, children
from glidexp.data.ready.pairs import Drawn, Pair, images_of, number_of
from glidexp.data.scenes.polygons import check_coordinates, polygons_of
from glidexp.errors import DataError
from glidexp.wording import does, many

Mask = npt.NDArray[np.bool_]
Place = tuple[tuple[float, ...] | None, str]
"""transform and CRS of an image"""


def pairs_of(root: Source, images: str, labels: str) -> list[Pair]:
    """Images with outlines from COCO files or from GeoJSON.

    Args:
        root: folder
        images: rule for images, as of `find_pairs`
        labels: COCO files by path, * within a folder (`annotations/instances_*.json`), or GeoJSON: one file for all
            images, which then need a position, or with {id} one an image

    Raises:
        DataError: no such file, an image without entry or an entry without image, other categories than lake
    """
    from glidexp.data.ready.pictures import allow_no_position

    allow_no_position()
    pictures = images_of(root, images)
    if not pictures:
        raise DataError(f"{root} holds no picture that fits '{images}': correct dataset.root or dataset.images.")
    files = {path: file for path, file in children(root) if fnmatch.fnmatchcase(path, labels.replace("{id}", "*"))}
    if not files:
        raise DataError(f"{root} holds no file {labels}: correct dataset.labels.")
    found: dict[str, Drawn] = {}
    if "{id}" in labels:
        for key, (picture, _) in pictures.items():
            own = files.get(labels.replace("{id}", key))
            if own is None:
                raise DataError(f"{root}: {labels.replace('{id}', key)} for {picture} is not there: add it.")
            found[key] = _of_geojson(own, _json(own))
    else:
        contents = {path: _json(file) for path, file in files.items()}
        if all(content.get("type") == "FeatureCollection" for content in contents.values()):
            if len(files) > 1:
                raise DataError(
                    f"{root}: {labels} names {len(files)} files of GeoJSON; one, or one an image by {{id}}."
                )
            path = next(iter(files))
            found = dict.fromkeys(pictures, _of_geojson(files[path], contents[path]))
        else:
            for path, content in contents.items():
                _add_coco(found, pictures, files[path], content)
    lacking = sorted(pictures.keys() - found.keys())
    if lacking:
        raise DataError(
            f"{root}: {many(len(lacking), 'image')} {does(len(lacking), 'stand')} in none of the annotation "
            f"files, first {pictures[lacking[0]][0]}: "
            "remove them, or add them without annotations."
        )
    pairs = [Pair(key, number_of(key), pictures[key][1], found[key]) for key in pictures]
    return sorted(pairs, key=lambda pair: (pair.number, pair.name))


def _json(file: Source) -> dict[str, Any]:
    from glidexp.data.ready.pictures import read_bytes

    try:
        content = json.loads(read_bytes(file))
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} is neither COCO nor GeoJSON: an object with images or features is expected.")
    return content


def _add_coco(
    found: dict[str, Drawn], pictures: dict[str, tuple[str, Source]], file: Source, content: dict[str, Any]
) -> None:
    try:
        entries = {image["id"]: image for image in content["images"]}
        by_image: dict[Any, list[dict[str, Any]]] = {number: [] for number in entries}
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        used = {annotation["category_id"] for annotation in content["annotations"]}
        names = {c["id"]: str(c["name"]) for c in content.get("categories", []) if c["id"] in used}
    except (KeyError, TypeError) as error:
        raise DataError(f"{file} is no COCO file: {error!r} is missing or of another kind.") from None
    lakes = {number for number, name in names.items() if "lake" in name.lower()} if len(used) > 1 else used
    if used and not lakes:
        raise DataError(f"{file} has the categories {', '.join(sorted(names.values()))}: none is called lake.")
    by_path = {path: key for key, (path, _) in pictures.items()}
    by_tail: dict[str, list[str]] = {}
    for path, key in by_path.items():
        parts = PurePosixPath(path).parts
        for i in range(1, len(parts)):
            by_tail.setdefault("/".join(parts[i:]), []).append(key)
    for number, entry in entries.items():
        name = str(entry.get("file_name"))
        keys = [by_path[name]] if name in by_path else by_tail.get(name, [])
        if len(keys) != 1:
            raise DataError(f"{file}: image '{name}' is {'not there' if not keys else 'there more than once'}.")
        if keys[0] in found:
            raise DataError(f"{file}: image '{name}' has an entry already.")
        parts_ = [a.get("segmentation") for a in by_image[number] if a["category_id"] in lakes]
        found[keys[0]] = Drawn(Path(str(file)), f"{file}, image {name}", _coco_drawer(parts_, file, name))


def _coco_drawer(parts: Sequence[Any], file: Source, name: str) -> Callable[[int, int, Place], Mask]:
    def draw(height: int, width: int, _: Place) -> Mask:
        mask = np.zeros((height, width), dtype=bool)
        try:
            for part in parts:
                mask |= _mask_of(part, height, width)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(f"{file}, image {name}: a segmentation cannot be read: {error}.") from None
        return mask

    return draw


def _mask_of(part: Any, height: int, width: int) -> Mask:
    import shapely

    if not part:
        raise ValueError("an annotation has none, and a box is no outline")
    if isinstance(part, dict):
        if list(part["size"]) != [height, width]:
            raise ValueError(f"size {part['size']} where the image is {[height, width]}")
        counts = part["counts"]
        return mask_of(_unpacked(counts) if isinstance(counts, str) else counts, height, width)
    rings = [np.asarray(ring, dtype=float).reshape(-1, 2) for ring in part]
    if not all(np.isfinite(ring).all() for ring in rings):
        raise ValueError("a coordinate is no number")
    return _drawn([shapely.make_valid(shapely.Polygon(ring)) for ring in rings if len(ring) > 2], height, width)


def _unpacked(text: str) -> list[int]:
    """COCO's compressed counts: five bits a character from 48 on, bit 6 for more, differences to the run before last.

    Source: rleFrString of https://github.com/cocodataset/cocoapi (maskApi.c).
    """
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            word = ord(text[position]) - 48
            value |= (word & 0x1F) << shift
            more, shift, position = bool(word & 0x20), shift + 5, position + 1
            if not more and word & 0x10:
                value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def runs_of(mask: Mask) -> list[int]:
    """COCO's run lengths of a mask (H, W): down the columns, background first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], edges, [mask.size]]))]


def mask_of(runs: Sequence[int], height: int, width: int) -> Mask:
    """The mask (H, W) of COCO's run lengths.

    Raises:
        ValueError: the runs do not fill the mask
    """
    lengths = np.asarray(runs, dtype=np.int64)
    if lengths.sum() != height * width or (lengths < 0).any():
        raise ValueError(f"runs of {int(lengths.sum())} pixels where {height * width} belong")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape((height, width), order="F")


def _of_geojson(file: Source, content: dict[str, Any]) -> Drawn:
    """Outlines in pixels for an image without position, else in the CRS that the file names, or WGS84."""
    import shapely

    try:
        texts = [json.dumps(feature["geometry"]) for feature in content["features"] if feature["geometry"]]
        shapes = shapely.make_valid(shapely.force_2d(shapely.from_geojson(texts)))
    except (KeyError, TypeError, shapely.errors.GEOSException) as error:
        raise DataError(f"{file} is no GeoJSON of polygons: {' '.join(str(error).split())}.") from None
    shapes = np.array([polygons_of(shape) for shape in shapes], dtype=object)
    if len(shapes) and shapely.is_empty(shapes).all():
        raise DataError(
            f"{file} holds {many(len(shapes), 'feature')} but no polygon: give outlines, not points or lines."
        )

    def draw(height: int, width: int, place: Place) -> Mask:
        geometries, (transform, image_crs) = list(shapes), place
        if transform is not None and image_crs and geometries:
            import geopandas

            crs = _crs_of(file, content)  # of outlines in pixels nobody asks
            check_coordinates(Path(str(file)), "dataset.labels", shapes, crs)
            series = geopandas.GeoSeries(geometries, crs=crs).to_crs(image_crs)
            a, b, c, d, e, f = transform
            det = a * e - b * d
            inverse = [e / det, -b / det, -d / det, a / det, (b * f - e * c) / det, (d * c - a * f) / det]
            geometries = list(series.affine_transform(inverse))
        elif geometries:
            x0, y0, x1, y1 = shapely.total_bounds(np.asarray(geometries))
            if min(x0, y0) < -1 or x1 > width + 1 or y1 > height + 1:
                raise DataError(
                    f"{file} reaches from {x0:g}, {y0:g} to {x1:g}, {y1:g}, but its image of {width} x {height} px has "
                    "no position: outlines must be in pixels then, from the upper left corner."
                )
        return _drawn(geometries, height, width)

    return Drawn(Path(str(file)), str(file), draw)


def _crs_of(file: Source, content: dict[str, Any]) -> Any:
    """The CRS that a GeoJSON names, or WGS84.

    Raises:
        DataError: it names none that there is
    """
    import pyproj
    import pyproj.exceptions

    try:
        name = str(content["crs"]["properties"]["name"]) if content.get("crs") else "EPSG:4326"
        return pyproj.CRS.from_user_input(name)
    except (KeyError, TypeError, pyproj.exceptions.CRSError):
        raise DataError(
            f"{file} names a CRS that is none: write it anew (ogr2ogr), or take crs out for WGS84."
        ) from None


def _drawn(geometries: Sequence[Any], height: int, width: int) -> Mask:
    """Outlines in pixels, drawn."""
    from rasterio.features import rasterize

    # a line that a repair leaves of a spike would be drawn as well
    shapes = [shape for shape in map(polygons_of, geometries) if not shape.is_empty]
    if not shapes:
        return np.zeros((height, width), dtype=bool)
    out: npt.NDArray[np.uint8] = rasterize(shapes, out_shape=(height, width), dtype="uint8")
    return out.astype(bool)
