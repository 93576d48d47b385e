"""Frozen stages do not move, neither weights nor batch statistics, learn from their epoch on, and resume exactly."""

import itertools
import logging
from collections.abc import Callable

import pytest
import torch
from test_loop import Training, config

from glidexp.config import BackboneConfig, DecoderConfig, Embed, InitConfig, OptimizerConfig, TrainConfig
from glidexp.models.adapters import add_adapters, staged
from glidexp.models.bands import terrain_at_zero
from glidexp.models.build import build_model
from glidexp.models.stages import encoder_stages
from glidexp.models.told import Told
from glidexp.training.freezing import build_freezing, dead_inputs, frozen_stages
from glidexp.training.optim import build_optimizer, lr_schedule


class Encoder(torch.nn.Module):
    """Three stages, with batch statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 6, 6, 8]
        self.stages = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Conv2d(narrow, wide, 3, padding=1),
                torch.nn.BatchNorm2d(wide),
                torch.nn.ReLU(),
                torch.nn.Dropout(0.1),
            )
            for narrow, wide in itertools.pairwise(widths)
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps = [image]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = torch.nn.Sequential(torch.nn.Conv2d(8, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(image)[-1])


class Staged(Training):
    """A training whose network has an encoder of three stages, with a look at its weights after each epoch."""

    def __init__(self, cfg: TrainConfig, optimizer: OptimizerConfig | None = None) -> None:
        super().__init__(cfg)
        torch.manual_seed(0)
        self.model = Network()
        stages = encoder_stages(self.model, in_channels=3, side_px=16)
        cfg_optimizer = optimizer or OptimizerConfig(lr=0.01, weight_decay=0.1)
        self.optimizer = build_optimizer(cfg_optimizer, self.model, device=torch.device("cpu"), stages=stages)
        self.freeze_at = build_freezing(cfg, self.model, stages)
        self.looks = [self.look()]

    def look(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def evaluate(self, epoch: int) -> list[tuple[str, float]]:
        self.looks.append(self.look())
        return super().evaluate(epoch)

    def moved(self, epoch: int) -> set[str]:
        """Parts in which anything changed in an epoch, batch statistics included."""
        before, after = self.looks[epoch], self.looks[epoch + 1]
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        return {".".join(name.split(".")[: 3 if name.startswith("encoder") else 1]) for name in changed}


def test_epochs_of_hand() -> None:
    def by_epoch(**values: int) -> list[int]:
        return [frozen_stages(TrainConfig(**values), epoch, 3) for epoch in range(7)]

    assert by_epoch(freeze_encoder_epochs=2) == [3, 3, 0, 0, 0, 0, 0]
    assert by_epoch(freeze_encoder_epochs=1, unfreeze_every=2) == [3, 2, 2, 1, 1, 0, 0]
    assert by_epoch(unfreeze_every=1) == [2, 1, 0, 0, 0, 0, 0]
    assert by_epoch() == [0] * 7


def test_a_frozen_encoder_does_not_move_and_then_learns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    training = Staged(config(epochs=3, freeze_encoder_epochs=2))
    training.run()
    encoder = {f"encoder.stages.{stage}" for stage in range(3)}
    assert [training.moved(epoch) for epoch in range(3)] == [{"head"}, {"head"}, {"head", *encoder}]
    told = [record.message for record in caplog.records if "frozen" in record.message]
    assert told == [
        "from epoch 1 on, 3 of 3 stages of the encoder are frozen",
        "from epoch 3 on, 0 of 3 stages of the encoder are frozen",
    ]


def test_stages_learn_one_after_the_other_from_the_deepest() -> None:
    training = Staged(config(epochs=5, freeze_encoder_epochs=1, unfreeze_every=1))
    training.run()
    expected = [{"head"}]
    for stage in (2, 1, 0):
        expected.append(expected[-1] | {f"encoder.stages.{stage}"})
    expected.append(expected[-1])
    assert [training.moved(epoch) for epoch in range(5)] == expected
    steps = {name: int(training.optimizer.state[weight]["step"]) for name, weight in training.model.named_parameters()}
    assert {steps[f"encoder.stages.{stage}.0.weight"] for stage in range(3)} == {12, 9, 6}
    assert steps["head.0.weight"] == 15, "what is frozen counts no step"


def test_inputs_that_begin_at_0_and_never_learn_are_told() -> None:
    bands = ["red", "green", "blue", "elevation", "slope"]
    image = {"in_channels": 5, "side_px": 32}

    def said(told: bool, **train: int) -> list[str]:
        torch.manual_seed(0)
        parts = BackboneConfig(name="resnet18"), DecoderConfig(name="fcn"), InitConfig()
        model = build_model(*parts, in_channels=5, bands=bands, told=Told(Embed.gsd if told else Embed.none))
        terrain_at_zero(model, 5, 2)
        stages, cfg = encoder_stages(model, **image), TrainConfig(epochs=4, **train)
        if cfg.lora_rank:
            add_adapters(model, cfg.lora_rank, cfg.lora_alpha, **image)
            stages = staged(stages, model)
        return [sentence.split(":")[0] for sentence in dead_inputs(cfg, model, stages, bands)]

    heights, what = "bands elevation, slope change nothing", "what the network is told (input.embed) changes nothing"
    for held in ({"freeze_encoder_epochs": 4}, {"unfreeze_every": 1}, {"unfreeze_every": 9}):
        assert said(told=True, **held) == [what, heights] and said(told=False, **held) == [heights]
    for learning in ({}, {"freeze_encoder_epochs": 3}, {"freeze_encoder_epochs": 0, "lora_rank": 2}):
        assert said(told=False, **learning) == []
    assert said(told=True, freeze_encoder_epochs=3) == []
    assert said(told=False, lora_rank=2, freeze_encoder_epochs=4) == [heights]
    # a layer that is told something has no adapter
    assert said(told=True, lora_rank=2) == [what, heights]


def test_what_is_frozen_computes_as_at_scoring() -> None:
    training = Staged(config(epochs=2, freeze_encoder_epochs=1))
    training.model.train()
    training.freeze_at(0)
    assert not any(module.training for module in training.model.encoder.stages.modules() if module is not None)
    assert training.model.head[1].training
    training.model.train()
    training.freeze_at(1)
    assert all(module.training for module in training.model.modules())


@pytest.mark.parametrize("stop_after", [2, 3, 4, 8])
def test_a_resumed_run_goes_on_with_the_same_stages_frozen(stop_after: int) -> None:
    values = {"epochs": 4, "freeze_encoder_epochs": 1, "unfreeze_every": 1}
    rates = OptimizerConfig(lr=0.01, layer_decay=0.7, encoder_lr_ratio=0.5)
    torch.manual_seed(1)
    whole = Staged(config(**values), rates)
    torch.manual_seed(1)
    whole.run()
    cut = Staged(config(**values), rates)
    torch.manual_seed(1)
    cut.run(stop_after=stop_after)
    noise = torch.get_rng_state()
    rest = Staged(config(**values), rates)
    rest.model.load_state_dict(cut.model.state_dict())
    rest.optimizer.load_state_dict(cut.optimizer.state_dict())
    rest.position = cut.position
    torch.set_rng_state(noise)
    rest.run()
    for ours, theirs in zip(whole.look().values(), rest.look().values(), strict=True):
        assert torch.equal(ours, theirs)
    ours_state, theirs_state = whole.optimizer.state_dict()["state"], rest.optimizer.state_dict()["state"]
    assert ours_state.keys() == theirs_state.keys()
    assert all(
        torch.equal(ours_state[key][name], theirs_state[key][name]) for key in ours_state for name in ours_state[key]
    )


def test_each_group_takes_its_share_of_the_learning_rate() -> None:
    training = Staged(config(epochs=1), OptimizerConfig(lr=0.01, layer_decay=0.5))
    training.run()
    last = lr_schedule(OptimizerConfig(lr=0.01), 3)(2)
    rates = {group["lr_ratio"]: group["lr"] for group in training.optimizer.param_groups}
    assert rates == {ratio: last * ratio for ratio in (0.125, 0.25, 0.5, 1.0)}


def test_nothing_is_touched_when_nothing_freezes() -> None:
    model = Network()
    model.encoder.stages[0].requires_grad_(False)
    freeze_at: Callable[[int], None] = build_freezing(TrainConfig(), model, [])
    freeze_at(0)
    assert not model.encoder.stages[0][0].weight.requires_grad
