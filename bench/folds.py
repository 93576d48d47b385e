"""How often intervals over folds hold the truth: folds share training scenes, which no interval knows.

Small networks (a drawn hidden layer, ridge on top) learn lake pixels of simulated scenes, each with colours of its own,
exactly as a study is made: every arm with every seed on every fold, a threshold from the fold's val, pixels pooled over
all folds. The truth is the mean difference over all simulated studies of the design: what networks trained on so many
scenes differ by on other scenes. Beside it the same studies with a single split, whose test side is one fold. Seeds
draw pixels and hidden layer, or pixels alone, so that nearly all luck is that of the training scenes.

    python bench/folds.py [--studies 1000]
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.confusion import Counts
from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.compare import measure_of, row_of
from glidexp.tracking.found import TrackedRun

BANDS, SAMPLED, RIDGE = 6, 150, 3.0
UNITS = {"base": (24, 4), "other": (24, 6), "equal": (24, 4)}
"""hidden units and bands of an arm; `equal` is the base with other draws"""
CUTS = np.linspace(-1.0, 1.0, 41)
SEEDS = 3
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    pixels: Array
    """(n, BANDS)"""
    lake: NDArray[np.bool_]
    order: NDArray[np.int64]
    """in which seeds take pixels to train on"""


def scene(random: np.random.Generator) -> Scene:
    """Lakes differ from the ground by as much everywhere, and a little by the scene; scenes differ in colour."""
    n = int(np.clip(np.exp(random.normal(6.3, 0.6)), SEEDS * SAMPLED, 4000))
    lake = random.random(n) < random.beta(2, 5)
    difference = np.array([1.2, 0.8, 0.5, 0.3, 0.25, 0.2]) + random.normal(0, 0.35, BANDS)
    pixels = random.normal(0, 0.5, BANDS) + lake[:, None] * difference + random.normal(0, 0.8, (n, BANDS))
    return Scene(pixels, lake, random.permutation(n))


def hidden(pixels: Array, layer: Array, bands: int) -> Array:
    return np.tanh(np.c_[pixels[:, :bands], np.ones(len(pixels))] @ layer)


def trained(scenes: list[Scene], layer: Array, bands: int, seed: int) -> Array:
    """Weights of the last layer."""
    taken = [one.order[SAMPLED * seed :][:SAMPLED] for one in scenes]
    features = np.concatenate([hidden(one.pixels[of], layer, bands) for one, of in zip(scenes, taken, strict=True)])
    wanted = np.concatenate([np.where(one.lake[of], 1.0, -1.0) for one, of in zip(scenes, taken, strict=True)])
    gram = features.T @ features + RIDGE * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ wanted)


def counted(lake: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    tp, fp = int((lake & predicted).sum()), int((~lake & predicted).sum())
    return tp, fp, int(lake.sum()) - tp, int((~lake).sum()) - fp


def scored(scenes: list[Scene], arm: str, folds: int, steady: bool) -> Counts:
    """(seeds, scenes, 4), each scene by networks that have not met it."""
    units, bands = UNITS[arm]
    counts = np.zeros((SEEDS, len(scenes), 4), np.int64)
    parts = np.arange(len(scenes)) % folds
    for seed in range(SEEDS):
        for fold in range(folds):
            own = [0, 0] if steady else [seed, fold, len(scenes[0].lake), len(scenes[1].lake)]
            random = np.random.default_rng([arm == "equal", *own])
            layer = random.normal(0, 0.7, (bands + 1, units))
            val = (fold + 1) % folds
            weights = trained([scenes[n] for n in np.flatnonzero((parts != fold) & (parts != val))], layer, bands, seed)
            judged = np.flatnonzero((parts == fold) | (parts == val))
            answers = {n: hidden(scenes[n].pixels, layer, bands) @ weights for n in judged}
            looked = np.concatenate([answers[n] for n in np.flatnonzero(parts == val)])
            truth = np.concatenate([scenes[n].lake for n in np.flatnonzero(parts == val)])
            hits, met = ((looked > CUTS[:, None]) & truth).sum(1), ((looked > CUTS[:, None]) | truth).sum(1)
            cut = CUTS[int(np.argmax(hits / met))]
            for n in np.flatnonzero(parts == fold):
                counts[seed, n] = counted(scenes[n].lake, answers[n] > cut)
    return counts


def coverage(folds: int, scenes: int, studies: int, steady: bool) -> dict[str, object]:
    """Of one design: a line to print."""
    random, measure = np.random.default_rng(100 * folds + scenes), measure_of("test/lake_iou_pooled")
    arm = Arm("", tuple(TrackedRun(f"{n:032}", "", {"seed": str(n)}, {}, {}) for n in range(SEEDS)))
    found: dict[str, list[tuple[float, float, float]]] = {
        "folds": [],
        "split": [],
        "folds_equal": [],
        "split_equal": [],
    }
    for _ in range(studies):
        ground = [scene(random) for _ in range(scenes)]
        of = {name: scored(ground, name, folds, steady) for name in UNITS}
        test = np.arange(scenes) % folds == 0
        for kind, rows in (("folds", slice(None)), ("split", test)):
            for other, mark in (("other", ""), ("equal", "_equal")):
                effect = row_of(arm, of[other][:, rows], measure, 0.95, base=(arm, of["base"][:, rows])).effect
                assert effect is not None
                found[kind + mark].append((effect.value, effect.low, effect.high))
    table = {name: np.array(rows) for name, rows in found.items()}

    def held(name: str, true: float) -> float:
        return float(np.mean((table[name][:, 1] <= true) & (true <= table[name][:, 2])))

    def width(name: str) -> float:
        return float(100 * np.mean(table[name][:, 2] - table[name][:, 1]))

    true = float(table["folds"][:, 0].mean())
    return {
        "name": f"coverage, {folds} folds, {scenes} scenes, {SEEDS} seeds{' that differ little' * steady}",
        "unit": "share of studies",
        "n": studies,
        "ours": held("folds", true),
        "peer": held("split", float(table["split"][:, 0].mean())),
        "limit": 0.95,
        "false_alarms": 1 - held("folds_equal", 0.0),
        "false_alarms_peer": 1 - held("split_equal", 0.0),
        "points": 100 * true,
        "width": width("folds"),
        "width_peer": width("split"),
        "width_equal": width("folds_equal"),
        "sd": float(100 * table["folds"][:, 0].std()),
        "sd_peer": float(100 * table["split"][:, 0].std()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies a design (default: 1000)")
    given = parser.parse_args()
    for steady in (False, True):
        for folds, scenes in ((3, 6), (3, 12), (3, 36), (5, 10), (5, 20), (5, 40)):
            print(json.dumps(coverage(folds, scenes, given.studies, steady)), flush=True)


if __name__ == "__main__":
    main()
