"""The report of a build: one HTML page without scripts or anything fetched, and its contact sheet as a picture."""

import base64
import json
import logging
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from glidexp.beside import beside, write_text
from glidexp.data.show import contact, footprints
from glidexp.data.show.summary import (
    BUFFERS_M,
    SMALLEST_PX,
    Summary,
    area_of,
    beyond,
    cautions,
    km,
    known_places,
    odd,
    summarise,
)
from glidexp.data.store import SPLITS, TileStore
from glidexp.errors import DataError
from glidexp.wording import does, many

log = logging.getLogger("glidexp")
PAGE, SHEET, FAR = "report.html", "contact_sheet.png", "lakes_by_distance.csv"
MOST_LISTED = 100
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.6em 0}th,td{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}
th{background:#f3f3f3}td.t,th.t{text-align:left}.maps{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0}
figcaption{font-size:13px;color:#555}svg text{font-size:12px}.frame{fill:#f7f5f0;stroke:#bbb}.bar{stroke:#222;
stroke-width:2}path.train,.k.train{fill:#6ea5d7;background:#6ea5d7}path.val,.k.val{fill:#facd50;background:#facd50}
path.test,.k.test{fill:#8c1e14;background:#8c1e14}path.train,path.val,path.test{fill-opacity:.85;stroke:#333;
stroke-width:.4;fill-rule:evenodd}circle{stroke:#0b3a5b;stroke-width:.7;fill:#dff3ff}
circle.far_from_ice,circle.too_small{fill:none;stroke:#ff2d20;stroke-width:1.2}
.k{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}.warn{background:#fff3cd;padding:.6em 1em}
img{max-width:100%}code,pre{font-size:13px}pre{white-space:pre-wrap;word-break:break-all}
"""


def write_report(store: TileStore | Path | str, folder: Path) -> list[Path]:
    """Writes `report.html`, `contact_sheet.png` and, where distances to ice are known, `lakes_by_distance.csv`.

    Everything comes from the finished store, so the same store gives the same page.

    Args:
        store: an opened store or its folder
        folder: made where it is not there; earlier reports in it are replaced

    Returns:
        the files that were written

    Raises:
        DataError: no store, a damaged one, or a folder that cannot be written
    """
    store = store if isinstance(store, TileStore) else TileStore.open(store)
    summary, sheet = summarise(store), contact.contact_sheet(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with beside(folder / SHEET) as place:
            contact.save(sheet, place)
            picture = place.read_bytes()
        written = [folder / SHEET]
        if summary.buffers is not None and summary.lakes is not None:
            table = beyond(summary.lakes, min(BUFFERS_M)).drop(columns=["area_px", "gsd_m", "cut"])
            _write(folder / FAR, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"), written)
        _write(folder / PAGE, _page(store, summary, picture), written)
    except OSError as error:
        raise DataError(
            f"the report cannot be written to {folder} ({error.strerror}): make room or allow it."
        ) from None
    return written


def write_beside(store: TileStore) -> None:
    """Writes the report into the store's folder `report` and says where; the store is whole without it, too."""
    try:
        print(f"report: {write_report(store, store.path / 'report')[-1]}")
    except DataError as error:
        log.warning("%s", error)


def _write(path: Path, text: str, written: list[Path]) -> None:
    write_text(path, text)
    written.append(path)


def _page(store: TileStore, summary: Summary, sheet: bytes) -> str:
    manifest = store.manifest
    name = escape(str(store.path.name))
    body = [
        f"<h1>Tile store {name}</h1>",
        f"<p>{many(len(store), 'tile')} of {store.tile_px} px, bands "
        f"{escape(', '.join(map(str, manifest['bands'])))}. Data "
        f"<code>{store.data_hash[:16]}</code>, split <code>{store.split_hash[:16]}</code>.</p>",
        *(f'<p class="warn">{escape(caution)}</p>' for caution in cautions(store)),
        *_ready(store),
        "<h2>Tiles and lakes</h2>",
        _places(summary),
        *_lakes(store, summary),
        "<h2>Left out</h2>",
        _table(["why", "number"], [[why, n] for why, n in summary.dropped.items()]),
        "<h2>Split</h2>",
        _table(["setting", "value"], [[key, str(value)] for key, value in sorted(manifest["split_rule"].items())]),
        "<h2>Map</h2>",
        *_map(store),
        "<h2>Contact sheet</h2><p>Tiles of each sensor and region, from few lakes to many; lakes are outlined on their "
        f"outer side, ground that is not valid is grey, the bar tells the side.{_cut_short(summary)}</p>",
        f'<img alt="contact sheet" src="data:image/png;base64,{base64.b64encode(sheet).decode()}">',
        "<h2>How it was made</h2>",
        *_made(manifest),
    ]
    head = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width"><title>Tile store {name}</title>'
        f"<style>{STYLE}</style></head>"
    )
    return head + "<body>" + "\n".join(body) + "</body></html>\n"


def _cut_short(summary: Summary) -> str:
    """What the contact sheet does not show."""
    groups, most = len(summary.places), contact.MOST_ROWS
    return f" Only the first {most} of {groups} sensors and regions are shown." if groups > most else ""


def _ready(store: TileStore) -> Iterable[str]:
    """What was found in pictures that somebody else had cut."""
    manifest = store.manifest
    if "pairs" not in manifest:
        return
    yield from (f'<p class="warn">{escape(line)}</p>' for line in odd(store))
    yield "<h2>What was read</h2>"
    yield _table(["pairs of", "number"], list(manifest["pairs"].items()))
    yield _table(["values of the label", "labels"], list(manifest.get("labels", {}).items()))
    yield f"<p>Known: {escape(known_places(store))}.</p>"


def _places(summary: Summary) -> str:
    places = summary.places
    headings = ["sensor", "region", *SPLITS, "tiles", "lake km²"]
    headings += ["lakes", f"of these under {SMALLEST_PX} px"] if summary.lakes is not None else []
    total = ["all", "", *places[[*SPLITS, "tiles"]].sum().tolist(), area_of(places["lake_km2"].sum(skipna=False))]
    total += places[["lakes", "under_6px"]].sum().tolist() if summary.lakes is not None else []
    return _table(headings, [*summary.cells_of_places(), total])


def _lakes(store: TileStore, summary: Summary) -> Iterable[str]:
    if summary.lakes is None or summary.sizes is None:
        return
    counts = [f"{key.replace('_', ' ')} {n}" for key, n in store.manifest["lakes"].items()]
    yield f"<p>Inventory: {escape(', '.join(counts))}.</p>"
    yield "<h2>Lakes by size</h2><p>A lake in two scenes, or in two parts of one, counts in each.</p>"
    headings = ["area", "drawn", "in no tile", "far from ice", "too small", "drawn km²"]
    yield _table(headings, summary.cells_of_sizes())
    yield (
        "<p>In no tile: drawn into the label, but on ground that is not valid, in a tile that was left out, or without "
        f"the centre of a pixel. Cut by an edge of a tile or of the scene: {many(summary.cut, 'lake')}; in more "
        "than one tile: "
        f"{summary.in_two}.</p>"
    )
    if summary.buffers is None:
        yield "<p>No glaciers were given, so distances to ice are not known.</p>"
        return
    yield "<h2>Distance to ice</h2>"
    yield _table(["dataset.buffer_m", "would drop", "km²", "keep", "km²"], summary.cells_of_buffers())
    far = beyond(summary.lakes, min(BUFFERS_M))
    if not len(far):
        yield f"<p>No lake is farther than {km(min(BUFFERS_M))} from ice.</p>"
        return
    shown = f"The {MOST_LISTED} nearest of" if len(far) > MOST_LISTED else "The"
    yield f"<p>{shown} {many(len(far), 'lake')} beyond {km(min(BUFFERS_M))}, all of them in {FAR}:</p>"
    yield _table(["lake", "scene", "km to ice", "km²", "what became of it"], _far_rows(far.head(MOST_LISTED)))


def _far_rows(far: pd.DataFrame) -> list[list[Any]]:
    return [
        [
            str(row["lake"]),
            str(row["scene"]),
            f"{row['glacier_distance_m'] / 1000:.2f}" if row["glacier_distance_m"] < 1e9 else "none near",
            f"{row['area_km2']:.4f}",
            str(row["fate"]).replace("_", " "),
        ]
        for row in far.to_dict("records")
    ]


def _map(store: TileStore) -> Iterable[str]:
    panels, hidden = footprints.maps(store, store.inventory)
    if not panels:
        yield "<p>No tile has a position.</p>"
        return
    keys = "".join(f'<span class="k {side}"></span>{side}' for side in SPLITS)
    points = ""
    if store.inventory is not None:
        points = " Points are lakes of the inventory, red rings dropped ones."
        if (count := footprints.lakes_of(store.inventory)) > footprints.MOST_LAKES:
            points = f" Its {count} lakes are more than the {footprints.MOST_LAKES} of which points are drawn."
    yield f"<p>Footprints of the tiles:{keys}.{points}</p>"
    yield f'<div class="maps">{"".join(panels)}</div>'
    if hidden:
        yield f"<p>{many(hidden, 'more group')} of scenes {does(hidden, 'are')} not drawn.</p>"


def _made(manifest: dict[str, Any]) -> Iterable[str]:
    for name, entry in manifest.get("inventories", {}).items():
        rows = [
            [key.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value)]
            for key, value in entry.items()
            if value not in ("", [], False)
        ]
        yield f"<h3>{escape(name)}</h3>{_table(['property', 'value'], rows)}"
    if "parts" in manifest:
        yield f"<h3>Scenes cut into parts</h3><p>{escape(manifest['parts']['rule'])}</p>"
        yield _details("where they were cut", manifest["parts"]["scenes"])
    yield _details("limits of the stretch, by scene", manifest["stretch"])
    yield _details("recipe", manifest["recipe"])


def _details(title: str, value: Any) -> str:
    text = escape(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; columns of text to the left, numbers to the right."""
    if not rows:
        return "<p>nothing</p>"
    left = [
        n == 0 or all(isinstance(row[n], str) and not row[n][:1].isdigit() for row in rows)
        for n in range(len(headings))
    ]

    def line(cells: Sequence[Any], tag: str) -> str:
        marks = [' class="t"' if text else "" for text in left]
        return "".join(f"<{tag}{m}>{escape(str(c))}</{tag}>" for m, c in zip(marks, cells, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(headings, 'th')}</tr></thead><tbody>{body}</tbody></table>"
