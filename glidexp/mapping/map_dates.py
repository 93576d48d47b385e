"""The date of a map: from its column, from the STAC item beside it, or from its file's name."""

import json
import math
import re
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from glidexp.data.scenes import products

COLUMN = "date"
"""of maps that `glidexp predict` wrote"""
_WRITTEN = re.compile(r"(\d{4})(?:[-/.]?(\d\d)(?:[-/.]?(\d\d)(?:[T ].*)?)?)?$")
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)(?!\d)")
_MONTH = re.compile(r"(?<!\d)((?:19|20)\d\d)-(\d\d)(?![-_.]?\d)")
"""with a hyphen alone: after others the number is a version or a tile as often"""
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_PRODUCT = re.compile(r"S2[A-D]_|L[A-Z]\d\d")
"""beginning of the names of Sentinel-2's and Landsat's products"""
FIRST_YEAR, LAST_YEAR = 1800, 2200
LAKES = "_lakes"
"""end of the names of maps, beside which the item NAME.json lies"""


@dataclass(frozen=True, slots=True, order=True)
class When:
    """A day, a month or a year, as far as it is known."""

    first: date
    last: date

    @property
    def text(self) -> str:
        """2015-10-30, 2015-10 or 2015."""
        if self.first == self.last:
            return self.first.isoformat()
        return self.first.isoformat()[:7] if self.first.month == self.last.month else str(self.first.year)

    @property
    def year(self) -> float:
        """Of the middle: 2015.5 of the year 2015."""
        begins, ends = date(self.first.year, 1, 1).toordinal(), date(self.first.year + 1, 1, 1).toordinal()
        middle = (self.first.toordinal() + self.last.toordinal() + 1) / 2
        return self.first.year + (middle - begins) / (ends - begins)

    @property
    def whole_year(self) -> "When":
        """The year that it lies in."""
        return When(date(self.first.year, 1, 1), date(self.first.year, 12, 31))


def when(value: Any) -> When | None:
    """What a cell says: a day, with a time or without (2015-10-30, 20151030), a month (2015-10) or a year, as text,
    number or date; None where it says none."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    found = _WRITTEN.fullmatch(text)
    if not found or not FIRST_YEAR <= int(found[1]) <= LAST_YEAR:
        return None
    year, month, day = (int(part) if part else None for part in found.groups())
    assert year is not None
    if month == 0 or day == 0:
        return None
    try:
        if day:
            return When(date(year, month or 1, day), date(year, month or 1, day))
        if month:
            return When(date(year, month, 1), date(year, month, monthrange(year, month)[1]))
    except ValueError:
        return None
    return When(date(year, 1, 1), date(year, 12, 31))


def is_nothing(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or value != value or str(value).strip() in ("", "NaT", "None", "nan")


def distinct(values: Iterable[Any]) -> list[Any]:
    """What the cells of a column hold, each once, empty ones left out."""
    return list(dict.fromkeys(value for value in values if not is_nothing(value)))


def beside_it(path: Path) -> When | None:
    """Of the STAC item of a map: one without a lake has no column to tell it."""
    told = _item(path)
    return None if "glidexp:datetime_is" in told else when(told.get("datetime"))


def gsd_beside_it(path: Path) -> float | None:
    """Side of a pixel in metres, of the STAC item of a map; None where none tells it."""
    side = _item(path).get("gsd")
    return float(side) if isinstance(side, (int, float)) and 0 < side < math.inf else None


def _item(path: Path) -> dict[str, Any]:
    """Properties of the STAC item of a map; empty where there is none that can be read."""
    item = path.with_name(f"{path.stem.removesuffix(LAKES)}.json")
    if not path.stem.endswith(LAKES) or not item.is_file():
        return {}
    try:
        told = json.loads(item.read_text(encoding="utf-8"))["properties"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return told if isinstance(told, dict) else {}


def in_name(path: Path) -> When | None:
    """The one day in a file's name, else the one month, else the one year; None where there is none, or several."""
    if _PRODUCT.match(path.stem):  # names of these hold the day of processing too
        return when(products.date_of(path.stem))
    days = {found for match in _DAY.findall(path.stem) if (found := when("-".join(match)))}
    months = {found for match in _MONTH.findall(path.stem) if (found := when("-".join(match)))}
    years = {found for match in _YEAR.findall(path.stem) if (found := when(match))}
    dates = days or months or years
    return next(iter(dates)) if len(dates) == 1 else None
