"""Counts in sentences: `1 lake is`, `3 lakes are`."""

_IRREGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}


def many(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`, `1 entry`, `0 entries`."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{count} {noun}es"
    return f"{count} {noun[:-1]}ies" if noun[-1:] == "y" and noun[-2:-1] not in "aeiou" else f"{count} {noun}s"


def does(count: int, verb: str) -> str:
    """The verb after a count: `is` or `are`, `lies` or `lie`.

    Args:
        count: of what does it
        verb: as it stands after several
    """
    return verb if count != 1 else _IRREGULAR.get(verb, f"{verb}s")
