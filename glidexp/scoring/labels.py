"""Names of users as pictures show them, arms, regions, scenes; and thresholds."""

import textwrap


def label(name: str, width: int = 36) -> str:
    """The name in lines of at most so many characters, each of them as it is typed.

    A legend leaves no room for the picture beside a name of eighty characters, takes one that begins with `_` for none
    of its own, and what stands between two dollars for a formula.
    """
    lines = textwrap.wrap(name, width, break_on_hyphens=False) or [name]
    shown = "\n".join(lines).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def threshold_text(threshold: float) -> str:
    """A probability between 0 and 1 in two digits, or in as many as tell it from both."""
    texts = (f"{threshold:.{digits}f}" for digits in range(2, 9))
    return next((text for text in texts if 0 < float(text) < 1), f"{threshold:g}")


def lines_of(names: list[str]) -> int:
    """Lines that labels take one below the other."""
    return sum(name.count("\n") + 1 for name in names)
