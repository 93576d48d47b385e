"""Every setting, typed, with its unit. YAML under conf/ holds values only, this file their meaning. No torch here.

`load()` turns what Hydra composed into a checked `Config`, `flat()` gives dotted keys. A run's name is in identity.py.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from glidexp.errors import ConfigError


class DatasetKind(StrEnum):
    synthetic = "synthetic"
    scenes = "scenes"
    folder = "folder"
    glid = "glid"


class StretchMethod(StrEnum):
    percentile = "percentile"
    minmax = "minmax"
    fixed = "fixed"


class SplitBy(StrEnum):
    scene = "scene"
    block = "block"


class Resume(StrEnum):
    auto = "auto"
    never = "never"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Compile(StrEnum):
    auto = "auto"
    on = "on"
    off = "off"


class InitKind(StrEnum):
    scratch = "scratch"
    imagenet = "imagenet"
    checkpoint = "checkpoint"


class InitScope(StrEnum):
    all = "all"
    encoder = "encoder"


class OptimizerName(StrEnum):
    adamw = "adamw"
    sgd = "sgd"


class Weighting(StrEnum):
    natural = "natural"
    balanced = "balanced"


def _at_least(setting: str, value: float, low: float) -> None:
    if not value >= low:
        raise ConfigError(f"{setting}={value} is too small: it must be at least {low}.")


def _within(setting: str, value: float, low: float, high: float, what: str) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{setting}={value} is outside {low} to {high}: give {what}.")


def _low_high(setting: str, values: list[float], low: float, high: float, what: str) -> None:
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise ConfigError(f"{setting}={values} is not possible: give [low, high] within {low} to {high}; {what}.")


@dataclass(kw_only=True, slots=True)
class StretchConfig:
    """Linear stretch of scene values to 0-255, one scene at a time, recorded in the store's manifest."""

    method: StretchMethod = StretchMethod.percentile
    low: float = 2.0
    """percentile in 0-100 (method=percentile) or scene value (method=fixed) that becomes 0; unused by minmax"""
    high: float = 98.0
    """percentile in 0-100 (method=percentile) or scene value (method=fixed) that becomes 255; unused by minmax"""

    def __post_init__(self) -> None:
        if self.method == StretchMethod.minmax:
            return
        if not self.low < self.high:
            raise ConfigError(f"dataset.stretch.low={self.low} must be less than dataset.stretch.high={self.high}.")
        if self.method == StretchMethod.percentile and not (self.low >= 0 and self.high <= 100):
            raise ConfigError(f"dataset.stretch: percentiles {self.low} and {self.high} must be from 0 to 100.")


@dataclass(kw_only=True, slots=True)
class SplitConfig:
    """Which ground trains, which chooses (val), which reports (test)."""

    by: SplitBy = SplitBy.scene
    val: float = 0.15
    """share of the scenes (or blocks), 0-1"""
    test: float = 0.2
    """share of the scenes (or blocks), 0-1"""
    block_m: float = 10000.0
    """side of a square spatial block, metres (by=block)"""
    buffer_m: float = 0.0
    """ground this near to a block of another side is left out, metres (by=block)"""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise ConfigError(
                f"dataset.split.val={self.val} and dataset.split.test={self.test} must be 0 or more and leave a share "
                "to train: their sum must be below 1."
            )
        if not self.block_m > 0:
            raise ConfigError(f"dataset.split.block_m={self.block_m} must be above 0 metres.")
        _at_least("dataset.split.buffer_m", self.buffer_m, 0)


@dataclass(kw_only=True, slots=True)
class SyntheticConfig:
    """The embedded scene generator."""

    seed: int = 0
    sensors: list[str] = field(default_factory=lambda: ["worldview2", "gaofen2", "sentinel2", "landsat8"])
    regions: list[str] = field(default_factory=lambda: ["himalaya", "andes", "greenland", "alaska"])
    scenes_per_sensor: int = 6
    scene_px: int = 1024
    """side of the square scenes at 2, 4 and 30 m, pixels; those at 10 m are 1.5 times that so that the 10 km buffer fits"""


