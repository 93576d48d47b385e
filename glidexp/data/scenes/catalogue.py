"""Which scenes there are: a folder, one file, or a catalogue (CSV, GeoParquet, STAC items). No pixel is read here."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from glidexp.data import sensors
from glidexp.data.csv_rows import named_as_known, read_csv
from glidexp.data.scenes import products
from glidexp.data.scenes.dem import LEVELS_VERSION, read_of
from glidexp.data.scenes.stac import SUFFIXES, read_items
from glidexp.data.scenes.stand import WITH_HEADER, Row, headers, stand
from glidexp.data.scenes.vrt import sources_of
from glidexp.errors import DataError
from glidexp.wording import legible, many

log = logging.getLogger("glidexp")

PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar", ".tif.gz")
TABLES = (".csv", ".parquet", ".geoparquet", ".json", ".geojson")
COLUMNS = ("path", "scene", "sensor", "region", "date", "bands", "clouds")
KINDS = f"{', '.join(SUFFIXES)}, .img, ENVI's with a .hdr, .SAFE"
WHAT = f"a folder of scenes ({KINDS}), one of these, or a catalogue (CSV, GeoParquet, STAC JSON)"


@dataclass(frozen=True, slots=True)
class SceneFile:
    """A scene as the catalogue names it."""

    path: Path
    """its file; of several, the first"""
    scene: str
    sensor: str
    region: str = "unknown"
    date: str = ""
    bands: tuple[tuple[str, Path], ...] = ()
    """(name, file) of each band, where every band is a file of its own"""
    order: tuple[str, ...] = ()
    """names of the file's bands, where the catalogue gives them"""
    fill: float | None = None
    """value without data in band files that declare none"""
    clouds: Path | None = None
    """layer of clouds whose pixels are without data; None where clouds are left as they are"""
    dem: tuple[Path, ...] = ()
    """rasters of a DEM, of which some may lie elsewhere"""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the scene is read from; of a VRT also those that it refers to."""
        return tuple(dict.fromkeys(part for path in self.own for part in (path, *sources_of(path))))

    @property
    def stand(self) -> tuple[Row, ...]:
        """How its files, its DEM, and what beside them changes pixels, stand on disk: after a change it is another.

        Raises:
            OSError: one of them is not there
        """
        made: tuple[Row, ...] = (("levels of a DEM", LEVELS_VERSION, 0),) if self.dem else ()
        return made + tuple(row for path in (*self.files, *read_of(self.dem)) for row in stand(path))

    @property
    def own(self) -> tuple[Path, ...]:
        """The files that the catalogue names."""
        return (tuple(path for _, path in self.bands) or (self.path,)) + ((self.clouds,) if self.clouds else ())

    def require(self) -> None:
        """Refuses a scene whose files are not all there, or have names that GDAL cannot be told.

        Raises:
            DataError: names the first that is not
        """
        for path in self.own:
            if (name := legible(str(path))) != str(path):
                raise DataError(f"'{name}' has a name that is not in UTF-8: rename it.")
            if not path.is_file():
                raise DataError(
                    f"{path} of scene '{self.scene}' is not there: correct its path in the catalogue, or take it out."
                )


def find(
    root: Path,
    sensor: str,
    setting: str = "dataset.root",
    *,
    mask_clouds: bool = False,
    dem: tuple[Path, ...] = (),
) -> list[SceneFile]:
    """Scenes of a folder, of one file, or of a catalogue. Sorted by scene.

    In a folder every raster is a scene; files whose names say that they are bands of one product are one scene, and so
    are a .SAFE folder and a folder that holds the band files of a product. What a VRT refers to is no scene of its own.
    Of a catalogue only `path` is needed; paths are relative to it. That one is there is seen when its scene is
    read, so that it stops no other.

    Args:
        root: folder, raster or catalogue
        sensor: sensor of every scene that does not name its own
        setting: names `root` in messages
        mask_clouds: pixels under clouds are without data, of scenes that have a layer of them
        dem: rasters of a DEM that lies under the scenes

    Raises:
        DataError: nothing there, a scene named twice
        ConfigError: a sensor outside the registry
    """
    if not root.exists():
        raise DataError(f"{setting}={root} does not exist: give {WHAT}.")
    if root.is_dir():
        files = _of_folder(root, sensor)
    elif root.suffix.lower() in TABLES:
        files = list(_of_rows(root, sensor))
    elif _is_packed(root):
        raise DataError(f"{setting}={root} is packed: unpack it, and give what was in it.")
    else:
        files = [SceneFile(path=root, scene=root.stem, sensor=sensor)]
    if not files and root.is_file():
        raise DataError(f"{root} has no rows: write one a scene below its first line.")
    if not files:
        packed = next((path.name for path in sorted(root.iterdir()) if _is_packed(path)), None)
        way = f"unpack what is packed there, as {packed}" if packed else f"give {WHAT}"
        raise DataError(f"{setting}={root} holds no scene: {way}.")
    seen: set[str] = set()
    for file in files:
        sensors.get(file.sensor, f"sensor of scene {file.scene}")
        if file.scene in seen:
            raise DataError(f"scene '{file.scene}' comes twice in {root}: give every scene a name of its own.")
        seen.add(file.scene)
    found = (replace(file, clouds=file.clouds if mask_clouds else None, dem=dem) for file in files)
    return sorted(found, key=lambda file: file.scene)


def check_clouds(files: Sequence[SceneFile], setting: str) -> None:
    """Says which scenes have no layer of clouds, where clouds are to be masked.

    Args:
        files: from `find` with `mask_clouds`
        setting: that asks for it, in messages

    Raises:
        DataError: none has one
    """
    lacking = [file.scene for file in files if file.clouds is None]
    if len(lacking) == len(files):
        raise DataError(
            f"{setting}: no scene has a layer of clouds, which is a product's QA_PIXEL (Landsat Collection 2), SCL "
            "(Sentinel-2 L2A) or Fmask (HLS), or what the column clouds of a catalogue names: add it, or leave the "
            "setting out."
        )
    if lacking:
        first, count = lacking[0], len(lacking)
        log.warning("%d of %d scenes, as %s, have no layer of clouds: theirs stay.", count, len(files), first)


def _is_packed(path: Path) -> bool:
    """Whether this is an archive, as providers hand out products."""
    return path.is_file() and path.name.lower().endswith(PACKED)


def _is_raster(path: Path) -> bool:
    """Whether a file of a folder is a scene by its name; ENVI's endings are those of other files too."""
    ending = path.suffix.lower()
    return ending in (*SUFFIXES, ".img") or (ending in WITH_HEADER and any(map(Path.is_file, headers(path))))


