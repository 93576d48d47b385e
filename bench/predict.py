"""Mapping a scene: against the bare network (limit), a plain windowed rasterio loop and TorchGeo's sampler (peers).

    python bench/predict.py [--px 6000] [--net-px 1536] [--window 256] [--repeats 3] [--model BUNDLE] [--folder FOLDER]

Four lines:

- `predict_network`: windows a second of the whole map of a scene of `--net-px`, from file to outlines, with a U-Net on
  ResNet-18. The limit is the same network on as many random windows of the same size, in the same batches and kind of
  number, and nothing else.
- `predict_pipeline`: scenes a second without a network (lake where red is dark, one multiply-add a pixel) on a scene of
  `--px`, deflated in blocks of 512 px. All make the same: limits of the stretch from all pixels, probability and mask
  from windows of the same size and overlap, blended by a Hann curve, as Cloud Optimized GeoTIFFs with overviews. The
  peer is the plain loop: NumPy takes percentiles of the scene, rasterio reads a window at a time, NumPy stretches it,
  weighted answers and weights are summed in two arrays of the scene's size and divided. `torchgeo` is RasterDataset
  with GridGeoSampler and a DataLoader in place of the reading, null where it is not installed (extra `bench`). Ours is
  `glidexp predict` as it is, but that no outline is found and no picture drawn, which the loops do not either; it still
  writes its tables, empty, and the STAC item.
- `predict_map`: the whole of `glidexp predict`, those included, against the same loops. `phases` are CPU seconds of the
  thread that did them.
- `predict_seams`: largest difference inside the scene between the map in windows and the network on the whole scene at
  once: of a network that sees no farther than the overlap allows, and of the one of `--model`, where it is given.

Each contender is a process of its own, imports not counted; `peak_gb` is its resident set at its largest. `_cpu` lines
are CPU time of the process with its threads, `_wall` what passed on the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

BATCH = 4
DARK = 400
"""value of lakes in the scene, below all others"""


def make_scene(path: Path, px: int, lakes_a_mpx: float = 100) -> None:
    """Smooth land with noise and round dark lakes, 3 bands of 16 bit, deflated in blocks of 512 px."""
    import rasterio
    from PIL import Image, ImageDraw
    from rasterio.transform import Affine

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (px // 64 + 1, px // 64 + 1), dtype=np.uint8))
    land = np.asarray(coarse.resize((px, px), Image.Resampling.BICUBIC)).astype(np.uint16) * 4 + 3000
    drawn = Image.new("1", (px, px))
    pen = ImageDraw.Draw(drawn)
    for x, y, r in zip(*rng.uniform(0, px, (2, int(px * px / 1e6 * lakes_a_mpx))), rng.uniform(2, 20, 10**6)):  # noqa: B905
        pen.ellipse((x - r, y - r, x + r, y + r), fill=1)
    lake = np.asarray(drawn)
    profile = {"driver": "GTiff", "width": px, "height": px, "count": 3, "dtype": "uint16", "crs": "EPSG:32645"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1, "predictor": 2}
    corner = Affine(10, 0, 400_000, 0, -10, 3_200_000)
    with rasterio.open(path, "w", **profile, **layout, transform=corner) as sink:
        for band in range(3):
            noise = rng.integers(0, 64, (px, px), dtype=np.uint16)
            sink.write(np.where(lake, DARK, land + 50 * band) + noise, band + 1)
        sink.descriptions = ("red", "green", "blue")


def rule() -> Any:
    """A network that costs nothing: lake where red is dark."""
    import torch
    from torch import nn

    class Dark(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kind = nn.Parameter(torch.zeros(1))  # of number, which the predictor asks for

        def forward(self, image: Any) -> Any:
            return image[:, :1] * -8.0 - 8.0  # 0.5 at a value of 64

    return Dark()


def unet() -> Any:
    """A U-Net on ResNet-18 whose answer is the rule's, so that there are lakes to outline as in a real map."""
    import torch
    from torch import nn

    from glidexp.models.build import assemble

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.rule = assemble("resnet18", "unet", in_channels=3), rule()

        def forward(self, image: Any) -> Any:
            return self.rule(image) + 1e-6 * self.net(image)

    torch.manual_seed(0)
    return Both().to(memory_format=torch.channels_last)


def predictor(net: Any, folder: Path, window: int) -> Any:
    """The network as `glidexp predict` holds it, and a bundle whose card is read."""
    from glidexp.models.card import FORMAT, FORMAT_VERSION
    from glidexp.models.predictor import Predictor

    card = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "weights": {"sha256": "0" * 64}, "mean": [128.0] * 3,
        "std": [64.0] * 3, "architecture": {"backbone": "resnet18", "decoder": "unet", "in_channels": 3},
        "tile_px": window, "threshold": 0.5, "bands": ["red", "green", "blue"],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card))
    return Predictor(net, mean=card["mean"], std=card["std"], stride=32, smallest_px=32, card=card).eval()