@dataclass(kw_only=True, slots=True)
class DatasetConfig:
    """Where tiles come from and how they are made."""

    name: str = "synthetic"
    """shown in tracking; a label, not a path"""
    kind: DatasetKind = DatasetKind.synthetic
    root: str | None = None
    """folder of scenes or catalogue CSV (kind=scenes), or of images/ and labels/ (kind=folder, glid)"""
    lakes: str | None = None
    """lake polygons, any vector format of GDAL (kind=scenes)"""
    glaciers: str | None = None
    """glacier outlines, any vector format of GDAL; needed unless buffer_m is 0 (kind=scenes)"""
    sensor: str = "unknown"
    """sensor of every scene or tile that does not name its own (kind=scenes, folder)"""
    manifest: str | None = None
    """CSV of tile, scene, sensor, region, gsd_m, row, col for tiles without georeference (kind=folder, glid)"""
    sensors_file: str | None = None
    """YAML of sensors of your own, added to the registry: `name: {gsd_m: 3.0, bands: [blue, green, red]}`"""
    buffer_m: float = 10000.0
    """lakes farther than this from a glacier are dropped as non-glacial, metres; 0 keeps all"""
    min_lake_px: float = 0.0
    """lakes smaller than this many pixels are not labelled"""
    empty_share: float = 0.0
    """tiles without lake kept as real negatives, as a share of the tiles with lake"""
    stretch: StretchConfig = field(default_factory=StretchConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def __post_init__(self) -> None:
        for name in ("buffer_m", "min_lake_px", "empty_share"):
            _at_least(f"dataset.{name}", getattr(self, name), 0)


@dataclass(kw_only=True, slots=True)
class SensorMixConfig:
    """Which sensors a run trains on, and how often each is drawn."""

    sensors: list[str] = field(default_factory=lambda: ["all"])
    """names of the registry, or ["all"] for every sensor present"""
    weighting: Weighting = Weighting.natural
    """natural: by number of tiles; balanced: every sensor as often as the others"""
    weights: dict[str, float] = field(default_factory=dict)
    """relative sampling weight of a sensor, multiplied with the weighting; 1 when not named"""


@dataclass(kw_only=True, slots=True)
class TileSizeConfig:
    px: int = 256
    """side of a square tile, pixels"""

    def __post_init__(self) -> None:
        _at_least("tile_size.px", self.px, 32)


@dataclass(kw_only=True, slots=True)
class BackboneConfig:
    name: str = "resnet18"
    """a listed backbone, or any timm model that gives feature maps at 1/4 to 1/32"""


@dataclass(kw_only=True, slots=True)
class DecoderConfig:
    name: str = "unet"
    """one of the listed decoders; which backbones it takes is checked at once"""


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
            _within(f"augmentation.{name}", getattr(self, name), 0, 1, "a probability")
        for name in ("brightness", "contrast", "saturation", "translate"):
            _within(f"augmentation.{name}", getattr(self, name), 0, 1, "a share")
        _within("augmentation.gain", self.gain, 0, 0.99, "a share; a band is never switched off")
        _within("augmentation.hue", self.hue, 0, 0.5, "a share of the colour circle, half of it either way")
        _within("augmentation.rotate_deg", self.rotate_deg, 0, 360, "degrees either way")
        _within("augmentation.shear_deg", self.shear_deg, 0, 80, "degrees either way")
        _within("augmentation.noise_std", self.noise_std, 0, 255, "on the 0-255 scale")
        _low_high("augmentation.scale", self.scale, 0.1, 10, "1 leaves the size alone")
        _low_high("augmentation.haze", self.haze, 0, 1, "a share of the signal")
        _low_high("augmentation.gsd_factor", self.gsd_factor, 1, 16, "1 leaves the sampling alone")
        _low_high("augmentation.blur_sigma_px", self.blur_sigma_px, 0.05, 20, "pixels")


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """Weighted sum of terms on valid pixels. Weights are relative and need not add to 1."""

    bce: float = 0.5
    dice: float = 0.5
    focal: float = 0.0
    focal_gamma: float = 2.0

    def __post_init__(self) -> None:
        for name in ("bce", "dice", "focal", "focal_gamma"):
            _at_least(f"loss.{name}", getattr(self, name), 0)
        if self.bce + self.dice + self.focal <= 0:
            raise ConfigError(
                "loss.bce, loss.dice and loss.focal are all 0: give at least one of them a weight above 0."
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

    def __post_init__(self) -> None:
        if not 0 < self.lr < 100:
            raise ConfigError(f"optimizer.lr={self.lr} is outside (0, 100): give a learning rate such as 0.001.")
        for name in ("weight_decay", "momentum", "warmup", "final_lr_ratio"):
            _at_least(f"optimizer.{name}", getattr(self, name), 0)
        for name in ("momentum", "warmup", "final_lr_ratio"):
            if getattr(self, name) > 1:
                raise ConfigError(f"optimizer.{name}={getattr(self, name)} is above 1: it is a share between 0 and 1.")


@dataclass(kw_only=True, slots=True)
class InitConfig:
    kind: InitKind = InitKind.scratch
    scope: InitScope = InitScope.all
    """what is taken from a checkpoint"""
    checkpoint: str | None = None
    """path of a .safetensors file or of a bundle folder (kind=checkpoint)"""

    def __post_init__(self) -> None:
        if self.kind is InitKind.checkpoint and not self.checkpoint:
            raise ConfigError("init=checkpoint needs init.checkpoint=PATH: a .safetensors file or a bundle folder.")
        if self.kind is not InitKind.checkpoint and self.checkpoint:
            raise ConfigError(
                f"init.checkpoint={self.checkpoint} would not be used with init.kind={self.kind}: add init=checkpoint."
            )


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    epochs: int = 12
    batch_size: int = 8
    """tiles a forward pass"""
    accumulate: int = 1
    """forward passes an optimizer step"""
    precision: Precision = Precision.auto
    compile: Compile = Compile.auto
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    threads: int | None = None
    """CPU threads of torch; all cores when not given"""
    clip_norm: float = 1.0
    """gradient norm above which it is scaled down; 0 leaves it alone"""
    patience: int | None = None
    """epochs without a better val score before stopping early; never when not given"""
    select: str = "val/lake_iou_pooled"
    """score that chooses the best checkpoint, higher is better"""
    checkpoint_every: int = 1
    """epochs between checkpoints"""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "checkpoint_every"):
            _at_least(f"train.{name}", getattr(self, name), 1)
        for name in ("threads", "patience"):
            if getattr(self, name) is not None:
                _at_least(f"train.{name}", getattr(self, name), 1)
        _at_least("train.clip_norm", self.clip_norm, 0)


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    uri: str | None = None
    """MLflow tracking address; the sqlite store under paths.mlruns when not given"""
    experiment: str = "glidexp"
    run_name: str | None = None
    system_metrics: bool = True
    probe_tiles: int = 8
    """fixed val tiles drawn with truth, prediction and error"""
    images_every: int = 5
    """epochs between pictures of the probe tiles"""
    log_masks: bool = True
    """predicted test masks as artifacts"""
    log_model: bool = True

    def __post_init__(self) -> None:
        _at_least("tracking.probe_tiles", self.probe_tiles, 0)
        _at_least("tracking.images_every", self.images_every, 1)
        if not self.experiment.strip():
            raise ConfigError("tracking.experiment is empty: give it a name such as glidexp.")


@dataclass(kw_only=True, slots=True)
class PathsConfig:
    data: str = "data"
    """prepared tile stores and generated scenes"""
    mlruns: str = "mlruns"
    """tracking database, artifacts and checkpoints"""


@dataclass(kw_only=True, slots=True)
class Config:
    seed: int = 0
    resume: Resume = Resume.auto
    paths: PathsConfig = field(default_factory=PathsConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    sensor_mix: SensorMixConfig = field(default_factory=SensorMixConfig)
    tile_size: TileSizeConfig = field(default_factory=TileSizeConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    init: InitConfig = field(default_factory=InitConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def register() -> None:
    """Makes the schema known to Hydra under the name `schema`."""
    ConfigStore.instance().store(name="schema", node=Config)


def load(composed: DictConfig) -> Config:
    """Turns a composed config into the typed one. Every class checks its own values as it is made.

    Raises:
        ConfigError: a value is missing or outside its range
    """
    missing = OmegaConf.missing_keys(composed)
    if missing:
        raise ConfigError(f"{sorted(missing)[0]} has no value: give it on the command line, {sorted(missing)[0]}=...")
    unknown = [key for key in composed if str(key) not in Config.__dataclass_fields__]
    if unknown:
        raise ConfigError(
            f"there is no setting '{unknown[0]}'. Allowed to begin with: {', '.join(OmegaConf.structured(Config))}."
        )
    try:
        config = OmegaConf.to_object(composed)
    except AttributeError as error:  # +section.name=value adds what no class has
        raise ConfigError(f"a setting that does not exist was added: {error}.") from None
    if not isinstance(config, Config):
        raise ConfigError(f"the composed config is a {type(config).__name__}, not a Config: compose conf/train.yaml.")
    return config


def to_dict(section: Any) -> dict[str, Any]:
    """The section as plain nested dicts, lists and values that JSON and YAML can hold."""
    plain = OmegaConf.to_container(OmegaConf.structured(section), enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def flat(section: Any) -> dict[str, Any]:
    """The section as dotted keys: `{"train.epochs": 12, ...}`. Lists stay lists; an empty dict shows as {}."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            found[prefix] = value

    walk("", to_dict(section))
    return found
