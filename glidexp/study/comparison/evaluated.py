"""Evaluations beside trainings: an evaluation is known by the networks that it scored, not by settings of its own.

`glidexp evaluate` scores one network, or the mean of several, and its run says on which tiles. What a comparison needs
of it stands with the trainings of these networks: their settings, their seeds, and which val tiles chose the threshold.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glidexp.config.evaluation import CARD, VAL
from glidexp.errors import TrackingError
from glidexp.study.comparison.arms import NETWORKS, PLUS, complete
from glidexp.tracking.found import TrackedRun, read_file, tracked_run
from glidexp.tracking.store import EVALUATION, KIND_TAG, MODEL_RUN_TAG, Store

TILES = ("split_hash", "data_hash")
"""of a card, and of an evaluation's tags: the same split of the same tiles; other data may have like-named scenes"""
MODEL_CARD = "model/card.json"
OWN = {
    "eval.adapt": ("adapt", "none"),
    "eval.fit_regions": ("fit_regions", "[]"),
    "eval.fit_sensors": ("fit_sensors", "[]"),
}
"""settings of an evaluation that change its scores: what they are called in the name of an arm, and the usual value"""
ALL = "['all']"
"""as a list of one word stands in params"""
MARK = 12
"""characters of a hash that name weights whose training is not in the store"""


def laid_beside(store: Store, runs: Sequence[TrackedRun]) -> list[TrackedRun]:
    """The runs, evaluations among them with the settings of the trainings whose networks they scored.

    Their params are those of the trainings, and their own `eval.*`; where several networks are averaged and differ, all
    values with a plus between. `seed` is that of the network, of a mean 0+1+2, of a network whose training is not in
    the store the first characters of its weights' hash. `networks` says of how many they are the mean. `eval.threshold`
    is `card` where the threshold was found on the networks' own val tiles, by whatever command; `val` where it was
    found on others, of the data set that is scored; else the number.

    Args:
        store: holds the runs
        runs: trainings, which stay as they are, and evaluations
    """
    reader = _Reader(store)
    return [reader.described(run) for run in runs]


@dataclass(slots=True)
class _Reader:
    """Looks runs up once."""

    store: Store
    known: dict[str, TrackedRun | None] = field(default_factory=dict)

    def described(self, run: TrackedRun) -> TrackedRun:
        if run.tags.get(KIND_TAG) != EVALUATION:
            return run
        card = self._card(run)
        model = self._found(run.tags.get(MODEL_RUN_TAG) or str(card.get("run_id") or ""))
        if model is not None and model.tags.get(KIND_TAG) == EVALUATION:
            networks = [model]  # an evaluation that kept what it scored
        else:
            networks = [self._network(one, card, run) for one in card.get("members") or [_itself(run, card)]]
        params = _together([complete(one.params) for one in networks])
        if len(networks) > 1:
            params[NETWORKS] = str(len(networks))
        own = {name: run.params[key] for key, (name, usual) in OWN.items() if run.params.get(key, usual) != usual}
        if (px := run.params.get("tile_size.px")) != params.get("tile_size.px"):
            own["scored_px"] = str(px)
        rule = _rule(run, card, params)
        params |= {key: value for key, value in run.params.items() if key.startswith("eval.")}
        return replace(run, params=params | own | {"eval.threshold": rule})

    def _card(self, run: TrackedRun) -> dict[str, Any]:
        """Of the model that was scored; empty where the run left none."""
        try:
            card: dict[str, Any] = json.loads(read_file(self.store, run, MODEL_CARD, Path.read_bytes))
        except TrackingError:
            return {}
        return card

    def _network(self, one: Mapping[str, Any], card: Mapping[str, Any], run: TrackedRun) -> TrackedRun:
        """The training of a network, or the evaluation that fitted it; of an unknown one what its card says."""
        found = self._found(str(one.get("run_id") or ""))
        if found is not None:
            return found
        weights = str(one.get("weights") or run.run_id)[:MARK]
        shape = card.get("architecture", {})
        params = {key: str(shape[key]) for key in ("backbone", "decoder") if key in shape}
        return replace(run, params=params | {"weights": weights, "seed": weights}, tags={})

    def _found(self, run_id: str) -> TrackedRun | None:
        if not run_id:
            return None
        if run_id not in self.known:
            try:
                self.known[run_id] = self.described(tracked_run(self.store, run_id))
            except TrackingError:
                self.known[run_id] = None
        return self.known[run_id]


def _itself(run: TrackedRun, card: Mapping[str, Any]) -> dict[str, Any]:
    """A single network, as the card of a mean names its members."""
    weights = card.get("weights", {}).get("sha256")
    return {"run_id": run.tags.get(MODEL_RUN_TAG) or card.get("run_id"), "weights": weights}


def _together(settings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Settings of several networks as those of one: where they differ, all values with a plus between."""
    found = {}
    for key in dict.fromkeys(key for one in settings for key in one):
        values = {one.get(key, "-") for one in settings}
        found[key] = PLUS.join(sorted(values, key=lambda value: (len(value), value)))
    return found


def _rule(run: TrackedRun, card: Mapping[str, Any], params: Mapping[str, str]) -> str:
    """Where the threshold comes from, see `laid_beside`."""
    own = run.params.get("eval.threshold", CARD)
    if own == CARD:
        return params.get("eval.threshold", CARD)  # of a kept model: as that was found
    if own != VAL or any(card.get(key) != run.tags.get(f"glidexp.{key}") for key in TILES):
        return own
    regions = _one_of(run.params, "eval.fit_regions", "eval.regions")
    sensors = _one_of(run.params, "eval.fit_sensors", "sensor_mix.sensors")
    every, source = _names(ALL), params.get("subset.val_from")
    theirs = (
        every if source == "all" else _names(params.get("subset.regions", ALL)),
        _names(params.get("sensor_mix.sensors", ALL)) if source == "source" else every,
    )
    whole = params.get("subset.val_scenes", "None") == "None"
    return CARD if whole and (regions, sensors) == theirs else VAL


def _one_of(params: Mapping[str, str], *keys: str) -> frozenset[str]:
    """The first of these lists that names something."""
    return next((names for key in keys if (names := _names(params.get(key, "[]")))), frozenset())


def _names(listed: str) -> frozenset[str]:
    try:
        return frozenset(map(str, ast.literal_eval(listed)))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):  # whatever somebody logged
        return frozenset({listed})