def task_of(folder: Path, scene: Path, window: int, model: Any) -> Any:
    """What `map_scene` takes, with the network put in place of the bundle's."""
    from glidexp.data.scenes.catalogue import SceneFile
    from glidexp.mapping import predict
    from glidexp.mapping.settings import MapSettings

    predict.network = lambda *_: model  # type: ignore[assignment]
    out = folder / "maps"
    out.mkdir(exist_ok=True)
    settings = MapSettings(window_px=window, batch=BATCH, device="cpu")
    file = SceneFile(scene, "scene", "sentinel2")
    return predict.SceneTask(file, folder / "bundle", out, settings, "bench", again=True, threads=1)


def ours(folder: Path, scene: Path, window: int, net: Callable[[], Any], *, outlined: bool = True) -> dict[str, Any]:
    """The whole map, its phases timed; or one without outlines and picture."""
    import geopandas  # noqa: F401 - imports are not counted
    import pyarrow.parquet  # noqa: F401
    import pyogrio  # noqa: F401

    from glidexp.mapping import areas, cog, layers, polygons, predict

    phases: dict[str, float] = {}

    def timed(place: Any, name: str, phase: str, clock: Callable[[], float] = time.thread_time) -> None:
        work = getattr(place, name)

        def call(*args: Any, **options: Any) -> Any:
            start = clock()
            try:
                return work(*args, **options)
            finally:
                phases[phase] = phases.get(phase, 0.0) + clock() - start

        setattr(place, name, call)

    if not outlined:
        polygons.outlines = lambda *_, **__: np.zeros(0, dtype=object)
        layers.draw = lambda path, *_, **__: path
    timed(polygons, "outlines", "outlines")
    timed(areas, "measured", "areas")
    timed(areas, "to_ice", "areas")
    for place, name in (
        (layers, "lakes_table"),
        (layers, "write_lakes"),
        (layers, "looked_at"),
        (predict, "write_item"),
    ):
        timed(place, name, "tables")
    timed(layers, "draw", "picture")
    timed(predict, "rasters", "pixels", time.process_time)
    timed(cog, "write_cog", "GeoTIFFs")
    task = task_of(folder, scene, window, predictor(net(), folder / "bundle", window))
    seen = 0

    def work() -> int:
        nonlocal seen
        made = predict.map_scene(task)
        assert not made.failed, made.failed
        item = json.loads((task.out / "scene.json").read_text())["properties"]
        seen = item["glidexp:windows_seen"]
        return made.lakes

    return measured(work) | {"windows": seen, "phases": phases}


