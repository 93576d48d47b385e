"""Building tiles from one large scene, against a plain script of the same work (peer) and against decoding (limit).

    python bench/build.py [--px 15000] [--lakes 5000] [--tile-px 512] [--repeats 3] [--sample 0] [--folder FOLDER]
    python bench/build.py --linear 1,2,4,8 [--px 2000] [--lakes 200] [--tile-px 256]

A generated 3-band 16-bit scene, deflated in blocks of 512 px, and round lakes. The peer is what is usually written for
it: rasterio reads the whole scene, NumPy takes percentiles of each band and stretches it as float64, geopandas reads
the lakes, rasterio rasterises them at once, Pillow saves a pair of PNGs for every tile with lake. Ours gives the same
tiles as a store, with hashes, index and inventory. The limit decodes the file once, strip by strip, and does nothing
else.

Each runs in a process of its own, one after the other in every repeat, imports not counted. JSON lines: scenes a second
of wall and of CPU, our cost by phase in CPU seconds of its thread, and the peer's without its PNGs. `peak_gb` is the
resident set of each process at its largest.

`--linear` builds so many copies of the scene beside each other, each with its lakes, in one process, and prints the CPU
seconds a scene and what each scene beyond the fewest costs, against one of the fewest: 1 where the cost is linear, less
where what a build costs once is a part of the first.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

WEST, NORTH, GSD_M = 400_000.0, 3_200_000.0, 2.0
BLOCK = 512


def make_scene(folder: Path, px: int, lakes: int) -> None:
    """A scene with the smoothness and the noise of land, and lakes spread evenly over it."""
    import geopandas
    import rasterio
    import shapely
    from PIL import Image
    from rasterio.transform import Affine
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": px, "height": px, "count": 3, "dtype": "uint16", "crs": "EPSG:32645"}
    layout = {
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "predictor": 2,
    }
    corner = Affine(GSD_M, 0, WEST, 0, -GSD_M, NORTH)
    with rasterio.open(folder / "scene.tif", "w", **profile, **layout, transform=corner) as sink:
        for top in range(0, px, BLOCK):
            height = min(BLOCK, px - top)
            coarse = Image.fromarray(rng.integers(0, 256, (BLOCK // 64, px // 64 + 1), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((px, height), Image.Resampling.BICUBIC)).astype(np.uint16) * 12 + 400
            noise = rng.integers(0, 64, (height, px), dtype=np.uint16)
            bands = np.stack([smooth + np.roll(noise, band) + 50 * band for band in range(3)])
            sink.write(bands, window=Window(0, top, px, height))
    x, y = WEST + rng.uniform(0, px, lakes) * GSD_M, NORTH - rng.uniform(0, px, lakes) * GSD_M
    outlines = shapely.buffer(shapely.points(x, y), rng.uniform(8, 80, lakes))
    geopandas.GeoDataFrame(geometry=outlines, crs="EPSG:32645").to_file(folder / "lakes.gpkg", engine="pyogrio")


def ours(folder: Path, tile_px: int, sample: int) -> dict[str, Any]:
    """Builds the store, with its phases timed."""
    from glidexp.config import DatasetConfig, DatasetKind, SplitConfig, StretchConfig
    from glidexp.data import writer
    from glidexp.data.builder import cutting, from_scenes, scene_part
    from glidexp.data.prepare import prepare
    from glidexp.data.scenes import polygons, stretch, strips
    from glidexp.data.scenes.lake_mask import LakeMask

    phases: dict[str, float] = {}

    def timed(place: Any, name: str, phase: str) -> None:
        work = getattr(place, name)

        def call(*args: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return work(*args, **options)
            finally:
                phases[phase] = phases.get(phase, 0.0) + time.thread_time() - start

        setattr(place, name, call)

    def decoded(*args: Any) -> Iterator[Any]:
        found = read_strips(*args)
        while True:
            start = time.thread_time()
            strip = next(found, None)
            phases["decode"] = phases.get("decode", 0.0) + time.thread_time() - start
            if strip is None:
                return
            yield strip

    read_strips, strips.read_strips = strips.read_strips, decoded
    for place, name, phase in (
        (polygons, "read_both", "read outlines"),
        (stretch, "count_values", "histogram"),
        (LakeMask, "strip", "rasterise"),
        (LakeMask, "owners", "rasterise"),
        (cutting, "shares", "lakes of a tile"),
        (cutting, "count_by_tile", "count by tile"),
        (stretch, "apply", "stretch"),
        (cutting, "padded", "label"),
        (scene_part, "measured", "hash and histogram of a tile"),
        (scene_part.PartWriter, "add", "write part"),
        (writer.StoreWriter, "adopt", "put together"),
        (writer.StoreWriter, "close", "index and manifest"),
    ):
        timed(place, name, phase)
    assert from_scenes  # its heavy imports are not counted
    dataset = DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(folder / "scene.tif"),
        lakes=str(folder / "lakes.gpkg"),
        buffer_m=0.0,
        stretch=StretchConfig(sample_blocks=sample),
        split=SplitConfig(val=0.0, test=0.0),
    )

    def work() -> int:
        return len(prepare(dataset, tile_px, folder / "data", progress=False))

    return measured(work) | {"phases": {name: round(seconds, 2) for name, seconds in phases.items()}}


def copies(folder: Path, number: int) -> None:
    """A folder with copies of the scene, each a scene's width east of the one before, and the lakes of all."""
    import geopandas
    import pandas as pd
    import rasterio
    from rasterio.transform import Affine

    (folder / "scenes").mkdir()
    lakes, parts = geopandas.read_file(folder / "lakes.gpkg"), []
    for i in range(number):
        shutil.copyfile(folder / "scene.tif", folder / "scenes" / f"s{i}.tif")
        with rasterio.open(folder / "scenes" / f"s{i}.tif", "r+") as scene:
            east = i * 1.1 * scene.width * GSD_M
            scene.transform = Affine(GSD_M, 0, WEST + east, 0, -GSD_M, NORTH)
        parts.append(lakes.assign(geometry=lakes.translate(east, 0)))
    pd.concat(parts, ignore_index=True).to_file(folder / "many.gpkg", engine="pyogrio")


