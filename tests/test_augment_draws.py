"""Parameters of a tile: counter-based, independent of the batch, and with Kornia's distributions."""

import dataclasses

import numpy as np
import pytest
import torch
from kornia import augmentation as ka
from kornia.augmentation import random_generator as rg
from scipy import stats

from glidexp.config import AugmentationConfig
from glidexp.training.augmentation import draws
from glidexp.training.augmentation.draws import Drawer, Slot

CFG = AugmentationConfig(
    flip=True,
    rot90=True,
    affine_p=0.5,
    rotate_deg=20.0,
    translate=0.1,
    scale=[0.7, 1.4],
    shear_deg=8.0,
    color_p=0.5,
    brightness=0.2,
    contrast=0.3,
    saturation=0.4,
    hue=0.05,
    gain_p=0.4,
    gain=0.2,
    haze_p=0.3,
    haze=[0.1, 0.3],
    gsd_p=0.25,
    gsd_factor=[1.5, 4.0],
    blur_p=0.2,
    blur_sigma_px=[0.3, 1.2],
    noise_p=0.3,
    noise_std=5.0,
)
ROWS = np.arange(4000)


def drawer(cfg: AugmentationConfig = CFG, seed: int = 0) -> Drawer:
    return Drawer(cfg, seed, [1 / 60.0] * 3, [-2.0] * 3)


def numbers(count: int = 4000) -> torch.Tensor:
    return torch.from_numpy(draws.uniforms(draws.raw_draws(0, 0, np.arange(count), 32)))


def test_hash_is_the_published_splitmix64() -> None:
    # The first outputs of the reference implementation seeded with 1234567.
    steps = np.array([1, 2, 3], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert draws._mix(np.uint64(1234567) + steps).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_numbers_are_uniform_and_unrelated() -> None:
    u = draws.uniforms(draws.raw_draws(7, 3, ROWS, 30))
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    for slot in range(30):
        assert stats.kstest(u[:, slot], "uniform").pvalue > 1e-4
    related = np.corrcoef(np.concatenate([u.T, u[1:, :5].T.repeat(2, 1)[:, :4000]]))
    assert np.abs(related - np.eye(len(related))).max() < 0.09  # 5.7 standard errors


@pytest.mark.parametrize(("seed", "epoch", "row"), [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2**63, 0, 0)])
def test_each_of_seed_epoch_and_row_changes_everything(seed: int, epoch: int, row: int) -> None:
    base = draws.raw_draws(0, 0, np.array([0]), 16)
    other = draws.raw_draws(seed, epoch, np.array([row]), 16)
    assert not np.isin(other, base).any()


def test_epoch_and_row_do_not_trade_places() -> None:
    assert draws.raw_draws(0, 1, np.array([2]), 1) != draws.raw_draws(0, 2, np.array([1]), 1)


def test_a_tile_draws_the_same_in_any_batch() -> None:
    one, other = drawer(), drawer()
    whole = one(np.arange(3000), 2, 64, 64)
    picked = np.array([2999, 5, 1024, 5, 1023])
    other(np.array([7]), 1, 64, 64)  # another epoch before
    other(np.array([7]), 2, 32, 64)  # another size before
    np.testing.assert_array_equal(other(picked, 2, 64, 64), whole[picked])


def test_switching_one_operation_off_leaves_the_others() -> None:
    full = drawer().draw(ROWS, 0, 64, 64)
    less = drawer(dataclasses.replace(CFG, affine_p=0.0, flip=False)).draw(ROWS, 0, 64, 64)
    for name in ("matrix", "from_mean", "shift", "gsd", "sigma", "noise"):
        np.testing.assert_array_equal(full[name], less[name])
    assert not less["warp"].any() and full["warp"].any()


@pytest.mark.parametrize(
    ("field", "share"),
    [("warp", 0.5), ("color", 1 - 0.5 * 0.6 * 0.7)],
)
def test_gates_open_as_often_as_told(field: str, share: float) -> None:
    assert drawer().draw(ROWS, 0, 64, 64)[field].mean() == pytest.approx(share, abs=0.03)


def test_optional_parameters_come_as_often_as_told_and_in_range() -> None:
    found = drawer().draw(ROWS, 0, 64, 64)
    assert (found["gsd"] >= 0).mean() == pytest.approx(0.25, abs=0.03)
    assert (found["noise"] >= 0).mean() == pytest.approx(0.3, abs=0.03)
    sigma = found["sigma"][found["sigma"] > 0]
    assert len(sigma) / len(found) == pytest.approx(0.2, abs=0.03)
    assert stats.kstest(sigma, stats.uniform(0.3, 0.9).cdf).pvalue > 1e-4
    levels = found["gsd"][found["gsd"] >= 0]
    assert stats.chisquare(np.bincount(levels, minlength=draws.GSD_LEVELS)).pvalue > 1e-4
    factors = draws.gsd_factors(CFG)
    assert factors[0] > 1.5 and factors[-1] < 4.0
    np.testing.assert_allclose(factors[1:] / factors[:-1], (4 / 1.5) ** (1 / draws.GSD_LEVELS))


