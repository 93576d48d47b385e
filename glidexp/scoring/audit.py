"""Which aggregations a printed set of precision, recall, F1, IoU and mean IoU can be, and by how much it misses.

Printed values are intervals: 95.36 stands for 95.355 to 95.365. What is called impossible is so for every value in
the intervals; what is not excluded may still be false. Scores here are 0-1.

Let H(P, R) = 2PR / (P + R) and q(F) = F / (2 - F). For pixels counted together F1 = H(P, R) and IoU = q(F1), exactly.
For means over units (images, scenes, classes; any weights, the same in all scores) only bounds hold. H is concave and
homogeneous, so mean F1 <= H(mean P, mean R). q is convex with q(0) = 0 and q(1) = 1, so q(mean F1) <= mean IoU <= mean
F1. P + R - 1 <= IoU <= min(P, R) in every unit, so for the means as well. The bounds stay true when a unit without a
value (0/0) is left out of that score's mean, or counted as 0 or 1 in all; they need not where F1 is averaged over
fewer units than P and R.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from glidexp.errors import ConfigError, unknown_name

NAMES = {"p": "P", "r": "R", "f1": "F1", "iou": "IoU", "miou": "mIoU"}
"""option -> as it is written; iou is of the lake, miou is whatever was printed as mean IoU"""
_EXAMPLE = "--p 95.36 --r 87.50 --f1 91.66"
_SLACK = 1e-12  # floating point, far below any printed digit


@dataclass(frozen=True, slots=True)
class Range:
    """All values from low to high, both 0-1."""

    low: float
    high: float

    def meets(self, other: "Range") -> bool:
        """Whether some value lies in both."""
        return self.low <= other.high + _SLACK and other.low <= self.high + _SLACK


@dataclass(frozen=True, slots=True)
class Printed:
    """A score as it was printed: its value and what rounds to it, 0-1."""

    name: str
    value: float
    range: Range


@dataclass(frozen=True, slots=True)
class Check:
    """One printed score against what the others imply for it under one reading."""

    what: str
    """the score, and what implies it"""
    possible: bool
    """whether some values that round to the printed ones agree"""
    implied: Range
    """from the printed values as they stand; a single value where an equation gives it, else its bounds"""
    printed: Printed
    exact: bool
    """implied by an equation; bounds cannot prove a score right"""
    lake_share: float | None = None
    """share of lake pixels that alone makes it true, 0-1; None where no share is asked for"""

    @property
    def misses_by(self) -> float:
        """Printed minus the nearest implied value, 0-1; 0 where it is possible."""
        if self.possible:
            return 0.0
        return self.printed.value - min(max(self.printed.value, self.implied.low), self.implied.high)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way in which the printed scores may have been averaged, and what follows from it."""

    name: str
    checks: list[Check]

    @property
    def possible(self) -> bool:
        """False when it is proven that these scores are not this aggregation."""
        return all(check.possible for check in self.checks)


def read_printed(values: Mapping[str, str]) -> dict[str, Printed]:
    """Reads scores as they are printed, with the digits that were given.

    All are per cent when one is above 1 or carries a % sign, else all are 0-1.

    Args:
        values: text by name, names from `NAMES`: {"p": "95.36", "f1": "91.66"}

    Raises:
        ConfigError: an unknown name, no number, out of range, per cent and 0-1 mixed
    """
    numbers: dict[str, tuple[str, float]] = {}
    for name, text in values.items():
        if name not in NAMES:
            raise unknown_name("score", name, NAMES)
        plain = text.strip().removesuffix("%").strip()
        if not plain.replace(".", "", 1).isascii() or not plain.replace(".", "", 1).isdigit():
            raise ConfigError(f"--{name} {text} is not a score: give a printed number such as 91.66 or 0.9166.")
        numbers[name] = plain, float(plain)
    per_cent = any(number > 1 or "%" in values[name] for name, (_, number) in numbers.items())
    found = {}
    for name, (plain, number) in numbers.items():
        if per_cent and number <= 1 and "%" not in values[name] and number != 0:
            raise ConfigError(
                f"--{name} {values[name]} stands beside values in per cent: give all in per cent or all as 0-1 "
                f"(with a sign, {plain}%, for so few per cent)."
            )
        unit = 100.0 if per_cent else 1.0
        if number > unit:
            raise ConfigError(f"--{name} {values[name]} is above 100 per cent: give a score such as 91.66 or 0.9166.")
        half = 0.5 * 10.0 ** -len(plain.partition(".")[2]) / unit
        value = number / unit
        found[name] = Printed(NAMES[name], value, Range(max(value - half, 0.0), min(value + half, 1.0)))
    return found


