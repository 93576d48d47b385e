"""Augmented batches held against plain Kornia pipelines, and what must hold whatever was drawn."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from kornia import augmentation as ka
from kornia import filters
from kornia.constants import DataKey, Resample, SamplePadding
from kornia.geometry.transform import get_affine_matrix2d, warp_affine
from torch.utils._python_dispatch import TorchDispatchMode

from glidexp.config import AugmentationConfig
from glidexp.errors import ConfigError
from glidexp.training.augmentation import augment as module
from glidexp.training.augmentation.augment import Augment, Prepared
from glidexp.training.augmentation.indexing import turn
from glidexp.training.augmentation.picture import OUTLINE, augmented_grid

PRESETS = Path(__file__).resolve().parent.parent / "conf" / "augmentation"
MEAN, STD = [120.0, 110.0, 100.0, 90.0], [60.0, 50.0, 40.0, 30.0]


def preset(name: str) -> AugmentationConfig:
    return AugmentationConfig(**yaml.safe_load((PRESETS / f"{name}.yaml").read_text()))


def make(cfg: AugmentationConfig, channels: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Augment:
    return Augment(cfg, mean=MEAN[:channels], std=STD[:channels], seed=seed, dtype=dtype)


def smooth(count: int, height: int, width: int, channels: int = 3, low: int = 60, high: int = 190) -> torch.Tensor:
    """Tiles without sharp edges, uint8 (B, C, H, W) seen from (B, H, W, C) memory."""
    coarse = torch.rand(count, channels, 5, 5, generator=torch.Generator().manual_seed(1))
    tiles = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    pixels = (low + (high - low) * tiles).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pixels.permute(0, 3, 1, 2)


def blobs(image: torch.Tensor) -> torch.Tensor:
    """Lakes where the first channel is bright, and a corner that is not valid."""
    label = (image[:, 0] > 130).to(torch.uint8)
    label[:, :9, :7] = 255
    return label


def normalised(image: torch.Tensor) -> torch.Tensor:
    channels = image.shape[1]
    mean, std = (torch.tensor(v[:channels])[:, None, None] for v in (MEAN, STD))
    return (image.float() - mean) / std


def raw(prepared: Prepared) -> torch.Tensor:
    channels = prepared.image.shape[1]
    mean, std = (torch.tensor(v[:channels])[:, None, None] for v in (MEAN, STD))
    return prepared.image.float() * std + mean


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(33, 48), (64, 64)])
def test_without_probabilities_it_is_the_normalisation(channels: int, size: tuple[int, int]) -> None:
    image = smooth(3, *size, channels, 0, 255)
    label = blobs(image)
    before = image.clone(), label.clone()
    found = make(AugmentationConfig(), channels)(image, label, torch.arange(3), 5)
    torch.testing.assert_close(found.image, normalised(image), atol=2e-6, rtol=1e-6)
    assert found.image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.mask[:, 0], (label == 1).float()) and torch.equal(
        found.valid[:, 0], (label != 255).float()
    )
    assert torch.equal(image, before[0]) and torch.equal(label, before[1])


def test_the_none_preset_draws_nothing() -> None:
    assert not make(preset("none"))._active


def test_turns_are_torchs_flips_and_rotations() -> None:
    tiles = torch.arange(8 * 25 * 3).reshape(8, 5, 5, 3)
    found = turn(tiles, np.arange(8, dtype=np.int8))
    for code, (start, axes, turns) in enumerate(
        # code = 4 * transpose + 2 * up-down + left-right, as mirrors and then quarter turns
        [(0, (), 0), (1, (1,), 0), (2, (0,), 0), (3, (), 2), (4, (1,), 1), (5, (), 3), (6, (), 1), (7, (0,), 1)]
    ):
        assert torch.equal(found[code], torch.rot90(tiles[start].flip(axes), turns)), code
    assert len({tuple(tile.flatten().tolist()) for tile in turn(tiles[:1].repeat(8, 1, 1, 1), np.arange(8))}) == 8


def test_flips_keep_every_pixel_and_reach_all_eight() -> None:
    image = smooth(64, 16, 16)[:1].repeat(64, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    found = make(preset("flips"))(image, blobs(image), torch.arange(64), 0)
    expected = {
        tuple(torch.rot90(normalised(image)[0].flip(axes), k, (1, 2)).double().flatten().mul(1000).round().tolist())
        for axes in ((), (2,))
        for k in range(4)
    }
    seen = {tuple(tile.double().flatten().mul(1000).round().tolist()) for tile in found.image.contiguous()}
    assert len(expected) == 8 and seen == expected


WARP = AugmentationConfig(affine_p=1.0, rotate_deg=25.0, translate=0.1, scale=[0.7, 1.4], shear_deg=8.0)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_warp_is_kornias_random_affine(size: tuple[int, int]) -> None:
    image = smooth(12, *size, low=0, high=255)
    label, rows = blobs(image), torch.arange(12)
    augment = make(WARP)
    found = augment(image, label, rows, 0)
    theta = torch.from_numpy(augment._draw(rows.numpy(), 0, *size)["theta"])
    # From normalised output-to-input back to the pixel matrix that Kornia's warp takes.
    full = torch.cat([theta.double(), torch.tensor([[[0.0, 0.0, 1.0]]]).expand(12, 1, 3)], 1)
    to_unit = torch.tensor([[2 / size[1], 0, 1 / size[1] - 1], [0, 2 / size[0], 1 / size[0] - 1], [0, 0, 1]])
    matrix = torch.linalg.inv(to_unit.double()) @ torch.linalg.inv(full) @ to_unit.double()
    forth = matrix[:, :2].float()
    expected = warp_affine(image.float(), forth, size, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(raw(found), expected, atol=0.05, rtol=0)
    codes = (label[:, None].float() + 1) % 256
    warped = warp_affine(codes, forth, size, mode="nearest", padding_mode="zeros", align_corners=False)
    # A pixel on the tie between two neighbours may go either way.
    assert ((warped == 2).float() != found.mask).float().mean() < 1e-3
    assert ((warped > 0).float() != found.valid).float().mean() < 1e-3
    assert 0 < found.valid.mean() < 1


def test_one_warp_equals_kornias_warps_one_after_the_other_on_a_smooth_tile() -> None:
    image = smooth(6, 96, 96)
    rows, centre = torch.arange(6), torch.full((6, 2), 47.5)
    augment = make(WARP)
    found = raw(augment(image, blobs(image), rows, 0))
    from glidexp.training.augmentation import draws

    u = torch.from_numpy(draws.uniforms(draws.raw_draws(0, 0, rows.numpy(), 30)))
    between = lambda slot, low, high: low + u[:, slot] * (high - low)  # noqa: E731
    shear = between(draws.Slot.SHEAR, -8.0, 8.0) * np.pi / 180
    scale = between(draws.Slot.SCALE, 0.7, 1.4)[:, None].repeat(1, 2)
    angle = between(draws.Slot.ANGLE, -25.0, 25.0)
    shift = torch.stack([between(s, -0.1, 0.1) * 96 for s in (draws.Slot.SHIFT_X, draws.Slot.SHIFT_Y)], 1)
    none, one, zero = torch.zeros(6, 2), torch.ones(6, 2), torch.zeros(6)
    expected = image.float()
    for matrix in (
        get_affine_matrix2d(none, centre, one, zero, shear, zero),
        get_affine_matrix2d(none, centre, scale, zero),
        get_affine_matrix2d(none, centre, one, angle),
        get_affine_matrix2d(shift, centre, one, zero),
    ):
        expected = warp_affine(expected, matrix[:, :2], (96, 96), padding_mode="border", align_corners=False)
    inner = slice(36, 60)  # what no step has moved outside
    assert (found - expected)[..., inner, inner].abs().max() < 1.5


@pytest.mark.parametrize("name", ["flips", "standard", "strong", "cross_sensor"])
def test_mask_and_valid_stay_in_step_with_the_image(name: str) -> None:
    cfg = dataclasses.replace(preset(name), color_p=0, gain_p=0, haze_p=0, gsd_p=0, blur_p=0, noise_p=0)
    base = smooth(32, 80, 80)
    label = (base[:, 0] > 125).to(torch.uint8)
    image = (label * 200)[..., None].repeat(1, 1, 1, 3).permute(0, 3, 1, 2)
    found = make(cfg)(image, label, torch.arange(32), 3)
    value = raw(found)[:, :1]
    # Away from its edges, where the image is interpolated and the label is not, the lake is where the mask is.
    lake, land = (found.valid > 0) & (value > 199), (found.valid > 0) & (value < 1)
    assert (found.mask[lake] == 1).all() and (found.mask[land] == 0).all()
    assert (lake | land).float().mean() > 0.5
    assert (found.mask <= found.valid).all()


@pytest.mark.parametrize("name", ["flips", "standard", "strong", "cross_sensor"])
def test_a_tile_comes_out_the_same_in_any_batch(name: str) -> None:
    image = smooth(16, 48, 48, low=0, high=255)
    label, rows = blobs(image), torch.arange(100, 116)
    whole = make(preset(name))(image, label, rows, 7)
    picked = torch.tensor([11, 3, 8, 3])
    part_of = make(preset(name))
    again = part_of(image[picked], label[picked], rows[picked], 7)
    alone = [part_of(image[i : i + 1], label[i : i + 1], rows[i : i + 1], 7) for i in picked.tolist()]
    for found in (again, Prepared(*(torch.cat([getattr(a, n) for a in alone]) for n in ("image", "mask", "valid")))):
        torch.testing.assert_close(found.image, whole.image[picked], atol=2e-5, rtol=0)
        assert torch.equal(found.mask, whole.mask[picked]) and torch.equal(found.valid, whole.valid[picked])
    assert torch.equal(make(preset(name))(image, label, rows, 7).image, whole.image)
    for other in (make(preset(name))(image, label, rows, 8), make(preset(name), seed=1)(image, label, rows, 7)):
        assert not torch.equal(other.image, whole.image)


@pytest.mark.parametrize("name", ["flips", "standard", "strong", "cross_sensor"])
def test_a_tile_that_an_epoch_gives_again_is_drawn_anew(name: str) -> None:
    """As of a rare sensor that is drawn as often as others: copies of one picture would add nothing."""
    image = smooth(1, 48, 48, low=0, high=255).expand(6, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    label, rows = blobs(image), torch.full((6,), 2000)
    once = make(preset(name))(image[:1], label[:1], rows[:1], 7)
    found = make(preset(name))(image, label, rows, 7, torch.arange(6))
    torch.testing.assert_close(found.image[0], once.image[0], atol=2e-5, rtol=0)
    assert len({one.numpy().tobytes() for one in found.image}) > 3
    third = make(preset(name))(image[:1], label[:1], rows[:1], 7, torch.tensor([2]))
    torch.testing.assert_close(found.image[2], third.image[0], atol=2e-5, rtol=0)
    assert len({one.numpy().tobytes() for one in make(preset(name))(image, label, rows, 7).image}) == 1


class Count(TorchDispatchMode):
    """Counts operations that touch memory, and notes those that would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.names = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += not func.is_view
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_few_operations_and_none_that_waits() -> None:
    image = smooth(8, 64, 64)
    label, augment = blobs(image), make(preset("standard"))
    augment(image, label, torch.arange(8), 0)  # draws the parameters of the first 1024 rows
    for start in range(0, 1024, 8):
        with Count() as seen:
            augment(image, label, torch.arange(start, start + 8), 0)
        assert seen.count <= 130
        assert not seen.names & {"_local_scalar_dense", "nonzero", "is_nonzero"}


