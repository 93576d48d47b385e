"""Settings of training: augmentation, loss, optimizer, and the loop."""

from dataclasses import dataclass, field
from enum import StrEnum

from glidexp.config.ranges import at_least, low_high, within
from glidexp.errors import ConfigError


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Compile(StrEnum):
    auto = "auto"
    on = "on"
    off = "off"


class Tta(StrEnum):
    none = "none"
    flips = "flips"
    d4 = "d4"


class Resident(StrEnum):
    auto = "auto"
    on = "on"
    off = "off"


class OptimizerName(StrEnum):
    adamw = "adamw"
    sgd = "sgd"


@dataclass(kw_only=True, slots=True)
class AugmentationConfig:
    """What is done to a training tile on the device. Probabilities are per tile; a range of one value is symmetric."""

    flip: bool = False
    """mirror left-right and up-down, each with probability 0.5"""
    rot90: bool = False
    """rotate by 0, 90, 180 or 270 degrees, uniformly"""
    affine_p: float = 0.0
    rotate_deg: float = 0.0
    translate: float = 0.0
    """share of the tile's side"""
    scale: list[float] = field(default_factory=lambda: [1.0, 1.0])
    shear_deg: float = 0.0
    color_p: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """share of the colour circle, 0-0.5"""
    gain_p: float = 0.0
    gain: float = 0.0
    """per-band gain drawn from 1 +- gain"""
    haze_p: float = 0.0
    haze: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """share of the signal replaced by path radiance"""
    gsd_p: float = 0.0
    gsd_factor: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """simulated ground sample distance as a multiple of the tile's own: point spread, then sampling, then back"""
    blur_p: float = 0.0
    blur_sigma_px: list[float] = field(default_factory=lambda: [0.1, 0.1])
    noise_p: float = 0.0
    noise_std: float = 0.0
    """standard deviation on the 0-255 scale"""

    def __post_init__(self) -> None:
        for name in ("affine_p", "color_p", "gain_p", "haze_p", "gsd_p", "blur_p", "noise_p"):
            within(f"augmentation.{name}", getattr(self, name), 0, 1, "a probability")
        for name in ("brightness", "contrast", "saturation", "translate"):
            within(f"augmentation.{name}", getattr(self, name), 0, 1, "a share")
        within("augmentation.gain", self.gain, 0, 0.99, "a share; a band is never switched off")
        within("augmentation.hue", self.hue, 0, 0.5, "a share of the colour circle, half of it either way")
        within("augmentation.rotate_deg", self.rotate_deg, 0, 360, "degrees either way")
        within("augmentation.shear_deg", self.shear_deg, 0, 80, "degrees either way")
        within("augmentation.noise_std", self.noise_std, 0, 255, "on the 0-255 scale")
        low_high("augmentation.scale", self.scale, 0.1, 10, "1 leaves the size alone")
        low_high("augmentation.haze", self.haze, 0, 1, "a share of the signal")
        low_high("augmentation.gsd_factor", self.gsd_factor, 1, 16, "1 leaves the sampling alone")
        low_high("augmentation.blur_sigma_px", self.blur_sigma_px, 0.05, 20, "pixels")


AUTO = "auto"
"""what a number is called that is found on the machine"""

MOST_THREADS = 1024
"""of torch: a process that cannot begin as many ends without saying why"""

