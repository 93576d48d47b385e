"""Which bands of a file are red, green and blue, or whatever is asked for."""

import re
from collections.abc import Sequence

import rasterio
from rasterio.enums import ColorInterp

from glidexp.config.data import TERRAIN
from glidexp.data import sensors
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.sensors import RGB, Sensor
from glidexp.errors import DataError
from glidexp.wording import many

OF_DEM = ", give a DEM, which these come of (dataset.dem, of maps --dem)"
_SHORT = {"r": "red", "g": "green", "b": "blue"}
_CODE = re.compile(r"(?:(?:sr|st|toa)_)?(b\d{1,2}a?)(?![a-z0-9])", re.I)
"""a provider's code at the beginning of a band's name: B4, SR_B4, "B4, central wavelength 665 nm\""""


def choose(
    file: SceneFile, source: rasterio.DatasetReader, names: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Numbers of the named bands: by the file's band names, its colours, the sensor's order; R, G, B else by place.

    Args:
        file: the scene; its `order` goes before what the file says
        source: its opened file
        names: lower-case names of bands

    Returns:
        numbers from 1, in the order of the names, and warnings

    Raises:
        DataError: nobody says which bands these are, or the file's names say that they are others
    """
    if file.order and len(file.order) != source.count:
        raise DataError(
            f"{file.path} has {many(source.count, 'band')}, the catalogue names {len(file.order)} "
            f"({', '.join(file.order)}): "
            "name every band in its order."
        )
    sensor = sensors.get(file.sensor)
    said = [(text or "").strip() for text in file.order or source.descriptions]
    described = [_plain(text, sensor) for text in said]
    if all(described.count(name) == 1 for name in names):
        return tuple(described.index(name) + 1 for name in names), ()
    colours = [i for i, kind in enumerate(source.colorinterp, start=1) if kind != ColorInterp.alpha]
    numbers, how = _by_place([c.name for c in source.colorinterp], colours, sensor, names)
    sure = bool(numbers) and not _contradicted(described, numbers, names)
    if file.order and sure:  # who names bands means them: no colour or place is taken instead
        unknown = ", ".join(name for name in names if described.count(name) != 1)
        raise DataError(
            f"{file.path}: the catalogue names its bands {', '.join(file.order)}, of which none or more than one is "
            f"{unknown}: name them as 'blue green red nir', or leave the column bands empty."
        )
    if sure:
        given = ", ".join(text for text in said if text)
        unnamed = f"names its bands {given}, which tells no colour" if given else "names no bands"
        return numbers, (f"{file.path} {unnamed}: {how}",) if how else ()
    lacking = [name for name in names if name not in described]
    none = "none is named" if len(lacking) == len(names) else "none or more than one is named"
    held = f"{many(len(colours), 'band')}"
    way = (
        "set band descriptions, name the bands in the column bands of a catalogue, such as 'blue green red nir', or "
        "name a sensor whose band order fits (dataset.sensor, of maps --sensor)"
    )
    if numbers:
        held += f" named {', '.join(said)}"
        way = (
            f"give a file that holds {', '.join(names)}, correct its band descriptions (the catalogue's bands), or "
            "build on other bands (dataset.bands)"
        )
    elif len(colours) == 1:
        held = "one band"
        way = "give the folder of a product's band files, a table whose column bands names them, or a VRT of them"
    if lacking and {*lacking} <= {*TERRAIN}:
        way = OF_DEM.removeprefix(", ")
    raise DataError(f"{file.path} has {held} and {none} {', '.join(lacking or names)}: {way}.")


def _plain(text: str, sensor: Sensor) -> str:
    """A band's name as the registry has it: of a code of the sensor the band, of a letter the colour."""
    code = _CODE.match(text)
    return (sensor.band_of(code[1]) if code else "") or _SHORT.get(text.lower(), text.lower())


def _by_place(
    meant: Sequence[str], colours: list[int], sensor: Sensor, names: tuple[str, ...]
) -> tuple[tuple[int, ...], str]:
    """Numbers of bands by the file's colours, else by the sensor's order, else of three; and a word on what was taken
    for granted. No numbers where none of these says anything."""
    if all(meant.count(name) == 1 for name in names):
        return tuple(meant.index(name) + 1 for name in names), ""
    order = sensor.bands
    if len(order) == len(colours) and set(names) <= set(order):
        numbers = tuple(colours[order.index(name)] for name in names)
        return numbers, f"taken in the order of {sensor.name} ({', '.join(order)})."
    if len(colours) == 3 and names == RGB:
        return tuple(colours), "its three are taken as R, G, B."
    return (), ""


def _contradicted(described: Sequence[str], numbers: Sequence[int], names: Sequence[str]) -> bool:
    """Whether a band to be taken has the name of another one, as the near infrared of a false-colour picture."""
    known = {band for name in sensors.names() for band in sensors.get(name).bands}
    return any(
        described[number - 1] in known and described[number - 1] != name
        for number, name in zip(numbers, names, strict=True)
    )
