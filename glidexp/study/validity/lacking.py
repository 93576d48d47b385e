"""Why a model, or a run of a matrix, keeps nothing of what its training tiles look like, and what to do."""

import tempfile
from pathlib import Path

from glidexp.errors import GlidexpError
from glidexp.models.card import members_of
from glidexp.models.load import FoundModel, find
from glidexp.models.survey import LEAST, LEAST_HELD
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.store import EVALUATION, KIND_TAG, Store


def why_nothing(found: FoundModel) -> str:
    """The reason, as far as the model's card knows it, to be read after the model's name."""
    if found.uri.endswith(".pt"):
        return "it is a checkpoint, which is written before they are looked at. Let its run end, and give the run"
    if members := members_of(found.card):
        which = ", ".join(members)
        return f"it is the mean of {len(members)} networks, each of which has features of its own. Give one, {which}"
    fitted = found.card.get("fitted", {})
    if fitted.get("adapt", "none") != "none":
        return (
            f"it was fitted to other ground (eval.adapt={fitted['adapt']}), which changes the features that this is "
            f"about. Give the model that it comes from, {fitted['of']}"
        )
    if "validity" in found.card:
        return (
            f"it was trained on too few to describe them. Train it on {LEAST} tiles or more that are mostly valid, "
            f"with {LEAST_HELD} or more for val"
        )
    return "it is from before that was kept. Train it anew"


def why_no_distances(store: Store, run: TrackedRun) -> str:
    """The same of a run that left no distances of its test scenes."""
    if run.tags.get(KIND_TAG) == EVALUATION:
        return "it is a scoring of glidexp evaluate, which measures none. Give the trainings themselves"
    with tempfile.TemporaryDirectory() as aside:
        try:
            found = find(run.run_id, store, Path(aside))
        except GlidexpError:
            return "its model is not in this store, so why is not known"
    if found.card.get("validity"):
        return "it knows its training tiles, and scored no test scene when it ended"
    return why_nothing(found)
