"""Ready tiles to a store: what `glidexp data import` does, beside a plain one-process Pillow script of the same work.

    python bench/import.py [--pairs 2000] [--tile-px 512] [--repeats 3]

The plain script decodes image and label with Pillow, checks their sizes, makes the label 0 or 1, writes both to flat
files and takes the sha256 of each file at the end. Ours does that and more in the same time: it looks for equal and
neighbouring tiles, shares the ground out, and counts channel statistics and lakes. Wall time, since ours uses the
machine's cores and the plain script has one; files are in the page cache. Interleaved repeats, medians; one JSON line.
A second line has the CPU time of both, which says what the same work costs on one core.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.prepare import prepare


def make_pairs(root: Path, pairs: int, px: int) -> None:
    """Pictures with the smoothness of land and some noise, so that PNG has the work that it has with real ones."""
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for number in range(pairs):
        coarse = Image.fromarray(random.integers(0, 256, (px // 16, px // 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((px, px), Image.Resampling.BICUBIC))
        noise = random.integers(-6, 7, (px, px, 3))
        image = np.clip(smooth.astype(np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{number}.png", compress_level=3)
        Image.fromarray((smooth[:, :, 2] > 200).astype(np.uint8) * 255).save(root / "labels" / f"{number}.png")


def plain(root: Path, out: Path, pairs: int, px: int) -> None:
    """The script that one would write."""
    out.mkdir()
    with (out / "images.u8").open("wb") as images, (out / "masks.u8").open("wb") as masks:
        for number in range(pairs):
            image = np.asarray(Image.open(root / "images" / f"{number}.png").convert("RGB"))
            label = np.asarray(Image.open(root / "labels" / f"{number}.png").convert("L"))
            if image.shape != (px, px, 3) or label.shape != (px, px):
                raise ValueError(f"{number}: {image.shape} and {label.shape}")
            images.write(np.ascontiguousarray(image).data)
            masks.write((label > 127).astype(np.uint8).data)
    for name in ("images.u8", "masks.u8"):
        with (out / name).open("rb") as file:
            hashlib.file_digest(file, "sha256")


def ours(root: Path, out: Path, px: int) -> None:
    """What `glidexp data import` and `dataset=folder` do."""
    prepare(DatasetConfig(kind=DatasetKind.folder, root=str(root)), px, out, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--tile-px", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_pairs(base / "pairs", args.pairs, args.tile_px)
        for repeat in range(args.repeats + 1):
            for who in taken:
                out = base / f"{who}{repeat}"
                wall, cpu = time.perf_counter(), time.process_time()
                if who == "ours":
                    ours(base / "pairs", out, args.tile_px)
                else:
                    plain(base / "pairs", out, args.pairs, args.tile_px)
                if repeat > 0:  # the first round fills the page cache and imports what is imported late
                    taken[who].append((time.perf_counter() - wall, time.process_time() - cpu))
                for file in [*out.rglob("*.u8")]:
                    file.unlink()
    for place, clock in enumerate(("wall", "cpu")):
        rates = {who: [args.pairs / seconds[place] for seconds in found] for who, found in taken.items()}
        ratios = [a / b for a, b in zip(rates["ours"], rates["peer"], strict=True)]
        line = {
            "name": f"import_{args.pairs}x{args.tile_px}px_{clock}",
            "unit": "pairs/s",
            "n": args.repeats,
            **{who: round(statistics.median(values), 1) for who, values in rates.items()},
            "limit": None,
            "ratio_peer": round(statistics.median(ratios), 3),
            "ratio_limit": None,
            "spread": round((max(ratios) - min(ratios)) / 2 / statistics.median(ratios), 3),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
