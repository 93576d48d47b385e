"""The page of `glidexp serve` in a real browser: a scene is dropped on it, its lakes are drawn over the picture."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import requests
import shapely
from browser import Browser, chromium
from PIL import Image
from test_serve import Inside, a_scene, bundle, served
from tiny_scenes import NORTH, WEST

from glidexp.mapping.settings import MapSettings
from glidexp.serving import mapper
from glidexp.serving.settings import ServeSettings
from glidexp.serving.worker import Setup

__all__ = ["bundle"]
DRAWN = "[...document.querySelectorAll('path.lake')].map(p => (b => [b.x, b.y, b.width, b.height])(p.getBBox()))"
"""boxes of the lakes on the page, in pixels of the scene"""
INSIDE = """
  const length = path => path.getTotalLength(), around = [[0, 0], [2, 0], [-2, 0], [0, 2], [0, -2]];
  const largest = [...document.querySelectorAll('path.lake')].sort((a, b) => length(b) - length(a))[0];
  const box = largest.getBBox(), good = [];
  for (let y = box.y + 2.5; y < box.y + box.height; y++) for (let x = box.x + 2.5; x < box.x + box.width; x++)
    if (around.every(d => largest.isPointInFill(new DOMPoint(x + d[0], y + d[1])))) good.push([x, y]);
  const inside = new DOMPoint(...good[0]);
  null
"""
"""finds the middle of a pixel from which two pixels all around are lake too"""
TIFF = {"Content-Type": "image/tiff"}


def boxes_of(lakes: dict[str, Any]) -> np.ndarray:
    """Left, top, width and height of each lake of a GeoJSON, in pixels of the scene."""
    to_map = pyproj.Transformer.from_crs(4326, 32645, always_xy=True)
    out = []
    for lake in lakes["features"]:
        points = shapely.get_coordinates(shapely.geometry.shape(lake["geometry"]))
        x, y = to_map.transform(*points.T)
        left, top = (x - WEST) / 10, (NORTH - y) / 10
        out.append([left.min(), top.min(), np.ptp(left), np.ptp(top)])
    return np.array(out)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_scene_is_dropped_and_its_lakes_are_drawn(bundle: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    settings = ServeSettings(maps=MapSettings(device="cpu"), sensor="sentinel2", max_mpx=0.05)
    worker = Inside(mapper.begin(Setup(bundle[0], "a-model", settings)))
    chromium()
    with (
        served(tmp_path / "served", bundle[1], worker, settings) as address,
        Browser(tmp_path / "profile", 1280, 900) as page,
    ):
        lakes = requests.post(f"{address}/predict", data=scene.read_bytes(), headers=TIFF, timeout=120).json()
        page.open(address)
        page.until("document.querySelector('#about').textContent.includes('bands red, green, blue')")
        page.drop(scene, on="document.querySelector('#drop')")
        page.until("!document.querySelector('#view').hidden && !document.querySelector('#wait').offsetParent")
        told, count = page.ask("document.querySelector('#found').innerText"), lakes["summary"]["lakes"]
        assert told.startswith(f"{count}\nlakes\n") and "km² of lake" in told
        boxes, wanted = np.array(page.ask(DRAWN)), boxes_of(lakes)
        assert len(boxes) == count == 4
        np.testing.assert_allclose(boxes[np.lexsort(boxes.T)], wanted[np.lexsort(wanted.round(2).T)], atol=0.02)
        look_at_the_lakes(page)
        classes = page.ask("[...document.querySelectorAll('#sizes tbody tr')].map(r => +r.cells[1].textContent)")
        assert sum(classes) == count and len(classes) == 6
        files = page.ask("[...document.querySelectorAll('#files a')].map(a => a.href)")
        assert len(files) == 7
        assert all(requests.get(file, timeout=60).status_code == 200 for file in files)
        page.resize(390, 844)
        page.until("document.documentElement.scrollWidth <= 390 && innerWidth === 390")
        page.until("document.querySelector('#stage').getBoundingClientRect().width <= 390")  # laid out anew by an event
        text = tmp_path / "notes.tif"
        text.write_text("this is no scene")
        page.drop(text, on="document.querySelector('#view')")
        page.until("document.querySelector('#error').innerText.includes('no raster')")
        assert page.ask("document.querySelector('#view').hidden") is True
        assert [one for one in page.complaints if "415" not in one] == []


def look_at_the_lakes(page: Browser) -> None:
    """The colour in the middle of the largest lake, as it is seen, follows the slider; a click tells of it."""
    page.ask(INSIDE)
    x, y = page.ask("(m => { const p = inside.matrixTransform(m); return [p.x, p.y]; })($('lakes').getScreenCTM())")

    def colour(share: int) -> np.ndarray:
        page.ask(f"$('opacity').value = {share}; $('opacity').dispatchEvent(new Event('input')); null")
        seen = np.array(Image.open(io.BytesIO(page.picture())).convert("RGB"))
        return seen[int(y), int(x)].astype(int)

    bare, full, half = colour(0), colour(100), colour(50)
    np.testing.assert_allclose(full, [0, 200, 255], atol=2)
    np.testing.assert_allclose(half, (bare + full) / 2, atol=3)
    page.click(x, y)
    assert page.ask("$('chosen').textContent").startswith("lake GL")