def test_blur_is_kornias() -> None:
    image = smooth(9, 40, 56, low=0, high=255)
    image[:, :, 10:14] = 255
    augment = make(AugmentationConfig(blur_p=1.0, blur_sigma_px=[0.4, 1.6]))
    sigma = torch.from_numpy(augment._draw(np.arange(9), 0, 40, 56)["sigma"])
    expected = filters.gaussian_blur2d(image.float(), (11, 11), torch.stack([sigma, sigma], 1))
    torch.testing.assert_close(raw(augment(image, blobs(image), torch.arange(9), 0)), expected, atol=1e-3, rtol=0)


def test_blur_takes_tiles_smaller_than_its_reach() -> None:
    image = smooth(2, 4, 6)
    augment = make(AugmentationConfig(blur_p=1.0, blur_sigma_px=[2.0, 4.0]))
    assert torch.isfinite(augment(image, torch.zeros(2, 4, 6, dtype=torch.uint8), torch.arange(2), 0).image).all()


def test_noise_has_its_standard_deviation_in_every_band_and_is_each_tiles_own() -> None:
    image = torch.full((4, 64, 64, 3), 128, dtype=torch.uint8).permute(0, 3, 1, 2)
    augment = make(AugmentationConfig(noise_p=1.0, noise_std=7.0))
    noise = raw(augment(image, blobs(image), torch.arange(4), 0)) - 128
    np.testing.assert_allclose(noise.std(dim=(2, 3)), 7.0, rtol=0.06)
    assert noise.mean(dim=(2, 3)).abs().max() < 0.5
    related = np.corrcoef(noise.flatten(2).flatten(0, 1).numpy())
    assert np.abs(related - np.eye(12)).max() < 0.08


