"""Loss terms, forward and backward, against those of segmentation_models_pytorch (peer) and cross-entropy (limit).

    python bench/losses.py [--size 512] [--batch 8] [--repeats 15] [--device cpu|cuda] [--term lovasz ...]

One thread. Tiles of which 3 % are lake, logits as of a network half way. The peer of `boundary` is the same loss with
both distance maps by scipy, tile by tile; bce and focal have none. Each repeat runs the three one after the other;
medians are printed and, as spread, half the interquartile range over the median, one JSON line a measurement. Lines
ending in `_cpu` are CPU time of this process, which others disturb less.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import segmentation_models_pytorch as smp
import torch
from scipy.ndimage import distance_transform_edt
from segmentation_models_pytorch.losses.lovasz import _lovasz_softmax_flat
from torch import Tensor

from glidexp.config import LossConfig
from glidexp.config.training import LOSS_TERMS
from glidexp.training.losses import Loss, build_loss


def of_smp(term: str) -> Callable[[Tensor, Tensor], Tensor] | None:
    """(logits, mask) to the loss that smp has under this name, or scipy's distances in the boundary loss."""
    losses = {
        "dice": smp.losses.DiceLoss("binary"),
        "tversky": smp.losses.TverskyLoss("binary", alpha=0.3, beta=0.7),
        "focal_tversky": smp.losses.TverskyLoss("binary", alpha=0.3, beta=0.7, gamma=0.75),
        "lovasz": lovasz_sorted,
        "boundary": boundary_scipy,
    }
    return losses.get(term)


def lovasz_sorted(logits: Tensor, mask: Tensor) -> Tensor:
    probability = torch.sigmoid(logits).flatten()
    return _lovasz_softmax_flat(torch.stack([1 - probability, probability], 1), mask.flatten().long(), classes=[1])


def boundary_scipy(logits: Tensor, mask: Tensor) -> Tensor:
    signed = [distance_transform_edt(tile == 0) - distance_transform_edt(tile) for tile in mask[:, 0].cpu().numpy()]
    return (
        torch.sigmoid(logits)[:, 0] * torch.tensor(np.stack(signed), dtype=torch.float32, device=mask.device)
    ).mean()


def only(term: str) -> Loss:
    return build_loss(LossConfig(**{"bce": 0.0, "dice": 0.0} | {term: 1.0}))


def clocked(run: Callable[[], Tensor], device: torch.device) -> tuple[float, float]:
    """Wall and CPU milliseconds of one forward and backward pass, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    run().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def batch(size: int, tiles: int, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn(tiles, 1, size // 16, size // 16, generator=generator)
    mask = (torch.nn.functional.interpolate(rough, size=(size, size), mode="bicubic") > 1.6).float()
    logits = 2 * torch.randn(tiles, 1, size, size, generator=generator) + 6 * mask - 4
    return logits.to(device).requires_grad_(), mask.to(device)


def measure(term: str, args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    logits, mask = batch(args.size, args.batch, device)
    valid = torch.ones_like(mask)
    ours, limit, peer = only(term), only("bce"), of_smp(term)
    sides: dict[str, Callable[[], Tensor]] = {"ours": lambda: ours(logits, mask, valid)}
    sides["limit"] = lambda: limit(logits, mask, valid)
    if peer is not None:
        sides["peer"] = lambda: peer(logits, mask)
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for repeat in range(args.repeats + 2):
        for side, run in sides.items():
            found = clocked(run, device)
            if repeat >= 2:  # the first ones warm up
                taken[side].append(found)
    for which, clock in enumerate(("wall", "cpu")):
        ms = {side: [found[which] for found in taken[side]] for side in sides}
        medians = {side: round(statistics.median(values), 3) for side, values in ms.items()}
        low, middle, high = statistics.quantiles(ms["ours"], n=4)
        ratio = {
            side: round(statistics.median(a / b for a, b in zip(ms[side], ms["ours"], strict=True)), 3)
            for side in sides
            if side != "ours"
        }
        line = {"name": f"loss_{term}_{args.size}px_{clock}", "unit": "ms", "n": args.repeats}
        line |= {"ours": medians["ours"], "peer": medians.get("peer"), "limit": medians["limit"]}
        line |= {"ratio_peer": ratio.get("peer"), "ratio_limit": ratio["limit"]}
        print(json.dumps(line | {"spread": round((high - low) / 2 / middle, 3)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--term", nargs="+", default=LOSS_TERMS, choices=LOSS_TERMS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for term in args.term:
        measure(term, args)


if __name__ == "__main__":
    main()
