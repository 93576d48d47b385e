"""How fast a lake grows or shrinks, how sure that is, and what can be said of it.

The rate is the median of the slopes between all pairs of dates (Theil and Sen), which a single wrong date does not
move. Its interval is Sen's: it holds the slope of a steady change in 95 of 100 cases where errors of the dates are
independent of each other and of one kind; of four dates in 92. It knows nothing of an error that comes and goes with
the sensor, so it is never taken as narrower than what the bounds of the first and the last date leave open.

Source: Sen (1968), J. Am. Stat. Assoc. 63; Mann (1945), Econometrica 13; Kendall (1975), Rank Correlation Methods.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
LEVEL = 0.95
ENOUGH = 4
"""dates from which a trend is fitted"""
GROWS, SHRINKS, SAME, VARIES = "grows", "shrinks", "no_change", "varies"
APPEARED, VANISHED, PASSED, FEW = "appeared", "vanished", "came_and_went", "too_few_dates"
VERDICTS = (GROWS, SHRINKS, VARIES, SAME, APPEARED, VANISHED, PASSED, FEW)
NOTHING = float("nan")


@dataclass(frozen=True, slots=True)
class Trend:
    """A rate with its interval; NaN where there are too few dates."""

    rate: float
    """unit of the values a year"""
    low: float
    high: float
    p: float
    """of Mann and Kendall's test, two-sided: such an order or a clearer one, by chance alone"""

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return bool(self.low > 0 or self.high < 0)


NONE = Trend(NOTHING, NOTHING, NOTHING, NOTHING)


def trend(years: Floats, values: Floats, bounds: Floats) -> Trend:
    """Theil-Sen slope and interval, and the p of Mann-Kendall.

    Args:
        years: (n,) ascending, no two the same
        values: (n,)
        bounds: (n,) by how much each value may be off, 0 or more
    """
    from scipy import stats

    if len(years) < ENOUGH:
        return NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that values are all the same, of which p is then 1
        found = stats.theilslopes(values, years, LEVEL)
        p = float(stats.kendalltau(years, values).pvalue)
    open_ = float(np.hypot(bounds[0], bounds[-1])) / float(years[-1] - years[0])
    rate = float(found.slope)
    return Trend(
        rate,
        min(float(found.low_slope), rate - open_),
        max(float(found.high_slope), rate + open_),
        1.0 if np.isnan(p) else p,
    )


@dataclass(frozen=True, slots=True)
class Course:
    """A lake over the dates that say how large it is."""

    verdict: str
    """one of `VERDICTS`"""
    trend: Trend
    """over the dates from the first to the last with the lake"""
    first_km2: float
    last_km2: float
    uncertainty_km2: float
    """of the change from the first to the last date, root of the sum of squares"""
    gaps: int
    """dates without the lake between others that have it"""


def course(years: Floats, area: Floats, bound: Floats, there: Flags) -> Course:
    """What can be said of a lake.

    Args:
        years: (n,) of the dates that say how large it is, ascending
        area: (n,) km2, 0 where it is not there
        bound: (n,) km2
        there: (n,)
    """
    if not there.any():
        return Course(FEW, NONE, NOTHING, NOTHING, NOTHING, 0)
    places = np.flatnonzero(there)
    life = slice(int(places[0]), int(places[-1]) + 1)
    found = trend(years[life], area[life], bound[life])
    spread = float(np.hypot(bound[0], bound[-1]))
    gaps = int((~there[life]).sum())
    return Course(_verdict(area, bound, there, found), found, float(area[0]), float(area[-1]), spread, gaps)


def _verdict(area: Floats, bound: Floats, there: Flags, found: Trend) -> str:
    if len(area) < 2:
        return FEW
    if not (there[0] and there[-1]):
        if not (area > bound).any():  # so small that its bound makes it or takes it away
            return SAME
        return APPEARED if there[-1] else VANISHED if there[0] else PASSED
    if len(area) < ENOUGH:
        return FEW
    grown = float(area[-1] - area[0]) * np.sign(found.rate)
    if found.sure and grown > np.hypot(bound[0], bound[-1]):
        return GROWS if found.rate > 0 else SHRINKS
    # of many dates some two differ by more than the root of the sum of squares by chance: their intervals must not meet
    return VARIES if (area - bound).max() > (area + bound).min() else SAME
