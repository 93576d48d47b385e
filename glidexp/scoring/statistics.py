"""How sure a difference between two networks is: intervals over seeds and ground, and what they rest on.

A score is measured on S trainings (seeds) and C clusters of ground (scenes). Both are samples: other seeds and other
scenes would have given another difference. The table of a difference, a row a seed and a column a cluster, is taken
apart as the two-way layout `mean + seed + cluster + rest`, and

    var(mean) = (MS_seed + MS_cluster - MS_rest) / (S C),  never less than either of the first two alone.

That is how reader studies in radiology are judged, with seeds as readers and scenes as cases. The t quantile lies
between those of S - 1 and C - 1 degrees of freedom: its square is their squares' mean, weighted by the mean squares (a
little wider than Cochran and Cox, who weight the quantiles). Plain percentile bootstraps cover 80 to 91 % at 4 to 12
clusters where 95 were asked for; how often these intervals hold the truth stands in docs/statistics.md.

Clusters that weigh differently, as scenes do in a pooled score, say less than as many equal ones: their mean square is
mostly that of the heavy ones. C - 1 then becomes C' - 1, C' being the geometric mean of C and of Kish's effective
number, (sum of weights)^2 / (sum of their squares). The effective number itself is what theory gives for the worst
case, and widens intervals by half at 6 scenes; C alone gave too many false alarms.

Scores that are no means over clusters, such as pooled IoU, enter as jackknife pseudo-values: C times the score of all
minus C - 1 times the score without the cluster.

Source: Dorfman, Berbaum & Metz (1992), Invest. Radiol. 27, for the layout; Hillis (2007), Stat. Med. 26; Cochran & Cox
(1950), Experimental Designs, 4.14, and Howe (1974), J. Am. Stat. Assoc. 69, for the quantile; Kish (1965), Survey
Sampling, and Carter, Schnepel & Steigerwald (2017), Rev. Econ. Stat. 99, for the effective number of clusters; Tukey
(1958) for the pseudo-values. Ours keeps the rest in both mean squares where that is larger, which errs to the wide
side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from glidexp.scoring.confusion import Counts

Floats = NDArray[np.float64]
Score = Callable[[Counts], Floats]
"""(..., clusters, 4) counts to (...) scores"""
SEED = 0
"""of all that is drawn: the same trainings give the same verdict"""
EXACT_FLIPS = 1 << 14
"""up to so many sign patterns are all tried; beyond, as many are drawn"""
CELLS_AT_ONCE = 1 << 18
"""of redrawn tables, which then hold 8 MB"""
ROUNDING = 1e-12
"""a standard error of so small a share of the differences is no spread but rounding"""


@dataclass(frozen=True, slots=True)
class Parts:
    """Variance of a mean over seeds and clusters, by where it comes from. A source seen once has no entry (NaN)."""

    seed: float
    cluster: float
    rest: float
    """mean squares, each an estimate of what one cell of its kind varies by"""
    seeds: int
    clusters: int
    alike: float | None = None
    """so many clusters of equal weight would tell as much; None where these weigh the same"""

    @property
    def variance(self) -> float:
        """Of the mean; NaN where neither seeds nor clusters were repeated."""
        seed, cluster, rest = (0.0 if np.isnan(v) else v for v in (self.seed, self.cluster, self.rest))
        if np.isnan(self.seed) and np.isnan(self.cluster):
            return float("nan")
        return max(seed + cluster - rest, seed, cluster) / (self.seeds * self.clusters)

    @property
    def shares(self) -> dict[str, float]:
        """Part of the mean's variance that more seeds, or more clusters, would take away; they sum to 1 or to 0."""
        seed, cluster, rest = (0.0 if np.isnan(v) else v for v in (self.seed, self.cluster, self.rest))
        parts = {"seed": max(seed - rest, 0.0), "cluster": max(cluster - rest, 0.0), "rest": rest}
        total = sum(parts.values())
        return {name: value / total if total > 0 else 0.0 for name, value in parts.items()}

    def quantile(self, alpha: float) -> float:
        """Two-sided t quantile, between those of the seeds' and of the clusters' degrees of freedom."""
        clusters = self.clusters if self.alike is None else max(self.alike, 2.0)
        weighted, weights = 0.0, 0.0
        for square, n in ((self.seed, self.seeds), (self.cluster, clusters if self.clusters > 1 else 1)):
            if n > 1:
                weight = max(square, 1e-300)
                weighted += weight * float(special.stdtrit(n - 1, alpha / 2)) ** 2
                weights += weight
        return sqrt(weighted / weights) if weights else float("nan")


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference with what it rests on. Without any spread there is nothing to make an interval of: NaN bounds."""

    value: float
    low: float
    high: float
    """interval at `level`; NaN where one training on one cluster is all there is, or all of them give the same"""
    error: float
    """standard error; 0 where all give the same"""
    level: float
    parts: Parts

    @property
    def p(self) -> float:
        """Two-sided, of no difference: the smallest alpha whose interval leaves 0 out; NaN without an interval."""
        return _p_value(abs(self.value), self.error, self.parts)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low == self.low

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves 0 out."""
        return bool(self.low > 0 or self.high < 0)


