"""Many runs of one command: the parent run that holds them, names by what differs, and links to look at them.

The parent's id travels in the environment, so that jobs in other processes, or on other machines, find it.
"""

import json
import logging
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from glidexp.config.stored import without_secrets
from glidexp.tracking import environment
from glidexp.tracking.database import database_path, first_line, is_server
from glidexp.tracking.liveness import marks
from glidexp.tracking.models import children_of
from glidexp.tracking.resume import head
from glidexp.tracking.sink import ERROR_TAG, TAG_LIMIT
from glidexp.tracking.spool import Spool
from glidexp.tracking.store import Store

log = logging.getLogger("glidexp.tracking")

PARENT_VARIABLE = "GLIDEXP_PARENT_RUN"
OVERRIDES_TAG = "glidexp.overrides"
"""of a parent run: what was typed"""
UI_BASE = "http://127.0.0.1:5000"
NAME_LIMIT = 250


def open_parent(store: Store, *, experiment: str, name: str, overrides: Sequence[str]) -> str:
    """Begins the parent run of a multirun and puts its id into GLIDEXP_PARENT_RUN for the jobs.

    Args:
        store: from `open_store`
        experiment: name; made where it is missing
        name: shown in the table
        overrides: as typed, e.g. `backbone=resnet18,mobilenetv3`

    Returns:
        id of the parent run
    """
    tags = environment.process_tags() | marks() | {OVERRIDES_TAG: " ".join(overrides)[:TAG_LIMIT]}
    run = store.client.create_run(store.experiment_id(experiment), tags=tags, run_name=name)
    os.environ[PARENT_VARIABLE] = run.info.run_id
    return str(run.info.run_id)


def close_parent(store: Store, run_id: str, status: str, error: str = "") -> None:
    """Ends the parent run and takes its id out of the environment.

    Args:
        store: from `open_store`
        run_id: from `open_parent`
        status: FINISHED, FAILED or KILLED
        error: one line for the tag `glidexp.error`

    A store that is away gets the end of it through `glidexp sync`.
    """
    if os.environ.get(PARENT_VARIABLE) == run_id:
        del os.environ[PARENT_VARIABLE]
    try:
        if error:
            store.client.set_tag(run_id, ERROR_TAG, error[:TAG_LIMIT])
        store.client.set_terminated(run_id, status=status)
    except Exception as reason:  # noqa: BLE001 - the runs are what counts
        spool = Spool.open(store.spool_folder(run_id), head(store))
        spool.append("end", {"status": status, "error": error})
        spool.close()
        log.warning(
            "Tracking: the end of the parent run waits in %s (%s): `glidexp sync` sends it.",
            spool.folder,
            first_line(reason),
        )


def parent_run_id() -> str | None:
    """The parent run that this process works for, if any."""
    return os.environ.get(PARENT_VARIABLE) or None


def children(store: Store, experiment: str, parent: str) -> dict[str, str] | None:
    """Status by run id of the runs under a parent, in the order in which they were begun; None if the store is away."""
    try:
        runs = children_of(store, store.experiment_id(experiment), parent)
    except Exception as reason:  # noqa: BLE001 - the runs are what counts
        log.warning("Tracking: the runs of the multirun cannot be listed (%s).", first_line(reason))
        return None
    return {run.info.run_id: run.info.status for run in runs}


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """Keys of the overrides, as typed for a multirun, that stand for more than one value.

    `seed=0,1`, `seed=range(3)` and `seed=choice(1,2)` do; a list in brackets or a quoted text is one value.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [item.key_or_group for item in parsed if item.is_sweep_override()]


def ui_base(uri: str) -> str:
    """Where the pages of a store are seen: at the server itself, or where `glidexp ui` shows a local store."""
    return without_secrets(uri).rstrip("/") if is_server(uri) else UI_BASE


def ui_hint(uri: str) -> str:
    """What to start before a link works; empty for a server."""
    if is_server(uri):
        return ""
    database = database_path(uri)
    if database is None:
        return f"start `glidexp ui --uri {without_secrets(uri)}` first"
    here = database.resolve() == Path("mlruns", "mlflow.db").resolve()
    return "start `glidexp ui` first" if here else f"start `glidexp ui --mlruns {database.parent}` first"


def run_link(uri: str, experiment_id: str, run_id: str) -> str:
    """Address of the page of one run."""
    return f"{ui_base(uri)}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def experiment_link(uri: str, experiment_id: str) -> str:
    """Address of the table of runs, in the model-training view."""
    return f"{ui_base(uri)}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def comparison_link(uri: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Address of the page that lays runs side by side.

    Args:
        uri: of the store; a local one is shown by `glidexp ui` at its default port
        experiment_id: the runs' experiment
        run_ids: two or more
    """

    def listed(values: Sequence[str]) -> str:
        return urllib.parse.quote(json.dumps(list(values), separators=(",", ":")))

    query = f"runs={listed(run_ids)}&experiments={listed([experiment_id])}&workflowType=machine_learning"
    return f"{ui_base(uri)}/#/compare-runs?{query}"