LOSS_TERMS = ("bce", "dice", "focal", "tversky", "focal_tversky", "lovasz", "boundary")
"""fields of `LossConfig` that are weights of a term on lake and background"""


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """Weighted sum of terms on valid pixels. Weights are relative and need not add to 1."""

    bce: float = 0.5
    dice: float = 0.5
    focal: float = 0.0
    focal_gamma: float = 2.0
    tversky: float = 0.0
    tversky_alpha: float = 0.3
    """weight of false alarms, in both Tversky losses"""
    tversky_beta: float = 0.7
    """weight of missed lake, in both Tversky losses"""
    focal_tversky: float = 0.0
    focal_tversky_gamma: float = 1.3333
    """its exponent is 1 / gamma"""
    lovasz: float = 0.0
    cross_entropy: float = 0.0
    """of several classes, for land cover (dataset.classes), where it is the only one"""
    boundary: float = 0.0
    boundary_px: int = 16
    """pixels from the shoreline beyond which all pixels count alike"""

    def __post_init__(self) -> None:
        for name in (*LOSS_TERMS, "cross_entropy", "focal_gamma"):
            at_least(f"loss.{name}", getattr(self, name), 0)
        for name in ("tversky_alpha", "tversky_beta"):
            within(f"loss.{name}", getattr(self, name), 0.01, 10, "a weight; 0.5 for both makes Tversky the Dice loss")
        within("loss.focal_tversky_gamma", self.focal_tversky_gamma, 1, 3, "1 makes it the Tversky loss")
        within("loss.boundary_px", self.boundary_px, 1, 64, "pixels")
        lake = [f"loss.{name}" for name in LOSS_TERMS if getattr(self, name) > 0]
        if self.cross_entropy > 0 and lake:
            raise ConfigError(
                f"loss.cross_entropy={self.cross_entropy:g} is of land cover of several classes, {', '.join(lake)} of "
                "lake and background: loss=cross_entropy sets the others to 0."
            )
        if not lake and self.cross_entropy <= 0:
            raise ConfigError(
                f"the weights of all losses are 0: give at least one of {', '.join(f'loss.{n}' for n in LOSS_TERMS)} a "
                "weight above 0."
            )


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    name: OptimizerName = OptimizerName.adamw
    lr: float = 1e-3
    """peak learning rate, reached after warm-up, then cosine to lr * final_lr_ratio"""
    weight_decay: float = 0.01
    momentum: float = 0.9
    """sgd only"""
    warmup: float = 0.05
    """share of all steps"""
    final_lr_ratio: float = 0.01
    encoder_lr_ratio: float = 1.0
    """learning rate of the encoder as a share of the decoder's"""
    layer_decay: float = 1.0
    """that of an encoder's stage as a share of the next deeper one's; the deepest gets this share of the encoder's"""

    def __post_init__(self) -> None:
        if not 0 < self.lr < 100:
            raise ConfigError(f"optimizer.lr={self.lr} is outside (0, 100): give a learning rate such as 0.001.")
        for name in ("weight_decay", "momentum", "warmup", "final_lr_ratio"):
            at_least(f"optimizer.{name}", getattr(self, name), 0)
        for name in ("momentum", "warmup", "final_lr_ratio"):
            if getattr(self, name) > 1:
                raise ConfigError(f"optimizer.{name}={getattr(self, name)} is above 1: it is a share between 0 and 1.")
        within("optimizer.layer_decay", self.layer_decay, 0.01, 1, "a share; 1 gives every stage the same")
        within(
            "optimizer.encoder_lr_ratio",
            self.encoder_lr_ratio,
            0.0001,
            10,
            "a factor; train.freeze_encoder_epochs holds it fixed",
        )

    @property
    def by_depth(self) -> bool:
        """Whether the encoder has learning rates of its own."""
        return self.layer_decay != 1 or self.encoder_lr_ratio != 1


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    epochs: int = 5
    batch_size: int | str = 8
    """tiles a forward pass, of all processes together; auto: the largest that the device's memory takes"""
    accumulate: int = 1
    """forward passes an optimizer step"""
    precision: Precision = Precision.auto
    compile: Compile = Compile.auto
    resident: Resident = Resident.auto
    """whether tiles stay in the device's memory; auto: on a CUDA GPU where they take at most half of what is free"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    threads: int | None = None
    """CPU threads of torch; OMP_NUM_THREADS, else all cores, when not given"""
    clip_norm: float = 1.0
    """gradient norm above which it is scaled down; 0 leaves it alone"""
    patience: int | None = None
    """epochs without a better val score before stopping early; never when not given"""
    select: str = "val/lake_iou_pooled"
    """score that chooses the best checkpoint, higher is better"""
    checkpoint_every: int = 1
    """epochs between checkpoints"""
    ema_decay: float | None = None
    """weight of the past in a moving average of the weights, which is then scored and kept; none when not given"""
    average_last: int = 0
    """last epochs whose weights are averaged; the average is taken where it is better on val than the best epoch"""
    freeze_encoder_epochs: int = 0
    """first epochs in which the encoder does not learn; as many as there are epochs: never"""
    unfreeze_every: int = 0
    """epochs after which one more stage of the encoder learns, the deepest first; 0: all of them at once"""
    lora_rank: int = 0
    """rank of low-rank adapters (LoRA), of the encoder's weights the only ones that learn; 0: none, all of it learns"""
    lora_alpha: int = 8
    """what adapters add to a layer is multiplied by lora_alpha / lora_rank"""
    gradient_checkpointing: bool = False
    """less memory for one more forward pass of the encoder a step: its blocks are computed again, not kept"""
    tta: Tta = Tta.none
    """views of a tile whose probabilities are averaged in the final scoring and in the model that is kept"""

    def __post_init__(self) -> None:
        if self.batch_size != AUTO and not (isinstance(self.batch_size, int) and self.batch_size >= 1):
            raise ConfigError(
                f"train.batch_size={self.batch_size} is not possible. Allowed: a whole number of 1 or more, or auto."
            )
        for name in ("epochs", "accumulate", "checkpoint_every", "lora_alpha"):
            at_least(f"train.{name}", getattr(self, name), 1)
        if self.patience is not None:
            at_least("train.patience", self.patience, 1)
        if self.threads is not None:
            within("train.threads", self.threads, 1, MOST_THREADS, "threads, as many as cores at most")
        for name in ("clip_norm", "freeze_encoder_epochs", "unfreeze_every", "lora_rank"):
            at_least(f"train.{name}", getattr(self, name), 0)
        if self.ema_decay is not None:
            within("train.ema_decay", self.ema_decay, 0, 0.9999, "a share of the past")
        within("train.average_last", self.average_last, 0, self.epochs, "epochs, as many as train.epochs at most")
        if self.average_last and self.patience is not None:
            raise ConfigError(
                f"train.average_last={self.average_last} needs to know the last epoch, which train.patience="
                f"{self.patience} does not: give one of the two."
            )

    @property
    def auto_batch(self) -> bool:
        """Whether the batch is still to be found."""
        return self.batch_size == AUTO

    @property
    def batch_tiles(self) -> int:
        """`batch_size` as the number it must be by the time anything is built.

        Raises:
            ValueError: it is still `auto`, which `training.beginning.batch_size` turns into a number first
        """
        return int(self.batch_size)

    @property
    def freezes(self) -> bool:
        """Whether whole stages of the encoder are ever held fixed."""
        return self.freeze_encoder_epochs > 0 or self.unfreeze_every > 0
