"""Scenes that come as one file a band: told by the names that providers give, or listed in a Sentinel-2 SAFE folder.

Nothing is opened here. Which band a file holds follows from its code (B4, SR_B4, VV) and the sensor's list of codes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from glidexp.data import sensors
from glidexp.data.scenes import clouds
from glidexp.errors import DataError
from glidexp.wording import does, many

SAFE = ".safe"
_BAND = re.compile(
    r"(?P<stem>.+?)(?:_|(?<=\.v\d\.\d)\.)(?:(?:SR|ST|TOA)_)?(?P<code>B\d{1,2}A?|[VH][VH])(?:_VCID_\d)?(?:_(?P<res>\d{2})m)?\.(?:tiff?|jp2)",
    re.I,
)
_DATE = re.compile(r"(?<!\d)((?:19|20)\d{2})(0[1-9]|1[0-2])([0-2]\d|3[01])(?!\d)")
_SENSED = re.compile(r"^S2[A-D]_OPER_.*_V(\d{4})(\d{2})(\d{2})T")
_DAY_OF_YEAR = re.compile(r"L[A-Z]\d{7}((?:19|20)\d{2})(\d{3})")
_HLS_DAY = re.compile(r"HLS\.[LS]30\.T\w{5}\.(\d{4})(\d{3})T")
_BASELINE = re.compile(r"S2[A-D]_MSI\w*?_N(\d{4})_R\d{3}_")
RAISED_FROM = 400
"""processing baseline of Sentinel-2 (04.00, since 25 January 2022) from which all values are 1000 higher"""
_RADAR = re.compile(r"S1[A-D]_|OPERA_L2_RTC-S1_", re.I)
_RADAR_LAYERS = re.compile(r"dem|inc_map(?:_ell)?|ls_map|area|rgb|mask", re.I)
"""what the names of ASF's and OPERA's files that are neither polarisations nor scenes end with, after the scene's"""
FILL = 0.0
"""value of pixels without data in files of a band that declare none, as those of Landsat and Sentinel-2 may not"""


@dataclass(frozen=True, slots=True)
class BandFiles:
    """The band files of one scene."""

    stem: str
    """what their names share"""
    files: tuple[tuple[str, Path], ...]
    """(code, file), one a code, finest first, ascending"""
    clouds: Path | None = None
    """the provider's layer of clouds"""


def grouped(paths: Iterable[Path]) -> tuple[list[BandFiles], list[Path]]:
    """Files that are bands of one scene by their names, and those that are not, but for further layers of products.

    A file alone is no group: it may hold several bands, whatever its name says.
    """
    found: dict[tuple[Path, str], list[tuple[str, int, Path]]] = {}
    others: list[Path] = []
    for path in sorted(paths):
        match = _BAND.fullmatch(path.name)
        if match:
            found.setdefault((path.parent, match["stem"]), []).append(
                (match["code"].upper(), int(match["res"] or 0), path)
            )
        else:
            others.append(path)
    groups, layers = [], set[Path]()
    for (folder, stem), members in found.items():
        if len(members) == 1:
            others.append(members[0][2])
            continue
        first: dict[str, Path] = {}
        for code, _, path in sorted(members):
            first.setdefault(code, path)
        own = [p for p in others if p.parent == folder and _is_layer(p, stem)]
        layers.update(own)
        groups.append(BandFiles(stem, tuple(first.items()), clouds.of_product(own)))
    return groups, sorted(set(others) - layers)


def _is_layer(path: Path, stem: str) -> bool:
    """Whether a file belongs to the product of these bands without being one, such as LC08_..._QA_PIXEL.TIF."""
    if not path.name.startswith((f"{stem}_", f"{stem}.")):
        return False
    kinds = (clouds.LAYERS, _RADAR_LAYERS) if _RADAR.match(stem) else (clouds.LAYERS,)
    return any(kind.fullmatch(path.stem[len(stem) + 1 :]) for kind in kinds)


