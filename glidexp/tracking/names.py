"""Names as MLflow takes them, of which no two become the same."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

NAME_LIMIT = 250
"""characters of a metric's name"""
REFUSED = re.compile(r"[^\w .:/-]", re.ASCII)
"""characters that MLflow does not take in it"""


def metric_name(name: str) -> str:
    """The name with _ for every character that MLflow does not take; of one that is too long both ends, with a mark."""
    taken = REFUSED.sub("_", name)
    if len(taken) <= NAME_LIMIT:
        return taken
    mark = f"_{_mark(name)}_"
    end = (NAME_LIMIT - len(mark)) // 2  # the score stands there
    return taken[:end] + mark + taken[-end:]


def part_names(names: Sequence[str]) -> dict[str, str]:
    """A part of a metric's name for each of these, without `/` and what MLflow does not take, and no two alike."""
    return apart({name: REFUSED.sub("_", name).replace("/", "_") for name in names})


def stratum_name(key: str) -> str:
    """A sensor or region as metrics name it: what tracking refuses becomes `_`, a slash and a colon too.

    Where there are others beside it, `stratum_names` keeps them apart.
    """
    return re.sub(r"[^\w .-]", "_", key, flags=re.ASCII) or "unknown"


def stratum_names(keys: Iterable[str]) -> dict[str, str]:
    """The same of all keys of a kind, and no two alike."""
    return apart({key: stratum_name(key) for key in keys})


def own_or_marked(key: str) -> tuple[str, str]:
    """Both names that a sensor or region may have, without and with others that are called alike."""
    return stratum_name(key), f"{stratum_name(key)}_{_mark(key)}"


def apart(taken: Mapping[str, str]) -> dict[str, str]:
    """What names became, no two alike.

    Of names that would become the same, those that had to be changed end in a mark of their own, which follows from the
    name alone.
    """
    count = Counter(taken.values())
    return {name: part if part == name or count[part] == 1 else f"{part}_{_mark(name)}" for name, part in taken.items()}


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
