"""Files of DOFA, Prithvi and CLIP against what their papers' networks compute, written out here by hand."""

import logging
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from glidexp.config import BackboneConfig, DecoderConfig, InitConfig, InitKind, InitScope
from glidexp.errors import ConfigError
from glidexp.models.build import build_model
from glidexp.models.foundation import PRITHVI_BANDS, WAVELENGTHS_UM, drawn

pytestmark = pytest.mark.usefixtures("cheap_draws")
Floats = npt.NDArray[np.float64]
RGB = ("red", "green", "blue")
WIDTH, BLOCKS = 384, 12
"""of ViT-Small"""


def build(path: Path, seen: tuple[str, ...] = RGB, backbone: str = "vit_small", **settings: Any) -> nn.Module:
    init = InitConfig(kind=InitKind.external, scope=InitScope.encoder, checkpoint=str(path), **settings)
    names = BackboneConfig(name=backbone), DecoderConfig(name="dpt")
    return build_model(*names, init, in_channels=len(seen), bands=seen).eval()


def drawn_at_random(shapes: dict[str, tuple[int, ...]], scale: float = 0.05) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=made) * scale for name, shape in shapes.items()}


@cache
def blocks() -> dict[str, torch.Tensor]:
    """A transformer's weights but for what meets the image."""
    torch.manual_seed(3)
    import timm

    whole = timm.create_model("vit_small_patch16_224", pretrained=False).state_dict()
    return {name: value for name, value in whole.items() if name.startswith("blocks.")}


# --- DOFA -------------------------------------------------------------------------------------------------------------


@cache
def generator() -> dict[str, torch.Tensor]:
    layer = "weight_generator.transformer_encoder.layers.0."
    wide, inner, kernels = 128, 256, 16 * 16 * WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "fclayer.w1.weight": (wide, wide), "fclayer.w1.bias": (wide,),
        "fclayer.w2.weight": (wide, wide), "fclayer.w2.bias": (wide,),
        "weight_generator.weight_tokens": (128, wide), "weight_generator.bias_token": (1, wide),
        "weight_generator.fc_weight.weight": (kernels, wide), "weight_generator.fc_weight.bias": (kernels,),
        "weight_generator.fc_bias.weight": (WIDTH, wide), "weight_generator.fc_bias.bias": (WIDTH,),
        layer + "self_attn.in_proj_weight": (3 * wide, wide), layer + "self_attn.in_proj_bias": (3 * wide,),
        layer + "self_attn.out_proj.weight": (wide, wide), layer + "self_attn.out_proj.bias": (wide,),
        layer + "linear1.weight": (inner, wide), layer + "linear1.bias": (inner,),
        layer + "linear2.weight": (wide, inner), layer + "linear2.bias": (wide,),
        layer + "norm1.weight": (wide,), layer + "norm1.bias": (wide,),
        layer + "norm2.weight": (wide,), layer + "norm2.bias": (wide,),
    }  # fmt: skip
    return drawn_at_random(shapes, 0.2)


def dofa() -> dict[str, torch.Tensor]:
    own = {f"patch_embed.{name}": value for name, value in generator().items()}
    own |= drawn_at_random({"cls_token": (1, 1, WIDTH), "pos_embed": (1, 197, WIDTH)})
    return {**own, **blocks(), "head.weight": torch.zeros(45, WIDTH)}


def normed(x: Floats, scale: Floats, shift: Floats) -> Floats:
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * scale + shift


def kernels_by_hand(waves_um: list[float]) -> tuple[Floats, Floats]:
    """The generator of Xiong et al. (2024) in NumPy, head by head, in double precision."""
    w = {name: value.double().numpy() for name, value in generator().items()}
    layer = "weight_generator.transformer_encoder.layers.0."

    def dense(name: str, x: Floats) -> Floats:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    angles = np.array([[wave * 1000 / 10000 ** (place / 64) for place in range(64)] for wave in waves_um])
    waves = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    waves = waves + np.maximum(dense("fclayer.w2", np.maximum(dense("fclayer.w1", waves), 0)), 0)
    x = np.concatenate([w["weight_generator.weight_tokens"], waves, w["weight_generator.bias_token"]])
    queries, keys, values = np.split(
        x @ w[layer + "self_attn.in_proj_weight"].T + w[layer + "self_attn.in_proj_bias"], 3, 1
    )
    heads = []
    for head in range(4):
        part = slice(32 * head, 32 * head + 32)
        weight = np.exp(queries[:, part] @ keys[:, part].T / math.sqrt(32))
        heads.append(weight / weight.sum(1, keepdims=True) @ values[:, part])
    x = normed(
        x + dense(layer + "self_attn.out_proj", np.concatenate(heads, 1)),
        w[layer + "norm1.weight"],
        w[layer + "norm1.bias"],
    )
    inner = dense(layer + "linear1", x)
    inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
    x = normed(x + dense(layer + "linear2", inner), w[layer + "norm2.weight"], w[layer + "norm2.bias"])
    flat = dense("weight_generator.fc_weight", x[128:-1] + waves) * 0.01
    kernels = np.zeros((WIDTH, len(waves_um), 16, 16))
    for band in range(len(waves_um)):
        for row in range(16):
            for column in range(16):
                kernels[:, band, row, column] = flat[
                    band, (row * 16 + column) * WIDTH : (row * 16 + column + 1) * WIDTH
                ]
    return kernels, dense("weight_generator.fc_bias", x[-1:])[0] * 0.01