def audit(values: Mapping[str, str]) -> list[Reading]:
    """Holds printed scores against every reading for which two of them are related.

    Args:
        values: as for `read_printed`, two or more

    Returns:
        the readings, each with its checks; one without checks is left out

    Raises:
        ConfigError: fewer than two values, or one that is no score
    """
    if len(values) < 2:
        options = ", ".join(f"--{name}" for name in NAMES)
        raise ConfigError(f"an audit compares scores: give two or more of {options}, for example {_EXAMPLE}.")
    rounded = read_printed(values)
    as_printed = {name: replace(one, range=Range(one.value, one.value)) for name, one in rounded.items()}
    return [
        Reading(wide.name, [replace(y, possible=x.possible) for x, y in zip(wide.checks, exact.checks, strict=True)])
        for wide, exact in zip(_readings(rounded), _readings(as_printed), strict=True)
    ]


def _readings(given: Mapping[str, Printed]) -> list[Reading]:
    pooled, means = _pooled(given, ("f1", "iou")), _means(given, ("f1", "iou"))
    lake, both = "", ""
    if "miou" in given:
        lake, both = ", mIoU is lake IoU", ", mIoU over lake and background"
    readings = [
        Reading(f"pooled over pixels{lake}", [*pooled, *_pooled(given, ("miou",))]),
        Reading(f"pooled over pixels{both}", [*pooled, *_two_class(given)] if both else []),
        Reading("any means of P and R, F1 computed from them", _f1_of_means(given)),
        Reading(f"means over images or scenes{lake}", [*means, *_means(given, ("miou",))]),
        Reading(f"means over images or scenes{both}", [*means, *_mean_two_class(given)] if both else []),
        Reading("means over the classes lake and background", _macro(given)),
        Reading("pixels of both classes pooled (accuracy)", _micro(given)),
    ]
    return [reading for reading in readings if reading.checks]


def lake_share_needed(p: float, r: float, miou: float) -> float | None:
    """The share of lake among all pixels at which pooled P and R give this mean of lake and background IoU.

    In units of the true positives: false positives 1/P - 1, false negatives 1/R - 1, their sum e. Lake IoU is
    1 / (1 + e); what is left for the background, b = 2 mIoU - lake IoU, fixes the true negatives n by b = n / (n + e).

    Args:
        p, r, miou: 0-1

    Returns:
        share, 0-1; None where no share gives the value, or where P or R is 0 or both are 1, which fixes no share
    """
    if min(p, r) <= 0:
        return None
    false_positive, false_negative = 1 / p - 1, 1 / r - 1
    errors = false_positive + false_negative
    background = 2 * miou - 1 / (1 + errors)
    if errors <= 0 or not 0 <= background < 1:
        return None
    true_negative = background * errors / (1 - background)
    return (1 + false_negative) / (1 + errors + true_negative)


def _harmonic(p: float, r: float) -> float:
    return 2 * p * r / (p + r) if p + r > 0 else 0.0


def _iou_of(f1: float) -> float:
    return f1 / (2 - f1)


def _f1_of(iou: float) -> float:
    return 2 * iou / (1 + iou)


def _rising(function: Callable[..., float], *ranges: Range) -> Range:
    """The range of a function that rises in each of its arguments."""
    return Range(function(*(r.low for r in ranges)), function(*(r.high for r in ranges)))


def _with_background(lake: Range) -> Range:
    """The mean of two scores of which one is the lake's and the other may be anything."""
    return Range(lake.low / 2, (1 + lake.high) / 2)


def _check(printed: Printed, source: str, implied: Range, *, exact: bool) -> Check:
    return Check(f"{printed.name} from {source}", implied.meets(printed.range), implied, printed, exact)


def _pooled_f1(given: Mapping[str, Printed]) -> dict[str, Range]:
    """F1 as each group of the scores implies it. P or R alone bounds it from above."""
    found = {}
    sides = [given[name] for name in ("p", "r") if name in given]
    if len(sides) == 2:
        found["P and R"] = _rising(_harmonic, sides[0].range, sides[1].range)
    elif sides:
        found[sides[0].name] = Range(0.0, _harmonic(sides[0].range.high, 1.0))
    if "f1" in given:
        found["F1"] = given["f1"].range
    if "iou" in given:
        found["IoU"] = _rising(_f1_of, given["iou"].range)
    return found


NOT_FROM = {"f1": ("F1", "IoU"), "iou": ("IoU",), "miou": ()}
"""what a score is not compared with: itself, and what is compared with it already"""