def in_safe(folder: Path) -> list[BandFiles]:
    """The band files of a Sentinel-2 product, L1C or L2A: of each band the finest; one entry a granule.

    Raises:
        DataError: no band file where the format has them; a product of Sentinel-1
    """
    if _RADAR.match(folder.name):
        raise DataError(
            f"{folder} is Sentinel-1 as it was sensed, not on the ground: correct it for the terrain first (SNAP, or "
            "the RTC products of ASF), as GeoTIFFs that end with _VV.tif and _VH.tif, and take the folder out."
        )
    granules = sorted(folder.glob("GRANULE/*/IMG_DATA"))
    found = []
    for granule in granules:
        files: dict[str, Path] = {}
        # L2A has a band at its own resolution and at coarser ones, in folders R10m, R20m, R60m
        for _, code, path in sorted(
            (int(match["res"] or 0), match["code"].upper(), path)
            for path in granule.rglob("*")
            if (match := _BAND.fullmatch(path.name))
        ):
            files.setdefault(code, path)
        if files:
            stem = folder.stem if len(granules) == 1 else f"{folder.stem}_{granule.parent.name}"
            layer = clouds.of_product(granule.rglob("*_SCL_*"))
            found.append(BandFiles(stem, tuple(sorted(files.items())), layer))
    if not found:
        raise DataError(
            f"{folder} holds no band file at GRANULE/*/IMG_DATA: unpack the whole product, or take the folder out."
        )
    return found


def sensor_of(stem: str, given: str) -> str:
    """The sensor of a product: by its name where that tells it, else the one given.

    Raises:
        DataError: the name tells another one than was given, whose bands have other codes
    """
    told = sensors.of_product(stem)
    if told and given not in (told, sensors.UNKNOWN):
        raise DataError(f"{stem} is of {told} by its name, but its sensor is given as {given}: correct that.")
    return told or given


def named(group: BandFiles, sensor: str) -> tuple[tuple[str, Path], ...]:
    """(band, file) by the codes of the sensor; a code that the sensor does not list keeps its own name, lower case.

    Raises:
        DataError: the sensor has no codes, so that nobody says what B4 is
    """
    entry = sensors.get(sensor)
    if not entry.codes:
        raise DataError(
            f"{group.files[0][1]}: which band {group.files[0][0]} is depends on the sensor, and {sensor} has no band "
            "codes: set dataset.sensor, or the catalogue's columns sensor or bands."
        )
    names: dict[str, Path] = {}
    for code, path in group.files:
        names.setdefault(entry.band_of(code) or code.lower(), path)
    return tuple(names.items())


def date_of(stem: str) -> str:
    """Day of acquisition in a product's name, as 2020-10-12; "" where there is none."""
    # names of Sentinel-2 until 2016 begin with the day of processing
    match = _SENSED.search(stem) or _DATE.search(stem.replace("T", "_").replace("-", "_"))
    if match:
        return "-".join(match.groups())
    old = _DAY_OF_YEAR.match(stem) or _HLS_DAY.match(stem)
    if old:
        from datetime import date, timedelta

        return (date(int(old[1]), 1, 1) + timedelta(int(old[2]) - 1)).isoformat()
    return ""


def raised(name: str) -> bool | None:
    """Whether a name or path tells a baseline of Sentinel-2 whose values are 1000 higher; None: it tells none."""
    match = _BASELINE.search(name)
    return int(match[1]) >= RAISED_FROM if match else None


def mixed_baselines(names: Iterable[str]) -> str:
    """A sentence where names of Sentinel-2 products tell that the values of some are 1000 higher than those of others;
    "" where they do not. Each with a stretch of its own shows nothing of that, one stretch for both does.

    Args:
        names: of scenes, or paths of their files
    """
    sides: dict[bool, list[str]] = {True: [], False: []}
    for name in names:
        if match := _BASELINE.search(name):
            sides[int(match[1]) >= RAISED_FROM].append(match[0].strip("_"))
    if not sides[True] or not sides[False]:
        return ""
    late, early = sides[True], sides[False]
    return (
        f"{many(len(late), 'scene')} of Sentinel-2 {does(len(late), 'are')} of processing baseline 04.00 or "
        "later, whose values are 1000 higher "
        f"({late[0]} ...), and {len(early)} of an earlier one ({early[0]} ...), but one stretch is for both: "
        "set dataset.stretch.scope=scene with method percentile or minmax, or bring them to one baseline."
    )
