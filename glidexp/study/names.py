"""Names of arms, as short as tables and pictures want them: what differs, and no more."""

from collections.abc import Sequence

ARM = "arm"


def short_names(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What differs between arms.

    Args:
        names: of the arms, such as `backbone=resnet18 loss=dice`

    Returns:
        a heading, and a short name by name. Where all name the same settings: those, and the values alone; else `arm`,
        and the names without the words that all of them share
    """
    words = {name: name.split() for name in names}
    keys = {tuple(word.partition("=")[0] for word in parts if "=" in word) for parts in words.values()}
    if len(keys) == 1 and len(names) > 1 and all("=" in word for parts in words.values() for word in parts):
        (settings,) = keys
        values = {name: [word.partition("=")[2] for word in parts] for name, parts in words.items()}
        places = [place for place in range(len(settings)) if len({value[place] for value in values.values()}) > 1]
        short = {name: ", ".join(value[place] for place in places) for name, value in values.items()}
        if places and len(set(short.values())) == len(short):
            return ", ".join(_last(settings[place], settings) for place in places), short
    shared = set.intersection(*map(set, words.values())) if len(names) > 1 else set()
    short = {name: " ".join(word for word in parts if word not in shared) for name, parts in words.items()}
    if all(short.values()) and len(set(short.values())) == len(short):
        return ARM, short
    return ARM, {name: name for name in names}


def those(some: Sequence[str], of: Sequence[str]) -> str:
    """The names of some arms; `all arms` where those are all of several."""
    return "all arms" if len(of) > 1 and set(some) == set(of) else ", ".join(some)


def _last(key: str, among: Sequence[str]) -> str:
    """The last part of a dotted key, where that is no other's."""
    last = key.rpartition(".")[2]
    return key if [one.rpartition(".")[2] for one in among].count(last) > 1 else last
