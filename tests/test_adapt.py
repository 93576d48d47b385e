"""Statistics of bands, and networks fitted to a target without its labels."""

import numpy as np
import pytest
import torch

from glidexp.config import Precision, SubsetConfig, TrainConfig
from glidexp.config.evaluation import Adapt, EvalConfig, EvalSplit
from glidexp.data.band_statistics import band_histograms, matching, moments, statistics_of
from glidexp.errors import ConfigError, DataError
from glidexp.training.device import resolve
from glidexp.training.final import plain
from glidexp.training.rescoring import adapt


class Store:
    """Four tiles of 8 px with two bands: 0 and 1 dark, 2 and 3 bright; a corner of each is not valid."""

    channels, path = 2, "nowhere"

    def __init__(self) -> None:
        self.manifest = {"channel_mean": [1.0, 2.0], "channel_std": [3.0, 4.0], "manifest_sha256": "0"}
        rng = np.random.default_rng(0)
        self.images = rng.integers(20, 60, (4, 8, 8, 2), dtype=np.uint8)
        self.images[2:] = 2 * self.images[:2] + 30
        self.labels = np.zeros((4, 8, 8), dtype=np.uint8)
        self.labels[:, :2, :2] = 255
        self.images[:, :2, :2] = 0

    def rows(self, split: str) -> np.ndarray:
        return np.arange(4 if split == "train" else 0)


def test_moments_are_numpys_over_valid_pixels() -> None:
    store = Store()
    rows = np.array([0, 3])
    pixels = store.images[rows][store.labels[rows] != 255].astype(float)
    mean, std = moments(band_histograms(store, rows))
    assert mean == pytest.approx(pixels.mean(axis=0)) and std == pytest.approx(pixels.std(axis=0))
    assert moments(np.zeros((1, 256), dtype=np.int64)) == ([0.0], [1.0])


def test_a_part_has_statistics_of_its_own() -> None:
    store = Store()
    assert statistics_of(store, np.arange(4), SubsetConfig()) == ([1.0, 2.0], [3.0, 4.0])
    for subset in (SubsetConfig(scenes=1), SubsetConfig()):  # which leaves tiles of some sensors to `sensor_mix`
        own = moments(band_histograms(store, np.array([0])))
        assert statistics_of(store, np.array([0]), subset) == own


def test_matching_undoes_a_change_that_never_falls() -> None:
    """The bright tiles are twice the dark ones plus 30: on their distribution each pixel gets its old value back."""
    store = Store()
    dark, bright = band_histograms(store, np.array([0, 1])), band_histograms(store, np.array([2, 3]))
    table = matching(bright, dark)
    assert (np.diff(table.astype(int), axis=1) >= 0).all()
    valid = store.labels[2:] != 255
    for band in range(2):
        assert np.array_equal(table[band][store.images[2:, :, :, band]][valid], store.images[:2, :, :, band][valid])
        same = matching(dark, dark)[band]
        assert np.array_equal(same[store.images[:2, :, :, band][valid]], store.images[:2, :, :, band][valid])


def test_a_matched_image_is_the_one_the_model_knows() -> None:
    store = Store()
    runtime = resolve(TrainConfig(threads=1))
    normalise = plain([40.0, 40.0], [10.0, 10.0], runtime)
    card = {"histogram": band_histograms(store, np.array([0, 1])).tolist()}
    changed = adapt.matched(normalise, card, [0, 1], store, np.array([2, 3]), runtime.device)
    image = [torch.from_numpy(store.images[a:b]).permute(0, 3, 1, 2) for a, b in ((0, 2), (2, 4))]
    label, rows = torch.from_numpy(store.labels[:2]), torch.arange(2)
    wanted, found = normalise(image[0], label, rows, 0), changed(image[1], label, rows, 0)
    valid = found.valid.bool().expand_as(found.image) if found.valid.ndim == 4 else found.valid.bool()[:, None]
    assert torch.equal((wanted.image * valid).float(), (found.image * valid).float())
    with pytest.raises(DataError, match="no histogram of its training tiles"):
        adapt.matched(normalise, {}, [0, 1], store, np.array([2, 3]), runtime.device)


def test_a_network_without_batch_statistics_is_refused() -> None:
    runtime = resolve(TrainConfig(threads=1))
    with pytest.raises(ConfigError, match="no batch normalisation"):
        adapt.with_statistics_of(torch.nn.Conv2d(2, 1, 1), Store(), np.arange(2), None, runtime, 2)


def test_what_is_fitted_is_not_scored() -> None:
    for values in ({"threshold": "val"}, {"adapt": Adapt.histogram}):
        EvalConfig(**values)
        with pytest.raises(ConfigError, match=r"eval\.split=test"):
            EvalConfig(split=EvalSplit.all, **values)


class Scenes:
    """Ten tiles of 8 px with one band, as a store holds them: of a dark scene, then of one of bright water."""

    channels, path = 1, "nowhere"

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 40, (10, 8, 8, 1), dtype=np.uint8)
        self.images[5:] += 200
        self.labels = np.zeros((10, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("batch", [4, 3])
def test_batch_statistics_of_a_target_are_of_its_scenes_together(batch: int) -> None:
    """Batches of one scene each do not show how far scenes are apart, and a last one of fewer tiles is no more than
    these."""
    store, runtime = Scenes(), resolve(TrainConfig(threads=1, precision=Precision.fp32))
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1))
    normalise = plain([0.0], [1.0], runtime)
    found = adapt.with_statistics_of(model, store, np.arange(10), normalise, runtime, batch)[0]
    pixels = store.images.astype(float)
    assert found.running_mean.item() == pytest.approx(pixels.mean(), rel=0.12)
    assert found.running_var.item() == pytest.approx(pixels.var(), rel=0.3), "of each scene alone it is 1 % of that"
    assert model[0].running_mean.item() == 0, "the model stays as it was"