def test_hue_is_of_the_first_three_bands_and_light_and_gain_are_of_all() -> None:
    image = smooth(16, 24, 24, 4, 100, 150)
    label, rows = blobs(image), torch.arange(16)
    hued = raw(make(AugmentationConfig(color_p=1.0, saturation=0.4, hue=0.1), 4)(image, label, rows, 0))
    torch.testing.assert_close(hued[:, 3], image[:, 3].float(), atol=1e-3, rtol=0)
    assert (hued[:, :3] - image[:, :3]).abs().mean() > 1
    image[:, 3] = image[:, 1]
    lit = raw(make(AugmentationConfig(color_p=1.0, brightness=0.2), 4)(image, label, rows, 0))
    torch.testing.assert_close(lit[:, 3], lit[:, 1], atol=1e-3, rtol=0)
    factors = (lit / image).flatten(2).mean(2)
    torch.testing.assert_close(lit, factors[..., None, None] * image, atol=1e-3, rtol=0)
    assert factors.std(0).min() > 0.05 and factors.min() >= 0.8 and factors.max() <= 1.2
    gained = raw(make(AugmentationConfig(gain_p=1.0, gain=0.2), 4)(image, label, rows, 0)) / image
    factors = gained.flatten(2).mean(2)
    torch.testing.assert_close(gained, factors[..., None, None].expand_as(gained), atol=1e-3, rtol=0)
    assert (factors.std(0) > 0.05).all() and factors.min() >= 0.8 and factors.max() <= 1.2


