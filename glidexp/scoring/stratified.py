"""What a sample of cells says of all ground: totals and ratios with their intervals.

Cells are drawn at random within strata, without putting back, so each stands for the same number of cells of its
stratum. Ratios, such as the share of lakes that were found, are those of two estimated totals; their variance is that
of the residual y - R x (Cochran 1977, Sampling Techniques, 6.11; Stehman 2014, Int. J. Remote Sens. 35, for maps).

The interval of a ratio from 0 to 1 is that of Clopper and Pearson with the effective number of units: as many as would
say as much if they were drawn one by one (Korn and Graubard 1998, Surv. Methodol. 24). It does not close to a point
where no mistake was met, and stays within 0 and 1. How often it holds the truth stands in docs/inventories.md.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
LEVEL = 0.95
"""of the intervals"""
FEW = 20
"""cells with something in them say little of how many others there are"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval at `LEVEL`; both ends are the value where all ground was looked at."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Estimate":
        """The same, so many times as large."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high)


@dataclass(frozen=True, slots=True)
class Sample:
    """Which stratum each cell that was looked at belongs to, and how many cells there are in each."""

    stratum: npt.NDArray[np.int64]
    """(n,) from 0"""
    size: Floats
    """(H,) cells, looked at or not; of each at least two were looked at, or all"""

    @property
    def seen(self) -> Floats:
        """(H,) cells that were looked at."""
        return np.bincount(self.stratum, minlength=len(self.size)).astype(np.float64)

    @property
    def whole(self) -> bool:
        """Whether nothing was left out."""
        return bool((self.seen >= self.size).all())

    def sum(self, values: Floats) -> tuple[float, float, float]:
        """Estimated total of a value over all cells, its variance, and degrees of freedom (Satterthwaite's).

        Args:
            values: (n,) of the cells that were looked at
        """
        n, size = self.seen, self.size
        mean = np.bincount(self.stratum, values, minlength=len(size)) / np.maximum(n, 1)
        rest = np.bincount(self.stratum, (values - mean[self.stratum]) ** 2, minlength=len(size))
        spread = rest / np.maximum(n - 1, 1)
        parts = size**2 * (1 - n / np.maximum(size, 1)) * spread / np.maximum(n, 1)
        variance = float(parts.sum())
        squares = float((parts**2 / np.maximum(n - 1, 1)).sum())
        freedom = variance**2 / squares if squares > 0 else float(len(values) - len(size))
        return float((size * mean).sum()), variance, max(freedom, 1.0)

    def total(self, values: Floats, usual: float) -> Estimate:
        """A total over all cells.

        Args:
            values: (n,) from 0
            usual: of a cell that holds any, at most where few or none tell it
        """
        value, variance, freedom = self.sum(values)
        half = _t(min(freedom, self._alike(values) - 1)) * float(np.sqrt(variance))
        return Estimate(value, max(value - half, 0.0), value + float(np.hypot(half, self.hidden(values, usual))))

    def share(self, part: Floats, rest: Floats, units: int, usual: float, where: Flags | None = None) -> Estimate:
        """Share of a part in the whole that it makes with the rest, of totals.

        Args:
            part: (n,)
            rest: (n,)
            units: that the share is of, such as lakes; of areas the cells that hold any
            usual: rest of a cell that has one, at most where few or none tell it
            where: (H,) strata that can have any of both; all when not given

        Returns:
            NaN where the whole is 0
        """
        above, lacking = self.sum(part)[0], self.sum(rest)[0]
        below = above + lacking
        if below <= 0:
            return Estimate(float("nan"), float("nan"), float("nan"))
        value = above / below
        met = np.bincount(self.stratum, part + rest > 0, minlength=len(self.size)) > 0
        if (self.seen >= self.size)[met | (True if where is None else where)].all():
            return Estimate(value, value, value)
        if units < 2:
            return Estimate(value, 0.0, 1.0)
        _, variance, freedom = self.sum((1 - value) * part - value * rest)
        freedom = min(freedom, self._alike(part + rest) - 1)
        variance /= below**2
        alike = value * (1 - value) / variance if variance > 0 else float(units)
        alike *= (_t(units - 1) / _t(freedom)) ** 2
        low, high = _clopper_pearson(value * alike, alike)
        hidden = value - above / (below + self.hidden(rest, usual, where))
        return Estimate(value, max(value - float(np.hypot(value - low, hidden)), 0.0), high)

    def _alike(self, weights: Floats) -> float:
        """As many cells of equal weight would say as much: between their number and Kish's, and 2 at least."""
        own = (self.size / np.maximum(self.seen, 1))[self.stratum] * weights
        n, square = int((own > 0).sum()), float(np.square(own).sum())
        return max(float(np.sqrt(n * own.sum() ** 2 / square)) if square > 0 else 0.0, 2.0)

    def hidden(self, values: Floats, usual: float, where: Flags | None = None) -> float:
        """How much more than estimated cells may hold in strata where fewer than `FEW` of those looked at hold any.

        In such a stratum the spread of what was met says nothing of what was not. The share of its cells that hold
        any may be as large as Jeffreys' limit (Brown, Cai and DasGupta 2001, Stat. Sci. 16), and each holds as much as
        others of such strata may on average: the upper limit of their mean, but not beyond `usual` unless the mean is.

        Args:
            values: (n,) from 0
            usual: of a cell that holds any, at most where few or none tell it
            where: (H,) strata that can hold any; all when not given
        """
        n, any_ = self.seen, values > 0
        count = np.bincount(self.stratum, any_, minlength=len(self.size))
        rare = (n < self.size) & (count < FEW) & (True if where is None else where)
        own = any_ & rare[self.stratum]
        weight = (self.size / np.maximum(n, 1))[self.stratum] * own
        each = usual
        if (k := int(own.sum())) > 1:
            mean = float((weight * values).sum() / weight.sum())
            error = float(np.sqrt((weight**2 * (values - mean) ** 2).sum() * k / (k - 1)) / weight.sum())
            each = max(min(mean + _t(k - 1) * error, usual), mean)
        held = np.bincount(self.stratum, values, minlength=len(self.size))
        share = special.betaincinv(count + 0.5, n - count + 0.5, 1 - (1 - LEVEL) / 2)
        most = ((self.size - n) * share + count) * np.maximum(each, held / np.maximum(count, 1))
        more = np.maximum(most - self.size * held / np.maximum(n, 1), 0.0)
        return float(np.sqrt(np.square(more[rare]).sum()))


def _clopper_pearson(met: float, of: float) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low = float(special.betaincinv(met, of - met + 1, tail)) if met > 0 else 0.0
    high = float(special.betaincinv(met + 1, of - met, 1 - tail)) if met < of else 1.0
    return low, high


def _t(freedom: float) -> float:
    return float(special.stdtrit(freedom, 1 - (1 - LEVEL) / 2))
