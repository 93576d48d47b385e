"""Gradient checkpointing: the same step to the bit, batch statistics moved once, less kept in memory."""

import copy

import pytest
import torch

from glidexp.errors import ConfigError
from glidexp.models.build import assemble
from glidexp.models.recompute import block_names, recompute_blocks

PAIRS = [
    ("resnet18", "fcn", 0.65),
    ("mobilenetv3", "fcn", 0.2),
    ("mit_b0", "segformer", 0.6),
    ("vit_small", "dpt", 0.75),
]
"""and the share that is kept at most: what the decoder keeps stays"""


def step(model: torch.nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, int]:
    """One step of SGD; the output, and bytes kept for the backward pass beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    torch.manual_seed(1)  # dropout and stochastic depth
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        output = model(image)
    (output**2).mean().backward()
    optimizer.step()
    return output.detach(), sum(kept.values())


@pytest.mark.parametrize(("backbone", "decoder", "share"), PAIRS)
def test_a_step_is_the_same_to_the_bit_with_less_in_memory(backbone: str, decoder: str, share: float) -> None:
    torch.manual_seed(0)
    plain = assemble(backbone, decoder, in_channels=3)
    ours = copy.deepcopy(plain)
    recompute_blocks(ours)
    image = torch.randn(2, 3, 64, 64)
    expected, all_kept = step(plain, image)
    output, kept = step(ours, image)
    assert torch.equal(output, expected)
    assert kept < share * all_kept
    theirs = plain.state_dict()
    assert theirs.keys() == ours.state_dict().keys()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_a_copy_computes_with_its_own_weights() -> None:
    torch.manual_seed(0)
    model = assemble("resnet18", "fcn", in_channels=3)
    recompute_blocks(model)
    twin = copy.deepcopy(model)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for weight in twin.encoder.layer1.parameters():
            weight.zero_()
    before = model.encoder.layer1[0].bn1.num_batches_tracked.item()
    step(twin, image)
    assert model.encoder.layer1[0].bn1.num_batches_tracked.item() == before
    assert twin.encoder.layer1[0].bn1.num_batches_tracked.item() == before + 1


def test_scoring_is_as_before() -> None:
    torch.manual_seed(0)
    model = assemble("resnet18", "fcn", in_channels=3).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(image)
        recompute_blocks(model)
        assert torch.equal(model(image), expected)


def test_a_frozen_block_keeps_its_statistics_and_uses_them() -> None:
    torch.manual_seed(0)
    plain = assemble("resnet18", "fcn", in_channels=3)
    ours = copy.deepcopy(plain)
    recompute_blocks(ours)
    image = torch.randn(2, 3, 64, 64)
    gradients = []
    for model in (plain, ours):
        torch.manual_seed(1)
        model.train()
        model.encoder.layer2.eval()
        (model(image) ** 2).mean().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert torch.equal(ours.encoder.layer2[0].bn1.running_mean, plain.encoder.layer2[0].bn1.running_mean)


def test_blocks_by_name() -> None:
    with torch.device("meta"):
        assert block_names(assemble("resnet18", "unet", in_channels=3).encoder) == [
            f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)
        ]
        convnext = block_names(assemble("convnext_tiny", "unet", in_channels=3).encoder)
        assert len(convnext) == 18 and all(".blocks." in name for name in convnext)
        regnet = block_names(assemble("regnetx_002", "unet", in_channels=3).encoder)
        depths = {1: 1, 2: 1, 3: 4, 4: 7}
        assert regnet == [f"model.s{stage}.b{block + 1}" for stage in depths for block in range(depths[stage])]


def test_an_encoder_without_blocks_is_refused() -> None:
    model = torch.nn.Module()
    model.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    with pytest.raises(ConfigError, match="gradient_checkpointing"):
        recompute_blocks(model)
