"""Names in any script are letters in pictures where a font has them; where none has, one line says so."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from glidexp.data.show import fonts
from glidexp.data.show.gallery import sheet
from glidexp.scoring.figures import pdf_bytes, png_bytes, probe_grid
from glidexp.scoring.forest import Bar, forest_figure
from glidexp.scoring.heatmap import heatmap_figure

OWN = Path(fonts._own_file() or "").parent
CMR = OWN / "cmr10.ttf"
"""a font that matplotlib brings along: it stands for one that somebody installed"""
BEYOND = "\u2a00\u2a01"
"""signs that neither font has"""


@pytest.fixture(autouse=True)
def _as_new() -> None:
    for one in (fonts._faces, fonts._installed, fonts._lacking):
        one.cache_clear()
    fonts._told.clear()


@pytest.fixture
def only_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any font but matplotlib's DejaVu Sans."""
    monkeypatch.setattr(fonts, "_installed", list)


def named(name: str) -> bytes:
    bars = [Bar(name, [0.5, 0.6], None, False), Bar("plain", [0.6], (0.1, 0.05, 0.15), True)]
    figure = forest_figure(bars, score="lake IoU", level=0.95, n="3 seeds", unit="points")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdf_bytes(figure)
        return png_bytes(figure)


def test_letters_that_no_font_has_are_told_once_in_one_line(only_own: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "glidexp"):
        for _ in range(2):
            named("高山 हिम")
        fonts.text_length("山", 12)
    (line,) = caplog.messages
    assert line == (
        "No installed font has महि山高 (cjk, devanagari): pictures show boxes. Install one that has, such as those of "
        "fonts-noto-cjk and fonts-noto-core."
    )


def test_names_that_dejavu_has_ask_for_no_other_font(only_own: None, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("Ледник Größe", "km² ± ≥ → µ", "Ελλάδα"):
        assert fonts.families_of(name) == [fonts.OWN]
        named(name)
    assert not caplog.messages


def test_an_installed_font_gives_the_letters_that_dejavu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every letter is one that DejaVu Sans lacks and another font has, whichever fonts this machine has."""
    lacking = "\u2a0f"
    monkeypatch.setattr(fonts, "_lacking", lambda text: "".join(sorted({one for one in text if one == "é"})))
    monkeypatch.setattr(
        fonts, "_installed", lambda: [("cmr10", str(CMR)), ("STIXGeneral", str(OWN / "STIXGeneral.ttf"))]
    )
    assert fonts.families_of("Pérou") == [fonts.OWN, "STIXGeneral"], "cmr10 has no é"
    assert fonts.families_of(lacking) == [fonts.OWN]
    runs = fonts._runs("Pérou", 14, False, None)
    assert [part for part, _ in runs] == ["P", "é", "rou"]
    assert runs[1][1].getname()[0] == "STIXGeneral"  # type: ignore[union-attr]


def test_every_text_of_a_figure_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names at axes, in titles and legends, which are made in different ways."""
    seen: set[str] = set()
    real = fonts.families_of
    monkeypatch.setattr(fonts, "families_of", lambda text: (seen.add(text), real(text))[1])
    figure = heatmap_figure(
        np.array([[0.5]]), ["Größe"], ["Ледник"], score="IoU", across="region", rest_on=(["1 seed"], ["2 scenes"])
    )
    axes = figure.axes[0]
    axes.plot([0], [0], label="in the legend")
    axes.legend(title="of the legend")
    axes.set_title("above")
    png_bytes(figure)
    assert {
        "Größe (1\u00a0seed)",
        "Ледник\n(2\u00a0scenes)",
        "in the legend",
        "of the legend",
        "above",
        "IoU, points",
    } <= seen


def test_installed_fonts_are_upright_plain_ones_and_none_of_boxes() -> None:
    found = fonts._installed()
    names = [name for name, _ in found]
    assert {"DejaVu Sans", "STIXGeneral"} <= set(names)
    assert not any(name.startswith("Last Resort") for name in names), "it has a box for every letter"
    assert names.index("DejaVu Sans") < names.index("STIXGeneral")


def test_lines_on_pictures_are_as_long_as_they_are_drawn() -> None:
    for text, plain in (("Größe Ледник", None), ("plain", ImageFont.load_default(size=12)), ("a" + BEYOND, None)):
        canvas = Image.new("L", (400, 40))
        fonts.draw_text(ImageDraw.Draw(canvas), (390, 20), text, 12, fill=255, anchor="rm", plain=plain)
        box = canvas.getbbox()
        assert box is not None and box[2] <= 391
        assert box[2] - box[0] == pytest.approx(fonts.text_length(text, 12, plain=plain), abs=3)


def test_names_of_tiles_and_captions_keep_their_letters() -> None:
    """Pillow's own font, and Latin-1, have no Cyrillic: two names of as many letters would look the same."""
    tile = np.full((32, 32, 3), 90, np.uint8)
    truth = np.zeros((32, 32), np.uint8)
    grids = [probe_grid([tile], [truth], [truth * 0.5], 0.5, [name]) for name in ("Тянь", "Шань")]
    sheets = [np.asarray(sheet([tile], [name], columns=1, title=name)) for name in ("Тя", "Ша")]
    assert not np.array_equal(*grids) and not np.array_equal(*sheets)