def many(folder: Path, tile_px: int, sample: int) -> dict[str, Any]:
    """Builds a store from the copies."""
    from glidexp.config import DatasetConfig, DatasetKind, SplitConfig, StretchConfig
    from glidexp.data.builder import from_scenes
    from glidexp.data.prepare import prepare

    assert from_scenes  # its heavy imports are not counted
    dataset = DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(folder / "scenes"),
        lakes=str(folder / "many.gpkg"),
        buffer_m=0.0,
        stretch=StretchConfig(sample_blocks=sample),
        split=SplitConfig(val=0.0, test=0.0),
    )
    return measured(lambda: len(prepare(dataset, tile_px, folder / "data", progress=False)))


def linear(folder: Path, numbers: list[int], args: argparse.Namespace) -> None:
    """One JSON line: CPU seconds a scene by the number of scenes, and the marginal scene against the fewest."""
    taken = {}
    for number in numbers:
        copies(folder, number)
        runs = [child("many", folder, args.tile_px, args.sample) for _ in range(args.repeats)]
        taken[number] = statistics.median(run["cpu"] for run in runs)
        shutil.rmtree(folder / "scenes")
        (folder / "many.gpkg").unlink()
    first, last = min(taken), max(taken)
    marginal = (taken[last] - taken[first]) / (last - first)
    line = {"name": f"build_linear_{args.px}px_{args.tile_px}px", "unit": "CPU s", "n": args.repeats}
    line |= {"a_scene": {str(number): round(seconds / number, 3) for number, seconds in taken.items()}}
    line |= {"marginal_scene": round(marginal, 3), "ratio_linear": round(marginal / (taken[first] / first), 3)}
    print(json.dumps(line), flush=True)


def peer(folder: Path, tile_px: int, _: int) -> dict[str, Any]:
    """The plain script."""
    import geopandas
    import rasterio
    from PIL import Image
    from rasterio.features import rasterize

    pictures = 0.0

    def work() -> int:
        nonlocal pictures
        with rasterio.open(folder / "scene.tif") as source:
            scene, crs, transform = source.read(), source.crs, source.transform
        image = np.empty(scene.shape, np.uint8)
        for band, values in enumerate(scene):
            low, high = np.percentile(values, [2, 98])
            image[band] = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255
        lakes = geopandas.read_file(folder / "lakes.gpkg").to_crs(crs)
        mask = rasterize(lakes.geometry, out_shape=scene.shape[1:], transform=transform, dtype="uint8")
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        tiles = 0
        for row in range(0, mask.shape[0], tile_px):
            for col in range(0, mask.shape[1], tile_px):
                label = mask[row : row + tile_px, col : col + tile_px]
                if not label.any():
                    continue
                start = time.process_time()
                tile = image[:, row : row + tile_px, col : col + tile_px].transpose(1, 2, 0)
                Image.fromarray(np.ascontiguousarray(tile)).save(folder / "images" / f"{row}_{col}.png")
                Image.fromarray(label * 255).save(folder / "labels" / f"{row}_{col}.png")
                pictures += time.process_time() - start
                tiles += 1
        return tiles

    return measured(work) | {"pictures": pictures}


