"""What is trained and with what: one object that a seed makes, and that a checkpoint puts back exactly."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from glidexp.config import Config
from glidexp.data.store import TileStore
from glidexp.models import catalog
from glidexp.models.adapters import add_adapters, merged_state, staged
from glidexp.models.build import build_model, parameters
from glidexp.models.recompute import recompute_blocks
from glidexp.models.stages import encoder_stages
from glidexp.training.augmentation.telling import told_for
from glidexp.training.averages import Ema
from glidexp.training.device import Runtime
from glidexp.training.optim import build_optimizer


@dataclass(slots=True)
class Position:
    """Where in the training a run is: what a checkpoint needs beside the tensors to go on exactly."""

    epoch: int = 0
    """epoch under way, from 0"""
    batch: int = 0
    """batches of it that are done"""
    step: int = 0
    """optimizer steps done in all"""
    loss_sum: float = 0.0
    """sum of the losses of this epoch's batches"""
    losses: float = 0.0
    """how many there are: all but those that fp16 skipped"""
    best: float = -math.inf
    best_epoch: int = -1


@dataclass(slots=True)
class Parts:
    """Everything that changes as a run trains. All of it goes into one checkpoint, so that it belongs to one moment."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """keeps fp16 gradients alive; disabled in other precisions"""
    device: torch.device
    position: Position = field(default_factory=Position)
    rng: list[torch.Tensor] = field(init=False)
    """torch's random states with which the next step starts; what is drawn elsewhere meanwhile does not matter"""
    stages: list[list[str]] = field(default_factory=list)
    """names of the encoder's weights by stage, stem first; empty where nobody asks for them"""
    parameters: int = 0
    """numbers in the network, without adapters"""
    adapted: int = 0
    """layers of the encoder that have an adapter"""
    ema: Ema | None = None
    """moving average of the weights, where one is scored in place of them"""
    tail: AveragedModel | None = None
    """plain average of the weights at the ends of the last epochs, where one is wanted"""
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """weights of the best epoch, adapters merged, in the host's memory: they are scored in the end, also where the disk
    is full"""
    history: list[dict[str, float]] = field(default_factory=list)
    """metrics of each finished epoch: a resumed run hands them to tracking again, in case they had not arrived"""

    def __post_init__(self) -> None:
        self.rng = random_states(self.device)

    @property
    def judged(self) -> torch.nn.Module:
        """The network that is scored and kept: the moving average where there is one."""
        return self.ema.network() if self.ema is not None else self.model

    def keep_best(self) -> None:
        """Copies the judged weights as they are now to `best`."""
        self.best = {name: value.detach().to("cpu", copy=True) for name, value in merged_state(self.judged).items()}

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "best": self.best,
            "ema": self.ema.state() if self.ema is not None else None,
            "tail": self.tail.state_dict() if self.tail is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": asdict(self.position),
            "history": self.history,
            "rng": random_states(self.device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Puts a checkpoint back."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.restore(state["ema"])
        if self.tail is not None:
            self.tail.load_state_dict(state["tail"])
        self.best, self.history, self.rng = state["best"], state["history"], state["rng"]
        for name, value in state["position"].items():
            setattr(self.position, name, value)

    def restore_random(self) -> None:
        """Sets torch's generators to where the next step starts."""
        torch.set_rng_state(self.rng[0])
        if self.device.type == "cuda" and len(self.rng) > 1:  # a run begun on a CPU has none for the GPU
            torch.cuda.set_rng_state(self.rng[1], self.device)


def random_states(device: torch.device) -> list[torch.Tensor]:
    """States of torch's generators: the CPU's, and the GPU's where one is used."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def build_parts(config: Config, runtime: Runtime, tiles: TileStore) -> Parts:
    """Network, optimizer and scaler of a seed, on the device."""
    torch.manual_seed(config.seed)
    model = build_model(
        config.backbone,
        config.decoder,
        config.init,
        in_channels=tiles.channels,
        bands=tiles.bands,
        classes=len(tiles.classes) or 1,
        told=told_for(config, tiles),
        terrain=tiles.terrain,
    )
    whole, adapted, stages = parameters(model), 0, list[list[str]]()
    image = {"in_channels": tiles.channels, "side_px": catalog.smallest_px(config.backbone.name, config.decoder.name)}
    if config.optimizer.by_depth or config.train.freezes:
        stages = encoder_stages(model, **image)
    if config.train.gradient_checkpointing:
        recompute_blocks(model)
    if config.train.lora_rank:
        adapted = add_adapters(model, config.train.lora_rank, config.train.lora_alpha, **image)
        stages = staged(stages, model)
    model = runtime.place(model)
    optimizer = build_optimizer(config.optimizer, model, device=runtime.device, stages=stages)
    parts = Parts(model, optimizer, runtime.scaler(), runtime.device, stages=stages, parameters=whole, adapted=adapted)
    if config.train.ema_decay is not None:
        parts.ema = Ema(model, config.train.ema_decay)
    if config.train.average_last:
        parts.tail = AveragedModel(model)
    return parts
