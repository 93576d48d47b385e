"""Losses: hand-worked values, the lake-free batch, pixels that do not count."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_loop import Training, config
from torch import Tensor

from glidexp.config import LossConfig
from glidexp.config.training import LOSS_TERMS
from glidexp.errors import ConfigError
from glidexp.training.distance import distance_px
from glidexp.training.losses import (
    LOVASZ_BINS,
    SMOOTH,
    bce,
    boundary,
    build_loss,
    dice,
    focal,
    focal_tversky,
    lovasz,
    tversky,
)

EVERY = [bce, dice, focal, tversky, focal_tversky, lovasz, boundary]


def batch(logits: list[float], mask: list[float], valid: list[float] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    shape = (1, 1, 1, len(logits))
    ones = [1.0] * len(logits)
    make = [torch.tensor(values, dtype=torch.float32).reshape(shape) for values in (logits, mask, valid or ones)]
    make[0].requires_grad_()
    return make[0], make[1], make[2]


def test_bce_of_hand() -> None:
    logits, mask, valid = batch([0.0, math.log(3)], [1, 0])
    assert bce(logits, mask, valid).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_dice_of_hand() -> None:
    logits, mask, valid = batch([0.0, 0.0, 40.0, -40.0], [1, 0, 1, 0])
    smooth = SMOOTH * 4
    assert dice(logits, mask, valid).item() == pytest.approx(1 - (2 * 1.5 + smooth) / (2.0 + 2.0 + smooth))


def test_focal_is_bce_at_gamma_zero_and_of_hand_at_two() -> None:
    logits, mask, valid = batch([0.7, -1.2], [1, 1])
    assert focal(logits, mask, valid, 0.0).item() == pytest.approx(bce(logits, mask, valid).item())
    logits, mask, valid = batch([0.0], [1])
    assert focal(logits, mask, valid, 2.0).item() == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize("loss", EVERY)
def test_lake_free_batch_pushes_every_pixel_down(loss) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 16, 16, requires_grad=True)
    zeros, ones = torch.zeros_like(logits), torch.ones_like(logits)
    loss(logits, zeros, ones).backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()
    assert logits.grad.sum() > 1e-4


@pytest.mark.parametrize("loss", EVERY)
def test_pixels_that_are_not_valid_do_not_count(loss) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.6).float()
    valid = torch.ones_like(mask)
    valid[..., 4:] = 0
    other_logits, other_mask = logits.clone(), mask.clone()
    other_logits[..., 4:] = 7.0
    other_mask[..., 4:] = 1 - other_mask[..., 4:]
    assert loss(logits, mask, valid).item() == loss(other_logits, other_mask, valid).item()
    assert loss(logits, mask, valid).item() == pytest.approx(
        loss(logits[..., :4], mask[..., :4], valid[..., :4]).item(), rel=1e-5
    )


@pytest.mark.parametrize("loss", EVERY)
def test_a_batch_without_a_valid_pixel_is_finite(loss) -> None:
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    value = loss(logits, torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", EVERY)
def test_saturated_logits_stay_finite(loss) -> None:
    logits, mask, valid = batch([80.0, -80.0, 80.0, -80.0], [0, 1, 1, 0])
    value = loss(logits, mask, valid)
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_weighted_sum() -> None:
    torch.manual_seed(0)
    logits, mask, valid = torch.randn(1, 1, 8, 8), torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    both = build_loss(LossConfig(bce=0.25, dice=2.0, focal=0.0))(logits, mask, valid)
    assert both.item() == pytest.approx(0.25 * bce(logits, mask, valid).item() + 2 * dice(logits, mask, valid).item())


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        LossConfig(bce=0, dice=0, focal=0)


WEIGHTS = [{term: 1.0} for term in LOSS_TERMS] + [
    {"bce": 0.3, "dice": 0.7},
    {"lovasz": 1.0, "boundary": 0.5, "bce": 1.0},
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda weights: "+".join(weights))
def test_parts_of_a_batch_that_share_their_sums_are_the_batch(weights: dict[str, float]) -> None:
    """Value and gradient, with parts that have different numbers of valid pixels."""
    torch.manual_seed(0)
    logits, mask, valid = torch.randn(6, 1, 16, 16), (torch.rand(6, 1, 16, 16) > 0.7).float(), torch.ones(6, 1, 16, 16)
    valid[0, :, :8] = 0
    cfg = LossConfig(**{"bce": 0.0, "dice": 0.0} | weights)
    whole = logits.clone().requires_grad_()
    expected = build_loss(cfg)(whole, mask, valid)
    expected.backward()
    parts = [logits[:2].clone().requires_grad_(), logits[2:].clone().requires_grad_()]
    slices = [(mask[:2], valid[:2]), (mask[2:], valid[2:])]
    shared: list[torch.Tensor] = []
    added: list[torch.Tensor] = []
    # what a part hands over in one call may depend on what came back from the one before: a round makes one more right
    for _ in range(2 * len(weights) + 2):
        handed: list[list[torch.Tensor]] = [[], []]
        shared = []
        for part, (m, v), kept in zip(parts, slices, handed, strict=True):
            back = iter(added)

            def total(sums: torch.Tensor, kept=kept, back=back) -> torch.Tensor:
                kept.append(sums)
                return next(back, sums)

            shared.append(build_loss(cfg, total)(part, m, v))
        added = [a + b for a, b in zip(*handed, strict=True)]
    assert all(torch.allclose(value, expected, rtol=1e-6) for value in shared)
    shared[0].backward()
    assert torch.allclose(torch.cat([part.grad for part in parts]), whole.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("loss", EVERY)
def test_a_batch_that_is_all_lake_pushes_every_pixel_up(loss) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 16, 16, requires_grad=True)
    loss(logits, torch.ones_like(logits), torch.ones_like(logits)).backward()
    assert logits.grad is not None
    assert (logits.grad < 0).all()
    assert logits.grad.sum() < -1e-4


@pytest.mark.parametrize("loss", EVERY)
def test_pixels_that_are_not_valid_get_no_gradient(loss) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    mask, valid = (torch.rand(2, 1, 8, 8) > 0.6).float(), (torch.rand(2, 1, 8, 8) > 0.4).float()
    loss(logits, mask, valid).backward()
    assert logits.grad is not None
    assert (logits.grad[valid == 0] == 0).all()
    assert (logits.grad[valid == 1] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("term", LOSS_TERMS)
def test_in_mixed_precision_it_is_float32_and_finite_far_out(term: str, dtype: torch.dtype) -> None:
    loss = build_loss(LossConfig(**{"bce": 0.0, "dice": 0.0} | {term: 1.0}))
    logits = torch.tensor([100.0, -100.0, 100.0, -100.0, 0.5, -3.0], dtype=dtype).view(1, 1, 1, 6).requires_grad_()
    for mask in ([0.0, 1, 1, 0, 1, 0], [1.0, 0, 1, 0, 1, 0], [0.0] * 6, [1.0] * 6):
        truth = torch.tensor(mask).view(1, 1, 1, 6)
        value = loss(logits, truth, torch.ones_like(truth))
        assert value.dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert loss(logits, truth, torch.ones_like(truth)).item() == value.item()
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_tversky_of_hand() -> None:
    logits, mask, valid = batch([0.0, 0.0, 40.0, -40.0], [1, 0, 1, 0])
    smooth = SMOOTH / 2 * 4
    # TP 1.5, FP 0.5, FN 0.5
    expected = 1 - (1.5 + smooth) / (1.5 + 0.3 * 0.5 + 0.7 * 0.5 + smooth)
    assert tversky(logits, mask, valid, 0.3, 0.7).item() == pytest.approx(expected)
    assert focal_tversky(logits, mask, valid, 0.3, 0.7, 2.0).item() == pytest.approx(expected**0.5)


def test_tversky_of_equal_weights_is_dice_and_its_focal_form_at_one_is_itself() -> None:
    logits, mask, valid = random_batch()
    assert tversky(logits, mask, valid, 0.5, 0.5).item() == pytest.approx(dice(logits, mask, valid).item(), rel=1e-6)
    assert focal_tversky(logits, mask, valid, gamma=1).item() == pytest.approx(tversky(logits, mask, valid).item())


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.3, 0.7, 1.0), (0.7, 0.3, 1.0), (0.3, 0.7, 4 / 3), (1, 1, 2.5)])
def test_tversky_is_that_of_smp(alpha: float, beta: float, gamma: float) -> None:
    from segmentation_models_pytorch.losses import TverskyLoss

    logits, mask, valid = random_batch()
    valid = torch.ones_like(valid)
    smooth = SMOOTH / 2 * valid.sum().item()
    theirs = TverskyLoss("binary", alpha=alpha, beta=beta, gamma=1 / gamma, smooth=smooth)(logits, mask.long())
    ours = focal_tversky(logits, mask, valid, alpha, beta, gamma)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert torch.allclose(gradient_of(ours, logits), gradient_of(theirs, logits), rtol=1e-4, atol=1e-9)


def test_lovasz_of_hand() -> None:
    smooth = SMOOTH * 2
    logits, mask, valid = batch([math.log(0.4 / 0.6), math.log(0.25 / 0.75)], [1, 0])  # errors 0.6 of lake, 0.25
    first, second = 1 / (1 + smooth), 2 / (2 + smooth)
    assert lovasz(logits, mask, valid).item() == pytest.approx(0.6 * first + 0.25 * (second - first), abs=1e-6)


def test_lovasz_of_sure_predictions_is_one_minus_iou() -> None:
    logits, mask, valid = batch([40.0, -40.0, 40.0, -40.0, -40.0], [1, 1, 0, 0, 0])
    assert lovasz(logits, mask, valid).item() == pytest.approx(2 / (3 + SMOOTH * 5))  # IoU 1 of 3


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("spread", [0.1, 2.0, 30.0])
def test_lovasz_is_the_sorted_one_to_a_bin(share: float, spread: float) -> None:
    """An independent one in float64: errors sorted, the Jaccard loss of each longer list of wrong pixels."""
    rng = np.random.default_rng(0)
    lake, x = rng.random(5000) < share, spread * rng.standard_normal(5000)
    error = 1 / (1 + np.exp(np.where(lake, x, -x)))
    order = np.argsort(-error, kind="stable")
    wrong_lake, wrong_ground = np.cumsum(lake[order]), np.cumsum(~lake[order])
    jaccard = (wrong_lake + wrong_ground) / (lake.sum() + wrong_ground + SMOOTH * 5000)
    expected = (error[order] * np.diff(jaccard, prepend=0)).sum()
    shape = (2, 1, 50, 50)
    logits, mask = torch.tensor(x, dtype=torch.float32).view(shape), torch.tensor(lake).float().view(shape)
    ours = lovasz(logits, mask, torch.ones(shape)).item()
    assert expected - 1 / LOVASZ_BINS <= ours <= expected + 1e-5


def test_lovasz_of_distinct_errors_has_the_value_and_gradient_of_smp(monkeypatch: pytest.MonkeyPatch) -> None:
    from segmentation_models_pytorch.losses.lovasz import _lovasz_softmax_flat

    monkeypatch.setattr("glidexp.training.losses.SMOOTH", 0.0)
    generator = torch.Generator().manual_seed(0)
    error = torch.linspace(0.01, 0.99, 144)[torch.randperm(144, generator=generator)].view(1, 1, 12, 12)
    mask = (torch.rand(1, 1, 12, 12, generator=generator) > 0.7).float()
    logits = torch.logit(torch.where(mask > 0, 1 - error, error)).requires_grad_()
    ours = lovasz(logits, mask, torch.ones_like(mask))
    probability = torch.sigmoid(logits).flatten()
    both = torch.stack([1 - probability, probability], dim=1)
    theirs = _lovasz_softmax_flat(both, mask.long().flatten(), classes=[1])
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert torch.allclose(gradient_of(ours, logits), gradient_of(theirs, logits), rtol=1e-3, atol=1e-6)


def test_equal_errors_share_what_they_add() -> None:
    """One logit everywhere: all lake pixels get one gradient, all others another, and both orders of the tie count."""
    logits = torch.zeros(1, 1, 1, 10, requires_grad=True)
    mask = torch.tensor([1.0] * 4 + [0.0] * 6).view(1, 1, 1, 10)
    gradient = gradient_of(lovasz(logits, mask, torch.ones_like(mask)), logits).flatten()
    s = SMOOTH * 10
    lake_first, ground_first = 1 / (4 + s), 1 / (10 + s)
    expected = (lake_first + ground_first) / 2
    assert torch.allclose(gradient[:4], torch.full((4,), -0.25 * expected))
    total = 10 / (10 + s)  # all wrong
    assert torch.allclose(gradient[4:], torch.full((6,), 0.25 * (total - 4 * expected) / 6))


def test_boundary_of_hand() -> None:
    logits, mask, valid = batch([0.0] * 5, [1, 1, 0, 0, 0])
    # distances to the shore 1.5, 0.5, 0.5, 1.5, 2.5 px; with a reach of 2 px the last one is cut to 2
    assert boundary(logits, mask, valid, 2).item() == pytest.approx(0.5 * (1.5 + 0.5 + 0.5 + 1.5 + 2) / 2 / 5)
    logits, mask, valid = batch([0.0] * 5, [1, 1, 0, 0, 0], [1, 1, 0, 0, 1])
    # what lies between is of no side: the lake's nearest known ground is 3 px from its end
    assert boundary(logits, mask, valid, 8).item() == pytest.approx(0.5 * (3.5 + 2.5 + 2.5) / 8 / 3)


def test_boundary_has_the_gradient_of_probability_times_signed_distance() -> None:
    """Kervadec's form, with distances of scipy, shifted by the half pixel between two classes."""
    from scipy.ndimage import distance_transform_edt

    logits, mask, valid = random_batch()
    valid = torch.ones_like(valid)
    signed = []
    for tile in mask[:, 0].numpy():
        out, inside = distance_transform_edt(tile == 0), distance_transform_edt(tile == 1)
        signed.append(np.where(tile == 0, out - 0.5, 0.5 - inside).clip(-10, 10) / 10)
    theirs = (torch.sigmoid(logits)[:, 0] * torch.tensor(np.stack(signed), dtype=torch.float32)).mean()
    ours = boundary(logits, mask, valid, 10)
    assert torch.allclose(gradient_of(ours, logits), gradient_of(theirs, logits), rtol=1e-4, atol=1e-10)
    perfect = torch.where(mask > 0, 100.0, -100.0)
    assert boundary(perfect, mask, valid, 10).item() == 0