def limit(folder: Path, tile_px: int, _: int) -> dict[str, Any]:
    """Decodes the scene."""
    from glidexp.data.scenes.catalogue import SceneFile
    from glidexp.data.scenes.reading import read_header, read_strips

    scene = read_header(SceneFile(folder / "scene.tif", "scene", "unknown"))
    return measured(lambda: sum(len(valid) > 0 for _, _, valid in read_strips(scene, tile_px)))


def measured(work: Callable[[], int]) -> dict[str, Any]:
    """Wall and CPU seconds of a piece of work, what it gave, and the largest resident set of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    tiles = work()
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "tiles": tiles}
    return taken | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def child(who: str, folder: Path, tile_px: int, sample: int) -> dict[str, Any]:
    """Runs one of the three in a process of its own, and removes what it wrote."""
    command = [sys.executable, __file__, "--child", who, "--folder", str(folder), "--tile-px", str(tile_px)]
    command += ["--sample", str(sample)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    for name in ("data", "images", "labels"):
        shutil.rmtree(folder / name, ignore_errors=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


WHO = {"ours": ours, "peer": peer, "limit": limit, "many": many}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--px", type=int, default=15_000)
    parser.add_argument("--lakes", type=int, default=5_000)
    parser.add_argument("--tile-px", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sample", type=int, default=0, help="dataset.stretch.sample_blocks of ours")
    parser.add_argument(
        "--folder", type=Path, help="where scene and tiles lie meanwhile; a scene that is there is taken"
    )
    parser.add_argument("--child", choices=("ours", "peer", "limit", "many"), help=argparse.SUPPRESS)
    parser.add_argument("--linear", metavar="N,N", help="build so many copies of the scene instead, as 1,2,4,8")
    args = parser.parse_args()
    if args.child:
        print(json.dumps(WHO[args.child](args.folder, args.tile_px, args.sample)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "lakes.gpkg").is_file():
            make_scene(folder, args.px, args.lakes)
        if args.linear:
            linear(folder, sorted(int(number) for number in args.linear.split(",")), args)
            return
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": [], "limit": []}
        for _ in range(args.repeats):
            for who, found in runs.items():
                found.append(child(who, folder, args.tile_px, args.sample))
    assert runs["ours"][0]["tiles"] == runs["peer"][0]["tiles"], "both make the same tiles"
    for clock in ("wall", "cpu"):
        report(f"build_{args.px}px_{args.tile_px}px_{clock}", args.repeats, runs, clock)
    last = runs["ours"][-1]
    rest = last["cpu"] - sum(last["phases"].values())
    phases = dict(sorted(last["phases"].items(), key=lambda phase: -phase[1])) | {"rest": round(rest, 2)}
    print(json.dumps({"name": f"build_{args.px}px_phases", "unit": "CPU s", "n": 1, **phases}), flush=True)
    found = [
        (own["cpu"], other["cpu"] - other["pictures"]) for own, other in zip(runs["ours"], runs["peer"], strict=True)
    ]
    line = {"name": f"build_{args.px}px_peer_without_pictures", "unit": "CPU s", "n": args.repeats}
    line |= {"ours": statistics.median(own for own, _ in found), "peer": statistics.median(other for _, other in found)}
    line |= {"ratio_peer": statistics.median(other / own for own, other in found)}
    print(json.dumps({key: round(v, 2) if isinstance(v, float) else v for key, v in line.items()}), flush=True)


def report(name: str, n: int, runs: dict[str, list[dict[str, Any]]], clock: str) -> None:
    """One JSON line: medians, ratios within each repeat, and the spread of ours against the peer."""
    rates = {who: [1 / run[clock] for run in found] for who, found in runs.items()}
    to_peer, to_limit = ([a / b for a, b in zip(rates["ours"], rates[who], strict=True)] for who in ("peer", "limit"))
    low, high = np.percentile(to_peer, [25, 75])
    line = {"name": name, "unit": "scenes/s", "n": n}
    line |= {who: round(statistics.median(found), 4) for who, found in rates.items()}
    line["ratio_peer"] = round(statistics.median(to_peer), 2)
    line["ratio_limit"] = round(statistics.median(to_limit), 3)
    line["spread"] = round(float(high - low) / 2 / statistics.median(to_peer), 3)
    line["seconds"] = {who: round(statistics.median(run[clock] for run in found), 2) for who, found in runs.items()}
    line["peak_gb"] = {who: round(max(run["peak_gb"] for run in found), 2) for who, found in runs.items()}
    line["tiles"] = runs["ours"][0]["tiles"]
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