def test_color_stays_within_what_a_camera_can_show() -> None:
    image = smooth(16, 24, 24, low=0, high=255)
    found = raw(
        make(AugmentationConfig(color_p=1.0, brightness=0.9, contrast=0.9))(image, blobs(image), torch.arange(16), 0)
    )
    assert found.min() >= -1e-3 and found.max() <= 255 + 1e-3 and (found > 254.99).any()


def test_haze_pulls_towards_airlight_most_in_blue() -> None:
    image = torch.full((8, 16, 16, 3), 40, dtype=torch.uint8).permute(0, 3, 1, 2)
    found = raw(make(AugmentationConfig(haze_p=1.0, haze=[0.1, 0.4]))(image, blobs(image), torch.arange(8), 0))
    red, green, blue = found.mean(dim=(2, 3)).unbind(1)
    assert (blue > green).all() and (green > red).all() and (red > 40).all()
    assert blue.max() < 40 + 0.4 * (0.85 * 255 - 40) + 1e-3


def test_coarser_sampling_removes_what_a_coarser_sensor_cannot_see() -> None:
    rows, side = torch.arange(16), 96
    wave = lambda period: (128 + 100 * torch.sin(2 * np.pi * torch.arange(side) / period)).round().to(torch.uint8)  # noqa: E731
    augment = make(AugmentationConfig(gsd_p=1.0, gsd_factor=[3.0, 3.0]))
    contrast = {}
    for period in (4.0, 48.0):
        image = wave(period).expand(16, side, side)[..., None].repeat(1, 1, 1, 3).permute(0, 3, 1, 2)
        label = blobs(image)
        found = augment(image, label, rows, 0)
        assert torch.equal(found.mask[:, 0], (label == 1).float())  # the ground truth keeps its resolution
        contrast[period] = float(raw(found)[:, 0, :, 12:-12].std() / image[:, 0].float().std())
    assert contrast[4.0] < 0.1 and contrast[48.0] > 0.9


