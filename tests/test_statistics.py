"""Intervals hold what they promise, and agree with scipy where it does the same."""

import importlib.util
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from glidexp.scoring.confusion import lake_iou, precision, recall
from glidexp.scoring.redrawing import exchanged, rank_shares, redrawn
from glidexp.scoring.statistics import (
    EXACT_FLIPS,
    SEED,
    Parts,
    detectable,
    effect_of,
    holm,
    pseudo_values,
    sign_flips,
    two_way,
)

ROOT = Path(__file__).resolve().parent.parent


def pooled(counts: Any) -> Any:
    return lake_iou(counts.sum(axis=-2))


@pytest.mark.parametrize("shape", [(1, 7), (5, 1)])
def test_one_seed_or_one_scene_is_the_t_test_of_the_other(shape: tuple[int, int]) -> None:
    table = np.random.default_rng(0).normal(0.4, 1.0, shape)
    effect = effect_of(table)
    reference = stats.ttest_1samp(table.ravel(), 0.0)
    low, high = reference.confidence_interval(0.95)
    assert (effect.value, effect.low, effect.high) == pytest.approx((table.mean(), low, high))
    assert effect.p == pytest.approx(reference.pvalue, rel=1e-6)


def test_two_way_by_hand() -> None:
    """Rows 1 and 3 on average, columns 1.5 and 2.5, and one cell of each sign beside the sum."""
    table = np.array([[1.0, 1.0], [2.0, 4.0]])
    parts = two_way(table)
    assert (parts.seed, parts.cluster, parts.rest) == pytest.approx((4.0, 1.0, 1.0))
    assert parts.variance == pytest.approx((4.0 + 1.0 - 1.0) / 4)
    assert parts.shares == pytest.approx({"seed": 0.75, "cluster": 0.0, "rest": 0.25})
    assert parts.quantile(0.05) == pytest.approx(stats.t.isf(0.025, 1))


def test_the_quantile_lies_between_those_of_seeds_and_clusters() -> None:
    """Nine times as much comes from clusters: the mean of the squared quantiles is nearer to theirs."""
    parts = Parts(seed=1.0, cluster=9.0, rest=0.0, seeds=3, clusters=12)
    squared = (1 * stats.t.isf(0.025, 2) ** 2 + 9 * stats.t.isf(0.025, 11) ** 2) / 10
    assert parts.quantile(0.05) == pytest.approx(math.sqrt(squared))


def test_clusters_of_unlike_weight_count_as_fewer() -> None:
    """Weights 3 1 1 1: 36 / 12 = 3 of 4 by Kish, and sqrt(12) degrees of freedom and one between the two."""
    table = np.random.default_rng(0).normal(0.4, 1.0, (1, 4))
    effect, same = effect_of(table, weights=np.array([3.0, 1.0, 1.0, 1.0])), effect_of(table, weights=np.full(4, 7.0))
    assert effect.error == same.error == effect_of(table).error and same.high == effect_of(table).high
    half = stats.t.isf(0.025, math.sqrt(12) - 1) * effect.error
    assert (effect.low, effect.high) == pytest.approx((effect.value - half, effect.value + half))
    assert effect_of(table, level=1 - effect.p, weights=np.array([3.0, 1.0, 1.0, 1.0])).low == pytest.approx(
        0, abs=1e-6
    )
    one = effect_of(table, weights=np.array([1.0, 0.0, 0.0, 0.0])).parts
    assert one.alike == 2 and one.quantile(0.05) == pytest.approx(stats.t.isf(0.025, 1))
    assert effect_of(table[:, :1], weights=np.ones(4)).parts.alike is None, "the score of all ground together"


def test_the_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    """Against F tests of scipy: without rest, clusters alone against their mean square within."""
    random = np.random.default_rng(3)
    table = random.normal(size=(4, 9)) + random.normal(size=(1, 9))
    parts = two_way(table)
    within = ((table - table.mean(0)) ** 2).sum() / (9 * 3)
    f = stats.f_oneway(*table.T).statistic
    assert parts.cluster / within == pytest.approx(f)
    assert parts.seed * 3 + parts.rest * 24 == pytest.approx(within * 27)


