"""Copies of tiles are found however they lie, and tiles that only look alike are not."""

import io
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from glidexp.data.check import near
from glidexp.data.check.duplicates import turns
from glidexp.data.check.near import ALIKE, SHIFT_PX, Sieve, look_at, near_pairs, parts
from glidexp.data.splits import connected

PX = 64
DISTINCT, COPIED, TIMES = 400, 82, 5
KINDS = ((1.5, 20, 220, 3.0), (2.2, 225, 240, 1.2), (2.5, 40, 52, 1.0), (1.0, 60, 200, 2.0))
"""rock, snow, water, rubble: steepness of the spectrum, darkest and brightest grey, noise of the sensor"""


class Tiles(NamedTuple):
    """As much of a store as is looked at."""

    images: np.ndarray
    labels: np.ndarray
    index: pd.DataFrame
    tile_px: int


def tiles(images: list[np.ndarray], labels: list[np.ndarray] | None = None) -> Tiles:
    stack = np.stack(images)
    masks = np.zeros(stack.shape[:3], np.uint8) if labels is None else np.stack(labels)
    index = pd.DataFrame({"tile": [str(i) for i in range(len(stack))], "valid_fraction": (masks != 255).mean((1, 2))})
    return Tiles(stack, masks, index, stack.shape[1])


