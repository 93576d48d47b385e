"""`glidexp evaluate`: finds the model, completes the settings from its card and its run, checks, and hands on to
`rescore`. No torch before all that can be told from settings and card is told.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glidexp.config import DatasetConfig, DatasetKind
from glidexp.config.evaluation import CARD, VAL, Adapt, EvalSplit, EvaluateConfig
from glidexp.config.stored import read_values
from glidexp.config.unread import refuse_unread
from glidexp.data.ready.inputs import manifest_of
from glidexp.errors import ConfigError, DataError
from glidexp.models.load import FoundModel, find, is_place
from glidexp.tracking.models import read_text
from glidexp.tracking.store import Store, store_at
from glidexp.training.check import check_data, check_evaluation

if TYPE_CHECKING:
    from glidexp.training.record import Outcome

log = logging.getLogger("glidexp")

SIDE = {"tile_size", "tile_size.px"}
"""what gives the tile size: the group, or the setting"""


def evaluate(config: EvaluateConfig, *, given: Sequence[str], choices: Mapping[str, Any]) -> "Outcome":
    """Scores a trained model on a data set, into a run of its own that is linked to the model.

    A finished evaluation of the same model, data and settings is shown instead, unless `resume=never`.

    Args:
        config: as composed; data set and tile size are completed from the model
        given: keys and groups that were set by the caller, such as `dataset` or `dataset.split.seed`
        choices: chosen option by config group, for the record

    Raises:
        GlidexpError: model, settings, data or tracking cannot be used, or the tiles were trained on
    """
    if not config.model:
        raise ConfigError("no model: give a run id, the folder of a bundle or models:/NAME@ALIAS as the first word.")
    if "dataset" in given:
        _take_side(config, given)
        check_data(config.dataset, config.tile_size.px, config.sensor_mix)
        refuse_unread(config.dataset)
    # a wrong folder is told before a store is made in it; what is scored of a bundle may well begin one
    places = all(map(is_place, (config.model, *config.others)))
    store = store_at(config.paths.mlruns, config.tracking.uri, make=places)
    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        found = find(config.model, store, Path(aside))
        complete(config, given, found, store, Path(aside))
        if config.others:
            found = _together(config, given, found, store, Path(aside))
        check_evaluation(config, found.card)
        from glidexp.models.hardware import failures_told
        from glidexp.training.rescoring.rescore import rescore

        with failures_told("a smaller train.batch_size takes less"):
            return rescore(config, found, store, choices=choices)


def _together(
    config: EvaluateConfig, given: Sequence[str], first: FoundModel, store: Store, folder: Path
) -> FoundModel:
    """The mean of several models; it has no threshold before one was found on val tiles. Changes `config`.

    Raises:
        ConfigError: the models cannot be put together, or no tiles are left to find a threshold on
    """
    from glidexp.models.ensemble import ensemble_of

    if config.eval.threshold == CARD:
        if "eval.threshold" in given or config.eval.split is EvalSplit.all:
            raise ConfigError(
                "several models have no threshold in common: it is found on val tiles that are not scored "
                "(eval.threshold=val with eval.split=test), or give a number."
            )
        config.eval.threshold = VAL
    if config.eval.threshold == VAL:
        config.eval.split = EvalSplit.test  # on a data set of other ground too: its val tiles are not scored
    if "eval.log_fitted" not in given:
        config.eval.log_fitted = config.eval.threshold == VAL and config.eval.adapt is not Adapt.histogram
    others = [find(name, store, folder / str(place)) for place, name in enumerate(config.others)]
    return ensemble_of([first, *others], folder / "ensemble")


def complete(config: EvaluateConfig, given: Sequence[str], found: FoundModel, store: Store, folder: Path) -> None:
    """Takes tile size and data set from the model where they were not given. Changes `config`.

    The tiles of a store have their size, whatever the model's had.

    Raises:
        ConfigError: no data set was given and the model's own is not known
    """
    if not SIDE & {*given}:
        config.tile_size.px = int(found.card.get("tile_px", config.tile_size.px))
    if "dataset" in given:
        _take_side(config, given)
        return
    text = read_text(store, found.run_id, "config.yaml", folder) if found.run_id else None
    if text is None:
        raise ConfigError(
            f"the data set that {config.model} was trained on is not known here (its run is not in this store): give "
            "dataset=OPTION, as for training."
        )
    try:
        own = OmegaConf.merge(OmegaConf.structured(DatasetConfig), read_values(text)["dataset"])
        for key in given:
            if key.startswith("dataset."):
                inner = key.removeprefix("dataset.")
                OmegaConf.update(own, inner, OmegaConf.select(OmegaConf.structured(config.dataset), inner))
        dataset = OmegaConf.to_object(own)
    except (OmegaConfBaseException, AttributeError, KeyError, TypeError, DataError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"the data set of run {found.run_id} cannot be read ({reason}): give dataset=OPTION."
        ) from error
    assert isinstance(dataset, DatasetConfig)
    config.dataset = dataset
    _take_side(config, given)


def _take_side(config: EvaluateConfig, given: Sequence[str]) -> None:
    """Takes the tile size from a store that is opened as it is, where it was not given. Changes `config`."""
    if config.dataset.kind is DatasetKind.store and not SIDE & {*given}:
        config.tile_size.px = int(manifest_of(config.dataset.root).get("tile_px", config.tile_size.px))
