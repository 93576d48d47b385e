"""What torchrun starts on two GPUs in `test_ranks.py`: batch statistics are those of the whole batch, then train.py."""

import copy
import sys

import torch

from glidexp import cli
from glidexp.config import Compile, Precision, TrainConfig
from glidexp.training.device import Runtime, forward_of, resolve

TILES = 6


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 1, 1))


def check(runtime: Runtime) -> None:
    """A training step on this rank's part of a batch is its part of the step on the whole batch."""
    ranks, device = runtime.ranks, runtime.device
    whole = network().to(device)
    shared = runtime.place(copy.deepcopy(whole))
    assert isinstance(shared[1], torch.nn.SyncBatchNorm)  # type: ignore[index]
    image = torch.randn(TILES, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(device)
    image *= torch.arange(1, TILES + 1, device=device).view(-1, 1, 1, 1)  # parts have other statistics than the whole
    begin = ranks.rank * TILES // ranks.size
    part = slice(begin, begin + TILES // ranks.size)
    ours, theirs = forward_of(shared, runtime)()(image[part]), whole(image)
    torch.testing.assert_close(ours, theirs[part], atol=1e-4, rtol=1e-4)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    for (name, weight), other in zip(whole.named_parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(other.grad, weight.grad, atol=1e-4, rtol=1e-3, msg=name)
    for name, value in whole.named_buffers():
        torch.testing.assert_close(shared.get_buffer(name), value, msg=name)


if __name__ == "__main__":
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    runtime = resolve(TrainConfig(device="cuda", precision=Precision.fp32, compile=Compile.off))
    check(runtime)
    print(f"rank {runtime.ranks.rank} of {runtime.ranks.size} is a part of the whole", flush=True)
    cli.main(["train", *sys.argv[1:]])