def texture(rng: np.random.Generator, px: int, steep: float, low: float, high: float, noise: float) -> np.ndarray:
    """(px, px, 3) of a picture whose details follow a power law, as ground does."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(px), np.fft.fftfreq(px)))
    frequency[0, 0] = 1
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(px, px))) / frequency**steep).real
    grey = low + (high - low) * (field - field.min()) / np.ptp(field)
    image = grey[..., None] * (1, 0.97, 0.92) + rng.normal(size=(px, px, 3)) * noise
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def ground() -> list[np.ndarray]:
    """400 pieces of ground, wider than a tile. A half of them are flat snow and water."""
    rng = np.random.default_rng(1)
    return [texture(rng, PX + 2 * SHIFT_PX, *KINDS[i % 4]) for i in range(DISTINCT)]


def cut(piece: np.ndarray, down: int = 0, right: int = 0) -> np.ndarray:
    return np.ascontiguousarray(piece[SHIFT_PX + down :, SHIFT_PX + right :][:PX, :PX])


def every(store: Tiles) -> np.ndarray:
    return np.arange(len(store.images), dtype=np.int64)


def turned(image: np.ndarray, position: int) -> np.ndarray:
    return np.ascontiguousarray(np.stack([turns(band)[position] for band in np.moveaxis(image, -1, 0)], axis=-1))


def found(store: Tiles) -> set[tuple[int, int]]:
    table = near_pairs(look_at(store, every(store)))
    return set(zip(table["a"].tolist(), table["b"].tolist(), strict=True))


def test_all_copies_that_were_flipped_and_turned_and_no_false_pair(ground: list[np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    images = [cut(piece) for piece in ground]
    for i in range(COPIED):
        images += [turned(images[i], int(position)) for position in rng.permutation(np.arange(1, 8))[:TIMES]]
    of = [*range(DISTINCT), *np.repeat(np.arange(COPIED), TIMES).tolist()]
    pairs = found(tiles(images))
    assert pairs == {(a, b) for a in range(len(of)) for b in range(a + 1, len(of)) if of[a] == of[b]}
    assert len(pairs) == COPIED * (TIMES + 1) * TIMES // 2


def test_copies_that_were_moved_brightened_and_stored_anew(ground: list[np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    images = [cut(piece) for piece in ground]
    of = [*range(DISTINCT)]
    for i in range(COPIED):
        moved = turned(cut(ground[i], *rng.integers(-4, 5, 2)), int(rng.integers(8)))
        images.append(np.clip(moved.astype(int) + rng.integers(-6, 7), 0, 255).astype(np.uint8))
        of.append(i)
        if i % 4 in (0, 3):  # as JPEG, fields of snow keep nothing to be known by but a few lumps
            content = io.BytesIO()
            Image.fromarray(moved).save(content, "JPEG", quality=85)
            images.append(np.asarray(Image.open(content)))
            of.append(i)
    pairs = found(tiles(images))
    assert {(a, b) for a, b in pairs if of[a] != of[b]} == set()
    groups = [group for group in connected(len(of), pairs) if len(group) > 1]
    assert sum(len(group) for group in groups) - len(groups) >= len(of) - DISTINCT - 1  # one may be missed


def test_position_shift_and_labels_are_told(ground: list[np.ndarray]) -> None:
    label = np.zeros((PX, PX), np.uint8)
    label[10:30, 20:50] = 1
    first = cut(ground[0])
    for position in range(8):
        own = turned(first, position)
        moved = np.roll(own, (3, -2), axis=(0, 1))
        other = np.roll(turns(label)[position], (3, -2), axis=(0, 1))
        table = near_pairs(
            look_at(tiles([first], [label]), np.array([0])), look_at(tiles([moved], [other]), np.array([0]))
        )
        assert table[["position", "down", "right"]].to_numpy().tolist() == [[position, 3, -2]]
        assert table["label_iou"].tolist() == [1.0] and table["difference"].iloc[0] < 0.5


def test_what_has_nothing_to_be_known_by_takes_no_part(ground: list[np.ndarray]) -> None:
    """White tiles, white tiles with a rock each at the same place, and different ground under the same padding."""
    rng = np.random.default_rng(4)
    white = [np.full((PX, PX, 3), 255, np.uint8) for _ in range(3)]
    rocks = [image.copy() for image in white]
    for image in rocks:
        image[18:30, 28:40][rng.random((12, 12)) < 0.5] = 40
    label = np.zeros((PX, PX), np.uint8)
    label[:, 24:] = 255
    padded = [np.where(label[..., None] == 255, 0, cut(ground[i])).astype(np.uint8) for i in (0, 4, 8, 1, 5)]
    store = tiles([*white, *rocks, *padded, padded[0]], [np.zeros_like(label)] * 6 + [label] * 6)
    assert found(store) == {(6, 11)}


def test_two_stores_and_many_tiles_are_compared_in_parts(
    ground: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glidexp.data.check.near._PART", 7)
    one, other = tiles([cut(piece) for piece in ground[:20]]), tiles([cut(ground[i]) for i in (30, 5, 31, 19)])
    told: list[str] = []
    table = near_pairs(look_at(one, every(one)), look_at(other, np.array([1, 3, 2])), told.append)
    assert table[["a", "b"]].to_numpy().tolist() == [[5, 0], [19, 1]]
    assert len(told) == parts(20, 3) == 3
    told.clear()
    assert near_pairs(look_at(one, every(one)), step=told.append).empty and len(told) == parts(20) == 6
    small = tiles([image[:32, :32] for image in other.images])
    assert near_pairs(look_at(one, every(one)), look_at(small, every(small))).empty


def test_a_part_is_told_of_when_its_pairs_were_laid_over_each_other(
    ground: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was when they were known, so that the bar stood at its end while the long work began."""
    monkeypatch.setattr(near, "_PART", 8)
    happened: list[str] = []
    laid = near.lay_over
    monkeypatch.setattr(near, "lay_over", lambda *words: (happened.append("laid"), laid(*words))[1])
    store = tiles([cut(piece) for piece in ground[:16]] * 2)
    found = near_pairs(look_at(store, every(store)), None, happened.append)
    assert set(zip(found["a"], found["b"], strict=True)) >= {(i, i + 16) for i in range(0, 16, 4)}
    assert happened[-1] == "32 x 32" and len(happened) - happened.count("laid") == parts(len(store.images))
    assert happened.index("laid") < happened.index("16 x 32"), "as they come"


def test_the_sieve_loses_no_pair_and_lets_few_others_through() -> None:
    rng = np.random.default_rng(5)
    kinds = rng.normal(size=(60, 96))
    rows = np.repeat(kinds, 5, axis=0) + rng.normal(size=(300, 96)) * rng.uniform(0.2, 0.9, (300, 1))
    rows *= 0.9 ** np.arange(96)  # a few axes hold most of it, as those of smoothed pictures do
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rows[7] = 0  # a flat tile
    sieve = Sieve([rows[:200], rows[200:]])
    coarse = sieve.of(rows)
    passed = set(zip(*(places.tolist() for places in sieve.passing(coarse, coarse)), strict=True))
    alike = set(map(tuple, np.argwhere(rows.astype(np.float64) @ rows.T >= ALIKE).tolist()))
    assert len(alike) > 600 and alike <= passed
    unlike = len(rows) ** 2 - len(alike)
    assert len(passed - alike) < 0.02 * unlike and coarse.shape[1] < 96 / 3
