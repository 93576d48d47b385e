"""Every setting, typed, with its unit. YAML under conf/ holds values only, this package their meaning. No torch here.

`load()` turns what Hydra composed into a checked `Config`, `flat()` gives dotted keys. A run's name is in identity.py.
"""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glidexp.config.data import (
    DatasetConfig,
    DatasetKind,
    SensorMixConfig,
    SplitBy,
    SplitConfig,
    StretchConfig,
    StretchMethod,
    StretchScope,
    SyntheticConfig,
    TileSizeConfig,
    Weighting,
)
from glidexp.config.network import (
    BackboneConfig,
    DecoderConfig,
    Embed,
    InitConfig,
    InitKind,
    InitScope,
    InputConfig,
)
from glidexp.config.plain import flat, to_dict
from glidexp.config.ranges import at_least
from glidexp.config.self_training import SelfTrainingConfig
from glidexp.config.style import StyleConfig
from glidexp.config.subset import SubsetConfig, ValFrom
from glidexp.config.training import (
    AugmentationConfig,
    Compile,
    LossConfig,
    OptimizerConfig,
    OptimizerName,
    Precision,
    Resident,
    TrainConfig,
    Tta,
)
from glidexp.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Schema = TypeVar("Schema", bound="DataclassInstance")

__all__ = [
    "AugmentationConfig",
    "BackboneConfig",
    "Compile",
    "Config",
    "DatasetConfig",
    "DatasetKind",
    "DecoderConfig",
    "Embed",
    "InitConfig",
    "InitKind",
    "InitScope",
    "InputConfig",
    "LossConfig",
    "OptimizerConfig",
    "OptimizerName",
    "PathsConfig",
    "Precision",
    "Resident",
    "Resume",
    "SelfTrainingConfig",
    "SensorMixConfig",
    "SplitBy",
    "SplitConfig",
    "StretchConfig",
    "StretchMethod",
    "StretchScope",
    "SubsetConfig",
    "SyntheticConfig",
    "TileSizeConfig",
    "TrackingConfig",
    "TrainConfig",
    "Tta",
    "ValFrom",
    "Weighting",
    "flat",
    "load",
    "to_dict",
    "typed",
]


class Resume(StrEnum):
    auto = "auto"
    never = "never"


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
        at_least("tracking.probe_tiles", self.probe_tiles, 0)
        at_least("tracking.images_every", self.images_every, 1)
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
    allow_leak: bool = False
    """score test ground that the first weights were trained on, and mark the scores as leaking"""
    paths: PathsConfig = field(default_factory=PathsConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    sensor_mix: SensorMixConfig = field(default_factory=SensorMixConfig)
    subset: SubsetConfig = field(default_factory=SubsetConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    style: StyleConfig = field(default_factory=StyleConfig)
    tile_size: TileSizeConfig = field(default_factory=TileSizeConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    input: InputConfig = field(default_factory=InputConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    init: InitConfig = field(default_factory=InitConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed={self.seed} is outside 0 to {2**63 - 1}: give a whole number such as 0.")


def load(composed: DictConfig) -> Config:
    """Turns what Hydra composed from conf/train.yaml into the typed config.

    Raises:
        ConfigError: a value is missing or outside its range
    """
    return typed(composed, Config)


def typed(composed: DictConfig, schema: type[Schema]) -> Schema:
    """Turns a composed config into an object of its schema. Every class checks its own values as it is made.

    Raises:
        ConfigError: a value is missing or outside its range, of no setting, or refers to what is not there
    """
    allowed = [field.name for field in fields(schema)]
    try:
        missing = OmegaConf.missing_keys(composed)
        if missing:
            raise ConfigError(f"{min(missing)} has no value: give it on the command line, {min(missing)}=...")
        unknown = [str(key) for key in composed if str(key) not in allowed]
        if unknown:
            raise ConfigError(f"there is no setting '{unknown[0]}'. Allowed to begin with: {', '.join(allowed)}.")
        config = OmegaConf.to_object(composed)
        to_dict(config)  # a list in a list of names is told here
    except AttributeError as error:  # +section.name=value adds what no class has
        raise ConfigError(f"a setting that does not exist was added: {error}.") from None
    except OmegaConfBaseException as error:  # ${oc.env:NAME} of a variable that is not set, ${key} of no key
        told = (str(error.msg) or str(error)).splitlines()[0].rstrip(".")
        if "unhashable" in told and (key := _in_a_list(composed, str(error.full_key))):
            raise ConfigError(f"{key} is not possible: a list stands in it: write names alone, {key}=[A,B].") from None
        raise ConfigError(f"{error.full_key} is not possible: {told}. Give another value.") from None
    if not isinstance(config, schema):
        raise ConfigError(f"the composed config is a {type(config).__name__}, not a {schema.__name__}.")
    return config


def _in_a_list(composed: DictConfig, section: str) -> str | None:
    """The first key of a section whose list holds lists, or values by name."""
    for key, value in OmegaConf.select(composed, section).items():
        if isinstance(value, ListConfig) and any(isinstance(one, (ListConfig, DictConfig)) for one in value):
            return f"{section}.{key}"
    return None
