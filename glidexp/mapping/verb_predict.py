"""`glidexp predict`: a model and scenes to maps of lakes."""

import logging
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.beside import write_text
from glidexp.config import Precision, Tta
from glidexp.data.host_memory import free_host_bytes
from glidexp.data.workers import CLUSTERS, Crew, cores, mapped
from glidexp.errors import ConfigError, DataError
from glidexp.mapping.settings import MapSettings, StretchFrom
from glidexp.options import Parser, filled, out_folder, store_options
from glidexp.wording import many

if TYPE_CHECKING:
    from glidexp.data.scenes.catalogue import SceneFile
    from glidexp.mapping.predict import SceneMap, SceneTask

log = logging.getLogger("glidexp")
PROCESS_BYTES = 2 << 30
"""what a process is reckoned to need"""


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp predict",
        usage="glidexp predict MODEL SCENE... --out DIR [options]",
        description="Maps the lakes of whole scenes of any size: probability and mask as Cloud Optimized GeoTIFF, "
        "outlines as GeoPackage and GeoParquet, a picture, and a STAC item beside them.",
        epilog="The same command goes on where it was stopped, and passes over scenes that are finished. Exit code 1: "
        "a scene could not be mapped, the others are.",
    )
    parser.add_argument(
        "model", type=filled, metavar="MODEL", help="run id, checkpoint (.pt), folder of a bundle, models:/NAME@ALIAS"
    )
    parser.add_argument(
        "scenes", type=filled, metavar="SCENE", nargs="+", help="raster, VRT, .SAFE, folder or catalogue of scenes"
    )
    parser.add_argument("--out", type=filled, required=True, metavar="DIR", help="folder of the maps")
    map_options(parser)
    parser.add_argument(
        "--mask-clouds",
        action="store_true",
        help="pixels under clouds, by the product's QA_PIXEL, SCL or Fmask, are no data",
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="scenes at a time (default: by machine)")
    parser.add_argument(
        "--map", default="", metavar="CLUSTER", help=f"{' or '.join(CLUSTERS)}, :ADDRESS of one that runs"
    )
    parser.add_argument("--again", action="store_true", help="also scenes that are finished")
    return parser


def map_options(parser: Parser) -> None:
    """Options of how scenes are mapped, which `glidexp serve` takes too, and of where MODEL is found."""
    usual = MapSettings()
    parser.add_argument("--sensor", default="unknown", help="sensor of scenes that name none (default: unknown)")
    parser.add_argument("--sensors-file", metavar="YAML", help="sensors of your own, added to the registry")
    parser.add_argument(
        "--dem",
        metavar="PATH",
        help="raster of heights or folder of them, for height and slope of lakes and for models that take bands of it",
    )
    parser.add_argument("--glaciers", metavar="FILE", help="glacier outlines, for distances and the 10 km flag")
    parser.add_argument("--glaciers-layer", metavar="NAME", help="layer of --glaciers, if several hold polygons")
    parser.add_argument(
        "--window",
        type=int,
        default=0,
        metavar="PX",
        help="side of a window (default: twice the model's tile up to 512, or its tile)",
    )
    parser.add_argument(
        "--overlap", type=int, default=0, metavar="PX", help="of windows (default: a quarter of one, at least 96)"
    )
    parser.add_argument("--batch", type=int, default=usual.batch, help=f"windows a pass (default: {usual.batch})")
    parser.add_argument(
        "--tta", choices=[*map(str, Tta)], help="mean over flips or turns (default: as the model was scored)"
    )
    parser.add_argument("--threshold", type=float, help="probability of a lake (default: the model's own)")
    parser.add_argument("--precision", choices=[*map(str, Precision)], default="auto", help="(default: auto)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto)")
    parser.add_argument("--stretch", choices=[*map(str, StretchFrom)], default="auto", help="limits (default: auto)")
    parser.add_argument("--min-px", type=int, default=usual.min_px, help=f"smallest lake (default: {usual.min_px} px)")
    parser.add_argument("--min-km2", type=float, default=0.0, help="smallest lake (default: 0 km2)")
    parser.add_argument("--fill-px", type=int, default=usual.fill_px, help="smallest hole kept (default: 6 px)")
    parser.add_argument("--smooth", type=int, default=0, metavar="ROUNDS", help="cut corners of outlines (default: 0)")
    store_options(parser)


def settings_of(given: Namespace) -> MapSettings:
    """What `map_options` were given.

    Raises:
        ConfigError: a value outside its range
    """
    return MapSettings(
        window_px=given.window,
        overlap_px=given.overlap,
        batch=given.batch,
        tta=Tta(given.tta) if given.tta else None,
        threshold=given.threshold,
        precision=Precision(given.precision),
        device=given.device,
        stretch=StretchFrom(given.stretch),
        min_px=given.min_px,
        min_km2=given.min_km2,
        fill_px=given.fill_px,
        smooth=given.smooth,
    )


