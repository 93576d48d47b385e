"""Augmentation against the same operators in one Kornia AugmentationSequential (peer) and plain normalisation (limit).

    python bench/augment.py [--size 512] [--batch 8] [--repeats 15] [--device cpu|cuda] [--preset standard ...]

One thread. Both sides take a uint8 batch with its label and give a normalised float32 image and a mask, on the device;
ours gives the map of valid pixels too. The peer has the preset's ranges and probabilities, one operator each. Each
repeat runs the three one after the other and draws anew, so that a busy machine slows all of them; medians are printed
and, as spread, half the interquartile range over the median, one JSON line a measurement. Lines ending in `_cpu` are
CPU time of this process, which others disturb less. Kornia's hue goes through HSV and is most of its colour jitter,
ours is part of the matrix: `_no_hue` leaves it out on both sides.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import yaml
from kornia import augmentation as ka

from glidexp.config import AugmentationConfig
from glidexp.training.augmentation.augment import Augment

ROOT = Path(__file__).resolve().parent.parent
MEAN, STD = (120.1, 124.7, 123.1), (74.6, 74.4, 76.5)


def preset(name: str) -> AugmentationConfig:
    return AugmentationConfig(**yaml.safe_load((ROOT / "conf" / "augmentation" / f"{name}.yaml").read_text()))


def sequential(cfg: AugmentationConfig) -> ka.AugmentationSequential:
    """The preset as a Kornia user writes it: image of 0-1 and mask in, normalised image and mask out."""
    steps: list[torch.nn.Module] = []
    if cfg.flip:
        steps += [ka.RandomHorizontalFlip(p=0.5), ka.RandomVerticalFlip(p=0.5)]
    if cfg.rot90:
        steps += [ka.RandomRotation90(times=(0, 3), p=1.0)]
    if cfg.affine_p:
        shift, scale = (cfg.translate, cfg.translate), (cfg.scale[0], cfg.scale[1])
        steps += [
            ka.RandomAffine(cfg.rotate_deg, shift, scale, cfg.shear_deg, padding_mode="reflection", p=cfg.affine_p)
        ]
    if cfg.color_p:
        steps += [ka.ColorJitter(cfg.brightness, cfg.contrast, cfg.saturation, cfg.hue, p=cfg.color_p)]
    if cfg.blur_p:
        width = 2 * -int(-3 * cfg.blur_sigma_px[1] // 1) + 1
        steps += [ka.RandomGaussianBlur((width, width), (cfg.blur_sigma_px[0], cfg.blur_sigma_px[1]), p=cfg.blur_p)]
    if cfg.noise_p:
        steps += [ka.RandomGaussianNoise(0.0, cfg.noise_std / 255, p=cfg.noise_p)]
    steps += [ka.Normalize(torch.tensor(MEAN) / 255, torch.tensor(STD) / 255)]
    return ka.AugmentationSequential(*steps, data_keys=["image", "mask"])


def clocked(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall and CPU milliseconds of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def spread(values: list[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / statistics.median(values)


def measure(name: str, cfg: AugmentationConfig, args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    torch.manual_seed(0)
    coarse = torch.rand(args.batch, 3, args.size // 16, args.size // 16)
    smooth = torch.nn.functional.interpolate(coarse, size=(args.size, args.size), mode="bicubic").clamp(0, 1)
    image = (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().to(device).permute(0, 3, 1, 2)
    label = (image[:, 2] > 200).to(torch.uint8)
    ours = Augment(cfg, mean=MEAN, std=STD, seed=0)
    plain = Augment(AugmentationConfig(), mean=MEAN, std=STD, seed=0)
    peer = sequential(cfg).to(device)

    def rows(repeat: int) -> torch.Tensor:
        return torch.arange(args.batch) + repeat * args.batch

    def run_peer(_: int) -> object:
        return peer(image.float() / 255, label[:, None].float())

    runs: list[Callable[[int], object]] = [
        lambda repeat: ours(image, label, rows(repeat), 0),
        run_peer,
        lambda repeat: plain(image, label, rows(repeat), 0),
    ]
    times: list[list[tuple[float, float]]] = [[], [], []]
    with torch.no_grad():
        for repeat in range(-2, args.repeats):  # two rounds to warm up
            for run, kept in zip(runs, times, strict=True):
                taken = clocked(lambda run=run, repeat=repeat: run(max(repeat, 0)), device)
                if repeat >= 0:
                    kept.append(taken)
    for which, suffix in ((0, "wall"), (1, "cpu")):
        series = [[taken[which] for taken in kept] for kept in times]
        mine, theirs, limit = (statistics.median(values) for values in series)
        line = {
            "name": f"augment/{name}_{args.batch}x3x{args.size}x{args.size}_{args.device}_{suffix}",
            "unit": "ms/batch",
            "n": args.repeats,
            "ours": round(mine, 2),
            "peer": round(theirs, 2),
            "limit": round(limit, 2),
            "ratio_peer": round(theirs / mine, 2),
            "ratio_limit": round(limit / mine, 3),
            "spread": round(spread(series[0]), 3),
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--preset", nargs="+", default=["standard", "flips"], choices=["standard", "flips"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.preset:
        cfg = preset(name)
        measure(name, cfg, args)
        if cfg.hue:
            measure(f"{name}_no_hue", dataclasses.replace(cfg, hue=0.0), args)


if __name__ == "__main__":
    main()