def bare(folder: Path, windows: int, window: int) -> dict[str, Any]:
    """The network on random windows."""
    import torch

    from glidexp.config import Precision
    from glidexp.mapping.network import precision_on, predicting

    torch.set_num_threads(1)
    model = predictor(unet(), folder / "bundle", window)
    images = torch.randint(0, 256, (BATCH, window, window, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    device = torch.device("cpu")

    def work() -> int:
        with predicting(device, precision_on(Precision.auto, device)):
            for at in range(0, windows, BATCH):
                model(images[: min(BATCH, windows - at)])
        return windows

    return measured(work)


def spread_out(px: int, window: int) -> list[int]:
    """Where ours puts windows along a side."""
    from glidexp.mapping.windows import axis, usual_overlap

    return list(axis(px, window, usual_overlap(window)).starts)


def naive(folder: Path, scene: Path, window: int) -> dict[str, Any]:
    """The plain loop."""
    import rasterio
    import torch
    from rasterio.windows import Window

    torch.set_num_threads(1)
    net = rule()

    def work() -> int:
        with rasterio.open(scene) as source:
            whole = source.read()
            limits = [np.percentile(band, [2, 98]) for band in whole]
            height, width, profile = source.height, source.width, source.profile
            del whole
            total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
            for top in spread_out(height, window):
                for left in spread_out(width, window):
                    values = source.read(window=Window(left, top, window, window))
                    answer(net, values, limits, total, count, top, left)
        return written(folder, profile, total, count)

    return measured(work)


def answer(net: Any, values: Any, limits: Any, total: Any, count: Any, top: int, left: int) -> None:
    """A window, stretched and answered, into the sums."""
    import torch

    low, high = np.array(limits, np.float32).T[:, :, None, None]
    image = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1) * 255
    with torch.inference_mode():
        found = torch.sigmoid(net((torch.from_numpy(image)[None] - 128) / 64))[0, 0].numpy()
    height, width = found.shape
    weight = np.outer(*(np.sin((np.arange(side) + 0.5) / side * np.pi) ** 2 for side in found.shape))
    total[top : top + height, left : left + width] += found * weight
    count[top : top + height, left : left + width] += weight


def written(folder: Path, profile: dict[str, Any], total: Any, count: Any) -> int:
    """Probability and mask of the sums; gives the number of lake pixels."""
    import rasterio

    probability = total / count
    mask = (probability >= 0.5).astype(np.uint8)
    how = {key: profile[key] for key in ("width", "height", "crs", "transform")}
    how |= {"driver": "COG", "count": 1, "dtype": "uint8", "compress": "deflate", "nodata": 255}
    found = ("probability", (probability * 254 + 0.5).astype(np.uint8), "average"), ("mask", mask, "nearest")
    for name, values, resampling in found:
        with rasterio.open(folder / f"peer_{name}.tif", "w", **how, overview_resampling=resampling) as sink:
            sink.write(values, 1)
    return int(mask.sum())


def torchgeo(folder: Path, scene: Path, window: int) -> dict[str, Any]:
    """The same with windows from TorchGeo."""
    import rasterio
    import torch
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    from glidexp.mapping.windows import usual_overlap

    torch.set_num_threads(1)
    net = rule()

    def work() -> int:
        with rasterio.open(scene) as source:
            limits = [np.percentile(source.read(band), [2, 98]) for band in (1, 2, 3)]
            profile, transform = source.profile, source.transform
            height, width = source.height, source.width
        data = RasterDataset(paths=str(scene.parent))
        sampler = GridGeoSampler(data, size=window, stride=window - usual_overlap(window))
        total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        for batch in DataLoader(data, batch_size=1, sampler=sampler, num_workers=0, collate_fn=stack_samples):
            values = batch["image"][0].numpy()
            left, top = corner(batch, transform)
            if left < 0 or top < 0:  # its last windows reach over the edge to either side
                values, left, top = values[:, max(-top, 0) :, max(-left, 0) :], max(left, 0), max(top, 0)
            values = values[:, : height - top, : width - left]
            answer(net, values, limits, total, count, top, left)
        return written(folder, profile, total, np.maximum(count, 1))

    return measured(work)


def corner(batch: Any, transform: Any) -> tuple[int, int]:
    """Column and row where a sample of TorchGeo begins in the scene."""
    bounds = batch["bounds"][0]
    x, y = (bounds[0].start, bounds[1].stop) if isinstance(bounds, tuple) else (float(bounds[0]), float(bounds[4]))
    left, top = ~transform @ (x, y) if hasattr(transform, "__matmul__") else ~transform * (x, y)
    return round(left), round(top)


def seams(folder: Path, scene: Path, window: int, model: str) -> dict[str, Any]:
    """Largest difference inside between windows and the whole."""
    import torch
    from torch import nn

    from glidexp.mapping import arrays, predict
    from glidexp.mapping.settings import MapSettings
    from glidexp.mapping.windows import usual_overlap
    from glidexp.models.card import find_bundle, read_card
    from glidexp.models.export import load_bundle

    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    reach = usual_overlap(window) * 3 // 8
    torch.manual_seed(0)
    near = nn.Conv2d(3, 1, 2 * min(reach, 12) + 1, padding="same")
    candidates = {"fits": predictor(near, folder / "bundle", window)}
    if model:
        candidates["model"] = load_bundle(find_bundle(model))
    for name, net in candidates.items():
        bundle = folder / "bundle" if name == "fits" else find_bundle(model)
        predict.network = lambda *_, net=net: net  # type: ignore[assignment]
        side = window if name == "fits" else int(read_card(bundle).get("tile_px", window))
        settings = {"device": "cpu", "precision": "fp32"}
        from glidexp.config import Precision

        settings["precision"] = Precision.fp32
        tiled = arrays.probabilities_of(bundle, scene, MapSettings(window_px=side, **settings))
        whole = arrays.probabilities_of(bundle, scene, MapSettings(window_px=4096, **settings))
        off = np.abs(tiled - whole)
        inside = off[side // 2 : -side // 2, side // 2 : -side // 2]
        found[name] = {"window_px": side, "largest": float(inside.max()), "p99_9": float(np.quantile(inside, 0.999))}
    return found


def measured(work: Callable[[], int]) -> dict[str, Any]:
    """Wall and CPU seconds of a piece of work, what it gave, and the largest resident set of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    gave = work()
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "gave": gave}
    # of this process alone: ru_maxrss begins with what the one that began it had, which made the scene
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return taken | {"peak_gb": int(peak.split()[1]) * 1024 / 1e9}


def child(who: str, args: argparse.Namespace, folder: Path, **more: Any) -> dict[str, Any]:
    """Runs one of them in a process of its own."""
    command = [sys.executable, __file__, "--child", who, "--folder", str(folder), "--window", str(args.window)]
    command += [word for key, value in more.items() for word in (f"--{key}", str(value))]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def as_child(args: argparse.Namespace) -> dict[str, Any]:
    """What the process of one contender does."""
    folder = args.folder
    small, large = folder / "small" / "scene.tif", folder / "large" / "scene.tif"
    if args.child == "network":
        return ours(folder, small, args.window, unet)
    if args.child == "bare":
        return bare(folder, args.windows, args.window)
    if args.child in ("pipeline", "map"):
        return ours(folder, large, args.window, rule, outlined=args.child == "map")
    if args.child == "seams":
        return seams(folder, folder / "seams" / "scene.tif", args.window, args.model)
    return {"naive": naive, "torchgeo": torchgeo}[args.child](folder, large, args.window)


def line_of(name: str, unit: str, runs: dict[str, list[float]], **more: Any) -> None:
    """One JSON line from amounts a second: medians, ratios within each repeat, spread against the first rival."""
    line: dict[str, Any] = {"name": name, "unit": unit, "n": len(runs["ours"])}
    line |= {who: round(statistics.median(found), 4) if found else None for who, found in runs.items()}
    for who in ("peer", "torchgeo", "limit"):
        if runs.get(who):
            ratios = [a / b for a, b in zip(runs["ours"], runs[who], strict=True)]
            line[f"ratio_{who}"] = round(statistics.median(ratios), 3)
            low, high = np.percentile(ratios, [25, 75])
            line.setdefault("spread", round(float(high - low) / 2 / statistics.median(ratios), 3))
    print(json.dumps(line | more), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--px", type=int, default=6000, help="side of the scene without a network")
    parser.add_argument("--net-px", type=int, default=1536, help="side of the scene with one")
    parser.add_argument("--seam-px", type=int, default=1024, help="side of the scene whose seams are looked for")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="", help="folder of a trained bundle, for its seams")
    parser.add_argument("--folder", type=Path, help="where scenes and maps lie meanwhile")
    parser.add_argument("--only", choices=("network", "pipeline", "seams"), help="one of the three lines")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--windows", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(as_child(args)))
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        sides = {"small": ("network", args.net_px), "large": ("pipeline", args.px), "seams": ("seams", args.seam_px)}
        for name, (line, px) in sides.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            if args.only in (None, line) and not (folder / name / "scene.tif").is_file():
                make_scene(folder / name / "scene.tif", px)
        for line in (args.only,) if args.only else ("network", "pipeline", "seams"):
            {"network": network_line, "pipeline": pipeline_line, "seams": seam_line}[line](args, folder)


def network_line(args: argparse.Namespace, folder: Path) -> None:
    own, other = [], []
    for _ in range(args.repeats):
        own.append(child("network", args, folder))
        other.append(child("bare", args, folder, windows=own[-1]["windows"]))
    for clock in ("cpu", "wall"):
        rates = {"ours": [run["windows"] / run[clock] for run in own]}
        rates["limit"] = [run["gave"] / run[clock] for run in other]
        more = {"windows": own[0]["windows"], "lakes": own[0]["gave"], "peak_gb": round(own[-1]["peak_gb"], 2)}
        line_of(f"predict_network_{args.net_px}px_{args.window}px_{clock}", "windows/s", rates, **more)


def pipeline_line(args: argparse.Namespace, folder: Path) -> None:
    import importlib.util

    there = importlib.util.find_spec("torchgeo") is not None
    if not there:
        print("torchgeo is not installed (pip install '.[bench]'): its side is null", file=sys.stderr)
    runs: dict[str, list[dict[str, Any]]] = {"pipeline": [], "map": [], "naive": [], "torchgeo": []}
    for _ in range(args.repeats):
        for who, found in runs.items():
            if who != "torchgeo" or there:
                found.append(child(who, args, folder))
    rivals = {"peer": runs["naive"], "torchgeo": runs["torchgeo"]}
    for clock in ("cpu", "wall"):
        for line in ("pipeline", "map"):
            sides = {"ours": runs[line]} | rivals
            rates = {who: [1 / run[clock] for run in found] for who, found in sides.items()}
            last = runs[line][-1]
            more: dict[str, Any] = {"lakes": last["gave"]}
            more |= {"peak_gb": {who: round(found[-1]["peak_gb"], 2) for who, found in sides.items() if found}}
            if clock == "cpu":
                more |= {"phases": {name: round(s, 2) for name, s in last["phases"].items()}}
            line_of(f"predict_{line}_{args.px}px_{args.window}px_{clock}", "scenes/s", rates, **more)


def seam_line(args: argparse.Namespace, folder: Path) -> None:
    found = child("seams", args, folder, **({"model": args.model} if args.model else {}))
    print(json.dumps({"name": f"predict_seams_{args.seam_px}px", "unit": "probability", "n": 1, **found}), flush=True)


if __name__ == "__main__":
    main()
