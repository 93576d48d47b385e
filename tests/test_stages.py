"""Stages of an encoder: each weight once, in the order of depth, for every listed backbone; learning rates by stage."""

import pytest
import torch

from glidexp.config import OptimizerConfig
from glidexp.models import catalog
from glidexp.models.build import assemble
from glidexp.models.recompute import recompute_blocks
from glidexp.models.stages import encoder_stages
from glidexp.training.optim import build_optimizer, stage_ratios

OF_BLOCKS = [name for name in catalog.BACKBONES if name != "pixel_mlp"]  # one map and no blocks: test_models_pixel


def on_paper(backbone: str, decoder: str) -> tuple[torch.nn.Module, list[list[str]]]:
    # smp's Mix Transformer reads numbers while it is built, which `meta` does not have
    with torch.device("cpu" if backbone.startswith("mit") else "meta"):
        model = assemble(backbone, decoder, in_channels=3)
    side_px = catalog.smallest_px(backbone, decoder)
    return model, encoder_stages(model, in_channels=3, side_px=side_px)


@pytest.mark.usefixtures("cheap_draws")
@pytest.mark.parametrize("backbone", OF_BLOCKS)
def test_every_weight_has_one_stage_and_one_learning_rate_and_learns_with_blocks_computed_again(backbone: str) -> None:
    decoder = catalog.allowed_decoders(catalog.find(backbone))[0]
    model, stages = on_paper(backbone, decoder)
    names = [name for stage in stages for name in stage]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters() if name.startswith("encoder."))
    assert len(stages) in (4, 5)
    cfg = OptimizerConfig(layer_decay=0.5, encoder_lr_ratio=0.8)
    optimizer = build_optimizer(cfg, model, device=torch.device("cpu"), stages=stages)
    ratio_of = {id(p): group["lr_ratio"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(ratio_of)
    stage_of = {name: number for number, stage in enumerate(stages) for name in stage}
    for name, weight in model.named_parameters():
        wanted = 0.8 * 0.5 ** (len(stages) - stage_of[name]) if name in stage_of else 1.0
        assert not weight.requires_grad or ratio_of[id(weight)] == wanted, name

    model = model.to("meta").train()
    assert len(recompute_blocks(model)) >= 8
    model(torch.zeros(2, 3, 64, 64, device="meta")).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_stages_of_a_resnet_and_of_a_plain_transformer_by_name() -> None:
    _, stages = on_paper("resnet18", "unet")
    assert {name.split(".")[1] for name in stages[0]} == {"conv1", "bn1"}
    assert [{name.split(".")[1] for name in stage} for stage in stages[1:]] == [{f"layer{k}"} for k in range(1, 5)]
    _, stages = on_paper("vit_small", "dpt")
    blocks = [{int(name.split("blocks.")[1].split(".")[0]) for name in stage if "blocks." in name} for stage in stages]
    assert blocks == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}]
    assert "encoder.model.pos_embed" in stages[0]


def test_an_encoder_cut_short_has_the_stages_that_are_used() -> None:
    model, stages = on_paper("resnet18", "pspnet")
    assert len(stages) == 3
    names = {name for stage in stages for name in stage}
    assert names == {name for name, _ in model.named_parameters() if name.startswith("encoder.")}


def test_looking_for_stages_leaves_the_network_and_the_seed_alone() -> None:
    torch.manual_seed(0)
    model = assemble("mobilenetv3", "fcn", in_channels=4)
    model.decoder.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    encoder_stages(model, in_channels=4, side_px=32)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_ratios_of_hand() -> None:
    assert stage_ratios(OptimizerConfig(layer_decay=0.5), 3) == [0.125, 0.25, 0.5]
    assert stage_ratios(OptimizerConfig(layer_decay=1.0, encoder_lr_ratio=0.1), 2) == [0.1, 0.1]


def test_without_a_ratio_the_groups_are_the_plain_two() -> None:
    model, stages = on_paper("mobilenetv3", "fcn")
    plain = build_optimizer(OptimizerConfig(), model, device=torch.device("cpu"))
    asked = build_optimizer(OptimizerConfig(), model, device=torch.device("cpu"), stages=stages)
    for optimizer in (plain, asked):
        assert [group["lr_ratio"] for group in optimizer.param_groups] == [1.0, 1.0]
        in_order = [p for p in model.parameters() if p.ndim >= 2]
        assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], in_order, strict=True))