def test_p_is_the_alpha_whose_interval_touches_nothing() -> None:
    table = np.random.default_rng(5).normal(0.5, 1.0, (3, 8))
    p = effect_of(table).p
    at_p = effect_of(table, level=1 - p)
    assert min(abs(at_p.low), abs(at_p.high)) == pytest.approx(0, abs=1e-9)
    assert 0 < p < 1
    assert effect_of(np.array([[-1.0, 1.0, -2.0, 2.0]])).p == 1, "no difference at all"


@pytest.mark.parametrize("many", range(2, 42))
def test_p_and_interval_say_the_same_for_every_number_of_seeds_and_clusters(many: int) -> None:
    """SciPy's t quantile of 3 degrees of freedom is minus infinity far out, which must not become a p of 0."""
    for shape in ((many, 1), (1, many), (many, 6), (3, many)):
        table = np.random.default_rng(many).normal(size=shape)
        table -= table.mean()
        spread = effect_of(table).high
        for size, sure in ((0.9 * spread, False), (1.1 * spread, True)):
            effect = effect_of(table + size)
            assert (effect.p < 0.05) == sure == effect.distinguishable
            assert effect.p > 1e-9


def test_what_never_varies_and_what_was_seen_once_have_no_interval_and_no_p() -> None:
    rounded = np.full((3, 4), 0.1) + 1e-16 * np.random.default_rng(0).normal(size=(3, 4))
    for table in (np.full((2, 3), 0.1), np.full((2, 1), 0.1), rounded, np.zeros((2, 3)), np.array([[0.1]])):
        effect = effect_of(table)
        assert effect.value == pytest.approx(table.mean()) and not effect.known
        assert all(math.isnan(number) for number in (effect.low, effect.high, effect.p))
        assert not effect.distinguishable
    assert math.isnan(detectable(effect_of(np.array([[0.1]])).parts))
    little = effect_of(np.full((2, 3), 0.1) + 1e-6 * np.arange(6).reshape(2, 3))
    assert little.known and little.p < 1e-3, "a spread that is small is one"
    with pytest.raises(ValueError, match="finite"):
        effect_of(np.array([[0.1, np.nan]]))


def test_pseudo_values_of_a_mean_are_its_terms_and_of_a_ratio_are_known() -> None:
    counts = np.random.default_rng(1).integers(1, 50, (2, 5, 4))
    terms = pseudo_values(counts, lambda c: lake_iou(c).mean(axis=-1))
    np.testing.assert_allclose(terms, lake_iou(counts))
    two = np.array([[[1, 0, 1, 0], [6, 1, 1, 0]]])  # IoU 1/2 and 6/8, together 7/10
    np.testing.assert_allclose(pseudo_values(two, pooled), [[2 * 0.7 - 0.75, 2 * 0.7 - 0.5]])


@pytest.mark.parametrize("clusters", [5, 11])
def test_sign_flips_are_scipys_exact_ones(clusters: int) -> None:
    values = np.random.default_rng(clusters).normal(0.4, 1.0, clusters)
    reference = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flips(values) == pytest.approx(reference.pvalue)
    assert sign_flips(np.ones(clusters)) == 2 / 2**clusters


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.3, -0.6], [0.1, 0.1, 0.1, -0.1, -0.1, -0.1]])
def test_flips_of_differences_that_cancel_are_all_as_far_from_0(values: list[float]) -> None:
    """In decimals these sum to 0, in binary to 1e-16, by the order in which they are added."""
    assert sign_flips(np.array(values)) == sign_flips(np.array(values[::-1])) == 1


PAIRED = [((0,), (0,)), ((1,), (1,))]


def test_an_exchange_of_what_scenes_add_is_a_flip_of_their_differences() -> None:
    """Pooled recall on the same lakes is a sum over scenes."""
    random = np.random.default_rng(4)
    lake = random.integers(50, 5000, 7)
    found = random.integers(0, lake, (2, 2, 7))
    counts = np.stack([found, found, lake - found, found], axis=-1)
    p = exchanged(*counts, lambda c: recall(c.sum(axis=-2)), rows=PAIRED, weights=lake.astype(float))
    assert p == sign_flips((found[1] - found[0]).sum(axis=0) / 1e4)
    halves = [((0, 1), (0,))]  # a mean of both runs of the arm against one of the baseline
    one = exchanged(*counts, lambda c: recall(c.sum(axis=-2)), rows=halves, weights=lake.astype(float))
    assert one == sign_flips((found[1].mean(axis=0) - found[0, 0]) / 1e4)


