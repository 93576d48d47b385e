"""First weights: ImageNet from the cache, a clear sentence without it, and files of ours."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import small_config
from safetensors.torch import save_file

from glidexp.config import BackboneConfig, DecoderConfig, InitConfig, InitKind, InitScope
from glidexp.errors import ConfigError
from glidexp.models import init as module
from glidexp.models.build import build_model
from glidexp.models.export import save_bundle
from glidexp.models.init import checkpoint_digest, require_weights
from glidexp.training.beginning.start import start_of

IMAGENET = InitConfig(kind=InitKind.imagenet)
RGB = ("red", "green", "blue")


def build(
    backbone: str,
    decoder: str,
    init: InitConfig | None = None,
    in_channels: int = 3,
    bands: tuple[str, ...] | None = None,
) -> torch.nn.Module:
    in_channels = len(bands) if bands else in_channels
    names = BackboneConfig(name=backbone), DecoderConfig(name=decoder)
    return build_model(*names, init or InitConfig(), in_channels=in_channels, bands=bands)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no way to the hub itself."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: refuses at once
    return tmp_path


def cache(hub: Path, repo: str, revision: str, files: dict[str, dict[str, torch.Tensor] | str]) -> None:
    """Lays files down as the hub's client does."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        if isinstance(content, str):
            (snapshot / name).write_text(content)
        else:
            save_file(content, snapshot / name)


def resnet18_cached(hub: Path) -> dict[str, torch.Tensor]:
    import segmentation_models_pytorch as smp

    source = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    torch.manual_seed(42)
    weights = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    cache(hub, source["repo_id"], source["revision"], {"config.json": "{}", "model.safetensors": weights})
    return weights


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3", "regnety_002"])
def test_without_cache_and_hub_one_sentence_says_what_to_do(backbone: str, hub: Path) -> None:
    with pytest.raises(ConfigError, match="could not be downloaded") as refused:
        require_weights(BackboneConfig(name=backbone), IMAGENET)
    message = str(refused.value)
    assert backbone in message and str(hub) in message and "init=scratch" in message and "HF_HOME" in message
    assert "\n" not in message