def pseudo_values(counts: Counts, score: Score, weights: Floats | None = None) -> Floats:
    """Jackknife pseudo-values of a score by cluster; their mean over clusters is the bias-corrected score.

    A cluster that weighs nothing, such as a scene without a lake, has none: its value would be the score of all, and so
    it would count as one more piece of ground that says the same.

    Args:
        counts: (S, C, 4) pixels of each training on each cluster
        score: of (..., C, 4)
        weights: (C,) of the clusters in the score, two or more above 0; all count when not given

    Returns:
        (S, C), of the clusters that count
    """
    count = np.arange(counts.shape[1]) if weights is None else np.flatnonzero(weights)
    whole = score(counts)
    without = np.stack([score(np.delete(counts, c, axis=1)) for c in count], axis=1)
    return len(count) * whole[:, None] - (len(count) - 1) * without


def two_way(table: Floats, weights: Floats | None = None) -> Parts:
    """Takes a table (S, C) of seeds and clusters apart into mean squares.

    Args:
        table: of differences or of pseudo-values
        weights: of the clusters in the score, 0 or more, (C,) or with those of 0 besides, as for `pseudo_values`; equal
            when not given, or where the table has one column
    """
    seeds, clusters = table.shape
    if weights is not None and len(weights) != clusters:
        weights = weights[weights > 0]
    mean = table.mean()
    rows, columns = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    nothing = float("nan")
    seed = clusters * float(((rows - mean) ** 2).sum()) / (seeds - 1) if seeds > 1 else nothing
    cluster = seeds * float(((columns - mean) ** 2).sum()) / (clusters - 1) if clusters > 1 else nothing
    rest = nothing
    if seeds > 1 and clusters > 1:
        rest = float(((table - rows - columns + mean) ** 2).sum()) / ((seeds - 1) * (clusters - 1))
    alike = None if weights is None or len(weights) != clusters else _alike(weights)
    return Parts(seed, cluster, rest, seeds, clusters, alike)


def _alike(weights: Floats) -> float:
    """Between the number of clusters and Kish's effective number, which are the same where all weigh the same."""
    squares = float((weights**2).sum())
    kish = float(weights.sum()) ** 2 / squares if squares > 0 else len(weights)
    return sqrt(len(weights) * kish)


