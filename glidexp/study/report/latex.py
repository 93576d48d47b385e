"""Tables for a paper: LaTeX that fits on a page, of whatever names and as many arms as there are.

Nothing but the packages booktabs, array and longtable is asked for, and only by the tables that need them. Widths are
reckoned in em, so that they hold in every class and size of letters.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glidexp.study.report.blocks import Table, left_columns, shown_rows

ROOMS = {"small": 35.5, "footnotesize": 37.8}
"""em that lines of text are wide, by size of letters: in the article class, on one column, at 10 to 12 pt"""
GAP = 0.9
"""em between two columns, of twice `TABCOLSEP`"""
TABCOLSEP = "4pt"
LEAST = 6.0
"""em that a column of words keeps, where it has more to say"""
MOST_KEYS = 11.0
"""em that columns which name a row take of a table that is cut into parts"""
PAGE = 36
"""lines of a table that still fits on a page, below its caption"""
PIECE = 8
"""letters after which a long word may be broken"""

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$",
    '"': "''", "`": r"\textasciigrave{}", "\u00a0": "~", "\u202f": r"\,", "\u2009": r"\,",
    "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "≠": r"$\neq$",
    "≈": r"$\approx$", "∞": r"$\infty$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "↔": r"$\leftrightarrow$",
    "∆": r"$\Delta$", "√": r"$\surd$", "∈": r"$\in$", "μ": "µ",
} | {chr(0x2080 + digit): f"$_{digit}$" for digit in range(10)}  # fmt: skip
"""what LaTeX takes as its own, and signs that its fonts for text lack. A double quote is a command under babel's
German and begins an umlaut there"""
GREEK = {
    unicodedata.lookup(f"GREEK {case} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}"): f"$\\{how(name)}$"
    for case, how, names in (
        ("SMALL", str, "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda nu xi pi rho sigma tau "
                       "upsilon phi chi psi omega"),
        ("CAPITAL", str.title, "gamma delta theta lambda xi pi sigma upsilon phi psi omega"),
    )
    for name in names.split()
}  # fmt: skip
SPECIAL |= GREEK
KNOWN = frozenset(map(chr, [*range(0x20, 0x7F), *range(0xA1, 0x149), *range(0x14A, 0x17F)])) | frozenset(
    "ȘșȚț–—‘’“”„…€‰†‡•"
)
"""characters of which pdflatex has letters, with the T1 encoding"""


def as_latex(table: Table, of: str = "") -> str:
    """A table for a paper, as wide as a page of one column at most.

    Headings are stacked and words are wrapped where columns would be too wide; more columns of numbers than fit side by
    side stand below each other, and more rows than fit on a page run over several (longtable).

    Args:
        table: what is shown
        of: study that it is of; a part of its label, so that tables of two studies go into one paper
    """
    size, room = next(iter(ROOMS.items()))
    parts = _parts(table, room)
    if len(parts) > 1 or any(one.wrapped for one in parts[0]):
        size, room = list(ROOMS.items())[-1]
        parts = _parts(table, room)
    rows = list(shown_rows(table))
    long = sum(_lines(table, part, rows) for part in parts) > PAGE
    caption = rf"\caption{{{tex(table.caption)}}}"
    name = "-".join([*re.findall("[a-z0-9]+", of.lower()), table.name])
    label = rf"\label{{tab:{name}}}"
    needed = ["booktabs", *(["array"] if any(one.wrapped for part in parts for one in part) else [])]
    lines = [rf"% \usepackage{{{','.join([*needed, *(['longtable'] if long else [])])}}}", *_about(table)]
    if not long:
        lines += [r"\begin{table}", rf"\centering\{size}", rf"\setlength{{\tabcolsep}}{{{TABCOLSEP}}}", caption, label]
        for place, part in enumerate(parts):
            lines += [r"\par\medskip"] * (place > 0)
            lines += [rf"\begin{{tabular}}{{{_columns(part)}}}", r"\toprule", _heading(part), r"\midrule"]
            lines += [*_body(table, part, rows), r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*lines, r"\end{table}", ""])
    lines += [
        rf"\begingroup\{size}",
        rf"\setlength{{\tabcolsep}}{{{TABCOLSEP}}}\setlength{{\LTcapwidth}}{{\linewidth}}",
    ]
    for place, part in enumerate(parts):
        on = rf"\multicolumn{{{len(part)}}}{{@{{}}l}}{{\emph{{Table \thetable, continued}}}} \\"
        head = [r"\toprule", _heading(part), r"\midrule"]
        lines += [r"\addtocounter{table}{-1}"] * (place > 0)
        lines += [rf"\begin{{longtable}}{{{_columns(part)}}}", on if place else rf"{caption}{label} \\"]
        lines += [*head, r"\endfirsthead", on, *head, r"\endhead", r"\bottomrule", r"\endfoot"]
        lines += [*_body(table, part, rows), r"\end{longtable}"]
    return "\n".join([*lines, r"\endgroup", ""])


def tex(text: str, *, breaks: bool = False) -> str:
    """The text with what LaTeX takes as its own escaped, and minus signs as such.

    Args:
        text: as it is read
        breaks: long words may be broken behind their marks
    """
    pieces = _pieces(unicodedata.normalize("NFC", text)) if breaks else [unicodedata.normalize("NFC", text)]
    escaped = [
        re.sub(r"(?<![\w-])-(?=\d)", "$-$", "".join(SPECIAL.get(letter, letter) for letter in piece)).replace(
            "--", "-{}-"
        )
        for piece in pieces
    ]
    return r"\allowbreak{}".join(escaped).replace(r" \allowbreak{}", " ")


def _about(table: Table) -> Iterator[str]:
    """Lines that tell which letters ask for more than LaTeX begins with."""
    cells = [table.caption, *table.headings, *(cell for row in table.rows for cell in row)]
    letters = {letter for cell in cells for letter in unicodedata.normalize("NFC", cell)} - set(SPECIAL)
    beyond = sorted(letter for letter in letters - KNOWN if letter.isprintable())
    if beyond:
        yield f"% {''.join(beyond[:40])}: compile with lualatex or xelatex and fonts that have these letters"
    elif any(letter.isalpha() and not letter.isascii() for letter in letters):
        yield r"% \usepackage[T1]{fontenc} with pdflatex, for letters beyond a-z"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as it is set."""

    place: int
    """among the table's columns"""
    heading: tuple[str, ...]
    """its lines"""
    left: bool
    width: float
    """em"""
    wrapped: bool


