"""Finds a model that a run left behind: by the run's id, by the model's own, or by a name of the registry."""

import re
import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from glidexp.config.stored import without_secrets
from glidexp.errors import TrackingError
from glidexp.tracking.database import is_absent
from glidexp.tracking.store import EVALUATION, KIND_TAG, MODEL_RUN_TAG, STUDY, Store, first_line, import_mlflow

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, LoggedModelOutput, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

RUN_ID = re.compile(r"[0-9a-f]{4,32}")
LOGGED_ID = re.compile(r"m-[0-9a-f]{32}")
MODEL_ID = "glidexp.model_id"
"""tag of a version: the logged model that it is, which a registry in a database does not keep"""
LISTED = 5
"""runs named in a message"""
A_PAGE = 1000
"""runs that are asked for at once, where all are wanted"""


@dataclass(frozen=True, slots=True)
class TrackedModel:
    """A model in the store."""

    uri: str
    """address that stands in tags: models:/NAME/3 or models:/m-..."""
    location: str
    """where its files lie"""
    model_id: str | None
    """of MLflow's logged model; None for a version that was registered from a folder"""
    run_id: str | None
    """the run that trained it"""


def find_model(store: Store, reference: str) -> TrackedModel:
    """The model meant by a run id (the first characters of one are enough), `runs:/ID/model`, `models:/NAME@alias`,
    `models:/NAME/3` or `models:/m-...`.

    Raises:
        TrackingError: nothing of that name, several, or a run without model
    """
    if reference.startswith("models:/"):
        rest = reference.removeprefix("models:/").strip("/")
        return _logged(store, rest) if LOGGED_ID.fullmatch(rest) else _registered(store, rest)
    name = reference.removeprefix("runs:/").split("/")[0] if reference.startswith("runs:/") else reference
    if not RUN_ID.fullmatch(name):
        raise TrackingError(
            f"'{reference}' is no model: give a run id (4 to 32 of 0-9a-f), the folder of a bundle, models:/NAME@ALIAS "
            f"or models:/NAME/VERSION. {_latest(store)}"
        )
    run = one_run(store, name)
    ready = [model for model, _ in left_by(store, run) if str(model.status) == "READY"]
    if not ready:
        state = run.info.status
        way = "it was made with tracking.log_model=false" if state == "FINISHED" else "the same command goes on with it"
        if state == "FINISHED" and outputs_of(run):
            way = "that was deleted"
        elif run.data.tags.get(KIND_TAG) == EVALUATION:
            way = f"it scores the model of run {run.data.tags.get(MODEL_RUN_TAG) or 'another place'}: give that"
        if run.data.tags.get(KIND_TAG) == STUDY:
            way = "it is a study, whose trainings have one each; its report lists them"
        raise TrackingError(
            f"run {run.info.run_id} ({run.info.run_name}) is {state} and has no model: {way}. {_latest(store)}"
        )
    return _tracked(ready[-1])


def fetch(store: Store, model: TrackedModel, folder: Path) -> Path:
    """Folder with the model's files: where they are, when that is on this machine, else a copy in `folder`.

    Raises:
        TrackingError: they are gone, or the server does not give them
    """
    if urlparse(model.location).scheme in ("", "file"):
        found = Path(unquote(urlparse(model.location).path))
        if not found.is_dir():
            raise TrackingError(
                f"the files of {model.uri} are gone: {found} does not exist. After a move of the store: glidexp store "
                "relocate."
            )
        return found
    mlflow = import_mlflow()
    try:
        return Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=model.location, dst_path=str(folder), tracking_uri=store.uri, registry_uri=store.uri
            )
        )
    except Exception as error:
        raise TrackingError(f"the files of {model.uri} cannot be fetched: {first_line(error)}") from error


def read_text(store: Store, run_id: str, name: str, folder: Path) -> str | None:
    """The file `name` of a run, or None where the store holds no such run or file.

    Args:
        store: from `open_store`
        run_id: of the run
        name: e.g. config.yaml
        folder: for a copy of it
    """
    from mlflow.exceptions import MlflowException

    try:
        files = files_at(store, store.client.get_run(run_id).info.artifact_uri)
        return Path(files.download_artifacts(name, str(folder))).read_text(encoding="utf-8")
    except (MlflowException, OSError):
        return None