def test_bf16_is_the_rounded_float32() -> None:
    image = smooth(8, 32, 32)
    label, rows = blobs(image), torch.arange(8)
    for name in ("none", "strong"):
        full = make(preset(name))(image, label, rows, 0).image
        half = make(preset(name), dtype=torch.bfloat16)(image, label, rows, 0).image
        assert half.dtype == torch.bfloat16 and half.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(half, full.to(torch.bfloat16))


@pytest.mark.parametrize("name", ["none", "flips", "standard", "strong", "cross_sensor"])
@pytest.mark.parametrize(("count", "height", "width", "channels"), [(1, 32, 32, 3), (2, 24, 40, 4), (5, 33, 33, 1)])
def test_odd_batches(name: str, count: int, height: int, width: int, channels: int) -> None:
    image = smooth(count, height, width, channels)
    augment = make(preset(name), channels)
    for epoch in range(12):
        found = augment(image, torch.full((count, height, width), 255, dtype=torch.uint8), torch.arange(count), epoch)
        assert found.image.shape == (count, channels, height, width) and found.mask.shape == (count, 1, height, width)
        assert torch.isfinite(found.image).all() and not found.valid.any() and not found.mask.any()
        assert found.image.is_contiguous(memory_format=torch.channels_last)


def test_another_number_of_channels_is_refused() -> None:
    image = smooth(1, 8, 8, 4)
    with pytest.raises(ValueError, match="4 channels"):
        make(AugmentationConfig(), 3)(image, blobs(image), torch.arange(1), 0)


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = smooth(8, 40, 40)
    whole = make(preset("strong"))(image, blobs(image), torch.arange(8), 0)
    monkeypatch.setattr(module, "CPU_CHUNK", chunk)
    parts = make(preset("strong"))(image, blobs(image), torch.arange(8), 0)
    torch.testing.assert_close(parts.image, whole.image, atol=2e-5, rtol=0)
    assert torch.equal(parts.mask, whole.mask) and torch.equal(parts.valid, whole.valid)


def kornia_standard(cfg: AugmentationConfig) -> ka.AugmentationSequential:
    """The preset as a Kornia user writes it, for values of 0-1."""
    return ka.AugmentationSequential(
        ka.RandomHorizontalFlip(p=0.5),
        ka.RandomVerticalFlip(p=0.5),
        ka.RandomRotation90(times=(0, 3), p=1.0),
        ka.RandomAffine(
            cfg.rotate_deg,
            (cfg.translate, cfg.translate),
            (cfg.scale[0], cfg.scale[1]),
            cfg.shear_deg,
            padding_mode="reflection",
            p=cfg.affine_p,
        ),
        ka.ColorJitter(cfg.brightness, cfg.contrast, cfg.saturation, cfg.hue, p=cfg.color_p),
        ka.RandomGaussianBlur((9, 9), (cfg.blur_sigma_px[0], cfg.blur_sigma_px[1]), p=cfg.blur_p),
        ka.RandomGaussianNoise(0.0, cfg.noise_std / 255, p=cfg.noise_p),
        data_keys=["image", "mask"],
        # What comes from outside is no lake here; left alone, Kornia would reflect the mask as it does the image.
        extra_args={DataKey.MASK: {"resample": Resample.NEAREST, "padding_mode": SamplePadding.ZEROS}},
    )