def _of_folder(root: Path, sensor: str) -> list[SceneFile]:
    if root.suffix.lower() == products.SAFE:
        return [_of_bands(group, sensor) for group in products.in_safe(root)]
    entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    rasters = [path for path in entries if _is_raster(path) and path.is_file()]
    shown = {source.resolve() for path in rasters for source in sources_of(path)}
    groups, alone = products.grouped(path for path in rasters if path.resolve() not in shown)
    files = [SceneFile(path=path, scene=path.stem, sensor=sensor) for path in alone]
    for folder in entries:
        if not folder.is_dir():
            continue
        if folder.suffix.lower() == products.SAFE:
            groups += products.in_safe(folder)
        elif sensors.of_product(folder.name):
            groups += products.grouped(filter(_is_raster, folder.iterdir()))[0]
        elif missed := sum(map(_is_raster, folder.iterdir())):
            log.warning(
                "%s: %d rasters in it are not read; give the folder itself, or a table of scenes.", folder, missed
            )
    return files + [_of_bands(group, sensor) for group in groups]


def _of_bands(group: products.BandFiles, sensor: str, clouds: Path | None = None, **known: str) -> SceneFile:
    name = products.sensor_of(group.stem, sensor)
    return SceneFile(
        path=group.files[0][1],
        scene=known.get("scene") or group.stem,
        sensor=name,
        region=known.get("region") or "unknown",
        date=known.get("date") or products.date_of(group.stem),
        bands=products.named(group, name),
        fill=products.FILL,
        clouds=clouds or group.clouds,
    )


def _of_rows(table: Path, sensor: str) -> Iterator[SceneFile]:
    suffix = table.suffix.lower()
    if suffix in (".json", ".geojson"):
        for item in read_items(table):
            own = sensors.of_product(item.platform) or sensor
            yield SceneFile(
                path=item.path,
                scene=item.scene,
                sensor=own,
                region=item.region,
                date=_day(table, item.date),
                bands=_renamed(item.bands, own),
                order=item.order,
                fill=_fill(own) if item.bands else None,
                clouds=item.clouds,
            )
        return
    rows = _parquet_rows(table) if suffix != ".csv" else _csv_rows(table)
    for row in rows:
        if row.get("path") or "=" in row.get("bands", ""):
            yield _of_row(table, row, sensor)
        elif lost := " ".join(value for value in (row.get(name, "") for name in COLUMNS) if value):
            raise DataError(
                f"{table}: the row '{lost}' has no path: write the scene's file there, or take the row out."
            )