def files_at(store: Store, address: str) -> "ArtifactRepository":
    """What gives the files that a run left at an address.

    MLflow's client, asked by a run's id, reads the whole run with all of its metrics twice for each file, and leaves an
    mlflow.db in the folder where the command is typed when a nested file is absent.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(address, tracking_uri=store.uri)


def one_run(store: Store, prefix: str) -> "Run":
    """The run of an id or of its first characters.

    Raises:
        TrackingError: none, or several
    """
    found = search(store, f"attributes.run_id LIKE '{prefix}%'")
    if len(found) == 1:
        return found[0]
    if not found and (gone := search(store, f"attributes.run_id LIKE '{prefix}%'", deleted=True)):
        way = _brought_back(store, gone[0])
        raise TrackingError(f"run {prefix} was deleted, {_listed(gone)}: {way}. {_latest(store)}")
    if not found:
        raise TrackingError(f"there is no run {prefix} in {_place(store)}. {_latest(store)}")
    raise TrackingError(f"{len(found)} runs begin with {prefix}: {_listed(found)}. Give more characters.")


def _brought_back(store: Store, run: "Run") -> str:
    """How a deleted run is restored."""
    experiment = store.client.get_experiment(run.info.experiment_id)
    if experiment.lifecycle_stage != "deleted":
        return "MLflow's pages list it under State: Deleted and can restore it"
    command = f"mlflow experiments restore --experiment-id {run.info.experiment_id}"
    place = f"MLFLOW_TRACKING_URI={shlex.quote(without_secrets(store.uri))}"
    return f"so was its experiment {experiment.name}, whose runs all come back with {place} {command}"


def _logged(store: Store, model_id: str) -> TrackedModel:
    from mlflow.exceptions import MlflowException

    try:
        return _tracked(store.client.get_logged_model(model_id))
    except MlflowException as error:
        raise TrackingError(f"there is no model {model_id} in {_place(store)}. {_latest(store)}") from error


def _registered(store: Store, rest: str) -> TrackedModel:
    """`NAME@alias` or `NAME/version`."""
    from mlflow.exceptions import MlflowException

    client = store.client
    name, at, alias = rest.partition("@")
    name, _, number = (name, "", "") if at else rest.rpartition("/")
    name = name or rest
    try:
        known = client.get_registered_model(name)
    except MlflowException as error:
        names = ", ".join(model.name for model in client.search_registered_models(max_results=20)) or "none"
        raise TrackingError(f"there is no registered model '{name}'. Registered: {names}.") from error
    try:
        version: Any = client.get_model_version_by_alias(name, alias) if at else client.get_model_version(name, number)
    except MlflowException as error:
        aliases = ", ".join(f"@{one}" for one in sorted(known.aliases)) or "none"
        versions = ", ".join(sorted(str(one.version) for one in client.search_model_versions(f"name='{name}'")))
        raise TrackingError(
            f"models:/{rest} does not exist. Versions of {name}: {versions or 'none'}; aliases: {aliases}."
        ) from error
    source = str(version.source or "").removeprefix("models:/")
    model_id = version.model_id or version.tags.get(MODEL_ID)
    if model_id or LOGGED_ID.fullmatch(source):
        logged = _logged(store, model_id or source)
        return TrackedModel(f"models:/{name}/{version.version}", logged.location, logged.model_id, logged.run_id)
    location = client.get_model_version_download_uri(name, str(version.version))
    return TrackedModel(f"models:/{name}/{version.version}", location, None, version.run_id or None)


def _tracked(model: "LoggedModel") -> TrackedModel:
    return TrackedModel(f"models:/{model.model_id}", model.artifact_location, model.model_id, model.source_run_id)


def search(store: Store, filter_string: str = "", most: int = LISTED, *, deleted: bool = False) -> "list[Run]":
    """Runs of all experiments by a filter of MLflow's, the latest first; in place of them those that were deleted."""
    from mlflow.entities import ViewType

    wanted = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY  # with an experiment its runs are deleted, too
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments(wanted)]
    if not experiments:
        return []
    order = ["attributes.start_time DESC"]
    which = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    return list(store.client.search_runs(experiments, filter_string, which, most, order))


def outputs_of(run: "Run") -> "list[LoggedModelOutput]":
    """The models that a run names as its outputs, in no order."""
    return list(run.outputs.model_outputs) if run.outputs else []


def left_by(store: Store, run: "Run") -> "list[tuple[LoggedModel, int]]":
    """The models that a run left, each with its step. Not those that are deleted, whose names stay among the outputs:
    of a run that was killed and made another, or deleted by hand."""
    found = []
    for output in outputs_of(run):
        try:
            found.append((store.client.get_logged_model(output.model_id), output.step))
        except Exception as error:
            if not is_absent(error):
                raise
    return found


def children_of(store: Store, experiment_id: str, parent: str) -> "list[Run]":
    """All runs under a parent run, in the order in which they were begun, however many."""
    found: list[Run] = []
    token: str | None = None
    while token is None or token:
        page = store.client.search_runs(
            [experiment_id],
            filter_string=f"tags.`mlflow.parentRunId` = '{parent}'",
            order_by=["attributes.start_time ASC"],
            max_results=A_PAGE,
            page_token=token,
        )
        found += page
        token = page.token or ""
    return found


def _latest(store: Store) -> str:
    """The last runs that have a model, for a message."""
    runs = list(islice((run for run in search(store, most=100) if left_by(store, run)), LISTED))
    return f"The latest runs with a model are {_listed(runs)}." if runs else "No run of this store has a model."


def _place(store: Store) -> str:
    """The database file or the server."""
    return without_secrets(store.uri).removeprefix("sqlite:///")


def _listed(runs: "list[Run]") -> str:
    return ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name}, {run.info.status})" for run in runs)
