"""How often the intervals of `glidexp compare` hold the truth, on simulated studies whose truth is known.

A scene has a size (log-normal) and a difficulty, an arm and a training shift it; scores are IoU pooled over scenes, as
in a study. For each design: coverage of the 95 % interval of a true difference, share of false alarms between equal
arms, and beside them the plain percentile bootstrap over scenes and seeds. Then means of three networks against the
nine trainings that they are made of, and beside them the same interval with each mean matched to one training.

    python bench/coverage.py [--studies 1000] [--means]
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.confusion import Counts, lake_iou
from glidexp.scoring.statistics import Effect, effect_of, pseudo_values
from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.compare import measure_of, row_of
from glidexp.tracking.found import TrackedRun

LAYOUTS = {
    "scenes differ most": {"seed": 0.1, "scene_arm": 0.2, "rest": 0.1},
    "seeds differ most": {"seed": 0.2, "scene_arm": 0.05, "rest": 0.1},
    "arms suit other scenes": {"seed": 0.05, "scene_arm": 0.4, "rest": 0.1},
}
"""standard deviations in the logit of a scene's IoU"""
DIFFICULTY, SIZES, SHIFT = 0.8, 1.0, 0.3
DRAWS = 300
OF = 3
"""networks of a mean"""


def pooled(counts: Counts) -> NDArray[np.float64]:
    """(..., C, 4) -> (...) lake IoU of all clusters together."""
    return lake_iou(counts.sum(axis=-2))


def study(random: np.random.Generator, seeds: int, scenes: int, shift: float, layout: dict[str, float]) -> list[Counts]:
    """Counts (S, C, 4) of two arms on the same scenes; the second is better by `shift` in the logit."""
    union = np.exp(random.normal(8, SIZES, scenes))
    difficulty = random.normal(1, DIFFICULTY, scenes)
    arms = []
    for arm in (0, 1):
        logit = difficulty + shift * arm + random.normal(0, layout["seed"], (seeds, 1))
        logit = logit + random.normal(0, layout["scene_arm"], (1, scenes))
        logit = logit + random.normal(0, layout["rest"], (seeds, scenes))
        arms.append(counted(union, logit))
    return arms


def counted(union: NDArray[np.float64], logit: NDArray[np.float64]) -> Counts:
    """Pixels (S, C, 4) of trainings whose IoU on a scene has this logit (S, C)."""
    tp = np.round(union / (1 + np.exp(-logit)))
    wrong = np.round(union) - tp
    fp = np.round(wrong / 2)
    return np.stack([tp, fp, wrong - fp, np.full_like(tp, 1e6)], axis=-1).astype(np.int64)


def study_of_means(
    random: np.random.Generator, means: int, scenes: int, shift: float, layout: dict[str, float]
) -> list[Counts]:
    """Counts of 3 x `means` trainings, and of the means of three of them each, better by `shift` in the logit."""
    union = np.exp(random.normal(8, SIZES, scenes))
    alone = random.normal(1, DIFFICULTY, scenes) + random.normal(0, layout["seed"], (OF * means, 1))
    alone = alone + random.normal(0, layout["rest"], (OF * means, scenes))
    together = alone.reshape(means, OF, scenes).mean(axis=1) + shift + random.normal(0, layout["scene_arm"], scenes)
    alone = alone + random.normal(0, layout["scene_arm"], scenes)
    return [counted(union, alone), counted(union, together)]


def arm(seeds: Sequence[str]) -> Arm:
    """Runs of these seeds, of a mean 0+1+2, as `glidexp compare` finds them in a store."""
    return Arm("", tuple(TrackedRun(f"{n:032}", "", {"seed": seed}, {}, {}) for n, seed in enumerate(seeds)))