@pytest.mark.parametrize("reach", [1, 2, 7, 100])
@pytest.mark.parametrize("shape", [(24, 40), (1, 9), (9, 1), (64, 64)])
def test_distance_is_that_of_scipy_up_to_its_reach(reach: int, shape: tuple[int, int]) -> None:
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(reach)
    seed = rng.random((3, *shape)) < 0.03
    seed[2] = False
    ours = distance_px(torch.from_numpy(seed)[:, None], reach)[:, 0].numpy()
    for tile, found in zip(seed, ours, strict=True):
        expected = distance_transform_edt(~tile).clip(max=reach) if tile.any() else np.full(shape, reach)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_a_network_learns_from_each_term_alone(term: str) -> None:
    training = Training(config(epochs=25), lr=0.03)
    training.loss = LossConfig(**{"bce": 0.0, "dice": 0.0} | {term: 1.0})
    training.run()
    losses = [metrics["train/loss"] for metrics in training.epochs]
    assert losses[-1] < 0.5 * losses[0]


def random_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Two tiles with blobs of lake, logits that are half right, and some pixels that are not valid."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn(2, 1, 6, 6, generator=generator)
    mask = (F.interpolate(rough, size=(40, 36), mode="bicubic") > 0.5).float()
    logits = torch.randn(2, 1, 40, 36, generator=generator) + 2 * mask - 1
    valid = (torch.rand(2, 1, 40, 36, generator=generator) > 0.1).float()
    return logits.requires_grad_(), mask, valid


def gradient_of(value: Tensor, logits: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, logits)
    return gradient