def _pooled(given: Mapping[str, Printed], targets: tuple[str, ...]) -> list[Check]:
    """Scores of one count of pixels: equations in F1. Intervals that meet in pairs all meet, so pairs are enough."""
    checks = []
    for target in targets:
        for name, f1 in _pooled_f1(given).items():
            if target in given and name not in NOT_FROM[target]:
                implied = f1 if target == "f1" else _rising(_iou_of, f1)
                checks.append(_check(given[target], name, implied, exact=name not in ("P", "R")))
    return checks


def _two_class(given: Mapping[str, Printed]) -> list[Check]:
    """Pooled mean of lake and background IoU: P and R fix it but for the share of lake.

    This is the one place where exchanging P and R matters: F1 and IoU stay as they are.
    """
    checks = [
        _check(given["miou"], name, _with_background(_rising(_iou_of, f1)), exact=False)
        for name, f1 in _pooled_f1(given).items()
    ]
    if {"p", "r"} <= given.keys():
        p, r, miou = (given[name].value for name in ("p", "r", "miou"))
        first = checks[0]
        turned = replace(first, what="mIoU from P and R exchanged", lake_share=lake_share_needed(r, p, miou))
        checks[:1] = [replace(first, lake_share=lake_share_needed(p, r, miou)), turned]
    return checks


def _mean_two_class(given: Mapping[str, Printed]) -> list[Check]:
    return [_check(given["miou"], name, _with_background(lake), exact=False) for name, lake in _mean_iou(given).items()]


def _f1_of_means(given: Mapping[str, Printed]) -> list[Check]:
    if not {"p", "r", "f1"} <= given.keys():
        return []
    return [_check(given["f1"], "P and R", _pooled_f1(given)["P and R"], exact=True)]


def _mean_f1(given: Mapping[str, Printed]) -> dict[str, Range]:
    """Bounds of the mean F1 by the means of P and R."""
    return {
        name: Range(_least(given), implied.high)
        for name, implied in _pooled_f1(given).items()
        if name not in NOT_FROM["f1"]
    }


def _mean_iou(given: Mapping[str, Printed]) -> dict[str, Range]:
    """Bounds of the mean lake IoU by the means of the other scores."""
    found = {}
    sides = [given[name] for name in ("p", "r") if name in given]
    if sides:
        name = " and ".join(side.name for side in sides)
        found[name] = Range(_least(given), min(side.range.high for side in sides))
    if "f1" in given:
        found["F1"] = Range(_iou_of(given["f1"].range.low), given["f1"].range.high)
    return found | ({"IoU": given["iou"].range} if "iou" in given else {})


def _least(given: Mapping[str, Printed]) -> float:
    """P + R - 1, below which neither the mean F1 nor the mean IoU falls."""
    return max(0.0, given["p"].range.low + given["r"].range.low - 1) if {"p", "r"} <= given.keys() else 0.0


def _means(given: Mapping[str, Printed], targets: tuple[str, ...]) -> list[Check]:
    checks = []
    for target in targets:
        for name, implied in (_mean_f1 if target == "f1" else _mean_iou)(given).items():
            if target in given and name not in NOT_FROM[target]:
                checks.append(_check(given[target], name, implied, exact=name == "IoU"))
    return checks


def _macro(given: Mapping[str, Printed]) -> list[Check]:
    """P, R, F1 and mIoU are means over the two classes, IoU stays that of the lake.

    Of two units with a given mean F1 the mean IoU is largest where one is as good, or the other as bad, as can be.
    """
    of_both = {name: printed for name, printed in given.items() if name != "iou"}
    checks = _means(of_both, ("f1", "miou"))
    if {"f1", "miou"} <= given.keys():
        low, high = given["f1"].range.low, given["f1"].range.high
        widest = (1 + _iou_of(2 * high - 1)) / 2 if high >= 0.5 else _iou_of(2 * high) / 2
        checks[-1] = _check(given["miou"], "F1", Range(_iou_of(low), widest), exact=False)
    if "iou" in given:
        lake = given["iou"].range
        for name, implied in (("f1", _rising(_f1_of, lake)), ("miou", lake)):
            if name in given:
                checks.append(_check(given[name], "IoU", _with_background(implied), exact=False))
    return checks


def _micro(given: Mapping[str, Printed]) -> list[Check]:
    """With the pixels of both classes counted together P, R and F1 are all the accuracy."""
    same = [given[name] for name in ("p", "r", "f1") if name in given]
    checks = [_check(second, one.name, one.range, exact=True) for one, second in pairwise(same)]
    if "miou" in given:
        checks += [_check(given["miou"], one.name, _rising(_iou_of, one.range), exact=True) for one in same]
    return checks
