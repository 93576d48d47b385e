"""The report of a finished store: counts worked by hand, a picture and a page that stand alone, the same every time."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from tiny_scenes import WEST, lake, write_polygons, write_scene

from glidexp.config import DatasetConfig, DatasetKind, SplitBy, SplitConfig
from glidexp.data.prepare import prepare
from glidexp.data.show import contact, footprints, report_page
from glidexp.data.show.report_page import write_report
from glidexp.data.show.summary import beyond, show, summarise
from glidexp.data.store import TileStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    """Four scenes of 19 x 13 km with 200 m pixels. In each: lakes 3, 7 and 12 km from ice, and one of 4 pixels.

    The 7 km one is cut by the edge between two tiles. Scenes lie 100 km apart, in regions with a name to be escaped.
    """
    folder = tmp_path_factory.mktemp("report")
    lakes, ice, lines = [], [], ["path,sensor,region"]
    for n in range(4):
        east = n * 100_000
        write_scene(folder / f"s{n}.tif", west=WEST + east, gsd_m=200.0, seed=n)
        lines.append(f"s{n}.tif,unknown,{'<b>&' if n % 2 else 'north'}")
        ice.append(lake(east + 1_000, 5_000, 500.0))
        lakes += [lake(east + 1_500 + km * 1000 + 700, 5_000, 700.0) for km in (3, 12)]
        lakes += [lake(east + 1_500 + 7_000 + 700, 6_400, 700.0), lake(east + 2_700, 5_300, 226.0)]
    (folder / "scenes.csv").write_text("\n".join(lines) + "\n")
    dataset = DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(folder / "scenes.csv"),
        lakes=str(write_polygons(folder / "lakes.gpkg", lakes)),
        glaciers=str(write_polygons(folder / "ice.gpkg", ice)),
        split=SplitConfig(val=0.25, test=0.25),
    )
    return prepare(dataset, 32, folder / "data", progress=False)


def test_counts_are_those_of_the_inventory(store: TileStore) -> None:
    summary = summarise(store)
    assert summary.cut == summary.in_two == 4  # of each scene the one that lies over the edge, 6.4 km from the top
    places = summary.places.set_index("region")
    assert places.index.tolist() == ["<b>&", "north"]
    assert places["lakes"].tolist() == [6, 6] and places["under_6px"].tolist() == [2, 2]
    assert places[["train", "val", "test"]].to_numpy().sum() == places["tiles"].sum() == len(store)
    drawn_km2 = sum(int((label == 1).sum()) for label in store.labels) * 0.04
    assert places["lake_km2"].sum() == pytest.approx(drawn_km2)
    sizes = summary.sizes.set_index("size")
    assert sizes.loc["0.1-1km2", ["drawn", "far_from_ice"]].tolist() == [4, 0]
    assert sizes.loc["over_1km2", ["drawn", "far_from_ice", "in_no_tile"]].tolist() == [8, 4, 0]
    buffers = summary.buffers.set_index("buffer_m")
    assert buffers["dropped"].to_dict() == {5000: 8, 10000: 4, 15000: 0}
    assert buffers["kept"].to_dict() == {5000: 8, 10000: 12, 15000: 16}
    assert buffers.loc[10000, "dropped_km2"] == pytest.approx(4 * np.pi * 0.7**2, rel=0.01)
    far = beyond(summary.lakes, 10_000.0)
    assert len(far) == 4 and (far["glacier_distance_m"] - 12_000).abs().max() < 10
    assert (summary.lakes.loc[summary.lakes["area_km2"].between(0.1, 1), "area_px"] - 4).abs().max() < 0.1
    assert summary.dropped["lakes farther from a glacier than dataset.buffer_m"] == 4


def test_terminal_says_it_within_80_columns(store: TileStore) -> None:
    console = Console(width=80, record=True)
    with console.capture() as captured:
        show(store, console)
    text = captured.get()
    assert re.search(r"unknown\s+north\s+\d+\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+6\s+2\s*\n", text)
    assert re.search(r"10 km\s+4\s+6\.1\d\d\s+12", text)
    assert "left out: lakes farther from a glacier than dataset.buffer_m: 4" in text


class Page(HTMLParser):
    """What a page asks a browser to fetch, and its tags that are left open."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_stands_alone_and_is_the_same_again(store: TileStore, tmp_path: Path) -> None:
    first, second = write_report(store, tmp_path / "a"), write_report(store.path, tmp_path / "b")
    assert [path.name for path in first] == ["contact_sheet.png", "lakes_by_distance.csv", "report.html"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)
    text = first[2].read_text()
    page = Page()
    page.feed(text)
    assert not page.open and [url[:22] for url in page.fetched] == ["data:image/png;base64,"]
    assert page.tags.count("svg") == 4 and "script" not in page.tags and "b" not in page.tags
    assert "&lt;b&gt;&amp;" in text and "url(" not in text
    assert "<h3>lakes</h3>" in text and re.search(r"<th[^>]*></th>", text) is None, "a column without a heading"
    assert len(pd.read_csv(first[1])) == 8