@pytest.mark.parametrize(
    ("flip", "rot90", "square", "codes"),
    [
        (True, True, True, set(range(8))),
        (True, False, True, {0, 1, 2, 3}),
        (False, True, True, {0, 3, 5, 6}),
        (True, True, False, {0, 1, 2, 3}),
        (False, True, False, {0, 3}),
        (False, False, True, {0}),
    ],
)
def test_symmetries_are_complete_and_uniform(flip: bool, rot90: bool, square: bool, codes: set[int]) -> None:
    found = draws.d4_codes(numbers(8000)[:, :3].numpy(), flip=flip, rot90=rot90, square=square)
    values, counts = np.unique(found, return_counts=True)
    assert set(values.tolist()) == codes
    if len(codes) > 1:
        assert stats.chisquare(counts).pvalue > 1e-4


def affine_parameters(generator: rg.AffineGenerator, count: int) -> dict[str, np.ndarray]:
    drawn = generator((count, 1, 96, 128))
    drawn["scale"], drawn["shift_x"], drawn["shift_y"] = drawn["scale"][:, 0], *drawn["translations"].unbind(1)
    return {k: drawn[k].numpy() for k in ("angle", "scale", "shift_x", "shift_y", "shear_x")}


def test_fed_affine_generator_has_the_distribution_of_the_free_one() -> None:
    torch.manual_seed(0)
    make = lambda: rg.AffineGenerator(20.0, (0.1, 0.1), (0.7, 1.4), 8.0)  # noqa: E731
    u = numbers()
    slots = {
        "degree_sampler": Slot.ANGLE,
        "scale_2_sampler": Slot.SCALE,
        "translate_x_sampler": Slot.SHIFT_X,
        "translate_y_sampler": Slot.SHIFT_Y,
        "shear_x_sampler": Slot.SHEAR,
    }
    ours = affine_parameters(draws.feed(make(), {k: u[:, s] for k, s in slots.items()}), len(u))
    free = affine_parameters(make(), 4000)
    for name, values in ours.items():
        assert stats.ks_2samp(values, free[name]).pvalue > 1e-4, name
    assert np.abs(np.corrcoef(np.stack(list(ours.values()))) - np.eye(5)).max() < 0.09


def test_theta_is_kornias_matrix_in_grid_sample_coordinates() -> None:
    height, width = 96, 128
    theta = draws.affine_theta(CFG, numbers(64), height, width).double()
    kornia = ka.RandomAffine(20.0, (0.1, 0.1), (0.7, 1.4), 8.0, p=1.0)
    u = numbers(64)
    slots = {
        "degree_sampler": Slot.ANGLE,
        "scale_2_sampler": Slot.SCALE,
        "translate_x_sampler": Slot.SHIFT_X,
        "translate_y_sampler": Slot.SHIFT_Y,
        "shear_x_sampler": Slot.SHEAR,
        "shear_y_sampler": Slot.SHEAR,
    }
    params = draws.feed(kornia._param_generator, {k: u[:, s] for k, s in slots.items()})((64, 3, height, width))
    blank = torch.zeros(64, 3, height, width)
    matrix = kornia.compute_transformation(blank, params, kornia.flags).double()
    # An output point of theta, taken to pixels, must be sent back to itself by Kornia's input-to-output matrix.
    size = torch.tensor([width, height], dtype=torch.float64)
    points = torch.rand(64, 50, 2, dtype=torch.float64) * 2 - 1
    source = torch.cat([points, torch.ones(64, 50, 1)], 2) @ theta.transpose(1, 2)
    pixel = torch.cat([((source + 1) * size - 1) / 2, torch.ones(64, 50, 1)], 2) @ matrix.transpose(1, 2)
    torch.testing.assert_close((2 * pixel[..., :2] + 1) / size - 1, points, atol=1e-4, rtol=0)


def test_color_factors_have_kornias_distribution() -> None:
    torch.manual_seed(0)
    ours = draws.color_factors(dataclasses.replace(CFG, color_p=1.0), numbers())
    free = rg.ColorJitterGenerator(0.2, 0.3, 0.4, 0.05)((4000, 3, 8, 8))
    for name, values in ours.items():
        assert stats.ks_2samp(values, free[name].numpy()).pvalue > 1e-4, name
    off = draws.color_factors(dataclasses.replace(CFG, color_p=0.0), numbers(8))
    assert all((off[n] == (0.0 if n == "hue_factor" else 1.0)).all() for n in off)


def test_torchs_own_random_state_is_left_alone() -> None:
    """A run that goes on in the middle of an epoch draws again: dropout must not notice."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    drawer = draws.Drawer(dataclasses.replace(CFG, color_p=1.0), 0, [1.0] * 3, [0.0] * 3)
    drawer(np.arange(8), 0, 32, 32)
    assert torch.equal(torch.get_rng_state(), before)