def test_dofa_draws_the_kernels_of_its_paper_and_no_random_number() -> None:
    state = torch.get_rng_state()
    kernels, bias = drawn(generator(), [0.665, 0.56, 0.49, 2.19])
    assert torch.equal(torch.get_rng_state(), state)
    by_hand = kernels_by_hand([0.665, 0.56, 0.49, 2.19])
    assert np.allclose(kernels, by_hand[0], atol=1e-5) and np.abs(by_hand[0]).max() > 0.1
    assert np.allclose(bias, by_hand[1], atol=1e-5) and np.abs(by_hand[1]).max() > 0.01


def test_bands_of_a_dem_are_of_no_wavelength(tmp_path: Path) -> None:
    """Kernels are drawn for the others, and theirs begin at 0; of a file of RGB, too, whose bands nobody names."""
    torch.save(dofa(), tmp_path / "dofa.pth")
    bands = [*RGB, "slope"]
    names = BackboneConfig(name="vit_small"), DecoderConfig(name="dpt")

    def built(file: str, **settings: Any) -> nn.Module:
        init = InitConfig(kind=InitKind.external, scope=InitScope.encoder, checkpoint=str(tmp_path / file), **settings)
        return build_model(*names, init, in_channels=4, bands=bands, terrain=["slope"]).eval()

    plain = build(tmp_path / "dofa.pth").state_dict()
    for settings in ({}, {"wavelengths_um": [0.665, 0.56, 0.49]}):
        model = built("dofa.pth", **settings).state_dict()
        kernel = model["encoder.model.patch_embed.proj.weight"]
        assert kernel.shape[1] == 4 and not kernel[:, 3].any() and kernel[:, :3].abs().max() > 0.1
        if not settings:
            assert torch.equal(kernel[:, :3], plain["encoder.model.patch_embed.proj.weight"])
    with pytest.raises(ConfigError, match=r"init\.wavelengths_um has 4 values, the data 3 bands"):
        built("dofa.pth", wavelengths_um=[0.665, 0.56, 0.49, 1.0])
    import timm

    rgb = timm.create_model("vit_small_patch16_224", pretrained=False).state_dict()
    torch.save(rgb, tmp_path / "rgb.pth")
    kernel = built("rgb.pth").state_dict()["encoder.model.patch_embed.proj.weight"]
    assert torch.equal(kernel[:, :3], rgb["patch_embed.proj.weight"]) and not kernel[:, 3].any()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_of_dofa_fills_a_plain_transformer_for_any_bands(
    wrapped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = {f"encoder.{k}": v for k, v in dofa().items()} if wrapped else dofa()
    torch.save({"model": theirs}, tmp_path / "dofa.pth")
    for bands, waves in ((RGB, {}), (("nir", "thermal"), {"wavelengths_um": [0.842, 3.75]})):
        with caplog.at_level(logging.INFO, "glidexp"):
            own = build(tmp_path / "dofa.pth", bands, **waves).encoder.state_dict()
        where = waves.get("wavelengths_um") or [WAVELENGTHS_UM[band] for band in bands]
        kernels, bias = kernels_by_hand(where)
        assert np.allclose(own["model.patch_embed.proj.weight"], kernels, atol=1e-5)
        assert np.allclose(own["model.patch_embed.proj.bias"], bias, atol=1e-5)
        for name in ("cls_token", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.11.mlp.fc2.bias"):
            assert torch.equal(own[f"model.{name}"], dofa()[name]), name
    assert "drawn by DOFA for red at 0.665, green at 0.56, blue at 0.49 micrometres" in caplog.text
    assert "drawn by DOFA for nir at 0.842, thermal at 3.75 micrometres" in caplog.text


def test_wavelengths_that_are_not_known_or_not_used(tmp_path: Path) -> None:
    torch.save(dofa(), tmp_path / "dofa.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        ConfigError, match=r"that of thermal is not known: give init\.wavelengths_um.* red, thermal\. Known"
    ):
        build(tmp_path / "dofa.pth", ("red", "thermal"))
    with pytest.raises(ConfigError, match=r"init\.wavelengths_um has 1 value, the data 3 bands \(red, green, blue\)"):
        build(tmp_path / "dofa.pth", wavelengths_um=[0.665])
    with pytest.raises(ConfigError, match=r"init\.wavelengths_um would not be used: the file .* draws no kernels"):
        build(tmp_path / "other.pth", wavelengths_um=[0.665, 0.56, 0.49])
    with pytest.raises(ConfigError, match=r"init\.bands would not be used: the file .* is DOFA"):
        build(tmp_path / "dofa.pth", bands=["red", "green", "blue"])
    part = {name: value for name, value in dofa().items() if "fclayer.w2" not in name}
    torch.save(part, tmp_path / "part.pth")
    with pytest.raises(ConfigError, match=r"part\.pth holds but a part of a network \('fclayer\.w2\.weight'\)"):
        build(tmp_path / "part.pth")
    with pytest.raises(ConfigError, match=r"init\.wavelengths_um=0\.0 is outside 0\.1 to 100: give micrometres"):
        InitConfig(kind=InitKind.external, scope=InitScope.encoder, checkpoint="w", wavelengths_um=[0.0])
    with pytest.raises(ConfigError, match=r"init\.wavelengths_um would not be used with init\.kind=scratch"):
        InitConfig(wavelengths_um=[0.6])


# --- Prithvi ----------------------------------------------------------------------------------------------------------


def place_by_hand(row: int, column: int, width: int) -> Floats:
    """Prithvi's embedding of a place on the first date: its column, its row, its date."""
    parts = []
    for at, size in ((column, width // 16 * 6), (row, width // 16 * 6), (0, width // 16 * 4)):
        angles = [at / 10000 ** (k / (size // 2)) for k in range(size // 2)]
        parts += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return np.array(parts)


@pytest.mark.parametrize("dates", [1, 3])
def test_a_file_of_prithvi_is_taken_as_it_sees_one_date(dates: int, tmp_path: Path) -> None:
    shapes = {"patch_embed.proj.weight": (WIDTH, 6, dates, 16, 16), "patch_embed.proj.bias": (WIDTH,)}
    own = drawn_at_random(shapes | {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 1 + 4 * 196, WIDTH)})
    theirs = {f"encoder.{name}": value for name, value in (own | blocks()).items()}
    torch.save(
        theirs | {"decoder.mask_token": torch.zeros(1), "decoder.decoder_pos_embed": torch.zeros(1, 9, 4)},
        tmp_path / "p.pt",
    )
    for bands in (PRITHVI_BANDS, RGB):
        state = build(tmp_path / "p.pt", bands).encoder.state_dict()
        kernel = own["patch_embed.proj.weight"].sum(2)[:, [PRITHVI_BANDS.index(band) for band in bands]]
        assert torch.allclose(state["model.patch_embed.proj.weight"], kernel)
        assert torch.equal(state["model.cls_token"], own["cls_token"])
        positions = state["model.pos_embed"][0]
        assert not positions[0].any()
        for row, column in ((0, 0), (0, 5), (3, 0), (13, 13)):
            assert np.allclose(positions[1 + 14 * row + column], place_by_hand(row, column, WIDTH), atol=1e-5)


def test_positions_of_others_over_dates_are_not_replaced_by_prithvis(tmp_path: Path) -> None:
    shapes = {
        "patch_embed.proj.weight": (WIDTH, 3, 2, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "cls_token": (1, 1, WIDTH),
    }
    own = drawn_at_random(shapes | {"pos_embed": (1, 197, WIDTH)})
    torch.save(own | blocks(), tmp_path / "video.pt")
    assert torch.equal(build(tmp_path / "video.pt").encoder.state_dict()["model.pos_embed"], own["pos_embed"])
    torch.save(own | blocks() | {"pos_embed": torch.zeros(1, 1 + 4 * 196, WIDTH)}, tmp_path / "video.pt")
    with pytest.raises(ConfigError, match="over several dates and 785 positions where the backbone has 197: of such"):
        build(tmp_path / "video.pt")


def test_a_map_of_names_serves_these_files_too_and_so_does_a_compiled_network(tmp_path: Path) -> None:
    torch.save({f"net/{name}": value for name, value in dofa().items()}, tmp_path / "odd.pth")
    torch.save({f"module._orig_mod.{name}": value for name, value in dofa().items()}, tmp_path / "compiled.pth")
    plain = drawn_at_random({"patch_embed.proj.weight": (WIDTH, 3, 16, 16), "patch_embed.proj.bias": (WIDTH,)})
    plain |= drawn_at_random({"cls_token": (1, 1, WIDTH), "pos_embed": (1, 197, WIDTH)}) | blocks()
    torch.save({f"_orig_mod.{name}": value for name, value in plain.items()}, tmp_path / "plain.pth")
    odd = build(tmp_path / "odd.pth", key_map=["net/:model."]).encoder.state_dict()
    compiled = build(tmp_path / "compiled.pth").encoder.state_dict()
    assert all(torch.equal(value, compiled[name]) for name, value in odd.items())
    found = build(tmp_path / "plain.pth").encoder.state_dict()
    assert all(torch.equal(found[f"model.{name}"], value) for name, value in plain.items())


# --- CLIP -------------------------------------------------------------------------------------------------------------

SMALLEST = "vit_xsmall_patch16_clip_224"
"""of timm's transformers of CLIP"""


class ClipBlock(nn.Module):
    """A block as OpenCLIP writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Clip(nn.Module):
    """The half of CLIP that looks at images."""

    def __init__(self, width: int, heads: int, count: int, side: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, side, side, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(1 + (224 // side) ** 2, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = [ClipBlock(width, heads) for _ in range(count)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.proj = nn.Parameter(torch.randn(width, 8))

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.conv1(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x, found = self.ln_pre(x), []
        for block in self.transformer["resblocks"]:
            x = block(x)
            found.append(x[:, 1:].transpose(1, 2).unflatten(2, (14, 14)))
        return found


def test_a_file_of_clip_sees_what_clip_sees(tmp_path: Path) -> None:
    import timm

    own = timm.create_model(SMALLEST, pretrained=False)
    torch.manual_seed(5)
    clip = Clip(own.embed_dim, own.blocks[0].attn.num_heads, len(own.blocks)).eval()
    torch.save(
        {f"module.visual.{k}": v for k, v in clip.state_dict().items()} | {"module.logit_scale": torch.ones(())},
        tmp_path / "c.pt",
    )
    encoder: Any = build(tmp_path / "c.pt", backbone=SMALLEST).encoder
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        theirs, (found, _) = clip.maps(image), encoder(image)
    assert len(found) == 4
    for given, at in zip(found, encoder._output_indices, strict=True):
        assert torch.allclose(given, theirs[at], atol=1e-4) and theirs[at].abs().max() > 1
    torch.save({f"visual.{k}": v for k, v in Clip(own.embed_dim, 1, 1, 32).state_dict().items()}, tmp_path / "c.pt")
    with pytest.raises(
        ConfigError, match="is CLIP with patches of 32 px, the backbone's have 16: choose one of timm's"
    ):
        build(tmp_path / "c.pt", backbone=SMALLEST)


# --- any --------------------------------------------------------------------------------------------------------------


def test_positions_of_another_grid_are_put_on_the_networks_own(tmp_path: Path) -> None:
    """A slope along the columns stays one: in the middle of the image the bicubic one is exact."""
    own = drawn_at_random(
        {"patch_embed.proj.weight": (WIDTH, 3, 16, 16), "patch_embed.proj.bias": (WIDTH,), "cls_token": (1, 1, WIDTH)}
    )
    slope = (torch.arange(28) + 0.5).repeat(28)[None, :, None].expand(1, 784, WIDTH) / 28
    theirs = torch.cat([torch.full((1, 1, WIDTH), 9.0), slope], 1)
    torch.save({"model": own | blocks() | {"pos_embed": theirs}}, tmp_path / "w.pth")
    found = build(tmp_path / "w.pth").encoder.state_dict()["model.pos_embed"]
    assert found.shape == (1, 197, WIDTH) and (found[0, 0] == 9).all()
    expected = (torch.arange(14) + 0.5) / 14
    grid = found[0, 1:].unflatten(0, (14, 14))
    assert torch.allclose(grid[:, 2:-2], expected[2:-2, None].expand(14, 10, WIDTH), atol=1e-3)
