"""Released models in the registry: a version for each release, and the aliases `champion` and `previous`.

Two releases of one name at once: the registry numbers versions one after the other, so whoever holds the lowest number
that is still pending is first; the other takes its version back and says so. No lock is needed, on one machine or many.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.errors import TrackingError
from glidexp.tracking.database import told_as
from glidexp.tracking.liveness import PROCESS_TAG, ended_here, process_mark
from glidexp.tracking.model import made_of
from glidexp.tracking.models import MODEL_ID
from glidexp.tracking.release_model import NAME as LOGGED_NAME
from glidexp.tracking.release_model import write_release
from glidexp.tracking.store import Store, first_line, import_mlflow

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger("glidexp")

CHAMPION = "champion"
PREVIOUS = "previous"
STATE = "glidexp.release.state"
"""PENDING, and of which process, until the aliases are moved, then released"""
PENDING, RELEASED = "pending", "released"
AGAINST = "glidexp.release.against"
"""number of the champion that the gate compared with, empty when there was none"""
DEAD_S = 600.0
"""after so long a pending version is taken for one whose process died: between its making and its end lie seconds"""


class Overtaken(TrackingError):
    """Another release of the same name was first."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a registered model."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """As `models.load.find` and MLflow take it."""
        return f"models:/{self.name}/{self.number}"