def coverage_of_means(studies: int) -> None:
    """Prints a line a design: means of three against the trainings that they are made of."""
    measure = measure_of("test/lake_iou_pooled")
    for name, layout in LAYOUTS.items():
        less = layout | {key: layout[key] / np.sqrt(OF) for key in ("seed", "rest")}
        base = truth(layout, 0.0)
        true = truth(less, SHIFT) - base
        equal = balanced(less, base)
        for means in (3, 5):
            single = [str(seed) for seed in range(OF * means)]
            made = arm(["+".join(single[OF * n : OF * n + OF]) for n in range(means)])
            foreign = arm([str(1000 + n) for n in range(means)])  # whose runs are matched in order
            for scenes in (6, 12, 36):
                random = np.random.default_rng(1000 * means + scenes)
                found, width = np.zeros(4), np.zeros(2)
                for _ in range(studies):
                    for place, shift in ((0, SHIFT), (2, equal)):
                        alone, together = study_of_means(random, means, scenes, shift, layout)
                        for add, one in enumerate((made, foreign)):
                            effect = row_of(one, together, measure, 0.95, base=(arm(single), alone)).effect
                            assert effect is not None
                            if place == 0:
                                found[add] += effect.low <= true <= effect.high
                                width[add] += effect.high - effect.low
                            else:
                                found[2 + add] += effect.distinguishable
                ours, peer, alarms, plain = (found / studies).tolist()
                print(
                    json.dumps(
                        {
                            "name": f"coverage, {means} means of {OF} and their trainings, {name}, {scenes} scenes",
                            "unit": "share of studies",
                            "n": studies,
                            "ours": ours,
                            "peer": peer,
                            "limit": 0.95,
                            "false_alarms": alarms,
                            "false_alarms_peer": plain,
                            "width_of_peers": float(width[0] / width[1]),
                        }
                    ),
                    flush=True,
                )


def balanced(layout: dict[str, float], wanted: float) -> float:
    """The shift with which the pooled IoU of a layout is as wanted: averaging alone changes it a little."""
    low, high = -1.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if truth(layout, middle) < wanted else (low, middle)
    return (low + high) / 2


def truth(layout: dict[str, float], shift: float, n: int = 400_000) -> float:
    """Pooled IoU over endlessly many scenes and trainings."""
    random = np.random.default_rng(0)
    union = np.exp(random.normal(8, SIZES, n))
    spread = np.sqrt(DIFFICULTY**2 + sum(value**2 for value in layout.values()))
    iou = 1 / (1 + np.exp(-(1 + shift + random.normal(0, spread, n))))
    return float((union * iou).sum() / union.sum())


def interval(arms: list[Counts]) -> Effect:
    """As `glidexp compare` makes it."""
    table = pseudo_values(arms[1], pooled) - pseudo_values(arms[0], pooled)
    weights = np.mean([arm[..., :3].sum(-1).mean(0) for arm in arms], axis=0)  # Measure.weights of a pooled IoU
    return effect_of(table, value=float((pooled(arms[1]) - pooled(arms[0])).mean()), weights=weights)


def percentile(arms: list[Counts], random: np.random.Generator) -> tuple[float, float]:
    """The plain percentile bootstrap over scenes and seeds, for comparison."""
    seeds, scenes = arms[0].shape[:2]
    found = np.empty(DRAWS)
    for draw in range(DRAWS):
        rows, columns = random.integers(0, seeds, seeds), random.integers(0, scenes, scenes)
        one, other = (pooled(arm[rows][:, columns]).mean() for arm in arms)
        found[draw] = other - one
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def coverage_of_trainings(studies: int) -> None:
    """Prints a line a design: two arms of trainings."""
    for name, layout in LAYOUTS.items():
        true = truth(layout, SHIFT) - truth(layout, 0.0)
        for seeds in (3, 5):
            for scenes in (6, 12, 36):
                random = np.random.default_rng(1000 * seeds + scenes)
                held = alarms = plain = 0
                for number in range(studies):
                    arms = study(random, seeds, scenes, SHIFT, layout)
                    effect = interval(arms)
                    held += effect.low <= true <= effect.high
                    if number % 5 == 0:
                        low, high = percentile(arms, random)
                        plain += low <= true <= high
                    alarms += interval(study(random, seeds, scenes, 0.0, layout)).distinguishable
                print(
                    json.dumps(
                        {
                            "name": f"coverage, {name}, {seeds} seeds, {scenes} scenes",
                            "unit": "share of studies",
                            "n": studies,
                            "ours": held / studies,
                            "peer": plain / len(range(0, studies, 5)),
                            "limit": 0.95,
                            "false_alarms": alarms / studies,
                        }
                    ),
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies a design (default: 1000)")
    parser.add_argument("--means", action="store_true", help="of means of networks alone")
    given = parser.parse_args()
    if not given.means:
        coverage_of_trainings(given.studies)
    coverage_of_means(given.studies)


if __name__ == "__main__":
    main()
