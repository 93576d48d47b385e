"""Low-rank adapters: which layers have them, what learns beside them, and the plain network that remains in the end."""

import ast
from pathlib import Path

import pytest
import torch
from test_freezing import Staged
from test_loop import config
from torch import nn

from glidexp.config import OptimizerConfig, TrainConfig
from glidexp.errors import ConfigError
from glidexp.models import adapters
from glidexp.models.adapters import adaptable, add_adapters, merge_adapters, merged_state, require_adaptable, staged
from glidexp.models.stages import encoder_stages
from glidexp.training.averages import Ema
from glidexp.training.freezing import build_freezing, never_learning
from glidexp.training.optim import build_optimizer

IMAGE = {"in_channels": 3, "side_px": 16}


class Own(nn.Conv2d):
    """Computes its weights itself, as weight-standardised convolutions do."""


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide = nn.Conv2d(16, 16, 3, padding=2, dilation=2, bias=False)
        self.own = Own(16, 16, 3, padding=1)
        self.linear = nn.Linear(16, 16)
        self.small = nn.Conv2d(16, 2, 1)
        self.idle = nn.Conv2d(16, 16, 3)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        first = torch.relu(self.norm(self.stem(image)))
        second = self.own(self.wide(self.depthwise(first)))
        third = self.linear(second.movedim(1, -1)).movedim(-1, 1)
        return [image, first, second, third + self.small(third).mean(1, keepdim=True)]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(image)[-1])


def adapted(rank: int = 2) -> Network:
    torch.manual_seed(0)
    model = Network()
    add_adapters(model, rank, 8, **IMAGE)
    return model


def trained_a_little(model: nn.Module) -> nn.Module:
    """B of every adapter is drawn, as though it had learnt."""
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(weight, std=0.1)
    return model


def test_layers_that_are_called_plain_and_larger_than_their_adapter_have_one() -> None:
    model = Network()
    assert adaptable(model, 2, **IMAGE) == ["stem", "wide", "linear"]  # small: 32 weights, its adapter 2 * (16 + 2)
    assert adaptable(model, 1, **IMAGE) == ["stem", "wide", "linear", "small"]
    assert adaptable(model, 8, **IMAGE) == ["stem", "wide"]  # stem: 432 weights, 8 * (27 + 16); linear: 256, as many
    assert adaptable(model, 20, **IMAGE) == []
    assert list(model.state_dict()) == list(Network().state_dict())


def test_a_rank_at_which_no_layer_is_left_is_refused() -> None:
    require_adaptable("test_resnet", "fcn", 8)
    with pytest.raises(ConfigError, match=r"train\.lora_rank=400: .* of backbone\.name=test_resnet .* a lower rank"):
        require_adaptable("test_resnet", "fcn", 400)


@pytest.mark.parametrize("backbone", ["convnext_tiny", "mit_b0", "swin_tiny", "vit_small"])
def test_encoders_of_every_family_have_layers_that_take_one(backbone: str) -> None:
    state = torch.get_rng_state()
    require_adaptable(backbone, "fcn", 4)
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_changes_at_first_and_merging_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = Network().eval()
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = plain(image)
        model = adapted().eval()
        torch.testing.assert_close(model(image), before, rtol=0, atol=1e-6)
        apart = trained_a_little(model)(image)
        assert (apart - before).abs().max() > 0.01
        state = merged_state(model)
        assert list(state) == list(plain.state_dict())
        plain.load_state_dict(state)
        torch.testing.assert_close(plain(image), apart, rtol=0, atol=1e-5)
        assert merge_adapters(model) is model
        assert [*model.state_dict()] == [*state] and not hasattr(model.encoder, "peft_config")
        torch.testing.assert_close(model(image), apart, rtol=0, atol=1e-5)
    assert merge_adapters(plain) is plain and merged_state(plain).keys() == state.keys()


def test_stages_keep_their_weights_and_take_their_adapters() -> None:
    torch.manual_seed(0)
    model = Network()
    before = encoder_stages(model, **IMAGE)
    add_adapters(model, 2, 8, **IMAGE)
    after = staged(before, model)
    assert "encoder.stem.lora_A.default.weight" in after[0] and "encoder.linear.lora_B.default.weight" in after[2]
    encoder = [name for name, _ in model.named_parameters() if name.startswith("encoder.")]
    assert sorted(name for stage in after for name in stage) == sorted(encoder)


class Adapted(Staged):
    """A training whose encoder of three stages has adapters."""

    def __init__(self, cfg: TrainConfig) -> None:
        super().__init__(cfg)
        stages = encoder_stages(self.model, **IMAGE)
        add_adapters(self.model, cfg.lora_rank, cfg.lora_alpha, **IMAGE)
        stages = staged(stages, self.model)
        rates = OptimizerConfig(lr=0.01, weight_decay=0.1, encoder_lr_ratio=2)
        self.optimizer = build_optimizer(rates, self.model, device=torch.device("cpu"), stages=stages)
        self.freeze_at = build_freezing(cfg, self.model, stages)
        self.looks = [self.look()]

    def moved(self, epoch: int) -> set[str]:
        before, after = self.looks[epoch], self.looks[epoch + 1]
        return {name for name in before if not torch.equal(before[name], after[name])}


def test_of_the_encoder_only_adapters_move_and_from_their_epoch_on() -> None:
    training = Adapted(config(epochs=3, lora_rank=2, freeze_encoder_epochs=1))
    own = never_learning(training.cfg, training.model)
    assert "encoder.stages.0.1.weight" in own and not any("lora" in name for name in own)
    training.ema = Ema(training.model, 0.5)
    training.run()
    assert {name.split(".")[0] for name in training.moved(0)} == {"head"}
    moved = training.moved(2)
    assert "encoder.stages.0.0.lora_B.default.weight" in moved
    encoder = {name for epoch in range(3) for name in training.moved(epoch) if name.startswith("encoder.")}
    assert all(".lora_" in name for name in encoder), "weights and batch statistics are bit for bit what they were"
    average = training.ema.network().state_dict()
    assert all(torch.equal(average[name], training.looks[0][name]) for name in own)
    assert set(training.ema.network().state_dict()) == set(training.model.state_dict())


@pytest.mark.parametrize("stop_after", [2, 5])
def test_a_resumed_training_goes_on_exactly(stop_after: int) -> None:
    def begun() -> Adapted:
        training = Adapted(config(epochs=3, lora_rank=2, freeze_encoder_epochs=1))
        torch.manual_seed(1)
        return training

    whole = begun()
    whole.run()
    cut = begun()
    cut.run(stop_after=stop_after)
    noise = torch.get_rng_state()
    rest = begun()
    rest.model.load_state_dict(cut.model.state_dict())
    rest.optimizer.load_state_dict(cut.optimizer.state_dict())
    rest.position = cut.position
    torch.set_rng_state(noise)
    rest.run()
    ours, theirs = whole.look(), rest.look()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_library_loads_late() -> None:
    tree = ast.parse(Path(adapters.__file__).read_text())
    early = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("peft" in line for line in early)