def holder(store: Store, name: str, alias: str = CHAMPION) -> Version | None:
    """The version that an alias stands for; None where there is no such model or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(store.client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if _absent(error):
            return None
        raise TrackingError(f"the registry cannot be asked for models:/{name}@{alias}: {first_line(error)}") from error


def release(
    store: Store,
    name: str,
    *,
    bundle: Path,
    run_id: str,
    pip_requirements: list[str],
    tags: Mapping[str, str],
    against: Version | None,
    description: str = "",
) -> Version:
    """Makes a version of a bundle and the alias `champion` of it; the old champion becomes `previous`.

    Args:
        store: from `open_store`
        name: of the registered model, made where it is missing
        bundle: folder of the release
        run_id: that trained it
        pip_requirements: what loading needs, as `name==version`
        tags: of the version
        against: the champion that the gate compared with
        description: shown in MLflow's page of the version

    Raises:
        Overtaken: another release was first, or the champion is another one by now; nothing is left of this one
        TrackingError: the registry does not take it
    """
    client = store.client
    number = against.number if against else ""
    made: ModelVersion | None = None
    model_id = ""
    try:
        make_name(client, name)
        _clear_killed(store, name, run_id)
        model_id, place = _upload(store, run_id, bundle, pip_requirements, tags)
        made = client.create_model_version(
            name,
            source=place,  # not models:/ID: for that MLflow asks the store of its global address, which may be another
            run_id=run_id,
            model_id=model_id,
            tags={**tags, STATE: f"{PENDING} {process_mark()}", AGAINST: number, MODEL_ID: model_id},
            description=description or None,
        )
        mine = _version(made)
        if reason := _overtaken(store, mine, number):
            raise Overtaken(reason)
        if number:
            client.set_registered_model_alias(name, PREVIOUS, number)
        client.set_registered_model_alias(name, CHAMPION, mine.number)
    except BaseException as error:
        _take_back(client, name, made, model_id)
        if isinstance(error, TrackingError) or not isinstance(error, Exception):
            raise
        raise TrackingError(
            f"the registry does not take the release {name}: {first_line(error)} The bundle is kept in {bundle}; give "
            "the same command again."
        ) from error
    _note_released(client, mine, model_id)
    return mine


def finished_after_kill(store: Store, name: str, run_id: str) -> Version | None:
    """The champion, where a release of this run was killed when all but the note of it was done; notes it. Else None.

    Args:
        store: from `open_store`
        name: of the registered model
        run_id: of the training that is to be released
    """
    champion = holder(store, name)
    if champion is None or champion.run_id != run_id or not _is_left(champion.tags):
        return None
    _note_released(store.client, champion, champion.tags.get(MODEL_ID, ""))
    return champion


def rollback(store: Store, name: str) -> tuple[Version, Version | None]:
    """Makes `previous` the champion again, and the champion `previous`, so that a second time undoes it.

    Returns:
        the champion from now on, and the one that was; None where that was deleted

    Raises:
        TrackingError: there is nothing to go back to
    """
    now, before = holder(store, name), holder(store, name, PREVIOUS)
    if before is None:
        if now is None:
            raise TrackingError(f"models:/{name} has no champion: there is nothing to go back from.")
        raise TrackingError(
            f"models:/{name} has no alias {PREVIOUS}: version {now.number} is its first release, or the one before was "
            "deleted."
        )
    if now is not None and now.number == before.number:
        raise TrackingError(
            f"models:/{name}@{PREVIOUS} is version {now.number}, the champion itself, as a killed release or rollback "
            f"leaves it: give the alias {CHAMPION} to another version in MLflow's pages (glidexp ui)."
        )
    with told_as(f"the registry does not take the rollback of {name}"):
        if now is not None:
            store.client.set_model_version_tag(name, now.number, "glidexp.release.rolled_back", _stamp())
        # the champion first: killed in between, the version that was asked for holds
        store.client.set_registered_model_alias(name, CHAMPION, before.number)
        if now is not None:
            store.client.set_registered_model_alias(name, PREVIOUS, now.number)
    return before, now


def _overtaken(store: Store, mine: Version, against: str) -> str:
    """Why this version must give way; empty when it is first.

    Pending versions are looked at before the champion: one that ends in between has moved the alias by then.
    """
    for other in store.client.search_model_versions(f"name='{mine.name}'"):
        older = int(other.version) < int(mine.number) and is_pending(other.tags)
        age = time.time() - other.creation_timestamp / 1000
        if older and age < DEAD_S:
            return (
                f"version {other.version} of {mine.name} is being released at this moment and was first: nothing was "
                "released here. Give the same command again when it is done, to be compared with it; if that command "
                f"was killed, {DEAD_S / 60:g} minutes after its beginning."
            )
    now = holder(store, mine.name)
    if (now.number if now else "") != against:
        was = f"version {against}" if against else "no champion"
        return (
            f"models:/{mine.name}@{CHAMPION} is version {now.number if now else 'none'} by now, the gate compared with "
            f"{was}: nothing was released. Give the same command again, to be compared with it."
        )
    return ""


def is_pending(tags: Mapping[str, str]) -> bool:
    """Whether a version is that of a release under way, or of one that was killed."""
    return tags.get(STATE, "").startswith(PENDING)


def _is_left(tags: Mapping[str, str]) -> bool:
    """Whether a version is that of a release that was killed on this machine."""
    return is_pending(tags) and ended_here(tags[STATE].removeprefix(PENDING).strip())


def _note_released(client: Any, version: Version, model_id: str) -> None:
    """The last step, which may fail: the aliases say who is champion. Without it others wait for `DEAD_S`."""
    with suppress(Exception):
        client.set_model_version_tag(version.name, version.number, STATE, RELEASED)
        client.delete_logged_model_tag(model_id, PROCESS_TAG)


def _clear_killed(store: Store, name: str, run_id: str) -> None:
    """Takes away what killed releases left: versions of the name, models of the run that no version names.

    Those of this machine, of whose processes it is known that they are dead. A champion stays.
    """
    client, champion = store.client, holder(store, name)
    for left in client.search_model_versions(f"name='{name}'"):
        if not _is_left(left.tags):
            continue
        if champion is not None and champion.number == str(left.version):
            _note_released(client, champion, left.tags.get(MODEL_ID, ""))
        else:
            _take_back(client, name, left, left.tags.get(MODEL_ID, ""))
    named = {version.tags.get(MODEL_ID) for version in client.search_model_versions(f"run_id='{run_id}'")}
    experiment_id = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'"):
        lone = model.name == LOGGED_NAME and model.model_id not in named
        if lone and ended_here(model.tags.get(PROCESS_TAG, "")):
            client.delete_logged_model(model.model_id)


def _take_back(client: Any, name: str, made: "ModelVersion | None", model_id: str) -> None:
    """As far as the registry still answers; a version that stays is passed over after `DEAD_S`."""
    with suppress(Exception):
        if made is not None:
            client.delete_model_version(name, made.version)
    with suppress(Exception):
        if model_id:
            client.delete_logged_model(model_id)


def make_name(client: Any, name: str) -> None:
    """Makes a registered model where there is none of that name."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Lake segmentation, released by glidexp.")
    except MlflowException as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise


def _upload(
    store: Store, run_id: str, bundle: Path, pip_requirements: list[str], tags: Mapping[str, str]
) -> tuple[str, str]:
    """The bundle as a logged model of the run, beside the one of training: its id, and where its files lie."""
    import_mlflow()
    experiment_id = store.client.get_run(run_id).info.experiment_id
    write = partial(write_release, bundle=bundle, pip_requirements=pip_requirements)
    marked = {**tags, PROCESS_TAG: process_mark()}
    made = made_of(store, run_id, experiment_id, LOGGED_NAME, tags=marked, write=write)
    return str(made.model_id), str(made.artifact_location)


def _version(found: "ModelVersion") -> Version:
    return Version(str(found.name), str(found.version), str(found.run_id or ""), dict(found.tags))


def _absent(error: Exception) -> bool:
    return getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def _stamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