def effect_of(
    table: Floats, *, value: float | None = None, level: float = 0.95, weights: Floats | None = None
) -> Effect:
    """The mean of a table of paired differences, with its interval.

    Args:
        table: (S, C), a row a seed, a column a cluster
        value: the difference to report, where pseudo-values stand for it; the table's mean when not given
        level: 0-1
        weights: as for `two_way`

    Raises:
        ValueError: the table is empty or holds what is no number
    """
    if table.size == 0 or not np.isfinite(table).all():
        raise ValueError("differences must be finite numbers, at least one.")
    parts = two_way(table, weights)
    mean = float(table.mean()) if value is None else value
    error = sqrt(parts.variance) if parts.variance == parts.variance else float("nan")
    if error <= ROUNDING * float(np.abs(table).max()):
        error = 0.0
    half = parts.quantile(1 - level) * error if error > 0 else float("nan")
    return Effect(mean, mean - half, mean + half, error, level, parts)


def _p_value(size: float, error: float, parts: Parts) -> float:
    if not error > 0:
        return float("nan")
    if size == 0:
        return 1.0

    def excess(log_alpha: float) -> float:
        return parts.quantile(float(np.exp(log_alpha))) * error - size

    lowest = -100.0  # 4e-44; farther out, SciPy's t quantile of 3 degrees of freedom is minus infinity
    return float(np.exp(optimize.brentq(excess, lowest, 0.0))) if excess(lowest) > 0 else 0.0


def sign_flips(values: Floats, told: Callable[[Floats], Floats] | None = None) -> float:
    """p of no difference by flipping the signs of the clusters' differences: exact if they are symmetric about 0.

    It takes the trainings at hand as given, so it is a second opinion on the ground alone. With C clusters it cannot be
    below 2 / 2^C.

    Args:
        values: (C, ...) differences by cluster; where they are too many to try all patterns, some are drawn
        told: of (patterns, ...) sums over the clusters, the (patterns,) differences that are compared; the sums
            themselves when not given

    Source: Fisher (1935), The Design of Experiments, 21.
    """
    clusters = len(values)
    flat = values.reshape(clusters, -1).astype(np.float64)
    if 1 << min(clusters, 40) <= EXACT_FLIPS:
        signs = 1.0 - 2 * ((np.arange(1 << clusters)[:, None] >> np.arange(clusters)) & 1)
        sums = signs @ flat
    else:
        random, sums = np.random.default_rng(SEED), np.empty((EXACT_FLIPS, flat.shape[1]))
        for some in portions(EXACT_FLIPS, clusters):
            sums[some] = (1.0 - 2 * random.integers(0, 2, (len(sums[some]), clusters))) @ flat
        sums[0] = flat.sum(axis=0)
    sums = sums.reshape(-1, *values.shape[1:])
    found = np.abs(sums if told is None else told(sums))
    # the order in which they are added is no matter; what has no score is as far as can be
    return float((~(found < found[0] - ROUNDING * np.nanmax(found))).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for being a family, in their order; NaN stays NaN and counts as no test.

    Source: Holm (1979), Scand. J. Stat. 6.
    """
    known = [i for i, p in enumerate(p_values) if p == p]
    adjusted = [float("nan")] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def by_row(values: Floats, rows: Sequence[Sequence[int]]) -> Floats:
    """Means over the runs of each row of a difference.

    Args:
        values: (R, ...), a value a run
        rows: places of the runs that are one row

    Returns:
        (rows, ...)
    """
    return np.stack([values[list(places)].mean(axis=0) for places in rows])


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of what these are a sample of (n - 1); NaN of a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def portions(draws: int, cells: int) -> list[slice]:
    """The draws in portions that are scored at once: one by one each of them costs more in calls than in sums."""
    step = max(1, CELLS_AT_ONCE // cells)
    return [slice(start, start + step) for start in range(0, draws, step)]


def detectable(parts: Parts, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that this design finds with the given power, in units of the score.

    Args:
        parts: of a difference measured with the same numbers of seeds and clusters
        alpha: two-sided, after the correction for the family
        power: 0-1
    """
    if parts.variance != parts.variance:
        return float("nan")
    return (parts.quantile(alpha) + parts.quantile(2 * (1 - power))) * sqrt(parts.variance)
