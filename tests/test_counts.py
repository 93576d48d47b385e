"""Histograms against counting pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from glidexp.errors import ConfigError
from glidexp.scoring import counts
from glidexp.scoring.counts import (
    BINS,
    EDGES,
    PROBABILITY,
    bin_of_threshold,
    histograms_of_bins,
    logit_bins,
    nan_pixels,
    threshold_of_bin,
)


def tile_histograms(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return histograms_of_bins(logit_bins(logits), label)


def by_hand(logits: torch.Tensor, label: torch.Tensor) -> np.ndarray:
    """The definition: open outer bins, lower edge inside, NaN in bin 0, labels above 1 nowhere."""
    inner = EDGES[1:-1]
    found = np.zeros((len(label), 2, BINS), dtype=np.int64)
    values = np.nan_to_num(logits[:, 0].double().numpy(), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    place = np.searchsorted(inner, values, side="right")
    for b, i, j in np.ndindex(*label.shape):
        if label[b, i, j] <= 1:
            found[b, int(label[b, i, j]), place[b, i, j]] += 1
    return found


def some(shape: tuple[int, int, int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], 1, *shape[1:], generator=rng) * 8
    label = torch.tensor([0, 1, 255], dtype=torch.uint8)[torch.randint(0, 3, shape, generator=rng)]
    return logits, label


def test_edges_are_257_exact_eighths_with_half_at_bin_128() -> None:
    assert len(EDGES) == 257 and EDGES[0] == -16 and EDGES[128] == 0 and EDGES[256] == 16
    assert set(np.diff(EDGES)) == {0.125}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_equals_counting_pixel_by_pixel(dtype: torch.dtype) -> None:
    logits, label = some((3, 17, 23))
    logits = logits.to(dtype)
    logits[0, 0, 0, :8] = torch.tensor([1e4, -1e4, math.inf, -math.inf, math.nan, 0.0, -0.0, 16.0], dtype=dtype)
    label[0, 0, :8] = 1
    found = tile_histograms(logits, label)
    assert found.dtype == torch.int32 and found.shape == (3, 2, BINS)
    np.testing.assert_array_equal(found.numpy(), by_hand(logits, label))


def test_every_edge_belongs_to_the_bin_above_it_and_its_left_neighbour_does_not() -> None:
    edges = torch.tensor(EDGES[1:-1], dtype=torch.float32)
    below = torch.nextafter(edges, torch.tensor(-math.inf))
    for values, shift in ((edges, 0), (below, -1)):
        found = tile_histograms(values.view(1, 1, 1, -1), torch.ones(1, 1, 255, dtype=torch.uint8))[0, 1]
        expected = np.zeros(BINS, dtype=np.int64)
        np.add.at(expected, np.arange(1, 256) + shift, 1)
        np.testing.assert_array_equal(found.numpy(), expected)


def test_the_accelerators_way_gives_the_same_counts() -> None:
    slot = torch.randint(0, 3 * BINS, (4, 999), generator=torch.Generator().manual_seed(1)).to(torch.int16)
    assert torch.equal(counts._by_scatter(slot).long(), counts._by_bincount(slot))


@pytest.mark.gpu
def test_cuda_equals_cpu_without_a_sync() -> None:
    logits, label = some((4, 64, 65))
    on_gpu = logits.cuda(), label.cuda()
    tile_histograms(*on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = tile_histograms(*on_gpu)
        nan_pixels(on_gpu[0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), tile_histograms(logits, label))


def test_sum_is_the_valid_pixels_and_invalid_ones_are_nowhere() -> None:
    logits, label = some((2, 32, 32))
    label[1] = 255
    found = tile_histograms(logits, label)
    assert found[0].sum() == (label[0] <= 1).sum() and found[1].sum() == 0


def test_tiles_add_up_to_the_whole() -> None:
    logits, label = some((4, 16, 16))
    whole = tile_histograms(logits.reshape(1, 1, 64, 16), label.reshape(1, 64, 16))[0]
    assert torch.equal(tile_histograms(logits, label).sum(0), whole)


def test_memory_layout_gradient_and_inputs_are_left_alone() -> None:
    logits, label = some((2, 16, 16))
    kept = logits.clone()
    plain = tile_histograms(logits, label)
    channels_last = logits.to(memory_format=torch.channels_last).requires_grad_()
    turned = tile_histograms(logits.mT.contiguous().mT, label)
    assert torch.equal(tile_histograms(channels_last, label), plain) and torch.equal(turned, plain)
    assert torch.equal(logits, kept)


def test_nan_is_counted_as_sure_background_and_found_by_its_check() -> None:
    logits = torch.zeros(2, 1, 4, 4)
    logits[1, 0, 0, :3] = math.nan
    assert nan_pixels(logits).tolist() == [0, 3]
    found = tile_histograms(logits, torch.ones(2, 4, 4, dtype=torch.uint8))
    assert found[1, 1, 0] == 3 and found[1].sum() == 16


def test_no_tiles_give_no_histograms() -> None:
    assert tile_histograms(torch.zeros(0, 1, 4, 4), torch.zeros(0, 4, 4, dtype=torch.uint8)).shape == (0, 2, BINS)


def test_thresholds_and_bins_are_each_others_inverse() -> None:
    assert [bin_of_threshold(threshold_of_bin(k)) for k in range(BINS + 1)] == list(range(BINS + 1))
    assert threshold_of_bin(128) == 0.5 and threshold_of_bin(0) == 0 and threshold_of_bin(256) == 1
    assert threshold_of_bin(136) == pytest.approx(1 / (1 + math.exp(-1)))


def test_a_threshold_goes_to_the_nearest_edge_and_stays_between_all_and_nothing() -> None:
    # One bin is 1/8 of a logit, and the slope of the sigmoid at 0 is 1/4.
    assert bin_of_threshold(0.5 + 0.25 / counts.PER_LOGIT * 0.49) == 128
    assert bin_of_threshold(0.5 + 0.25 / counts.PER_LOGIT * 0.51) == 129
    assert bin_of_threshold(1e-300) == 1 and bin_of_threshold(1 - 1e-16) == 255


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="threshold="):
        bin_of_threshold(value)
    with pytest.raises(ValueError, match="outside 0-256"):
        threshold_of_bin(257)


@pytest.mark.parametrize("threshold_bin", [1, 2, 40, 100, 124, 127, 128, 129, 150, 200, 231, 232])
def test_a_mask_of_float32_probabilities_is_the_histograms_prediction(threshold_bin: int) -> None:
    logits = torch.arange(-16, 16, 1 / 128).bfloat16().float().view(1, 1, 1, -1)
    mask = torch.sigmoid(logits)[0, 0] >= threshold_of_bin(threshold_bin)
    for label in (mask, ~mask):
        hist = tile_histograms(logits, label.to(torch.uint8).view(1, 1, -1))[0]
        wrong = hist[0, threshold_bin:].sum() + hist[1, :threshold_bin].sum()
        assert wrong == (0 if label is mask else logits.numel())


def test_the_bin_of_every_pixel_is_the_counted_one_and_makes_the_mask_of_any_threshold() -> None:
    logits, label = some((2, 19, 23))
    logits[0, 0, 0, :3] = torch.tensor([math.nan, math.inf, 0.0])
    bins = logit_bins(logits)
    assert bins.dtype == torch.uint8 and bins[0, 0, :3].tolist() == [0, 255, 128]
    for side in (0, 1):
        counted = torch.stack([torch.bincount(b[k == side], minlength=BINS) for b, k in zip(bins, label, strict=True)])
        assert torch.equal(counted.int(), tile_histograms(logits, label)[:, side])
    probability = torch.sigmoid(logits[:, 0])
    for k in (1, 100, 128, 131, 200):
        found = bins >= k
        assert torch.equal(found[~probability.isnan()], (probability >= threshold_of_bin(k))[~probability.isnan()])
        np.testing.assert_array_equal(PROBABILITY[bins.numpy()] >= threshold_of_bin(k), found.numpy())


def test_the_probability_of_a_bin_lies_within_it() -> None:
    edges = (1 / (1 + np.exp(-EDGES))).astype(np.float32)
    np.testing.assert_array_equal(np.clip(PROBABILITY, edges[:-1], edges[1:]), PROBABILITY)