def _width(text: str) -> float:
    """About so many em wide is the text in Computer Modern."""

    def of(letter: str) -> float:
        if unicodedata.east_asian_width(letter) in "WF" or letter in "→←↔…—":
            return 1.02
        if letter in "mwMW%&@+=<>−±×≥≤≈":
            return 0.84
        if letter.isupper():
            return 0.72
        return 0.3 if letter in "il.,:;|'![]() /-" else 0.5

    return sum(map(of, text))


def _pieces(text: str) -> list[str]:
    """The text cut where a line may end: behind spaces, behind the marks of long words, else every eight letters."""
    found: list[str] = []
    for word, space in re.findall(r"(\S+)(\s*)", text):
        parts = re.findall(r"[^_=/.,:+-]*[_=/.,:+-]+|[^_=/.,:+-]+", word) if len(word) > PIECE + 4 else [word]
        cut: list[str] = []
        for part in parts:
            hashed = len(part) > PIECE + 4 and any(letter.isdigit() for letter in part)
            cut += [part[at : at + PIECE] for at in range(0, len(part), PIECE)] if hashed else [part]
        found += [*cut[:-1], cut[-1] + space]
    return found or [text]


def _stacked(heading: str, width: float) -> tuple[str, ...]:
    """The heading in lines of about that width, broken at its spaces."""
    lines: list[str] = []
    for word in heading.split():
        if lines and _width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return tuple(lines) or ("",)


