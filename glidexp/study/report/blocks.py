"""A report as a row of blocks, and the forms it takes: one HTML page, Markdown, CSV tables."""

import base64
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Self

from glidexp.scoring.sheet import SHEETS, Draw, files_of

STYLE = """
:root{--ink:#1c2430;--soft:#5a6472;--line:#dde1e7;--accent:#2480d6;--warm:#de5400}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);max-width:1080px;margin:0 auto;
padding:2em 1.2em 4em;background:#fff}
h1{font-size:1.7em;line-height:1.2;margin:.2em 0 .3em}h2{font-size:1.2em;margin:2em 0 .5em;padding-top:.6em;
border-top:1px solid var(--line)}p{margin:.5em 0;max-width:78ch}.lead{font-size:1.12em}
.verdicts{list-style:none;padding:0;margin:1em 0}.verdicts li{border-left:4px solid var(--line);padding:.35em .9em;
margin:.4em 0;background:#f7f9fb;overflow-wrap:anywhere}.verdicts li.better{border-color:var(--accent)}
.verdicts li.worse{border-color:var(--warm)}.warn{background:#fff3cd;padding:.6em 1em;border-radius:4px}
.wide{overflow-x:auto;margin:.8em 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
.wide p{color:var(--soft);font-size:13px;margin:.3em 0}
thead th{border-top:2px solid var(--ink);border-bottom:1px solid var(--ink);font-weight:600;vertical-align:bottom}
tbody tr:last-child td{border-bottom:2px solid var(--ink)}td,th{padding:.28em .75em;text-align:right;white-space:nowrap}
td:first-child,th:first-child{padding-left:.2em}td.t,th.t{text-align:left;white-space:normal;min-width:7em}
td.t:last-child{min-width:14em}
tbody tr+tr td{border-top:1px solid #eef0f3}
tr.first td,tbody tr.first+tr.first td{border-top:1px solid #9aa3af}tr.quiet td{color:var(--soft);font-style:italic}
figure{margin:1em 0}figure img{max-width:100%;height:auto;display:block}figcaption{font-size:13px;color:var(--soft);
max-width:78ch;margin-top:.3em}.pair{display:flex;flex-wrap:wrap;gap:1em}.tiles{display:flex;flex-wrap:wrap;gap:8px;
margin:.5em 0 1.4em}.tiles figure{margin:0;width:168px}.tiles img{width:168px;height:168px;image-rendering:auto;
border-radius:2px}.tiles figcaption{line-height:1.3;overflow-wrap:anywhere}
.k{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .9em;border-radius:2px;vertical-align:-1px}
code{font-size:13px;overflow-wrap:anywhere}a{color:#1a65ab;overflow-wrap:anywhere}
@media (max-width:560px){body{padding:1em .8em 3em}h1{font-size:1.35em}.tiles figure,.tiles img{width:112px}
.tiles img{height:112px}table{font-size:13px}td,th{padding:.25em .5em}}
details{margin:.6em 0}summary{cursor:pointer;color:#1a65ab;font-weight:600}
@media print{.wide{overflow:visible}h2,summary{break-after:avoid}figure,.verdicts li,tr{break-inside:avoid}
summary{color:var(--ink);list-style:none}details::details-content{content-visibility:visible;block-size:auto}
table{font-size:11px}td,th{padding:.2em .4em}}
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = ""
    """lead, warn, or nothing"""


@dataclass(frozen=True, slots=True)
class Points:
    """A list; verdicts have a colour by how they begin."""

    items: Sequence[str]
    kinds: Sequence[str] = ()
    """better, worse or nothing, one an item"""


@dataclass(frozen=True, slots=True)
class Link:
    """A sentence with an address."""

    text: str
    address: str


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are read. Also written as CSV and LaTeX under its name."""

    name: str
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    grouped: bool = False
    """rows with the same first cell belong together"""
    quiet: int = 0
    """so many first rows are no arms of the study"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, drawn for both columns of a page and for one."""

    name: str
    caption: str
    files: Mapping[str, bytes]
    """by name, as `sheet.files_of` gives them"""

    @classmethod
    def of(cls, name: str, draw: Draw, caption: str) -> Self:
        """A drawing of matplotlib as PNG and PDF."""
        return cls(name, caption, files_of(name, draw))


