"""Style: tiles in the look of others, held against the Fourier transform of the whole tile, and what must stay."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from runs import small_config
from test_subset import Store as Tiles

from glidexp.config import AugmentationConfig, StyleConfig
from glidexp.config.unread import idle
from glidexp.data.subset import lenders_of
from glidexp.errors import ConfigError
from glidexp.models.card import read_card
from glidexp.models.load import find
from glidexp.release.card_page import _ground
from glidexp.tracking.store import open_store
from glidexp.training.augmentation import style as module
from glidexp.training.augmentation.augment import Augment
from glidexp.training.augmentation.style import Style, lenders, low_frequencies, style_of, waves
from glidexp.training.check import check
from glidexp.training.run import run

EVERYTHING = AugmentationConfig(
    flip=True, rot90=True, affine_p=0.5, rotate_deg=20, color_p=0.5, brightness=0.2, noise_p=0.3, noise_std=5
)


def tiles(count: int, height: int = 40, width: int = 40, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """uint8 (B, C, H, W) of patches with a gradient, so that low frequencies say something."""
    random = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    base = random.uniform(40, 160, (count, channels, 1, 1)) + random.uniform(-1, 1, (count, channels, 1, 1)) * rows
    base = base + random.uniform(-1, 1, (count, channels, 1, 1)) * cols + random.normal(0, 9, (count, channels, 1, 1))
    noisy = base + random.normal(0, 6, (count, channels, height, width))
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))


def amplitudes(images: torch.Tensor, b: int) -> torch.Tensor:
    height, width = images.shape[-2:]
    one, other = (waves(side, b, torch.device("cpu")) for side in (height, width))
    return torch.hypot(*low_frequencies(images.float(), one, other))


def exchanged(image: np.ndarray, other: np.ndarray, b: int) -> np.ndarray:
    """FDA as its authors write it: the middle of the shifted amplitudes is that of the other tile."""
    spectrum, theirs = np.fft.fft2(image, axes=(-2, -1)), np.fft.fft2(other, axes=(-2, -1))
    amplitude = np.fft.fftshift(np.abs(spectrum), axes=(-2, -1))
    wanted = np.fft.fftshift(np.abs(theirs), axes=(-2, -1))
    row, col = (side // 2 for side in image.shape[-2:])
    window = (..., slice(row - b, row + b + 1), slice(col - b, col + b + 1))
    amplitude[window] = wanted[window]
    mixed = np.fft.ifftshift(amplitude, axes=(-2, -1)) * np.exp(1j * np.angle(spectrum))
    return np.clip(np.real(np.fft.ifft2(mixed, axes=(-2, -1))), 0, 255)


@pytest.mark.parametrize(("height", "width", "b"), [(40, 40, 0), (40, 40, 3), (41, 32, 4), (33, 48, 1)])
def test_it_is_what_a_fourier_transform_of_the_whole_tile_gives(height: int, width: int, b: int) -> None:
    images, lent = tiles(5, height, width), tiles(3, height, width, seed=9)
    images[4] = 0  # nothing to scale
    found, places = images.float(), np.array([2, -1, 0, 1, -1])
    Style(amplitudes(lent, b), p=1.0, seed=0).put_on(found, places)
    for image, one, place in zip(images.numpy(), found.numpy(), places, strict=True):
        expected = image.astype(float) if place < 0 else exchanged(image.astype(float), lent[place].numpy(), b)
        assert one == pytest.approx(expected, abs=2e-2)
    assert not torch.equal(found[0], images[0].float()) and torch.equal(found[1], images[1].float())


def test_a_black_tile_takes_the_brightness_of_another() -> None:
    found, lent = torch.zeros(1, 3, 40, 40), tiles(1, seed=4)
    Style(amplitudes(lent, 0), p=1.0, seed=0).put_on(found, np.array([0]))
    assert found[0].mean((1, 2)).numpy() == pytest.approx(lent[0].float().mean((1, 2)).numpy(), rel=1e-4)


def test_bands_of_a_dem_stay() -> None:
    images = tiles(2, channels=4)
    found = images.float()
    Style(amplitudes(tiles(2, seed=3), 2), p=1.0, seed=0).put_on(found, np.array([0, 1]))
    assert torch.equal(found[:, 3], images[:, 3].float()) and not torch.equal(found[:, 0], images[:, 0].float())


def augment(style: Style | None, cfg: AugmentationConfig = EVERYTHING) -> Augment:
    return Augment(cfg, mean=[100.0] * 3, std=[50.0] * 3, seed=3, style=style)


def test_a_tile_is_the_same_whatever_batch_it_is_in_and_labels_stay() -> None:
    images, label = tiles(20), (tiles(20, channels=1)[:, 0] > 120).to(torch.uint8)
    style = Style(amplitudes(tiles(4, seed=8), 2), p=0.5, seed=3)
    rows = torch.arange(100, 120)
    whole = augment(style)(images, label, rows, 2)
    plain = augment(None)(images, label, rows, 2)
    assert torch.equal(whole.mask, plain.mask) and torch.equal(whole.valid, plain.valid)
    changed = [not torch.equal(a, b) for a, b in zip(whole.image, plain.image, strict=True)]
    assert changed == (style.places(rows.numpy(), 2) >= 0).tolist() and 4 < sum(changed) < 16
    some = [3, 17, 5]
    part = augment(style)(images[some], label[some], rows[some], 2)
    for place, row in enumerate(some):
        assert torch.allclose(part.image[place], whole.image[row], atol=1e-5)
    other = augment(style)(images, label, rows, 3)
    assert [not torch.equal(a, b) for a, b in zip(other.image, whole.image, strict=True)].count(True) > 10
    again = style.places(rows.numpy(), 2, np.full(20, 1))
    assert (again != style.places(rows.numpy(), 2)).any() and (
        style.places(rows.numpy(), 2, np.zeros(20, int)) == style.places(rows.numpy(), 2)
    ).all()


def test_without_other_augmentation_it_is_put_on_all_the_same() -> None:
    images, lent = tiles(3), tiles(1, seed=8)
    found = augment(Style(amplitudes(lent, 1), p=1.0, seed=0), AugmentationConfig())(
        images, torch.zeros(3, 40, 40, dtype=torch.uint8), torch.arange(3), 0
    )
    expected = np.stack([exchanged(one.astype(float), lent[0].numpy(), 1) for one in images.numpy()])
    assert found.image.numpy() == pytest.approx((expected - 100) / 50, abs=1e-3)


def test_how_often_and_from_whom() -> None:
    style = Style(torch.zeros(7, 3, 1, 1), p=0.3, seed=1)
    places = style.places(np.arange(4000), 0)
    assert np.mean(places >= 0) == pytest.approx(0.3, abs=0.03)
    shares = np.bincount(places[places >= 0], minlength=7) / (places >= 0).sum()
    assert shares == pytest.approx(np.full(7, 1 / 7), abs=0.03) and places.max() == 6
    assert (Style(torch.zeros(7, 3, 1, 1), p=1.0, seed=1).places(np.arange(50), 0) >= 0).all()


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives_and_never_waits() -> None:
    images, label = tiles(16), torch.zeros(16, 40, 40, dtype=torch.uint8)
    cfg = dataclasses.replace(EVERYTHING, noise_p=0.0)  # noise has other bits there
    lent = amplitudes(tiles(4, seed=8), 2)
    on_cpu = augment(Style(lent, p=0.5, seed=3), cfg)(images, label, torch.arange(16), 0)
    there, inputs = augment(Style(lent, p=0.5, seed=3), cfg), (images.cuda(), label.cuda(), torch.arange(16), 0)
    there(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = there(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.image.cpu(), on_cpu.image, atol=2e-3, rtol=0)


# ---- whose look


def test_training_tiles_of_the_named_places_lend_it() -> None:
    store: Any = Tiles()
    train = store.index["split"] == "train"
    of = {name: set(np.flatnonzero(train & (store.index["region"] == name))) for name in ("andes", "himalaya")}
    assert set(lenders_of(store, StyleConfig(regions=["andes"])).tolist()) == of["andes"]
    assert set(lenders_of(store, StyleConfig(regions=["all"])).tolist()) == of["andes"] | of["himalaya"]
    both = lenders_of(store, StyleConfig(regions=["andes"], sensors=["sentinel2"]))
    assert set(both.tolist()) == of["andes"] & set(np.flatnonzero(store.index["sensor"] == "sentinel2"))
    with pytest.raises(ConfigError, match=r"style.regions='tibet' is not known.*andes, himalaya"):
        lenders_of(store, StyleConfig(regions=["tibet"]))
    store.index.loc[store.index["region"] == "andes", "split"] = "test"
    with pytest.raises(ConfigError, match=r"style.regions=\[andes\], style.sensors=\[\]: no training tile is there"):
        lenders_of(store, StyleConfig(regions=["andes"]))


def test_whole_tiles_lend_it_before_others_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    store: Any = SimpleNamespace(index=pd.DataFrame({"valid_fraction": [1.0, 0.5, 1.0, 0.2, 1.0, 1.0, 0.1]}))
    rows = np.arange(7)
    found = lenders(store, rows)
    assert len(found) == 3 and set(found.tolist()) <= {0, 2, 4, 5} and (found == lenders(store, rows)).all()
    assert (np.diff(found) > 0).all()
    assert lenders(store, np.array([1, 3])).tolist() == [1, 3], "better than none"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"regions": ["andes", "andes"]}, r"style.regions=\[andes,andes\] names something twice"),
        ({"p": 0.0}, "style.p=0.0 is not possible: give a probability above 0"),
        ({"p": float("nan")}, "style.p=nan is not possible"),
        ({"beta": 0.3}, "style.beta=0.3 is outside 0 to 0.25"),
        ({"beta": -0.01}, "style.beta=-0.01 is outside 0 to 0.25"),
    ],
)
def test_what_is_not_possible_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        StyleConfig(**settings)


def test_a_place_that_the_data_lacks_is_told_before_data_is_made(tmp_path: Path) -> None:
    for word, says in (("regions=[tibet]", "style.regions='tibet'"), ("sensors=[landsat9]", "Did you mean 'landsat8'")):
        with pytest.raises(ConfigError, match=says):
            check(small_config(tmp_path, tmp_path, f"style.{word}"))
    assert [said for said in idle(small_config(tmp_path, tmp_path, "style.p=0.9")) if "style.p" in said]
    assert not idle(small_config(tmp_path, tmp_path, "style.p=0.9", "style.regions=[all]"))


# ---- a run


def test_a_run_in_the_look_of_another_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deterministic, another run than one without, and its card says whose look; of the target no label is read."""
    words = (
        "dataset.synthetic.regions=[andes,greenland]", "dataset.synthetic.scenes_per_sensor=6", "train.epochs=1",
        "subset.regions=[andes]", "subset.val_from=source", "tracking.log_masks=false", "tracking.probe_tiles=1",
    )  # fmt: skip
    styled = ("style.regions=[greenland]", "style.beta=0.05")
    config = small_config(tmp_path / "data", tmp_path / "mlruns", *words, *styled)
    made: list[Style | None] = []

    def noted(*given: Any, **more: Any) -> Style | None:
        made.append(style_of(*given, **more))
        return made[-1]

    monkeypatch.setattr("glidexp.training.run.style_of", noted)
    outcome = run(config, choices={})
    assert made[0] is not None and made[0].p == 0.5
    assert made[0].amplitudes.shape[1:] == (3, 2 * math.floor(0.05 * 64) + 1, 4)
    store = open_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db", tmp_path / "mlruns")
    bundle = find(outcome.run_id, store, Path("unused")).bundle
    card = read_card(bundle)
    assert card["style"] == dataclasses.asdict(config.style)
    said = "With probability 0.5 a training tile took on the look of one of regions greenland"
    assert said in " ".join(_ground(card, bundle).split())
    plain = run(small_config(tmp_path / "data", tmp_path / "mlruns", *words), choices={})
    assert made[1] is None
    assert plain.run_id != outcome.run_id and plain.metrics != outcome.metrics
