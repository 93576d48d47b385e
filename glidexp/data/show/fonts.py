"""Letters of any script in pictures: DejaVu Sans, which matplotlib brings along, and what is installed beside it."""

import functools
import importlib.util
import logging
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("glidexp")
OWN = "DejaVu Sans"
LAST_RESORT = "Last Resort"
"""beginning of the name of a font that has a box for every letter"""
EUROPEAN = 0x530
"""up to here, Latin, Greek and Cyrillic, DejaVu Sans has the letters that names are made of"""
PACKAGES = {
    "CJK": "fonts-noto-cjk",
    "HIRAGANA": "fonts-noto-cjk",
    "KATAKANA": "fonts-noto-cjk",
    "HANGUL": "fonts-noto-cjk",
}
OTHERS = "fonts-noto-core"
"""Debian's packages, whose fonts are to be had everywhere under these names (Noto)"""
MOST_TOLD = 20
"""letters"""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_told: set[str] = set()


@contextmanager
def readable(figure: "Figure") -> Iterator[None]:
    """While it is open the figure is drawn with fonts that have the letters of its texts.

    Letters that no installed font has are boxes, which the log says once, with what to install.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        families = families_of(text.get_text())
        if len(families) > 1:
            text.set_fontfamily(families)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)  # they were told all at once
        yield


def families_of(text: str) -> list[str]:
    """DejaVu Sans, and installed families that have the letters which it lacks; the log tells of letters in none."""
    return [OWN, *dict.fromkeys(name for name, _ in _faces(_lacking(text)))]


def draw_text(
    pen: ImageDraw.ImageDraw,
    xy: tuple[float, float],
    text: str,
    px: int,
    *,
    fill: Any,
    anchor: str = "la",
    bold: bool = False,
    plain: Font | None = None,
) -> None:
    """Writes a line with Pillow, each letter in a font that has it.

    Args:
        pen: of the picture
        xy: where, in pixels from the upper left corner
        text: one line
        px: height of its letters
        fill: colour
        anchor: Pillow's, for the whole line; its first letter l or r
        bold: in bold letters, where DejaVu Sans has them
        plain: font of a line whose letters are all ASCII; DejaVu Sans when not given
    """
    x, y = xy
    if anchor[0] == "r":
        x -= text_length(text, px, bold=bold, plain=plain)
    for part, font in _runs(text, px, bold, plain):
        pen.text((x, y), part, fill=fill, font=font, anchor=f"l{anchor[1]}")
        x += font.getlength(part)


def text_length(text: str, px: int, *, bold: bool = False, plain: Font | None = None) -> float:
    """Width in pixels of a line as `draw_text` writes it."""
    return sum(font.getlength(part) for part, font in _runs(text, px, bold, plain))


def _runs(text: str, px: int, bold: bool, plain: Font | None) -> list[tuple[str, Font]]:
    """The text in pieces of one font each."""
    if plain is not None and text.isascii():
        return [(text, plain)]
    faces = [(file, _opened(file)) for _, file in _faces(lacking)] if (lacking := _lacking(text)) else []
    runs: list[tuple[str, str]] = []
    for letter in text:
        within = unicodedata.category(letter) in ("Mn", "Mc", "Cf")  # a part of the letter before
        file = next((file for file, face in faces if face.get_char_index(ord(letter))), "") if letter in lacking else ""
        if runs and (within or runs[-1][1] == file):
            runs[-1] = (runs[-1][0] + letter, runs[-1][1])
        else:
            runs.append((letter, file))
    return [(part, _truetype(file, px) if file else own_font(px, bold=bold)) for part, file in runs]


@functools.cache
def own_font(px: int, *, bold: bool = False) -> Font:
    """DejaVu Sans as matplotlib has it, which knows more letters than Pillow's own font."""
    file = _own_file(bold)
    return ImageFont.truetype(str(file), px) if file else ImageFont.load_default(px)


@functools.cache
def _truetype(file: str, px: int) -> Font:
    return ImageFont.truetype(file, px)


def _own_file(bold: bool = False) -> Path | None:
    found = importlib.util.find_spec("matplotlib")  # only looked up: importing it takes longer than drawing
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if file.is_file():
            return file
    return None


@functools.lru_cache(4096)
def _lacking(text: str) -> str:
    """Letters of the text that DejaVu Sans lacks, sorted, each once."""
    beyond = sorted({letter for letter in text if ord(letter) >= EUROPEAN and letter.isprintable()})
    file = _own_file() if beyond else None
    return "".join(letter for letter in beyond if file is None or not _opened(str(file)).get_char_index(ord(letter)))


@functools.lru_cache(64)
def _opened(file: str) -> Any:
    from matplotlib.ft2font import FT2Font

    return FT2Font(file)


@functools.cache
def _faces(letters: str) -> list[tuple[str, str]]:
    """Families and files of installed fonts that have these letters, as few as it takes; tells of letters in none."""
    found: list[tuple[str, str]] = []
    left = set(letters)
    while left:
        best, has = ("", ""), set[str]()
        for name, file in _installed():
            own = {letter for letter in left if _opened(file).get_char_index(ord(letter))}
            if len(own) > len(has):  # the first of those that have as many, so a plain one
                best, has = (name, file), own
        if not has:
            _tell(left)
            break
        found.append(best)
        left -= has
    return found


@functools.cache
def _installed() -> list[tuple[str, str]]:
    """Family and file of every upright font of usual weight, plain ones without serifs first.

    matplotlib keeps a list of fonts from when it was first used; those installed since are added to it.
    """
    from matplotlib import font_manager

    fonts = font_manager.fontManager
    known = {entry.fname for entry in fonts.ttflist}
    for file in sorted(set(font_manager.findSystemFonts()) - known):
        try:
            fonts.addfont(file)
        except Exception:  # noqa: BLE001 - FreeType's errors of fonts that it cannot read are of many kinds
            log.debug("font %s cannot be read", file)
    plain = {
        (entry.name, entry.fname)
        for entry in fonts.ttflist
        if entry.style == "normal"
        and entry.weight in (400, "normal", "regular")
        and not entry.name.startswith(LAST_RESORT)
    }

    def order(face: tuple[str, str]) -> tuple[bool, bool, bool, str]:
        name = face[0]
        return "Mono" in name, "Sans" not in name, not name.startswith("Noto Sans"), f"{name} {face[1]}"

    return sorted((face for face in plain if Path(face[1]).is_file()), key=order)


def _tell(letters: set[str]) -> None:
    """Says once which letters are boxes in pictures, and what to install."""
    new = sorted(letters - _told)
    _told.update(new)
    if not new:
        return
    scripts = {unicodedata.name(letter, "LETTER").split()[0] for letter in new}
    packages = " and ".join(sorted({PACKAGES.get(script, OTHERS) for script in scripts}))
    shown = "".join(new[:MOST_TOLD]) + " ..." * (len(new) > MOST_TOLD)
    log.warning(
        "No installed font has %s (%s): pictures show boxes. Install one that has, such as those of %s.",
        shown, ", ".join(sorted(scripts)).lower(), packages,
    )  # fmt: skip