def run(argv: list[str]) -> int:
    """Maps, reports; gives the exit code."""
    given = options().parse_intermixed_args(argv)
    settings = settings_of(given)
    crew = Crew(workers=given.workers, cluster=given.map)
    if given.map.partition(":")[0] == "ray" and given.device.startswith("cuda:") and given.device != "cuda:0":
        raise ConfigError(
            f"--device {given.device} does not go with --map={given.map}: Ray gives each scene a GPU that is the only "
            "one it sees. Give --device cuda."
        )
    if given.sensors_file:
        from glidexp.data import sensors

        sensors.register_file(given.sensors_file)
    files = scenes_of(given.scenes, given.sensor, mask_clouds=given.mask_clouds, dem=given.dem)
    out = Path(given.out).absolute()
    from glidexp.mapping.many import tasks_of

    tasks = tasks_of(given, files, settings, out)  # a model that is not there leaves no folder behind
    with out_folder(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):  # one that may only be read is told before anything is mapped
            pass
    maps = _all(tasks, crew, given.device)
    return _report(maps, out)


def scenes_of(
    places: Sequence[str], sensor: str, *, mask_clouds: bool = False, dem: str | None = None
) -> "list[SceneFile]":
    """The scenes of all places, with their clouds where these are to be masked, over a DEM where one is given.

    Raises:
        DataError: nothing there, two scenes whose outputs would have one name, or no layer of clouds
    """
    from glidexp.data.scenes.catalogue import check_clouds, find
    from glidexp.data.scenes.dem import files_of
    from glidexp.mapping.areas import plain

    also: Any = {"mask_clouds": mask_clouds, "dem": files_of(dem, "--dem")}
    files = [file for place in places for file in find(Path(place), sensor, "SCENE", **also)]
    if mask_clouds:
        check_clouds(files, "--mask-clouds")
    met: dict[str, SceneFile] = {}
    for file in files:
        if (other := met.setdefault(plain(file.scene), file)) is not file:
            names = " and ".join(dict.fromkeys((repr(other.scene), repr(file.scene))))
            raise DataError(
                f"scene {names} comes twice ({str(other.path)!r}, {str(file.path)!r}): the outputs would have the same "
                "names, so map them into two folders."
            )
    return files


def _all(tasks: "list[SceneTask]", crew: Crew, device: str) -> "list[SceneMap]":
    from glidexp.mapping.many import followed, map_and_tell, on_one_process, with_threads

    workers = crew.workers or _at_a_time(len(tasks), device)
    if workers <= 1 and not crew.cluster:
        return on_one_process(with_threads(tasks, 1))
    maps: list[SceneMap] = []
    shared = with_threads(tasks, workers)
    with followed(shared) as finished:
        for one in mapped(map_and_tell, shared, workers=workers, cluster=crew.cluster, gpu=device != "cpu"):
            maps.append(one)
            finished(one)
    return sorted(maps, key=lambda one: one.scene)


def _at_a_time(scenes: int, device: str) -> int:
    """How many scenes: one where a GPU is used, else as many as cores and memory allow."""
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return 1
    return min(cores(), scenes, max(free_host_bytes() // PROCESS_BYTES, 1))


def _report(maps: "list[SceneMap]", out: Path) -> int:
    from glidexp.mapping.predict import total_by_size

    failed = [one for one in maps if one.failed]
    if len(maps) == 1 and failed:
        raise DataError(failed[0].failed)
    for one in maps:
        for word in one.said:
            log.warning("warning: %s", word)
        if one.failed:
            log.error("failed: %s", one.failed)
        else:
            print(f"{one.scene}: {many(one.lakes, 'lake')}, {one.area_km2:.4f} km2{' (finished before)' * one.found}")
    table = total_by_size(maps)
    if len(table):
        print(f"\n{table.to_string(index=False, float_format='%.4f')}")
        print("low to high: shores off by half a pixel; lakes missed or false are in no interval")
        from glidexp.data.builder.parts import writing
        from glidexp.mapping.outputs import SUMMARY

        place = out / SUMMARY
        with writing(place):
            write_text(place, table.to_csv(index=False))
        if note := _on_shared_ground(maps, out):
            print(f"note: {note}")
    print(f"\nmaps: {out}")
    if failed:
        log.error("%d of %s could not be mapped.", len(failed), many(len(maps), "scene"))
    return 1 if failed else 0


def _on_shared_ground(maps: "list[SceneMap]", out: Path) -> str:
    """A sentence where the sums over scenes count some lakes more than once; else nothing."""
    from glidexp.mapping.areas import plain
    from glidexp.mapping.lake_map import some_of
    from glidexp.mapping.outputs import SUMMARY
    from glidexp.mapping.stac import sharing_ground

    names = sharing_ground([out / f"{plain(one.scene)}.json" for one in maps if not one.failed])
    if not names:
        return ""
    return (
        f"{len(names)} scenes share ground ({some_of(names)}): a lake there counts once for each of them, in these "
        f"sums and in {SUMMARY}."
    )
