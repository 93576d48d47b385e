"""`glidexp qgis`: what it takes, and what it prints."""

import logging
import math
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.config import Tta
from glidexp.config.ranges import within
from glidexp.errors import ConfigError
from glidexp.mapping.settings import MapSettings, StretchFrom
from glidexp.options import Parser, above_0, filled, out_folder, store_options

if TYPE_CHECKING:
    from glidexp.data.scenes.catalogue import SceneFile

log = logging.getLogger("glidexp")
ENDING = ".onnx"
SIDES = (32, 4096)
MOST_OVERLAP = 75


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp qgis",
        usage="glidexp qgis MODEL [SCENE] --out FILE.onnx [options]",
        description="Writes a model as one file that the QGIS plugin Deepness opens, all parameters filled in: for a "
        "scene's raw values, stretched inside as its map would be, or for pictures of 8 bit.",
    )
    parser.add_argument(
        "model", type=filled, metavar="MODEL", help="run id, checkpoint (.pt), folder of a bundle, models:/NAME@ALIAS"
    )
    parser.add_argument(
        "scene", type=filled, metavar="SCENE", nargs="?", help="the raster that is to be mapped (default: pictures)"
    )
    parser.add_argument("--out", type=filled, required=True, metavar="FILE.onnx", help="the file")
    parser.add_argument(
        "--gsd-m",
        type=above_0,
        metavar="M",
        help="side of the layer's pixels, metres (default: SCENE's, or trained on)",
    )
    parser.add_argument(
        "--tile-px", type=int, default=0, metavar="PX", help="side of a tile (default: a window of glidexp predict)"
    )
    parser.add_argument(
        "--overlap", type=int, metavar="PERCENT", help="of tiles (default: that of glidexp predict, or more)"
    )
    parser.add_argument("--threshold", type=float, help="probability of a lake (default: the model's own)")
    parser.add_argument(
        "--tta", choices=[*map(str, Tta)], help="mean over flips or turns (default: as the model was scored)"
    )
    parser.add_argument("--stretch", choices=[*map(str, StretchFrom)], default="auto", help="limits (default: auto)")
    parser.add_argument(
        "--no-data", type=float, metavar="VALUE", help="of all bands where there are no data (default: as SCENE says)"
    )
    parser.add_argument(
        "--raster", action="store_true", help="the plugin leaves the probability in per cent, not outlines"
    )
    parser.add_argument("--sensor", default="unknown", help="of a layer that names none (default: unknown)")
    parser.add_argument("--sensors-file", metavar="YAML", help="sensors of your own, added to the registry")
    store_options(parser)
    return parser


def run(argv: list[str]) -> int:
    """Writes the file, says what it takes; gives the exit code."""
    given = options().parse_intermixed_args(argv)
    settings, out = _settings(given), _place(given.out)
    from glidexp.data import sensors

    if given.sensors_file:
        sensors.register_file(given.sensors_file)
    sensors.get(given.sensor, "--sensor")
    file = _scene(given.scene, given.sensor) if given.scene else None
    from glidexp.models.load import find_named
    from glidexp.release.qgis import Asked, write

    asked = Asked(
        sensor=given.sensor, gsd_m=given.gsd_m, tile_px=given.tile_px, overlap=given.overlap, no_data=given.no_data,
        raster=given.raster, map=settings,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        found = find_named(given.model, mlruns=given.mlruns, uri=given.uri, folder=Path(aside))
        with out_folder(out):
            made = write(found, file, asked, out)
    for word in made.warnings:
        log.warning("warning: %s", word)
    print(f"{out}: in QGIS's plugin Deepness, load it and press Load default parameters")
    for line in made.said:
        print(f"  {line}")
    return 0


def _settings(given: Namespace) -> MapSettings:
    """What decides of the answers, as `glidexp predict` takes it.

    Raises:
        ConfigError: a value outside its range
    """
    if given.gsd_m is not None:
        within("--gsd-m", given.gsd_m, 0.01, 1000, "metres, as a layer's properties in QGIS say")
    if given.tile_px and not SIDES[0] <= given.tile_px <= SIDES[1]:
        raise ConfigError(f"--tile-px={given.tile_px} is outside {SIDES[0]} to {SIDES[1]}.")
    if given.overlap is not None and not 0 <= given.overlap <= MOST_OVERLAP:
        raise ConfigError(f"--overlap={given.overlap} is outside 0 to {MOST_OVERLAP} per cent.")
    if given.no_data is not None and not math.isfinite(given.no_data):
        raise ConfigError(f"--no-data={given.no_data} is no value of a layer: give a number, such as 0.")
    return MapSettings(
        tta=Tta(given.tta) if given.tta else None, threshold=given.threshold, stretch=StretchFrom(given.stretch)
    )


def _place(text: str) -> Path:
    """Where the file is to be.

    Raises:
        ConfigError: a folder, or another ending
    """
    out = Path(text).expanduser()
    if out.suffix.lower() != ENDING or out.is_dir():
        raise ConfigError(f"--out={text} must be a file that ends with {ENDING}, such as lakes{ENDING}.")
    return out


def _scene(place: str, sensor: str) -> "SceneFile":
    """The one scene of a place.

    Raises:
        ConfigError: several
        DataError: none
    """
    from glidexp.mapping.verb_predict import scenes_of

    files = scenes_of([place], sensor)
    if len(files) > 1:
        raise ConfigError(
            f"SCENE={place} holds {len(files)} scenes, as {files[0].scene}: name one, since each has its own stretch."
        )
    return files[0]
