"""Runs out of one store and into another: params, every value of every metric, tags, inputs, files, models.

A store gives its runs ids of its own. What a run came from stands in the tag `glidexp.imported_from`, by which a second
import finds it and leaves it alone; tags that name another run, or a model, name its copy.

FOLDER/runs/ID/run.json, artifacts/, models/ID/      what `write_run` leaves and `read_run` takes
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.errors import TrackingError
from glidexp.tracking.carry_versions import FROM_TAG, bring_versions, versions_of
from glidexp.tracking.database import told_as
from glidexp.tracking.liveness import BEAT_TAG, PROCESS_TAG
from glidexp.tracking.models import LOGGED_ID, TrackedModel, fetch, left_by, one_run
from glidexp.tracking.store import MODEL_RUN_TAG, Store, first_line

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

FORMAT = 1
RUNS, ABOUT, FILES, MODELS = "runs", "run.json", "artifacts", "models"
OF_RUNS = ("mlflow.parentRunId", MODEL_RUN_TAG)
"""tags that name another run"""
A_CALL = 100
"""params and tags in one call; MLflow takes 100"""
VALUES_A_CALL = 1000
OWN = ("mlflow.user", "mlflow.log-model.history", PROCESS_TAG, BEAT_TAG)
"""tags that are the store's or the process's, and are not taken along"""


@dataclass(slots=True)
class Carried:
    """What was brought into a store."""

    runs: dict[str, str] = field(default_factory=dict)
    """id there by id in the store it came from"""
    models: dict[str, str] = field(default_factory=dict)
    found: int = 0
    """of the runs, those that an earlier import had brought"""
    versions: list[str] = field(default_factory=list)
    """sentences on versions of the registry"""


def write_run(store: Store, run_id: str, folder: Path) -> None:
    """Writes a run and all it left into a folder of its own, which is renamed into place when it is whole.

    One that was written before and has not changed since stays as it is.

    Args:
        store: from `open_store`
        run_id: whole, or its first characters
        folder: of the export

    Raises:
        TrackingError: no such run, or files that are gone
    """
    run = one_run(store, run_id)
    place = folder / RUNS / run.info.run_id
    if place.exists() and _as_it_stands(store, run) == _as_it_stood(place):
        return
    aside = place.with_name(f".{place.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / FILES).mkdir(parents=True)
    with told_as(f"run {run.info.run_id[:12]} cannot be exported"):
        about = _about(store, run, aside)
        if store.client.list_artifacts(run.info.run_id):
            store.client.download_artifacts(run.info.run_id, "", str(aside / FILES))
    (aside / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)  # killed here, the next export writes it
    aside.rename(place)


def read_runs(store: Store, folder: Path, step: Callable[[str], object] = lambda run_id: None) -> Carried:
    """Brings the runs of an export into a store; those that are there already are left alone, but for runs that an
    earlier import brought before their end and that are finished in the export.

    Args:
        store: from `open_store`
        folder: of the export
        step: called with a run's id in the export when it is there

    Raises:
        TrackingError: no export there, or the store does not take a run
    """
    told = [_read(path) for path in sorted((folder / RUNS).glob(f"*/{ABOUT}"))]
    if not told:
        raise TrackingError(f"{folder} holds no exported run: give the folder of glidexp store export.")
    carried = Carried()
    for about in _parents_first(told):
        with told_as(f"the store does not take run {about['run_id'][:12]}"):
            _bring(store, about, folder / RUNS / about["run_id"], carried)
            step(about["run_id"][:12])
    with told_as("the registry does not take a version"):
        carried.versions = bring_versions(store, told, carried.runs, carried.models)
    return carried


def _as_it_stands(store: Store, run: "Run") -> dict[str, Any]:
    """What is other in `run.json` when a run went on, was reported or released after an export, and is soon asked."""
    return {
        "status": run.info.status,
        "end": run.info.end_time,
        "tags": {key: value for key, value in run.data.tags.items() if key not in OWN},
        "versions": versions_of(store, run.info.run_id),
    }


def _as_it_stood(place: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((place / ABOUT).read_text(encoding="utf-8"))
        return {key: about.get(key, []) for key in ("status", "end", "tags", "versions")}
    except (OSError, ValueError, AttributeError):
        return {}


def _about(store: Store, run: "Run", aside: Path) -> dict[str, Any]:
    """All but its files; the models' files are copied."""
    client, data = store.client, run.data
    values = [
        [one.key, one.value, one.timestamp, one.step]
        for name in sorted(data.metrics)
        for one in client.get_metric_history(run.info.run_id, name)
    ]
    inputs = run.inputs.dataset_inputs if run.inputs else []
    of = run.inputs.model_inputs if run.inputs else []
    made = left_by(store, run)
    versions = versions_of(store, run.info.run_id)
    outputs = {model.model_id for model, _ in made}
    released = dict.fromkeys(one["model_id"] for one in versions if one["model_id"] not in outputs)
    return {
        "format": FORMAT,
        "run_id": run.info.run_id,
        "experiment": client.get_experiment(run.info.experiment_id).name,
        "name": run.info.run_name,
        "status": run.info.status,
        "start": run.info.start_time,
        "end": run.info.end_time,
        "params": dict(data.params),
        "tags": {key: value for key, value in data.tags.items() if key not in OWN},
        "metrics": values,
        "inputs": [one.dataset.to_dictionary() | {"tags": {tag.key: tag.value for tag in one.tags}} for one in inputs],
        "used_models": [one.model_id for one in of],
        "models": [_model(store, model, step, aside) for model, step in made],
        "released": [_model(store, store.client.get_logged_model(one), 0, aside) for one in released],
        "versions": versions,
    }