@dataclass(frozen=True, slots=True)
class Tiles:
    """Small pictures side by side."""

    name: str
    title: str
    panels: Sequence[tuple[str, bytes]] = field(default=())
    """what it shows, PNG"""


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that the page shows when it is asked to. On paper, as text and as files they are there like all others."""

    title: str
    blocks: Sequence["Block"]


NUMBER = re.compile(r"–|[-+<>]?\d[\d.]*( \[.*\])?")
"""a cell that stands to the right"""
Block = Heading | Text | Points | Link | Table | Picture | Tiles | Fold


def unfolded(blocks: Sequence[Block]) -> Iterator[Block]:
    """Every block, those of folds too."""
    for block in blocks:
        if isinstance(block, Fold):
            yield from unfolded(block.blocks)
        else:
            yield block


def html(title: str, blocks: Sequence[Block]) -> str:
    """One page without scripts, which fetches nothing."""
    head = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>"
    )
    return head + f"<body><h1>{escape(title)}</h1>" + "\n".join(map(_html, blocks)) + "</body></html>\n"


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        mark = f' class="{block.kind}"' if block.kind else ""
        return f"<p{mark}>{escape(block.text)}</p>"
    if isinstance(block, Link):
        return f'<p><a href="{escape(block.address)}">{escape(block.text)}</a></p>'
    if isinstance(block, Points):
        if not block.kinds:
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
        pairs = zip(block.items, block.kinds, strict=True)
        return '<ul class="verdicts">' + "".join(f'<li class="{k}">{escape(i)}</li>' for i, k in pairs) + "</ul>"
    if isinstance(block, Table):
        return _html_table(block)
    if isinstance(block, Picture):
        wide, narrow = (block.files[f"{block.name}{sheet.ending}.png"] for sheet in SHEETS)
        other = f'<source media="(max-width:560px)" srcset="{_data(narrow)}">'  # one column is read on a telephone too
        drawn = f"<picture>{other}{_img(wide, block.caption)}</picture>"
        return f"<figure>{drawn}<figcaption>{escape(block.caption)}</figcaption></figure>"
    if isinstance(block, Fold):
        return f"<details><summary>{escape(block.title)}</summary>{''.join(map(_html, block.blocks))}</details>"
    panels = "".join(
        f"<figure>{_img(png, label)}<figcaption>{escape(label)}</figcaption></figure>" for label, png in block.panels
    )
    return f'<p><strong>{escape(block.title)}</strong></p><div class="tiles">{panels}</div>'


def _img(png: bytes, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="{_data(png)}">'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def left_columns(table: Table) -> list[bool]:
    """Which columns hold words rather than numbers."""
    rows = table.rows[table.quiet :]
    return [
        place == 0 or any(row[place] and not NUMBER.fullmatch(row[place]) for row in rows)
        for place in range(len(table.headings))
    ]


def shown_rows(table: Table) -> list[Sequence[str]]:
    """Rows as they are read: where `table.grouped`, a group is named in its first row alone."""
    if not table.grouped:
        return list(table.rows)
    before = [None, *(row[0] for row in table.rows)]
    return [("", *row[1:]) if row[0] == last else row for row, last in zip(table.rows, before, strict=False)]


def _html_table(table: Table) -> str:
    left = left_columns(table)

    def line(cells: Sequence[str], tag: str) -> str:
        marks = [' class="t"' if text else "" for text in left]
        return "".join(f"<{tag}{m}>{escape(c)}</{tag}>" for m, c in zip(marks, cells, strict=True))

    marks = ["quiet" if place < table.quiet else "" for place in range(len(table.rows))]
    if table.grouped:
        marks = ["" if not row[0] else "first" for row in shown_rows(table)]
    rows = "".join(f'<tr class="{m}">{line(row, "td")}</tr>' for m, row in zip(marks, shown_rows(table), strict=True))
    return (  # a caption would be as wide as the table, and so cut off on a narrow page
        f'<div class="wide"><p id="{table.name}">{escape(table.caption)}</p>'
        f'<table aria-labelledby="{table.name}"><thead><tr>'
        f"{line(table.headings, 'th')}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The same as text; pictures are files in `figures/` and `tiles/` beside it."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {block.text}"
    if isinstance(block, Text):
        return {"lead": f"**{block.text}**", "warn": f"> {block.text}"}.get(block.kind, block.text)
    if isinstance(block, Link):
        return f"{block.text} <{block.address}>"
    if isinstance(block, Points):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Table):
        left = left_columns(block)
        lines = [block.headings, [":--" if text else "--:" for text in left], *shown_rows(block)]
        return block.caption + "\n\n" + "\n".join(map(_line, lines))
    if isinstance(block, Picture):
        return f"![{block.caption}](figures/{block.name}.png)\n\n*{block.caption}*"
    if isinstance(block, Fold):
        return "\n\n".join([f"### {block.title}", *map(_markdown, block.blocks)])
    cells = [f"![{label}](tiles/{block.name}_{place:02d}.png)" for place, (label, _) in enumerate(block.panels)]
    labels = [label for label, _ in block.panels]
    lines = [labels, ["---"] * len(labels), cells]
    return f"**{block.title}**\n\n" + "\n".join(map(_line, lines))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def as_csv(table: Table) -> str:
    """Headings and rows. What a spreadsheet would run as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.headings)
    writer.writerows([_no_formula(cell) for cell in row] for row in table.rows)
    return out.getvalue()


def _no_formula(cell: str) -> str:
    runs = cell[:1] in ("=", "@", "\t", "\r") or (cell[:1] in ("+", "-") and not {*"(|!"}.isdisjoint(cell))
    return f"'{cell}" if runs else cell