def _renamed(bands: Sequence[tuple[str, Path]], sensor: str) -> tuple[tuple[str, Path], ...]:
    """Bands that are named by a code (B04), named as the registry does."""
    entry = sensors.get(sensor, "sensor")
    return tuple({entry.band_of(name) or name: path for name, path in reversed(bands)}.items())[::-1]


def _fill(sensor: str) -> float | None:
    """0 for the band files of a provider whose band codes are known, which fill with 0 and may not declare it."""
    return products.FILL if sensors.get(sensor, "sensor").codes else None


def _of_row(table: Path, row: Mapping[str, str], sensor: str) -> SceneFile:
    path = table.parent / row.get("path", "")
    own, clouds = row.get("sensor") or sensor, table.parent / row["clouds"] if row.get("clouds") else None
    known = {key: row.get(key, "") for key in ("scene", "region")} | {"date": _day(table, row.get("date", ""))}
    said = [part.strip() for part in (row.get("bands", "").replace(",", ";").replace(" ", ";")).split(";")]
    said = [part for part in said if part]
    if any("=" in part for part in said):
        folder = path if path.is_dir() else path.parent
        pairs = [part.partition("=") for part in said]
        if any(not (name and equals and file) for name, equals, file in pairs):
            raise DataError(f"{table}: bands '{row['bands']}' must be 'red=FILE green=FILE ...' or 'blue green red'.")
        bands = tuple((name.lower(), folder / file) for name, _, file in pairs)
        if len(dict(bands)) < len(bands):
            raise DataError(f"{table}: bands '{row['bands']}' name a band twice: leave one file for each.")
        scene = known["scene"] or Path(pairs[0][2]).stem
        region = known["region"] or "unknown"
        return SceneFile(bands[0][1], scene, own, region, known["date"], bands, fill=_fill(own), clouds=clouds)
    if path.is_dir():
        safe = path.suffix.lower() == products.SAFE
        inside = (file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        groups = products.in_safe(path) if safe else products.grouped(inside)[0]
        if len(groups) != 1:
            raise DataError(
                f"{path}, named by {table}, holds {many(len(groups), 'scene')} of one file a band: name a folder "
                "that holds "
                "one, or the files in the column bands."
            )
        return _of_bands(groups[0], own, clouds, **known)
    return SceneFile(
        path=path,
        scene=known["scene"] or path.stem,
        sensor=own,
        region=known["region"] or "unknown",
        date=known["date"],
        order=tuple(part.lower() for part in said),
        clouds=clouds,
    )


def _day(table: Path, text: str) -> str:
    """A day as 2020-10-12, of that, of a time on it, or of 20201012; "" of "". Maps carry it."""
    try:
        return date.fromisoformat(text.replace("T", " ").split()[0]).isoformat() if text else ""
    except (ValueError, IndexError):
        raise DataError(f"{table}: the date '{text}' is no day like 2020-10-12: write it so.") from None


def _csv_rows(table: Path) -> list[dict[str, str]]:
    columns, rows = read_csv(table, known=COLUMNS)
    _need_path(table, columns)
    return rows


def _parquet_rows(table: Path) -> list[dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        written = pq.read_schema(table).names
        names = dict(zip(written, named_as_known(table, written, COLUMNS), strict=True))
        _need_path(table, list(names.values()))
        rows = pq.read_table(table, columns=[own for own, name in names.items() if name in COLUMNS]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table} cannot be read as GeoParquet: {' '.join(str(error).split())[:120]}.") from None
    return [{names[key]: "" if value is None else _text(value) for key, value in row.items()} for row in rows]


def _text(value: Any) -> str:
    return ";".join(map(str, value)) if isinstance(value, list) else str(value).strip()


def _need_path(table: Path, header: Sequence[str]) -> None:
    if "path" not in header:
        held = f" but '{' '.join(','.join(header).split())[:80]}'" if header else ""
        raise DataError(
            f"{table} has no column 'path'{held}: its first line must name columns like {','.join(COLUMNS)}, with "
            "commas between."
        )
