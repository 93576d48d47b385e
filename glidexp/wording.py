"""Counts and numbers in sentences: `1 lake is`, `3 lakes are`, `99.5%`."""

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


def legible(name: str) -> str:
    """A file's name that can be written down: bytes in it that are not UTF-8 as `\\udce4`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def percent(share: float) -> str:
    """A level as it was given: `95%`, `99.5%`."""
    return f"{100 * share:.6g}%"


def part(share: float) -> str:
    """A share in whole per cent, of what is neither all nor nothing `>99%` and `<1%` at the ends."""
    said = f"{share:.0%}"
    return ">99%" if said == "100%" and share < 1 else "<1%" if said == "0%" and share > 0 else said


def decimals(*numbers: float, least: int, most: int = 4) -> int:
    """Digits behind the point with which no number that is not 0 is written as 0: on which side of 0 the end of an
    interval lies is what a verdict rests on.

    Args:
        numbers: that stand together; NaN is none
        least: so many at least
        most: what is 0 with so many is written so
    """
    told = [abs(number) for number in numbers if abs(number) >= 0.5 * 10.0**-most]
    return next((digits for digits in range(least, most) if all(round(one, digits) for one in told)), most)