def statistics_of(image: torch.Tensor, mask: torch.Tensor) -> dict[str, np.ndarray]:
    """Per tile: means and contrast of the bands, roughness, colourfulness, where the lake lies. Image 0-255."""
    rough = (image[..., 1:] - image[..., :-1]).abs().mean(dim=(1, 2, 3))
    where = torch.linspace(-1, 1, mask.shape[-1])
    found = {f"mean_{i}": image[:, i].mean(dim=(1, 2)) for i in range(3)}
    found |= {f"std_{i}": image[:, i].std(dim=(1, 2)) for i in range(3)}
    found |= {
        "rough": rough,
        "colourful": (image[:, 0] - image[:, 2]).std(dim=(1, 2)),
        "lake": mask.mean(dim=(1, 2, 3)),
    }
    found["lake_x"] = (mask[:, 0] * where).mean(dim=(1, 2))
    found["lake_y"] = (mask[:, 0] * where[:, None]).mean(dim=(1, 2))
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.slow
def test_standard_is_kornias_sequence_in_distribution() -> None:
    from scipy import stats

    torch.manual_seed(0)
    cfg, count, side = preset("standard"), 1500, 48
    tile = smooth(1, side, side, low=30, high=225)
    image = tile.repeat(count, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    label = (image[:, 0] > 140).to(torch.uint8)
    found = make(cfg)(image, label, torch.arange(count), 0)
    ours = statistics_of(raw(found), found.mask)
    pictures, masks = [], []
    reference = kornia_standard(cfg)
    for part in range(0, count, 4):  # small batches: Kornia draws one order of colour steps for a batch
        lake = (label[part : part + 4, None] == 1).float()
        picture, mask = reference(image[part : part + 4].float() / 255, lake)
        pictures.append(picture * 255)
        masks.append(mask)
    theirs = statistics_of(torch.cat(pictures), torch.cat(masks))
    for name, values in ours.items():
        other, error = theirs[name], 5 * float(theirs[name].std()) * (2 / count) ** 0.5
        assert values.mean() == pytest.approx(other.mean(), abs=error), name
        # Tiles that drew nothing agree to rounding only, which a rank test must not see.
        digit = 1e-3 * float(other.std())
        assert stats.ks_2samp(np.round(values / digit), np.round(other / digit)).pvalue > 1e-4, name


def test_presets_say_in_one_line_what_they_are() -> None:
    files = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    assert files == ["cross_sensor", "flips", "none", "standard", "strong"]
    for name in files:
        first = (PRESETS / f"{name}.yaml").read_text().splitlines()[0]
        assert first.startswith("# ") and first.endswith(".") and len(first) < 110
        preset(name)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("affine_p", 1.2),
        ("noise_p", -0.1),
        ("hue", 0.6),
        ("brightness", 1.5),
        ("scale", [1.5, 0.5]),
        ("scale", [0.0, 1.0]),
        ("scale", [1.0]),
        ("haze", [0.2, 1.2]),
        ("gsd_factor", [0.5, 2.0]),
        ("blur_sigma_px", [0.0, 1.0]),
        ("noise_std", float("nan")),
        ("rotate_deg", -10.0),
    ],
)
def test_impossible_settings_are_refused_in_one_line(setting: str, value: float | list[float]) -> None:
    with pytest.raises(ConfigError) as error:
        AugmentationConfig(**{setting: value})
    assert f"augmentation.{setting}={value}" in str(error.value) and "\n" not in str(error.value)


def test_picture_shows_sixteen_tiles_with_outlines_and_changes_no_input() -> None:
    image = smooth(3, 40, 40)
    label = (image[:, 0] > 130).to(torch.uint8)
    before = image.clone()
    grid = augmented_grid(make(preset("none")), image, label, torch.arange(3), 0)
    assert grid.shape == (172, 172, 3) and grid.dtype == np.uint8 and torch.equal(image, before)
    assert (grid[40:44] == 255).all()
    tile, lake = grid[:40, :40], label[0].numpy() == 1
    outline = (tile == OUTLINE).all(-1)
    assert outline.any() and not (outline & ~lake).any()
    np.testing.assert_array_equal(tile[~outline], image[0].permute(1, 2, 0).numpy()[~outline])
    assert augmented_grid(
        make(preset("strong"), 4), smooth(1, 600, 600, 4), label[:1].new_zeros(1, 600, 600), torch.arange(1), 0
    ).shape == (812, 812, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["none", "flips", "standard", "strong", "cross_sensor"])
def test_gpu_gives_what_the_cpu_gives_and_never_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which keeps ten bits of a number in a blur
    image = smooth(16, 64, 64)
    cfg = dataclasses.replace(preset(name), noise_p=0.0)  # noise has other bits there
    on_cpu = make(cfg)(image, blobs(image), torch.arange(16), 0)
    augment, inputs = make(cfg), (image.cuda(), blobs(image).cuda(), torch.arange(16), 0)
    augment(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = augment(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.image.cpu(), on_cpu.image, atol=2e-3, rtol=0)
    assert (found.mask.cpu() != on_cpu.mask).float().mean() < 1e-3
