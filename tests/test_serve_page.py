"""The page of `glidexp serve` in a real browser, on the real server: a scene is dropped, its lakes are drawn."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import requests
import shapely
import torch
from browser import Browser, chromium
from PIL import Image
from tiny_scenes import NORTH, WEST, write_scene

from glidexp.models.build import assemble
from glidexp.models.export import save_bundle

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(r"http://127\.0\.0\.1:\d+")
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


def make_bundle(folder: Path) -> Path:
    """A tiny network with random weights."""
    torch.manual_seed(3)
    card: dict[str, Any] = {
        "architecture": {"backbone": "mobilenetv3", "decoder": "fcn", "in_channels": 3}, "mean": [128.0] * 3,
        "std": [64.0] * 3, "threshold": 0.5, "tile_px": 96, "bands": ["red", "green", "blue"],
        "sensors": ["sentinel2"],
    }  # fmt: skip
    return save_bundle(folder, assemble("mobilenetv3", "fcn", in_channels=3).eval(), card=card)


def answers(address: str, scene: Path) -> tuple[float, dict[str, Any]]:
    """A threshold above which a quarter of the scene is lake, and the GeoJSON that a program gets with it."""

    def sent(**words: Any) -> bytes:
        answer = requests.post(f"{address}/predict", params=words, data=scene.read_bytes(), headers=TIFF, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.content

    with rasterio.open(io.BytesIO(sent(format="geotiff", layer="probability"))) as file:
        threshold = round(float(np.percentile(file.read(1), 75)) / 254, 3)
    return threshold, json.loads(sent(threshold=threshold))


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


def patchy(folder: Path) -> Path:
    """A scene of fields of random brightness."""
    fields = np.random.default_rng(5).integers(100, 4000, (3, 5, 6)).repeat(32, axis=1).repeat(32, axis=2)
    noise = np.random.default_rng(6).integers(-90, 90, fields.shape)
    return write_scene(
        folder / "s.tif", pixels=(fields + noise).astype(np.uint16), descriptions=["red", "green", "blue"]
    )


@contextmanager
def real_server(bundle: Path, folder: Path) -> Iterator[str]:
    """`glidexp serve` in a process of its own; ends it with SIGTERM, and looks at how it ended."""
    words = ["--port", "0", "--folder", str(folder), "--device", "cpu", "--sensor", "sentinel2", "--max-mpx", "0.05"]
    job = subprocess.Popen(
        [sys.executable, "-m", "glidexp", "serve", str(bundle), *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip
    try:
        assert job.stdout is not None
        found = None
        while found is None:
            line = job.stdout.readline()
            assert line, job.communicate()[1]
            found = READY.search(line)
        yield found[0]
        job.send_signal(signal.SIGTERM)
        _, said = job.communicate(timeout=120)
        assert job.returncode == 0, said
        assert "Traceback" not in said
        assert not list(folder.iterdir())
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_scene_is_dropped_and_its_lakes_are_drawn(tmp_path: Path) -> None:
    chromium()
    scene, bundle = patchy(tmp_path), make_bundle(tmp_path / "bundle")
    with real_server(bundle, tmp_path / "served") as address, Browser(tmp_path / "profile", 1280, 900) as page:
        threshold, lakes = answers(address, scene)
        page.open(address)
        page.until("document.querySelector('#about').textContent.includes('bands red, green, blue')")
        page.ask(f"$('threshold').value = {threshold}; null")
        page.drop(scene, on="document.querySelector('#drop')")
        page.until("!document.querySelector('#view').hidden && !document.querySelector('#wait').offsetParent")
        told, count = page.ask("document.querySelector('#found').innerText"), lakes["summary"]["lakes"]
        assert told.startswith(f"{count}\nlakes\n") and "km² of lake" in told
        boxes, wanted = np.array(page.ask(DRAWN)), boxes_of(lakes)
        assert len(boxes) == count > 1
        np.testing.assert_allclose(boxes[np.lexsort(boxes.T)], wanted[np.lexsort(wanted.round(2).T)], atol=0.02)
        look_at_the_lakes(page)
        classes = page.ask("[...document.querySelectorAll('#sizes tbody tr')].map(r => +r.cells[1].textContent)")
        assert sum(classes) == count and len(classes) == 6
        files = page.ask("[...document.querySelectorAll('#files a')].map(a => a.href)")
        assert len(files) == 7
        assert all(requests.get(file, timeout=60).status_code == 200 for file in files)
        page.resize(390, 844)
        page.until("document.documentElement.scrollWidth <= 390 && innerWidth === 390")
        assert page.ask("document.querySelector('#stage').getBoundingClientRect().width <= 390")
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