def test_scenes_of_unlike_size_raise_no_more_false_alarms_by_exchange() -> None:
    random, alarms, by_pseudo = np.random.default_rng(0), 0, 0
    for _ in range(150):
        size, ease = np.round(2000 * np.exp(random.normal(0, 1.5, 8))) + 20, random.normal(1, 0.5, 8)
        found = np.round(size / (1 + np.exp(-ease - random.normal(0, 0.4, (2, 1, 8)))))
        counts = np.stack([found, 0 * found + np.round(size / 20), size - found, 0 * found], axis=-1).astype(np.int64)
        alarms += exchanged(*counts, pooled, rows=PAIRED[:1], weights=size) <= 0.05
        by_pseudo += sign_flips(np.subtract(*(pseudo_values(one, pooled)[0] for one in counts))) <= 0.05
    assert alarms <= 14 < by_pseudo, "nominally 7 or 8"


def test_many_clusters_are_flipped_at_random() -> None:
    values = np.random.default_rng(2).normal(0.2, 1.0, 60)
    assert sign_flips(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_thousands_of_tiles_are_flipped_in_little_memory() -> None:
    """Tiles taken as independent: the signs of 16,000 are 2 GB at once. Portions draw the same ones."""
    values = np.random.default_rng(5).normal(0.01, 1.0, 500)
    tracemalloc.start()
    found = sign_flips(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20
    signs = 1 - 2 * np.random.default_rng(SEED).integers(0, 2, (EXACT_FLIPS, len(values)), dtype=np.int64)
    signs[0] = 1
    assert found == (np.abs(signs @ values) >= abs(values.sum()) * (1 - 1e-12)).mean()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.02, math.nan, 0.6])
    assert adjusted[0] == pytest.approx(0.04) and math.isnan(adjusted[1]) and adjusted[2] == pytest.approx(0.6)
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_ranks_are_sure_where_one_is_better_everywhere() -> None:
    random = np.random.default_rng(0)
    counts = np.stack([random.integers(40, 60, (3, 6)), *random.integers(1, 20, (3, 3, 6))], axis=-1)
    better = counts + np.array([200, 0, 0, 0])
    np.testing.assert_array_equal(rank_shares([counts, better], pooled, draws=50), [[0, 1], [1, 0]])
    shares = rank_shares([counts, counts + random.integers(0, 3, counts.shape)], pooled, draws=400)
    assert (shares > 0.05).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_equal_arms_share_the_ranks() -> None:
    """One training an arm and the same counts: no arm is better than the other, wherever it stands in the list."""
    counts = np.random.default_rng(0).integers(1, 50, (1, 6, 4))
    shares = rank_shares([counts, counts, counts], pooled, draws=3000)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


def test_every_cluster_is_drawn_with_fewer_seeds_than_clusters() -> None:
    """Of two scenes the second decides for one arm: only the world that has none of it, one of four, is the other's."""
    counts = np.tile([10, 5, 5, 80], (1, 2, 1))
    other = counts + np.array([[0, 0, 1, -1], [50, 0, 0, 0]])
    shares = rank_shares([counts, other], pooled, draws=4000)
    np.testing.assert_allclose(shares, [[0.25, 0.75], [0.75, 0.25]], atol=0.03)


def test_redrawn_ground_without_lake_ranks_nobody() -> None:
    """Lake in one scene of four: three worlds in ten have none, and say nothing of who is better."""
    counts = np.zeros((2, 4, 4), dtype=np.int64)
    counts[..., 3] = 100
    counts[:, 0] = 10, 2, 3, 85
    better = counts + np.where(np.arange(4)[:, None] == 0, [5, 0, 0, 0], 0)
    np.testing.assert_array_equal(rank_shares([counts, better], pooled, draws=200), [[0, 1], [1, 0]])
    assert np.isnan(rank_shares([counts[:, 1:], counts[:, 1:]], pooled, draws=9)).all()