def _model(store: Store, found: "LoggedModel", step: int, aside: Path) -> dict[str, Any]:
    model_id = str(found.model_id)
    place = TrackedModel(f"models:/{model_id}", found.artifact_location, model_id, found.source_run_id)
    there = fetch(store, place, aside / "fetched")
    shutil.copytree(there, aside / MODELS / model_id)
    shutil.rmtree(aside / "fetched", ignore_errors=True)
    return {"model_id": model_id, "name": found.name, "kind": found.model_type, "tags": dict(found.tags), "step": step}


def _read(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise TrackingError(f"{path} has format {about['format']}, this version of glidexp reads {FORMAT}.")
        _check(path, about)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(f"{path} cannot be read ({first_line(error)}): export again.") from None
    return about


def _check(path: Path, about: Mapping[str, Any]) -> None:
    """Refuses what would have other files of this machine brought into the store, which others may read.

    Raises:
        TrackingError: ids that are no ids, and so lead to other folders, or links
    """
    ids = [str(one["model_id"]) for one in (*about["models"], *about.get("released", ()))]
    strange = [one for one in ids if not LOGGED_ID.fullmatch(one)]
    if about["run_id"] != path.parent.name:
        strange.insert(0, str(about["run_id"]))
    if strange:
        raise TrackingError(
            f"{path} names {strange[0][:80]!r}, which is no id of what lies beside it: export again, and import "
            "nothing of what was changed by hand."
        )
    link = next((found for found in (path.parent, *path.parent.rglob("*")) if found.is_symlink()), None)
    if link is not None:
        raise TrackingError(
            f"{link} is a link, which an export has none of: what it leads to would be brought into the store. "
            "Export again, or take it out."
        )


def _parents_first(told: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A run after every run that its tags name, as far as they are in the export."""
    left = {about["run_id"]: about for about in sorted(told, key=lambda one: (one["start"] or 0, one["run_id"]))}
    while left:
        ready = [one for one in left.values() if not any(one["tags"].get(key) in left for key in OF_RUNS)]
        for about in ready or list(left.values())[:1]:  # a circle cannot be, but must not hang
            del left[about["run_id"]]
            yield about


def _bring(store: Store, about: Mapping[str, Any], place: Path, carried: Carried) -> None:
    client, run_id = store.client, str(about["run_id"])
    experiment_id = store.experiment_id(str(about["experiment"]))
    wanted = f"tags.`{FROM_TAG}` = '{run_id}'"
    there = client.search_runs([experiment_id], wanted, max_results=1)
    if there and there[0].info.end_time is not None and not _went_on(about, there[0]):
        carried.found += 1
        carried.runs[run_id] = there[0].info.run_id
        carried.models |= _models_before(store, there[0])
        _bring_released(store, about, there[0], place, carried)
        _name_anew(store, about, there[0], carried)
        return
    for broken_off in there:  # or brought before its end
        for model in _models_of(store, broken_off):
            client.delete_logged_model(model.model_id)
        client.delete_run(broken_off.info.run_id)
    new = client.create_run(experiment_id, about["start"], {FROM_TAG: run_id}, about["name"]).info.run_id
    _values(store, new, about, carried)
    _inputs(store, new, about, carried)
    released = about.get("released", ())  # beside them the run's own model stays its only output
    for model in (*about["models"], *released):
        old, own = model["model_id"], model not in released
        carried.models[old] = _bring_model(store, new, experiment_id, model, place / MODELS / old, output=own)
    if any((place / FILES).iterdir()):
        client.log_artifacts(new, str(place / FILES))
    client.set_terminated(new, about["status"], about["end"] or about["start"])
    carried.runs[run_id] = new


def _went_on(about: Mapping[str, Any], there: "Run") -> bool:
    """Whether a run was finished after an import had brought it, and is no work of the store that it was brought to."""
    finished = about["status"] == "FINISHED" != there.info.status
    return finished and PROCESS_TAG not in there.data.tags


def _bring_released(store: Store, about: Mapping[str, Any], there: "Run", place: Path, carried: Carried) -> None:
    """Brings models of a run that was there, of which versions were made after that import."""
    named = {one["model_id"] for one in about.get("versions", ())} - carried.models.keys()
    for model in (*about["models"], *about.get("released", ())):
        if (old := model["model_id"]) in named:
            to = there.info.run_id, there.info.experiment_id
            carried.models[old] = _bring_model(store, *to, model, place / MODELS / old, output=False)


def _name_anew(store: Store, about: Mapping[str, Any], there: "Run", carried: Carried) -> None:
    """Lets a run that was there name runs by the ids that they have there now."""
    for key in OF_RUNS:
        other = carried.runs.get(str(about["tags"].get(key)))
        if other is not None and there.data.tags.get(key) != other:
            store.client.set_tag(there.info.run_id, key, other)


def _values(store: Store, new: str, about: Mapping[str, Any], carried: Carried) -> None:
    from mlflow.entities import Metric, Param, RunTag

    tags = dict(about["tags"])
    for key in OF_RUNS:
        if key in tags:
            tags[key] = carried.runs.get(tags[key], tags[key])
    model = str(tags.get("glidexp.model", "")).removeprefix("models:/")
    if model in carried.models:
        tags["glidexp.model"] = f"models:/{carried.models[model]}"
    params = [Param(key, value) for key, value in about["params"].items()]
    marks = [RunTag(key, value) for key, value in tags.items()]
    for start in range(0, max(len(params), len(marks)), A_CALL):
        stop = start + A_CALL
        store.client.log_batch(new, params=params[start:stop], tags=marks[start:stop])
    values = [Metric(*one) for one in about["metrics"]]
    for start in range(0, len(values), VALUES_A_CALL):
        store.client.log_batch(new, metrics=values[start : start + VALUES_A_CALL])


def _inputs(store: Store, new: str, about: Mapping[str, Any], carried: Carried) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

    used = []
    for one in about["inputs"]:
        tags = [InputTag(key, value) for key, value in one["tags"].items()]
        told = {key: one.get(key) for key in ("name", "digest", "source_type", "source", "schema", "profile")}
        used.append(DatasetInput(Dataset(**told), tags))
    models = [LoggedModelInput(carried.models[one]) for one in about["used_models"] if one in carried.models]
    if used or models:
        store.client.log_inputs(new, datasets=used or None, models=models or None)


def _bring_model(
    store: Store, run_id: str, experiment_id: str, model: Mapping[str, Any], place: Path, *, output: bool
) -> str:
    from mlflow.entities import LoggedModelOutput

    client = store.client
    made = client.create_logged_model(
        experiment_id,
        name=model["name"],
        source_run_id=run_id,
        tags={**model["tags"], FROM_TAG: model["model_id"]},
        model_type=model["kind"],
    )
    client.log_model_artifacts(made.model_id, str(place))
    client.finalize_logged_model(made.model_id, "READY")
    if output:
        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=model["step"])])
    return str(made.model_id)


def _models_before(store: Store, run: "Run") -> dict[str, str]:
    """Models that an earlier import had brought with a run, by their old ids."""
    return {one.tags[FROM_TAG]: str(one.model_id) for one in _models_of(store, run) if FROM_TAG in one.tags}


def _models_of(store: Store, run: "Run") -> "list[LoggedModel]":
    ours = f"source_run_id = '{run.info.run_id}'"
    return list(store.client.search_logged_models([run.info.experiment_id], filter_string=ours))
