"""Ready tiles that must stay on one side: of one scene, of one run of neighbouring numbers, of one piece of ground."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from glidexp.data import splits
from glidexp.data.ready.origins import Origin
from glidexp.data.ready.pairs import Pair

log = logging.getLogger("glidexp")
RUN = 100
"""most neighbouring numbers in one group"""
RUNS = 40
"""groups that a small folder is cut into at least, as far as it has tiles"""
LOOSE = 0.5
"""share of tiles of no known scene that are alone, above which their names are no running numbers"""


def grouped(
    free: Sequence[int], pairs: Sequence[Pair], origins: Sequence[Origin], links: Iterable[tuple[int, int]]
) -> list[list[int]]:
    """Tiles that must stay together: of one scene, else of one run of numbers, and all that show the same ground."""
    position = {i: n for n, i in enumerate(free)}
    joined = [(position[a], position[b]) for a, b in links if a in position and b in position]
    length = max(1, min(RUN, len(free) // RUNS))
    first: dict[Any, int] = {}
    run, previous = 0, -1
    for n, i in enumerate(free):
        # a gap in the numbers starts a run, and so does a full one
        number = pairs[i].number
        if n and ((number >= 0 and number != previous + 1) or n - first[run] >= length):
            run = n
        previous = number
        first.setdefault(run, n)
        key: Any = run if origins[i].scene == "unknown" else origins[i].scene
        joined.append((first.setdefault(key, n), n))
    return [[free[n] for n in group] for group in splits.connected(len(free), joined)]


def group_name(names: Sequence[str], scenes: set[str]) -> str:
    """What a group is called: its scenes, or its first and last tile where one of them is of no known scene."""
    if "unknown" not in scenes:
        return "+".join(sorted(scenes))
    return f"tiles {names[0]} to {names[-1]} ({len(names)})"


def warn_of_loose(groups: Sequence[Sequence[int]], pairs: Sequence[Pair], origins: Sequence[Origin]) -> None:
    """Says when names are no running numbers, as SCENE_ROW_COLUMN: each tile is then a group by itself, whatever lies
    beside it. In a folder so small that each tile is one by rule, that is no news.

    Args:
        groups: of `grouped`
        pairs: all tiles
        origins: what is known of each
    """
    unknown = [members for members in groups if origins[members[0]].scene == "unknown"]
    tiles = sum(map(len, unknown))
    alone = [members[0] for members in unknown if len(members) == 1]
    if tiles >= 2 * RUNS and len(alone) > LOOSE * tiles:
        log.warning(
            "%d of %d tiles of no known scene are shared out one by one, since their names (%s ...) are no running "
            "numbers: tiles that lie side by side may be on two sides of the split, so that scores flatter. Say their "
            "scenes: dataset.images='images/{scene}_{id}.*' with the same for dataset.labels, or dataset.manifest.",
            len(alone),
            tiles,
            ", ".join(pairs[i].name for i in sorted(alone)[:3]),
        )