def test_the_hub_switched_off_is_not_asked(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(module, "_probe", lambda endpoint: pytest.fail("asked the hub"))
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        build("resnet18", "unet", IMAGENET)


def test_cached_weights_of_smp_are_taken(hub: Path) -> None:
    weights = resnet18_cached(hub)
    torch.manual_seed(0)
    model = build("resnet18", "fcn", IMAGENET)
    assert all(torch.equal(model.encoder.state_dict()[name], value) for name, value in weights.items())


def test_rgb_kernels_are_repeated_in_turn_for_more_bands(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel = resnet18_cached(hub)["conv1.weight"]
    with caplog.at_level(logging.INFO, "glidexp"):
        model = build("resnet18", "unet", IMAGENET, in_channels=4)
    assert torch.allclose(model.encoder.conv1.weight, kernel[:, [0, 1, 2, 0]] * 3 / 4)
    assert (
        "3 -> 4 input channels: the first convolution's RGB weights are repeated in turn and scaled by 3/4"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("bands", "told"),
    [
        (
            ["nir", "blue", "green", "red"],
            "RGB weights for blue, green, red; their mean for nir",
        ),
        (
            ["red", "nir"],
            "RGB weights for red; their mean for nir; left out: green, blue",
        ),
        (["blue", "green", "red"], "RGB weights for blue, green, red"),
        (["green", "slope"], "RGB weights for green; 0 for slope; left out: red, blue"),
    ],
)
def test_imagenet_s_kernels_go_to_the_bands_of_their_names(
    bands: list[str], told: str, hub: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever their order; near infrared begins as brightness, and what else is drawn is drawn as without it."""
    names = BackboneConfig(name="resnet18"), DecoderConfig(name="unet")
    kernel = resnet18_cached(hub)["conv1.weight"]
    terrain = [band for band in bands if band == "slope"]
    with caplog.at_level(logging.INFO, "glidexp"):
        torch.manual_seed(5)
        model = build_model(*names, IMAGENET, in_channels=len(bands), bands=bands, terrain=terrain)
    expected = {"nir": kernel.mean(dim=1), "slope": torch.zeros_like(kernel[:, 0])}
    expected |= {band: kernel[:, place] for place, band in enumerate(RGB)}
    assert torch.equal(model.encoder.conv1.weight, torch.stack([expected[band] for band in bands], dim=1))
    assert model.encoder.conv1.weight.requires_grad and told in caplog.text
    torch.manual_seed(5)
    in_turn = build_model(*names, IMAGENET, in_channels=len(bands))
    for name, value in in_turn.state_dict().items():
        assert name == "encoder.conv1.weight" or torch.equal(model.state_dict()[name], value), name


def test_bands_of_a_dem_begin_at_nothing(hub: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beside ImageNet's kernels as they are, and beside those of a network without: it begins with its answers."""
    import timm

    names = BackboneConfig(name="resnet18"), DecoderConfig(name="unet")
    kernel, bands, terrain = resnet18_cached(hub)["conv1.weight"], [*RGB, "elevation", "slope"], ["elevation", "slope"]
    with caplog.at_level(logging.INFO, "glidexp"):
        model = build_model(*names, IMAGENET, in_channels=5, bands=bands, terrain=terrain)
    weight = model.encoder.conv1.weight
    assert torch.allclose(weight[:, :3], kernel) and not weight[:, 3:].any() and weight.requires_grad
    assert (
        "5 input channels: the first convolution by name: RGB weights for red, green, blue; 0 for elevation, slope"
        in caplog.text
    )
    unknown = ["nir", "swir1", "swir2", "rededge", "slope"]
    wide = build_model(*names, IMAGENET, in_channels=5, bands=unknown, terrain=["slope"]).encoder.conv1.weight
    assert torch.allclose(wide[:, :4], kernel[:, [0, 1, 2, 0]] * 3 / 4) and not wide[:, 4].any()
    torch.manual_seed(42)
    whole = timm.create_model("mobilenetv3_large_100", pretrained=False).state_dict()
    cache(
        hub, timm.models.get_pretrained_cfg("mobilenetv3_large_100").hf_hub_id, "0" * 40, {"model.safetensors": whole}
    )
    of_timm = BackboneConfig(name="mobilenetv3"), DecoderConfig(name="fcn")
    stem = build_model(*of_timm, IMAGENET, in_channels=4, bands=[*RGB, "slope"], terrain=["slope"])
    assert torch.allclose(stem.encoder.model.conv_stem.weight[:, :3], whole["conv_stem.weight"])
    assert not stem.encoder.model.conv_stem.weight[:, 3].any()

    source = build("resnet18", "unet", bands=RGB).eval()
    save_file(source.state_dict(), tmp_path / "rgb.safetensors")
    init = InitConfig(kind=InitKind.checkpoint, checkpoint=str(tmp_path / "rgb.safetensors"), bands=list(RGB))
    caplog.clear()
    with caplog.at_level(logging.INFO, "glidexp"):
        more = build_model(*names, init, in_channels=4, bands=[*RGB, "slope"], terrain=["slope"]).eval()
    assert "3 of 4 bands matched by name; without match, so the mean of the file's: none" in caplog.text
    assert "left out: none; of a DEM, so 0: slope" in caplog.text
    image = torch.rand(2, 4, 64, 64)
    with torch.no_grad():
        assert torch.allclose(more(image), source(image[:, :3]), atol=1e-5)


def test_cached_weights_of_timm_are_taken_and_adapted(hub: Path) -> None:
    import timm

    torch.manual_seed(42)
    whole = timm.create_model("mobilenetv3_large_100", pretrained=False).state_dict()
    repo = timm.models.get_pretrained_cfg("mobilenetv3_large_100").hf_hub_id
    cache(hub, repo, "0" * 40, {"model.safetensors": whole})
    model = build("mobilenetv3", "unet", IMAGENET)
    assert torch.equal(model.encoder.model.conv_stem.weight, whole["conv_stem.weight"])
    assert torch.equal(model.encoder.model.blocks[5][0].conv_pw.weight, whole["blocks.5.0.conv_pw.weight"])
    wide = build("mobilenetv3", "unet", IMAGENET, in_channels=4)
    assert torch.allclose(wide.encoder.model.conv_stem.weight, whole["conv_stem.weight"][:, [0, 1, 2, 0]] * 3 / 4)


def test_cached_weights_of_a_plain_vit_are_taken(hub: Path) -> None:
    import timm

    torch.manual_seed(42)
    whole = timm.create_model("vit_small_patch16_224", pretrained=False).state_dict()
    repo = timm.models.get_pretrained_cfg("vit_small_patch16_224").hf_hub_id
    cache(hub, repo, "0" * 40, {"model.safetensors": whole})
    model = build("vit_small", "dpt", IMAGENET)
    assert torch.equal(model.encoder.model.blocks[11].mlp.fc2.weight, whole["blocks.11.mlp.fc2.weight"])


def test_the_hub_is_asked_once_for_what_the_cache_lacks(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    weights = resnet18_cached(tmp_path / "elsewhere")
    asked: list[str] = []

    def download(repo: str, file: str, revision: str, etag_timeout: float) -> str:
        asked.append(file)
        if not (hub / f"models--{repo.replace('/', '--')}").exists():
            cache(hub, repo, revision, {"config.json": "{}", "model.safetensors": weights})
        return str(hub)

    monkeypatch.setattr(module, "_probe", lambda endpoint: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = build("resnet18", "unet", IMAGENET)
    assert asked == ["config.json"]  # the weights lay beside it by then
    assert torch.equal(model.encoder.conv1.weight, weights["conv1.weight"])


def from_file(path: Path | str, scope: InitScope = InitScope.all) -> InitConfig:
    return InitConfig(kind=InitKind.checkpoint, scope=scope, checkpoint=str(path))


def test_a_checkpoint_fills_the_whole_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build("mobilenetv3", "unet").state_dict()
    save_file(source, tmp_path / "weights.safetensors")
    torch.manual_seed(2)
    for path in (tmp_path, tmp_path / "weights.safetensors"):  # a bundle folder, or the file
        model = build("mobilenetv3", "unet", from_file(path)).state_dict()
        assert all(torch.equal(model[name], source[name]) for name in source)


def test_a_file_of_unknown_bands_is_said_to_be_taken_in_their_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = build("resnet18", "fcn")
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save(source.encoder.state_dict(), tmp_path / "w.pth")
    whole = from_file(tmp_path / "w.safetensors")
    external = InitConfig(kind=InitKind.external, scope=InitScope.encoder, checkpoint=str(tmp_path / "w.pth"))
    names = BackboneConfig(name="resnet18"), DecoderConfig(name="fcn")
    for init, bands, told in (
        (whole, ["green", "red", "nir"], "is taken for green, red, nir in this order; init.bands names"),
        (external, ["green", "red", "nir"], "is taken for green, red, nir in this order; init.bands names"),
        (replace(external, bands=["red", "green", "blue"]), ["green", "red", "nir"], ""),
        (whole, [*RGB], ""),
        (external, [*RGB], ""),
    ):
        caplog.clear()
        build_model(*names, init, in_channels=3, bands=bands)
        assert (told in caplog.text) if told else "in this order" not in caplog.text, (init, bands)


@pytest.mark.parametrize("bare", [False, True])
def test_the_encoder_alone_goes_under_another_decoder(bare: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build("resnet18", "unet")
    save_file((source.encoder if bare else source).state_dict(), tmp_path / "w.safetensors")
    torch.manual_seed(2)
    model = build("resnet18", "fcn", from_file(tmp_path / "w.safetensors", InitScope.encoder))
    torch.manual_seed(2)
    fresh = build("resnet18", "fcn")
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, source.encoder.state_dict()[name])
    assert torch.equal(model.decoder.head[0].weight, fresh.decoder.head[0].weight)
    pruned = build("resnet18", "pspnet", from_file(tmp_path / "w.safetensors", InitScope.encoder))
    assert torch.equal(pruned.encoder.conv1.weight, source.encoder.conv1.weight)


def test_an_encoder_that_lacks_layers_names_the_decoders_that_leave_them_out(tmp_path: Path) -> None:
    """It was told to take the encoder alone, which it did."""
    save_file(build("resnet18", "pspnet").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError) as refused:
        build("resnet18", "unet", from_file(tmp_path / "w.safetensors", InitScope.encoder))
    told = str(refused.value)
    assert "60 missing (first: layer3.0.bn1.bias" in told and "init.scope" not in told
    assert told.endswith("and its own decoder: under pspnet and dpt an encoder lacks the layers that they do not use.")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_file(build("resnet18", "unet").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError) as refused:
        build("resnet18", "fcn", from_file(tmp_path / "w.safetensors"))
    assert "missing (first: decoder.head.0.weight" in str(refused.value)
    assert "not of this network (first: decoder.blocks.0.conv1.0.weight" in str(refused.value)
    with pytest.raises(
        ConfigError, match=r"1 of another shape \(first: encoder\.conv1\.weight \(64, 3, 7, 7\) instead of"
    ):
        build("resnet18", "unet", from_file(tmp_path / "w.safetensors"), in_channels=4)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        build("resnet18", "unet", from_file(tmp_path / "absent.safetensors"))
    with pytest.raises(ConfigError, match="does not exist"):
        require_weights(BackboneConfig(), from_file(tmp_path))
    torch.save({"a": torch.ones(1)}, tmp_path / "pickle.safetensors")
    with pytest.raises(ConfigError, match="not a readable safetensors file"):
        build("resnet18", "unet", from_file(tmp_path / "pickle.safetensors"))


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"needs init\.checkpoint=PATH"):
        InitConfig(kind=InitKind.checkpoint)
    with pytest.raises(ConfigError, match=r"would not be used with init\.kind=scratch"):
        InitConfig(checkpoint="w.safetensors")
    with pytest.raises(ConfigError, match=r"init\.run=abcd would not be used with init\.kind=scratch: add init=run"):
        InitConfig(run="abcd")
    with pytest.raises(ConfigError, match=r"init=run needs init\.run"):
        InitConfig(kind=InitKind.run)
    with pytest.raises(ConfigError, match=r"init\.bands would not be used"):
        InitConfig(bands=["red"])
    with pytest.raises(ConfigError, match=r"init\.key_map: 'encoder' is not possible"):
        external(Path("w.pth"), key_map=["encoder"])
    with pytest.raises(ConfigError, match="the encoder only"):
        InitConfig(kind=InitKind.external, checkpoint="w.pth")


def test_the_digest_follows_the_content_not_the_path(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"x": torch.zeros(2)}, tmp_path / name)
    save_file({"x": torch.ones(2)}, tmp_path / "c.safetensors")
    a, b, c = (checkpoint_digest(from_file(tmp_path / f"{name}.safetensors")) for name in "abc")
    assert a == b != c
    assert a["init.checkpoint"].startswith("sha256:")


# --- files of others --------------------------------------------------------------------------------------------------

SENTINEL2 = ["coastal", "blue", "green", "red", "nir"]
RGB = ("red", "green", "blue")


def external(path: Path, **settings: list[str]) -> InitConfig:
    return InitConfig(kind=InitKind.external, scope=InitScope.encoder, checkpoint=str(path), **settings)


def resnet18_of_five_bands() -> dict[str, torch.Tensor]:
    import segmentation_models_pytorch as smp

    torch.manual_seed(42)
    return smp.encoders.get_encoder("resnet18", in_channels=5, weights=None).state_dict()


@pytest.mark.parametrize("beginning", ["", "module.encoder_q.", "backbone.", "model."])
def test_a_foreign_resnet_goes_in_by_the_names_of_its_bands(
    beginning: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As TorchGeo and contrastive learning leave them: wrapped, with a beginning, a head, and no count of batches."""
    source = resnet18_of_five_bands()
    theirs = {f"{beginning}{k}": v for k, v in source.items() if not k.endswith("num_batches_tracked")}
    theirs |= {f"{beginning}fc.weight": torch.zeros(3, 512), "module.queue": torch.zeros(2)}
    torch.save({"epoch": 3, "state_dict": theirs}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, "glidexp"):
        model = build("resnet18", "fcn", external(tmp_path / "w.pth", bands=SENTINEL2), bands=(*RGB, "swir1"))
    kernel, own = source["conv1.weight"], model.encoder.state_dict()
    assert torch.equal(own["conv1.weight"][:, :3], kernel[:, [3, 2, 1]])
    assert torch.allclose(own["conv1.weight"][:, 3], kernel.mean(dim=1))
    assert torch.equal(own["layer4.1.conv2.weight"], source["layer4.1.conv2.weight"])
    assert "3 of 4 bands matched by name; without match, so the mean of the file's: swir1" in caplog.text
    assert "left out: coastal, nir" in caplog.text


def test_a_foreign_timm_state_dict_fills_our_encoder_of_timm(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(42)
    whole = timm.create_model("mobilenetv3_large_100", pretrained=False, in_chans=4).state_dict()
    save_file(whole, tmp_path / "w.safetensors")
    bands = ["blue", "green", "red", "nir"]
    model = build("mobilenetv3", "fcn", external(tmp_path / "w.safetensors", bands=bands), bands=RGB)
    assert torch.equal(model.encoder.model.conv_stem.weight, whole["conv_stem.weight"][:, [2, 1, 0]])
    assert torch.equal(model.encoder.model.blocks[5][0].conv_pw.weight, whole["blocks.5.0.conv_pw.weight"])


def test_an_embedding_of_patches_is_matched_by_band(tmp_path: Path) -> None:
    torch.manual_seed(42)
    source = build("mit_b0", "fpn", bands=("blue", "green", "red", "nir"))
    torch.save(source.encoder.state_dict(), tmp_path / "w.pth")
    settings = external(tmp_path / "w.pth", bands=["blue", "green", "red", "nir"])
    model = build("mit_b0", "fpn", settings, bands=RGB)
    kernel = source.encoder.patch_embed1.proj.weight
    assert torch.equal(model.encoder.patch_embed1.proj.weight, kernel[:, [2, 1, 0]])


def test_a_map_of_names_goes_before_guessing(tmp_path: Path) -> None:
    source = resnet18_of_five_bands()
    odd = {k.replace("layer1.", "stage_one.").replace("conv1.", "first.", 1): v for k, v in source.items()}
    torch.save({f"enc/{k}": v for k, v in odd.items() if "." in k}, tmp_path / "w.pth")
    bands = tuple(SENTINEL2)
    with pytest.raises(ConfigError, match=r"does not fill the encoder: .* missing .*such as enc/first"):
        build("resnet18", "fcn", external(tmp_path / "w.pth"), bands=bands)
    back = [*(f"enc/layer{n}.:layer{n}." for n in (2, 3, 4)), "enc/bn1:bn1", "enc/first.:conv1."]
    with pytest.raises(ConfigError, match="missing"):
        build("resnet18", "fcn", external(tmp_path / "w.pth", key_map=back), bands=bands)
    torch.save({f"enc/{k}": v for k, v in source.items()}, tmp_path / "w.pth")
    model = build("resnet18", "fcn", external(tmp_path / "w.pth", key_map=["enc/:"]), bands=bands)
    assert torch.equal(model.encoder.layer1[0].conv1.weight, source["layer1.0.conv1.weight"])


def test_foreign_files_that_do_not_do(tmp_path: Path) -> None:
    torch.save(resnet18_of_five_bands(), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"names 2 bands, the first layer of .* takes 5"):
        build("resnet18", "fcn", external(tmp_path / "w.pth", bands=["red", "nir"]), bands=RGB)
    with pytest.raises(ConfigError, match="none of the data's bands red, green, blue is among them"):
        build("resnet18", "fcn", external(tmp_path / "w.pth", bands=list("abcde")), bands=RGB)
    with pytest.raises(ConfigError, match=r"does not fill the encoder: 1 of another shape .* name its bands"):
        build("resnet18", "fcn", external(tmp_path / "w.pth"), bands=RGB)
    torch.save({"lr": 0.1}, tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="holds no state dict: its keys are lr"):
        build("resnet18", "fcn", external(tmp_path / "none.pth"), bands=RGB)
    torch.save({"state_dict": {}, "config": Path("x")}, tmp_path / "code.pth")
    with pytest.raises(ConfigError, match="cannot be read as plain tensors"):
        build("resnet18", "fcn", external(tmp_path / "code.pth"), bands=RGB)


def test_weights_that_are_no_numbers_or_whole_ones_are_no_start(tmp_path: Path) -> None:
    """The first would be told as a learning rate that is too high, the second train from next to nothing."""
    weights = resnet18_of_five_bands()
    bands = [*RGB, "nir", "swir1"]
    name = "layer1.0.conv1.weight"
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    for file, change, told in (
        ("nan", weights[name].clone().fill_(float("nan")), rf"{name} holds values that are no numbers"),
        ("inf", weights[name].clone().index_fill_(0, torch.tensor([3]), float("inf")), "no numbers"),
        ("int8", weights[name].to(torch.int8), rf"{name} holds whole numbers \(int8\), as a quantised network does"),
    ):
        torch.save(weights | {name: change}, tmp_path / f"{file}.pth")
        with pytest.raises(ConfigError, match=told):
            build("resnet18", "fcn", external(tmp_path / f"{file}.pth", bands=bands), in_channels=5, bands=bands)
    torch.save({key: torch.zeros_like(value) for key, value in weights.items()}, tmp_path / "zeros.pth")
    with pytest.raises(ConfigError, match=r"zeros\.pth: every kernel is 0, which learns nothing: give weights"):
        build("resnet18", "fcn", external(tmp_path / "zeros.pth", bands=bands), in_channels=5, bands=bands)
    torch.save(half, tmp_path / "half.pth")
    model = build("resnet18", "fcn", external(tmp_path / "half.pth", bands=bands), in_channels=5, bands=bands)
    assert torch.equal(model.encoder.layer1[0].conv1.weight, half[name].float())


def test_a_bundle_of_other_bands_is_matched_by_its_card(tmp_path: Path) -> None:

    torch.manual_seed(1)
    source = build("resnet18", "fcn", bands=("blue", "green", "red", "nir"))
    kernel = source.encoder.conv1.weight.detach().clone()
    shape = {"backbone": "resnet18", "decoder": "fcn", "in_channels": 4}
    card = {"architecture": shape, "mean": [0.0] * 4, "std": [1.0] * 4, "bands": ["blue", "green", "red", "nir"]}
    card |= {"threshold": 0.5, "temperature": 1.0}
    bundle = save_bundle(tmp_path / "bundle", source, card=card)
    model = build("resnet18", "fcn", from_file(bundle), bands=RGB)
    assert torch.equal(model.encoder.conv1.weight, kernel[:, [2, 1, 0]])


def test_a_bundle_whose_weights_are_damaged_is_no_start(tmp_path: Path) -> None:
    """It would train from other weights, and what it was trained on would not be known."""

    card = {"architecture": {"backbone": "mobilenetv3", "decoder": "fcn", "in_channels": 3}}
    card |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    folder = save_bundle(tmp_path / "bundle", torch.nn.Conv2d(3, 1, 1), card=card)
    assert checkpoint_digest(from_file(folder))["init.checkpoint"].startswith("sha256:")
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 255
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"weights.safetensors is damaged: its sha256 is not the one in card.json"):
        checkpoint_digest(from_file(folder))


def test_first_layers_by_name_are_another_start(tmp_path: Path) -> None:
    """Runs of ImageNet's weights on other bands than red, green and blue took the kernels in turn once."""
    mine = {"init.first_layer": "by name"}
    for words, found in (
        (["init=imagenet"], {}),
        (["init=imagenet", "dataset.bands=[red,green,blue,nir]"], mine),
        (["init=imagenet", "dataset.bands=[blue,green,red]"], mine),
        (["init=imagenet", "dataset.bands=[nir]"], {}),
        (["init=scratch", "dataset.bands=[red,green,blue,nir]"], {}),
    ):
        with start_of(small_config(tmp_path, tmp_path, *words)) as (_, digest):
            assert digest == found
    (tmp_path / "manifest.json").write_text(
        json.dumps({"recipe": {}, "sensors": {}, "bands": ["blue", "green", "red"]})
    )
    store = ["dataset=store", f"dataset.root={tmp_path}", "init=imagenet"]
    with start_of(small_config(tmp_path, tmp_path, *store)) as (_, digest):
        assert digest == mine


def test_weights_with_a_card_beside_them_are_another_start_than_alone(tmp_path: Path) -> None:
    """Their first layer goes by names of bands then, and in order without; both were one run."""
    shape = {"backbone": "resnet18", "decoder": "fcn", "in_channels": 3}
    card = {"architecture": shape, "mean": [1.0] * 3, "std": [1.0] * 3, "bands": list(RGB)}
    folder = save_bundle(tmp_path / "bundle", build("resnet18", "fcn"), card=card)
    alone = tmp_path / "weights.safetensors"
    alone.write_bytes((folder / "weights.safetensors").read_bytes())
    others, named = "dataset.bands=[green,red,nir]", "init.bands=[red,green,blue]"
    for file, words, found in (
        (folder, [others], None),
        (alone, [others], "in order"),
        (alone, [others, named], None),
        (alone, [], None),
    ):
        start = ["init=checkpoint", f"init.checkpoint={file}", *words]
        with start_of(small_config(tmp_path, tmp_path, *start)) as (_, digest):
            assert digest.get("init.first_layer") == found, (file, words)
