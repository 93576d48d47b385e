"""Tables for a paper: whatever names, rows and columns there are, LaTeX takes them and they fit on its pages."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from glidexp.study.report.blocks import Table
from glidexp.study.report.latex import PAGE, as_latex, tex

ODD = r"a_b & 50 % # $5 ~x^2 {y} <z> \km² ± ≥ ≤ − × → ∞ ₂ µ °C α Ω Größe Čo ‘q’ “q” ` ' " + '"a |b| --c'
LONG = "backbone=tu-convnextv2_tiny decoder=upernet loss=focal_tversky augmentation=heavy sensor_mix=all"
INTERVAL = "+18.24 [-10.62, 27.86]"


def result(arms: list[str]) -> Table:
    """As a study's main table is."""
    said = "not distinguishable: seeds, not scenes, are the bottleneck"
    headings = ["arm", "n", "mean", "SD", "difference [95%]", "p (Holm)", "verdict"]
    naive = ["naive: index threshold", "–", "31.00", "–", "–", "–", ""]
    rows = [naive, *([arm, "3", "66.38", "2.04", INTERVAL, "0.0555", said] for arm in arms)]
    return Table("result", f"Score on {ODD} [points].", headings, rows, quiet=1)


TABLES = [
    result(["resnet18", LONG, LONG + ODD, "[andes]", "*"]),
    result([f"{LONG} {place}" for place in range(40)]),
    Table("ranks", "Many columns.", ["arm", *(f"{r}." for r in range(30))], [[LONG, *["100"] * 30]] * 30),
    Table("matrix", "m", ["trained on", *(f"Cordillera {r}" for r in range(12))], [["Bhutan", *["56.47"] * 12]] * 12),
    Table("runs", "Ids.", ["arm", "training", "scored as"], [["dice", "0a1b2c3d" * 4, "4d5e6f7a" * 4]] * 3),
    Table("also", "Groups.", ["score", "arm", "difference"], [[a, b, INTERVAL] for a in "xy" for b in ("p", LONG)],
          grouped=True),
]  # fmt: skip


def test_latex_takes_no_character_as_its_own() -> None:
    assert tex("a_b & 5 % -1.2 [-3]") == r"a\_b \& 5 \% $-$1.2 [$-$3]"
    assert tex("≥ 5 km₂ −1 Ω μ") == r"$\geq$ 5 km$_2$ $-$1 $\Omega$ µ"
    assert tex('"a" --b') == r"''a'' -{}-b", "babel makes an umlaut of one, LaTeX a dash of the other"
    assert tex("Gro\u0308\u00dfe") == "Gr\u00f6\u00dfe", "names of files on a Mac have umlauts of two characters"
    assert "{@{}lr@{}}" in as_latex(Table("t", "c", ["x", "y"], [["a", "1"]]))
    rows = as_latex(Table("t", "c", ["arm", "y"], [["[andes]", "1"], ["*", "[no interval]"], ["a", "2"]])).splitlines()
    after = [later for row, later in pairwise(rows) if row.endswith(r"\\")]
    assert not any(row.startswith(("[", "*")) for row in after), "an arm of a list ended the table"
    assert r"{}[andes] & 1 \\" in rows


def test_tables_of_two_studies_go_into_one_paper() -> None:
    table = Table("result", "c", ["x"], [["a"]])
    assert r"\label{tab:transfer-demo-result}" in as_latex(table, "transfer_demo")
    assert r"\label{tab:result}" in as_latex(table)


def test_a_table_says_which_packages_and_fonts_it_needs() -> None:
    plain = as_latex(Table("t", "c", ["x", "y"], [["a", "1"]])).splitlines()
    assert plain[0] == r"% \usepackage{booktabs}" and plain[1] == r"\begin{table}"
    umlaut = as_latex(Table("t", "c", ["arm"], [["Größe"]]))
    assert umlaut.startswith("% \\usepackage{booktabs}\n% \\usepackage[T1]{fontenc} with pdflatex")
    assert as_latex(TABLES[1]).startswith(r"% \usepackage{booktabs,array,longtable}")
    head = as_latex(Table("t", "c", ["x"], [["高山 Лёд"], ["ä"]])).splitlines()[1]
    assert head == "% Лдё山高: compile with lualatex or xelatex and fonts that have these letters"


def test_what_does_not_fit_is_wrapped_stacked_or_set_apart() -> None:
    wide = as_latex(result(["resnet18", LONG]))
    assert wide.count(r"\begin{tabular}{@{}>{\raggedright\arraybackslash}p{") == 1, "the main table in one piece"
    assert r"tu-\allowbreak{}convnextv2\_\allowbreak{}tiny" in wide and r"\footnotesize" in wide
    ranks = as_latex(TABLES[2])
    parts = re.findall(r"\\begin\{longtable\}\{@\{\}(?:>\{[^}]*\}p\{[^}]*\}|l)(r+)@", ranks)
    assert len(parts) > 1 and sum(map(len, parts)) == 30, "every column once"
    assert ranks.count(r"\caption{") == 1 and ranks.count(r"\addtocounter{table}{-1}") == len(parts) - 1
    assert r"\begin{tabular}[b]{@{}r@{}}p \\ (Holm)\end{tabular}" in as_latex(TABLES[1])
    rows = [["a", "1"]] * (PAGE - 1)
    assert "longtable" not in as_latex(Table("t", "c", ["x", "y"], rows))
    assert "longtable" in as_latex(Table("t", "c", ["x", "y"], [*rows, *rows[:1]]))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("options", ["10pt", "11pt,a4paper", "12pt"])
def test_latex_sets_every_table_within_its_page(tmp_path: Path, options: str) -> None:
    """No error, nothing wider than the text, no float higher than a page, no label twice."""
    missing = [name for name in ("booktabs", "longtable") if subprocess.run(["kpsewhich", f"{name}.sty"]).returncode]
    if missing:
        pytest.skip(f"LaTeX here lacks {missing}")
    for place, table in enumerate(TABLES):
        (tmp_path / f"t{place}.tex").write_text(as_latex(table, f"study {place}"), encoding="utf-8")
    inputs = "\n".join(rf"\input{{t{place}}}\clearpage" for place in range(len(TABLES)))
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,array,longtable}"
    body = rf"\documentclass[{options}]{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "paper.tex").write_text(body)
    for _ in range(3):  # longtable finds its widths in the runs before
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"], cwd=tmp_path, capture_output=True
        )
        log = (tmp_path / "paper.log").read_text(errors="replace")
        assert done.returncode == 0, log[-3000:]
    assert re.findall(r"^(?:Overfull|LaTeX Warning|Missing character|LaTeX Font Warning).*", log, re.MULTILINE) == []