def test_map_shows_each_side_where_its_tiles_are(store: TileStore) -> None:
    panels, hidden = footprints.maps(store, store.inventory)
    assert hidden == 0
    sides = []
    for panel in panels:
        svg = ElementTree.fromstring(panel).find("svg")
        paths = [path for path in svg.findall("path") if path.find("title") is not None]
        sides += [path.get("class") for path in paths]
        points = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", paths[0].get("d")), dtype=float)
        width, height = (float(value) for value in svg.get("viewBox").split()[2:])
        assert points.min() >= 9.9 and points[:, 0].max() <= width - 9.9 and points[:, 1].max() <= height - 9.9
        fates = [circle.get("class") for circle in svg.findall("circle")]
        assert sorted(fates) == ["far_from_ice", "labelled", "labelled", "labelled"]
    assert sorted(sides) == sorted(store.index.groupby("scene")["split"].first())


def test_the_page_says_of_lakes_and_groups_what_it_shows(
    store: TileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = "Points are lakes of the inventory"
    assert drawn in write_report(store, tmp_path)[-1].read_text()
    monkeypatch.setattr(footprints, "MOST_LAKES", 3)
    monkeypatch.setattr(contact, "MOST_ROWS", 1)
    text = write_report(store, tmp_path)[-1].read_text()
    assert "<circle" not in text and drawn not in text and "Its 16 lakes are more than the 3" in text
    assert "Only the first 1 of 2 sensors and regions are shown" in text
    bare = replace(store, index=store.index)
    bare.manifest = {key: value for key, value in store.manifest.items() if "inventory" not in key}
    text = write_report(bare, tmp_path)[-1].read_text()
    assert "Footprints of the tiles" in text and "inventory, red rings" not in text


def test_the_contact_sheet_names_all_pixel_sizes_of_a_group() -> None:
    assert contact._sizes(pd.Series([10.0, 10.0])) == ", 10 m"
    assert contact._sizes(pd.Series([4.0, 2.0, 2.0])) == ", 2 to 4 m"
    assert contact._sizes(pd.Series([2.0, np.nan])) == ""


def test_contact_sheet_outlines_lakes_on_their_outer_side(store: TileStore) -> None:
    image = np.full((256, 256, 3), 10, np.uint8)
    label = np.zeros((256, 256), np.uint8)
    label[100, 100], label[200:, :] = 1, 255
    thumb = contact.thumbnail(image, label)
    assert thumb.shape == (128, 128, 3)
    assert (thumb[50, 50] == 10).all() and (thumb[110, 5] == contact.VOID).all()
    outlined = np.argwhere((thumb == contact.LAKE_LINE).all(axis=-1)).tolist()
    assert outlined == [[49, 50], [50, 49], [50, 51], [51, 50]]
    assert contact.thumbnail(image[:32, :32], label[:32, :32]).shape == (128, 128, 3)
    sheet = contact.contact_sheet(store)
    assert isinstance(sheet, Image.Image) and sheet.width == 8 * 132 + 4
    colours = {pixel for _, pixel in sheet.getcolors(1 << 20)}
    assert contact.LAKE_LINE in colours and {contact.SIDES[side] for side in ("train", "val", "test")} <= colours


def test_tiles_without_place_or_inventory_are_reported_as_well(store: TileStore, tmp_path: Path) -> None:
    bare = replace(store, index=store.index.assign(transform=None, crs="", row=-1, col=-1, gsd_m=np.nan))
    bare.manifest = {key: value for key, value in store.manifest.items() if "inventory" not in key}
    text = write_report(bare, tmp_path)[-1].read_text()
    assert "No tile has a position" in text and "Distance to ice" not in text
    assert summarise(bare).places["lake_km2"].isna().all(), "no pixel size, no area"
    assert text.count('<td class="t">–</td></tr>') == 3, "no sum either"
    bare.manifest["split_rule"] = {"by": SplitBy.random.value}
    bare.manifest["recipe"], bare.manifest["skipped"] = {"overlap_px": 8}, {"s9": "s9.tif cannot be read <at all>"}
    text = write_report(bare, tmp_path)[-1].read_text()
    assert "scores on them leak" in text and "overlap by 8 px" in text
    assert "scene left out: s9.tif cannot be read &lt;at all&gt;" in text


def test_sides_of_map_and_sheet_have_the_same_colours_and_are_told_apart_in_grey() -> None:
    found = re.findall(r"path\.(\w+),\.k\.\w+\{fill:#(\w{6});background:#(\w{6})\}", report_page.STYLE)
    on_page = {side: tuple(bytes.fromhex(colour)) for side, colour, _ in found}
    assert on_page == contact.SIDES and all(fill == key for _, fill, key in found)
    light = sorted(np.dot(colour, (0.299, 0.587, 0.114)) for colour in contact.SIDES.values())
    assert min(np.diff(light)) > 40


def test_degrees_have_the_letter_of_their_half_of_the_globe() -> None:
    said = [footprints._degrees(*ends) for ends in ((-74.72, -74.62, "EW"), (179.9, 180.2, "EW"), (-0.5, 0.25, "NS"))]
    assert said == ["74.72 to 74.62 W", "179.90 E to 179.80 W", "0.50 S to 0.25 N"]
    assert footprints._degrees(86.6, 86.71, "EW") == "86.60 to 86.71 E"
