"""How often the intervals of `glidexp compare` hold the truth, on simulated studies whose truth is known.

A scene has a size (log-normal) and a difficulty, an arm and a training shift it; scores are IoU pooled over scenes, as
in a study. For each design: coverage of the 95 % interval of a true difference, share of false alarms between equal
arms, and beside them the plain percentile bootstrap over scenes and seeds.

    python bench/coverage.py [--studies 1000]
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.confusion import Counts, lake_iou
from glidexp.scoring.statistics import Effect, effect_of, pseudo_values

LAYOUTS = {
    "scenes differ most": {"seed": 0.1, "scene_arm": 0.2, "rest": 0.1},
    "seeds differ most": {"seed": 0.2, "scene_arm": 0.05, "rest": 0.1},
    "arms suit other scenes": {"seed": 0.05, "scene_arm": 0.4, "rest": 0.1},
}
"""standard deviations in the logit of a scene's IoU"""
DIFFICULTY, SIZES, SHIFT = 0.8, 1.0, 0.3
DRAWS = 300


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
        tp = np.round(union / (1 + np.exp(-logit)))
        wrong = np.round(union) - tp
        fp = np.round(wrong / 2)
        arms.append(np.stack([tp, fp, wrong - fp, np.full_like(tp, 1e6)], axis=-1).astype(np.int64))
    return arms


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies a design (default: 1000)")
    studies = parser.parse_args().studies
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


if __name__ == "__main__":
    main()
