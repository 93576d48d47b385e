"""How the trainings of a study went, and what they took: curves along what the budget makes equal, costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.measures import Measure
from glidexp.study.comparison.studies import Study
from glidexp.study.execution.cells import Plan
from glidexp.tracking.found import TrackedRun, all_parts
from glidexp.tracking.gathered import energy
from glidexp.tracking.store import Store


@dataclass(frozen=True, slots=True)
class Cost:
    """What an arm takes: means over its trainings, None where not known."""

    arm: str
    images_per_s: float | None
    parameters: float | None
    hours: float | None
    """of one training"""
    kwh: float | None
    """of one training, GPUs only"""
    tile_px: int | None = None
    """side of the tiles that it was trained on"""
    trainings: int = 1
    """that the means are over"""

    @property
    def megapixels_per_s(self) -> float | None:
        """Throughput that can be compared between tiles of unlike size."""
        if self.images_per_s is None or self.tile_px is None:
            return None
        return 1e-6 * self.images_per_s * self.tile_px**2


@dataclass(frozen=True, slots=True)
class Curves:
    """A score on val while the arms were trained."""

    name: str
    """of the score, as tracking has it"""
    along: str = "epoch"
    """what was spent until then, as an axis says it"""
    by_arm: dict[str, list[dict[float, float]]] = field(default_factory=dict)
    """score by what was spent, of each training; a single point where each had one epoch; none where none was logged"""

    @property
    def points(self) -> list[str]:
        """Arms of a single point."""
        return [arm for arm, curves in self.by_arm.items() if curves and max(map(len, curves)) == 1]

    @property
    def none(self) -> list[str]:
        """Arms without any."""
        return [arm for arm, curves in self.by_arm.items() if not curves]

    @property
    def drawn(self) -> dict[str, list[dict[float, float]]]:
        """What there is to draw; empty where no arm has more than a point."""
        found = {arm: curves for arm, curves in self.by_arm.items() if curves}
        return found if len(found) > len(self.points) else {}


def unlike_tiles(costs: Sequence[Cost]) -> bool:
    """Whether images a second mean other numbers of pixels in some arms."""
    return len({one.tile_px for one in costs}) > 1


@dataclass(frozen=True, slots=True)
class Total:
    """What all trainings of a study took, each counted once, however many arms score it."""

    trainings: int
    hours: float
    kwh: float | None
    """of those whose energy was measured; None where of none"""


def costs_of(store: Store, study: Study) -> tuple[list[Cost], Total]:
    """What each arm takes, and all trainings together."""
    trainings = study.trainings
    kwh = {run_id: energy(store, run) for run_id, run in trainings.items()}
    known = [value for value in kwh.values() if value is not None]
    hours = sum(run.hours or 0.0 for run in trainings.values())
    costs = [_cost_of(study, arm, kwh) for arm in study.arms]
    return costs, Total(len(trainings), hours, sum(known) if known else None)


def _cost_of(study: Study, arm: Arm, kwh: Mapping[str, float | None]) -> Cost:
    runs = [study.trained[run.run_id] for run in all_parts(arm.runs)]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    px = runs[0].params.get("tile_size.px", "")
    return Cost(
        arm.name,
        mean([run.metrics.get("train/images_per_s") for run in runs]),
        mean([_number(run, "glidexp.parameters") for run in runs]),
        mean([run.hours for run in runs]),
        mean([kwh[run.run_id] for run in runs]),
        int(px) if px.isdigit() else None,
        len(runs),
    )


def _number(run: TrackedRun, tag: str) -> float | None:
    try:
        return float(run.tags[tag])
    except (KeyError, ValueError):
        return None


def curves_of(store: Store, study: Study, measure: Measure) -> Curves:
    """Learning curves of all arms: by epoch where an epoch is as much in each, else by steps or pixels."""
    name = f"val/{measure.score}_pooled" if not measure.of_lakes else "val/lake_iou_pooled"
    along, an_epoch = axis_of(study.plan, [arm.name for arm in study.arms])
    found = Curves(name, along)
    for arm in study.arms:
        trainings = []
        for run in all_parts(arm.runs):
            trained = study.trained[run.run_id]
            epochs = trained.params.get("train.epochs", "")
            last = int(epochs) if epochs.isdigit() else None
            points = store.history(trained.run_id, name).items()
            each = an_epoch[arm.name]
            if along != "epoch" and last:  # of a seed with tiles of its own an epoch is another share of the same whole
                each *= study.plan.spent[arm.name]["epochs"] / last
            curve = {epoch * each: value for epoch, value in points if last is None or epoch <= last}
            if curve:
                trainings.append(curve)
        # beside those of several epochs, what has a point so far says nothing
        found.by_arm[arm.name] = [curve for curve in trainings if len(curve) > 1] or trainings
    return found


def axis_of(plan: Plan, arms: Sequence[str]) -> tuple[str, dict[str, float]]:
    """What learning curves are drawn along, and how much of it an epoch of each arm is.

    Args:
        plan: of a study; one that does not know what its arms spend gives epochs
        arms: of the plan
    """
    spent = {arm: plan.spent[arm] for arm in arms if arm in plan.spent}
    what = "pixels" if plan.equal == "pixels" else "steps"
    if len(spent) < len(arms) or len({(one["epochs"], one[what]) for one in spent.values()}) < 2:
        return "epoch", dict.fromkeys(arms, 1.0)
    scale, along = (1e-6, "pixels seen [million]") if what == "pixels" else (1.0, "optimizer steps")
    return along, {arm: scale * one[what] / one["epochs"] for arm, one in spent.items()}