def _parts(table: Table, room: float) -> list[list[_Column]]:
    """The columns, in as many parts as it takes for each to fit; those that name a row are in all of them."""
    left = left_columns(table)
    cells = [[row[place] for row in table.rows] for place in range(len(left))]
    bodies = [max(map(_width, column), default=0.0) for column in cells]
    narrow = [max([body, *map(_width, heading.split())]) for body, heading in zip(bodies, table.headings, strict=True)]
    least = [
        min(wide, max([LEAST, *(_width(piece.rstrip()) for cell in column for piece in _pieces(cell))]))
        if words
        else wide
        for wide, words, column in zip(narrow, left, cells, strict=True)
    ]
    every = list(range(len(left)))
    if _sum(least, every) <= room:
        return [_set(table, room, every, narrow, least, left)]
    keys = [place for place in every if all(left[: place + 1])] if not all(left) else [0]
    share = [min(one, MOST_KEYS / len(keys)) if place in keys else one for place, one in enumerate(least)]
    groups: list[list[int]] = []
    for place in every[len(keys) :]:
        if groups and _sum(share, [*keys, *groups[-1], place]) <= room:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [_set(table, room, [*keys, *group], narrow, least, left) for group in groups]


def _sum(widths: Sequence[float], places: Sequence[int]) -> float:
    return sum(widths[place] for place in places) + GAP * (len(places) - 1)


def _set(
    table: Table, room: float, places: list[int], narrow: Sequence[float], least: Sequence[float], left: Sequence[bool]
) -> list[_Column]:
    """Columns of one part: numbers as wide as they are, words as wide as they are where there is room, else wrapped."""
    room -= _sum(narrow, [place for place in places if not left[place]]) + GAP * sum(left[p] for p in places)
    words = sorted((place for place in places if left[place]), key=lambda place: narrow[place])
    width = dict(enumerate(narrow))
    for number, place in enumerate(words):
        others = words[number + 1 :]
        kept = sum(min(least[one], narrow[one]) for one in others)
        even = room / (len(others) + 1)
        width[place] = min(narrow[place], max(min(even, room - kept), 0.8 * LEAST))
        room -= width[place]
    return [
        _Column(p, _stacked(table.headings[p], width[p]), left[p], width[p], left[p] and width[p] < narrow[p])
        for p in places
    ]


def _lines(table: Table, part: Sequence[_Column], rows: Sequence[Sequence[str]]) -> int:
    """Lines that a part takes about."""

    def of(row: Sequence[str]) -> int:
        return max(int(1.15 * _width(row[one.place]) / one.width) + 1 if one.wrapped else 1 for one in part)

    groups = sum(bool(row[0]) for row in rows) // 2 if table.grouped else 0
    return sum(map(of, rows)) + max(len(one.heading) for one in part) + groups


def _columns(part: Sequence[_Column]) -> str:
    def of(one: _Column) -> str:
        wrapped = rf">{{\raggedright\arraybackslash}}p{{{one.width:.1f}em}}"
        return wrapped if one.wrapped else "l" if one.left else "r"

    return "@{}" + "".join(map(of, part)) + "@{}"


def _heading(part: Sequence[_Column]) -> str:
    def of(one: _Column) -> str:
        if len(one.heading) == 1:
            return tex(one.heading[0])
        lines = r" \\ ".join(("{}" if line[:1] in "[*" else "") + tex(line) for line in one.heading)
        return rf"\begin{{tabular}}[b]{{@{{}}{'l' if one.left else 'r'}@{{}}}}{lines}\end{{tabular}}"

    return _row([of(one) for one in part])


def _body(table: Table, part: Sequence[_Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for place, row in enumerate(rows):
        if place and (place == table.quiet or (table.grouped and row[0])):
            yield r"\midrule"
        yield _row([tex(row[one.place], breaks=one.wrapped) for one in part])


def _row(cells: Sequence[str]) -> str:
    row = " & ".join(cells)
    # the row end before takes what begins with [ as the space to leave, and a star as its own
    return ("{}" if row.startswith(("[", "*")) else "") + row + r" \\"
