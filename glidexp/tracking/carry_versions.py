"""Released versions of the registry out of one store and into another, with their models, tags and aliases."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glidexp.tracking.models import MODEL_ID
from glidexp.tracking.registry import CHAMPION, RELEASED, STATE, is_pending, make_name
from glidexp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

FROM_TAG = "glidexp.imported_from"
"""of a version: run id and number in the store it came from"""


def versions_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    """What the registry holds of a run: its versions that were released or registered by hand, each with its model.

    Args:
        store: from `open_store`
        run_id: of the run
    """
    told = []
    for found in store.client.search_model_versions(f"run_id='{run_id}'"):
        model_id = found.tags.get(MODEL_ID)
        aliases = store.client.get_registered_model(found.name).aliases
        champion = str(aliases.get(CHAMPION)) == str(found.version)  # said of it last, so a kill may hinder that
        if model_id is None or (is_pending(found.tags) and not champion):
            continue
        told.append(
            {
                "name": found.name,
                "number": int(found.version),
                "model_id": model_id,
                "description": found.description or None,
                "tags": dict(found.tags) | ({STATE: RELEASED} if champion and is_pending(found.tags) else {}),
                "aliases": sorted(alias for alias, number in aliases.items() if str(number) == str(found.version)),
            }
        )
    return told


def bring_versions(
    store: Store, told: Sequence[Mapping[str, Any]], runs: Mapping[str, str], models: Mapping[str, str]
) -> list[str]:
    """Makes the versions in another store, in their old order. A second time finds them, and makes none.

    Args:
        store: from `open_store`
        told: what was exported of each run: `run_id` and `versions`
        runs: id there by id in the store they came from
        models: likewise

    Returns:
        a sentence for each version, and for each alias that another version holds there and keeps
    """
    wanted = [(one, str(about["run_id"])) for about in told for one in about.get("versions", ())]
    said = []
    for one, run_id in sorted(wanted, key=lambda pair: (pair[0]["name"], pair[0]["number"])):
        name, origin = str(one["name"]), f"{run_id}/{one['number']}"
        make_name(store.client, name)
        there = next((v for v in store.client.search_model_versions(f"name='{name}'") if _from(v) == origin), None)
        if there is None:
            there = _made(store, one, origin, runs[run_id], models[one["model_id"]])
        said.append(f"version {one['number']} of {name} is version {there.version}")
        held = store.client.get_registered_model(name).aliases
        for alias in one["aliases"]:
            if alias not in held:
                store.client.set_registered_model_alias(name, alias, str(there.version))
            elif str(held[alias]) != str(there.version):
                said.append(f"models:/{name}@{alias} stays version {held[alias]}, which was there before")
    return said


def _from(version: "ModelVersion") -> str | None:
    origin: str | None = version.tags.get(FROM_TAG)
    return origin


def _made(store: Store, one: Mapping[str, Any], origin: str, run_id: str, model_id: str) -> "ModelVersion":
    return store.client.create_model_version(
        str(one["name"]),
        source=str(store.client.get_logged_model(model_id).artifact_location),
        run_id=run_id,
        model_id=model_id,
        tags={**one["tags"], MODEL_ID: model_id, FROM_TAG: origin},
        description=one["description"],
    )
