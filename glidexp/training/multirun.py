"""`train -m`: plain Hydra multirun under one parent run. A failing job leaves the others alone."""

import logging
import os
import sys
from itertools import islice, product
from pathlib import Path
from typing import Any

from glidexp import door
from glidexp.config import Config
from glidexp.errors import ConfigError
from glidexp.signals import Signals
from glidexp.training.check import check

log = logging.getLogger("glidexp")

CHECKED_FIRST = 200
"""combinations of a sweep that are checked before the first run"""

_finished: list[str] = []
_failed: list[str] = []


def run_multirun(argv: list[str]) -> int:
    """Runs every combination and prints a link that opens their comparison.

    Returns:
        0, or 1 when a job failed; the others are carried out all the same

    Raises:
        ConfigError: a combination is impossible; nothing was started
    """
    door.check_flags(argv, door.known_keys("train"))
    door.refuse_words(argv)
    overrides = [word for word in door.quoted(argv) if "=" in word and not word.startswith("-")]
    own = door.config_dir(argv)
    config = compose_first(overrides, own)
    check_combinations(overrides, own)
    from glidexp.tracking import multirun as parents
    from glidexp.tracking.left import close_ended
    from glidexp.tracking.status import true_status
    from glidexp.tracking.store import store_at

    store = store_at(config.paths.mlruns, config.tracking.uri, make=True)
    experiment = config.tracking.experiment
    swept = parents.swept_keys(overrides)
    name = "sweep " + " ".join(word for word in overrides if word.split("=")[0] in swept)
    close_ended(store, f"tags.`{parents.OVERRIDES_TAG}` LIKE '%'")  # parents of earlier ones, which cannot go on
    parent = parents.open_parent(store, experiment=experiment, name=name.strip(), overrides=overrides)
    os.environ["GLIDEXP_SWEPT"] = ",".join(swept)
    _finished.clear()
    _failed.clear()
    stopped: BaseException | None = None
    try:
        with Signals().installed():  # between jobs; each job has its own
            door.run_hydra(job, argv)
    except Exception as error:  # noqa: BLE001 - told below, after the others' results
        stopped = error
    except BaseException as error:
        stopped = error
        raise
    finally:
        found = parents.children(store, experiment, parent)
        status, reason = true_status(stopped)
        if status == "FINISHED" and (_failed or "FAILED" in (found or {}).values()):
            status, reason = "FAILED", "a job failed"
        parents.close_parent(store, parent, status, reason)
    if found == {}:  # all were finished before, or nothing could start: an empty parent would only stand in the way
        store.client.delete_run(parent)
    if stopped is not None and not found and not _finished and not _failed:
        raise stopped  # nothing was started: the settings are wrong, not a job
    ids = list(dict.fromkeys([*(found or {}), *_finished]))
    if len(ids) > 1:
        link = parents.comparison_link(store.uri, store.experiment_id(experiment), ids)
        print(f"Compare the {len(ids)} runs: {link}")
        if hint := parents.ui_hint(store.uri):
            print(f"To open it: {hint}")
    for line in _failed:
        print(f"glidexp: failed: {line}", file=sys.stderr)
    if stopped is not None and not _failed:
        print(f"glidexp: failed: {type(stopped).__name__}: {' '.join(str(stopped).split())}", file=sys.stderr)
    return 1 if stopped is not None or _failed else 0


def job(composed: Any) -> None:
    """One combination, in this process or in a launcher's."""
    from hydra.core.hydra_config import HydraConfig

    from glidexp.cli import prepare_process, train_one

    prepare_process()
    overrides = list(HydraConfig.get().overrides.task)
    swept = os.environ.get("GLIDEXP_SWEPT", "").split(",")
    name = " ".join(word for word in overrides if word.split("=")[0] in swept)
    log.info("\n--- %s", name)
    try:
        _finished.append(train_one(composed, name).run_id)
    except Exception as error:
        _failed.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")
        log.error("glidexp: %s", _failed[-1])
        raise


def compose_first(overrides: list[str], own: Path | None = None) -> Config:
    """The config without what varies: it tells where the runs are kept.

    Args:
        overrides: as typed
        own: the user's own folder of YAML

    Raises:
        ConfigError: it cannot be composed
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise door.explain(error, overrides) from error
    return _composed([item.input_line for item in parsed if not item.is_sweep_override() and item.input_line], own)


def check_combinations(overrides: list[str], own: Path | None = None) -> None:
    """Refuses a sweep with an impossible combination before anything is started: in some ms for one of plain words.

    What only a sweeper of its own can tell (ranges to be searched), and what follows the first `CHECKED_FIRST`, is
    checked as its job begins.

    Args:
        overrides: as typed
        own: the user's own folder of YAML

    Raises:
        ConfigError: how many cannot run, and why the first of them cannot
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    if any(item.is_sweep_override() and not item.is_discrete_sweep() for item in parsed):
        return
    choices = [_values(item) if item.is_sweep_override() else [str(item.input_line)] for item in parsed]
    wrong: list[tuple[str, ConfigError]] = []
    checked = list(islice(product(*choices), CHECKED_FIRST))
    for combination in checked:
        try:
            check(_composed(list(combination), own))
        except ConfigError as error:
            varied = " ".join(word for word, among in zip(combination, choices, strict=True) if len(among) > 1)
            wrong.append((varied, error))
    if wrong:
        varied, first = wrong[0]
        if len(checked) == 1:
            raise first
        raise ConfigError(
            f"{len(wrong)} of {len(checked)} combinations cannot run, so none was started. {varied}: {first}"
        )


def _values(item: Any) -> list[str]:
    """The words of a setting that was given several values.

    Raises:
        ConfigError: a pattern of options that none fits
    """
    from hydra.core.override_parser.types import Glob

    key, value = item.get_key_element(), item.value()
    if not isinstance(value, Glob):
        return [f"{key}={one}" for one in item.sweep_string_iterator()]
    names = list(door.options(item.get_key_element().lstrip("+")))
    if not (found := value.filter(names)):
        raise ConfigError(f"{item.input_line}: no such option. Allowed: {', '.join(sorted(names)) or 'none'}.")
    return [f"{key}={one}" for one in found]


def _composed(overrides: list[str], own: Path | None) -> Config:
    return door.compose([*overrides, door.search_word(own)] if own is not None else overrides)