def test_an_arm_without_a_score_comes_last() -> None:
    """Precision of an arm that predicts nothing has no value."""
    finds, silent = np.tile([5, 5, 5, 85], (2, 3, 1)), np.tile([0, 0, 10, 90], (2, 3, 1))
    shares = rank_shares([silent, finds], lambda counts: precision(counts.sum(axis=-2)), draws=20)
    np.testing.assert_array_equal(shares, [[0, 1], [1, 0]])


def test_what_can_be_found_is_found_so_often() -> None:
    """80 % power at the detectable difference, for clusters that vary by 1 and one seed."""
    random = np.random.default_rng(4)
    size = (stats.t.isf(0.025, 11) + stats.t.isf(0.2, 11)) / math.sqrt(12)
    tables = random.normal(size, 1.0, (600, 1, 12))
    found = np.mean([effect_of(table).distinguishable for table in tables])
    assert found == pytest.approx(0.8, abs=0.05)
    exact = np.sqrt(12) * stats.zscore(random.normal(size=12), ddof=1)[None]
    assert detectable(two_way(exact / np.sqrt(12))) == pytest.approx(size)


def first_mean(counts: Any) -> Any:
    return counts[..., 0].mean(axis=-1)


def test_redrawing_is_scipys_bootstrap_where_one_seed_is_all_there_is() -> None:
    differences = np.random.default_rng(1).gamma(1.0, 1.0, 15)
    base = np.zeros((1, 15, 4))
    arm = base + differences[None, :, None]
    low, high = redrawn(base, arm, first_mean, draws=6000)
    options = {"method": "percentile", "n_resamples": 6000, "rng": np.random.default_rng(2)}
    reference = stats.bootstrap((differences,), np.mean, confidence_level=0.95, **options).confidence_interval
    assert (low, high) == pytest.approx(tuple(reference), abs=0.05 * (high - low))


def test_redrawing_takes_the_luck_of_seeds_and_of_scenes_and_pairs_both() -> None:
    random = np.random.default_rng(4)
    seed, scene = stats.zscore(random.normal(size=6))[:, None], 2 * stats.zscore(random.normal(size=20))[None]
    hard = 50 * random.normal(size=(1, 20))  # what both arms share does not count
    base = np.repeat((hard + np.zeros((6, 1)))[:, :, None], 4, axis=2)
    arm = base + (3 + seed + scene)[:, :, None]
    low, high = redrawn(base, arm, first_mean, level=0.9, draws=4000)
    spread = math.sqrt(1 / 6 + 4 / 20)
    assert (low, high) == pytest.approx((3 - 1.645 * spread, 3 + 1.645 * spread), abs=0.06)
    assert all(
        math.isnan(bound) for bound in redrawn(base, arm, lambda counts: np.full(counts.shape[:-2], np.nan), draws=3)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "scenes"), [(3, 6), (5, 12)])
def test_intervals_hold_the_truth_and_raise_few_false_alarms(seeds: int, scenes: int) -> None:
    """On simulated studies, where the plain percentile bootstrap does not; bench/coverage.py has all designs."""
    spec = importlib.util.spec_from_file_location("coverage_bench", ROOT / "bench" / "coverage.py")
    assert spec is not None and spec.loader is not None
    bench: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    random, studies = np.random.default_rng(7), 250
    for layout in bench.LAYOUTS.values():
        true = bench.truth(layout, bench.SHIFT, 100_000) - bench.truth(layout, 0.0, 100_000)
        effects = [bench.interval(bench.study(random, seeds, scenes, bench.SHIFT, layout)) for _ in range(studies)]
        equal = [bench.interval(bench.study(random, seeds, scenes, 0.0, layout)) for _ in range(studies)]
        chance = math.sqrt(0.05 * 0.95 / studies)
        assert np.mean([e.low <= true <= e.high for e in effects]) >= 0.93 - chance
        assert np.mean([e.distinguishable for e in equal]) <= 0.05 + 3 * chance
