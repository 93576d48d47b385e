"""Pairs and tiles that cannot work are refused by the settings alone, with what would work."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from glidexp.errors import ConfigError
from glidexp.models import catalog, timm_table
from glidexp.models.timm_lookup import UnusableError, on_paper, resolve_timm, timm_names

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
MADE_WITH = timm_table.TABLE.read_text(encoding="utf-8").partition("\n")[0]
with_its_timm = pytest.mark.skipif(
    f"# timm {version('timm')}" != MADE_WITH,
    reason="timm's table was made with another timm than the installed one, and is not looked at",
)


def test_the_lists_hold_what_is_promised() -> None:
    promised = {"resnet18", "resnet34", "resnet50", "resnet101", "resnext50", "efficientnet_b0", "efficientnet_b3"}
    promised |= {
        "mobilenetv3",
        "convnext_tiny",
        "convnext_small",
        "swin_tiny",
        "mit_b0",
        "mit_b2",
        "mit_b5",
        "regnetx_002",
    }
    assert promised <= catalog.BACKBONES.keys()
    decoders = {"unet", "unetplusplus", "fcn", "deeplabv3plus", "fpn", "upernet", "segformer", "linknet", "manet"}
    assert set(catalog.DECODERS) == decoders | {"pspnet", "dpt", "unet_light", "linear"}
    allowed = [catalog.allowed_decoders(found) for found in catalog.BACKBONES.values()]
    assert {decoder for decoders in allowed for decoder in decoders} == set(catalog.DECODERS)
    assert all(allowed)


@pytest.mark.parametrize(("group", "names"), [("backbone", catalog.BACKBONES), ("decoder", catalog.DECODERS)])
def test_every_name_has_a_file_whose_first_line_explains_it(group: str, names: dict[str, object]) -> None:
    files = {path.stem: path for path in (CONF / group).glob("*.yaml")}
    assert set(files) - {"timm"} == set(names)
    for name, path in files.items():
        first = path.read_text().splitlines()[0]
        assert first.startswith("# ") and first.endswith("."), path
        assert yaml.safe_load(path.read_text())["name"] == ("" if name == "timm" else name)


@pytest.mark.parametrize(
    ("backbone", "decoder", "partner"),
    [
        (
            "vit_small",
            "pspnet",
            "Decoders for vit_small: unet, unet_light, unetplusplus, fcn, fpn, upernet, segformer,",
        ),
        ("resnet18", "dpt", "Backbones for dpt: vit_small, vit_base, vit_large."),
        ("swin_tiny", "deeplabv3plus", "Backbones for deeplabv3plus: resnet18,"),
        ("mit_b0", "linknet", "Decoders for mit_b0: unet, unet_light, fcn, fpn, upernet, segformer, manet, pspnet."),
        ("mit_b2", "unetplusplus", "cannot stand on backbone.name=mit_b2"),
    ],
)
def test_an_impossible_pair_is_refused_with_the_possible_ones(backbone: str, decoder: str, partner: str) -> None:
    with pytest.raises(ConfigError) as refused:
        catalog.check(backbone, decoder, 256)
    assert partner in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("backbone", "decoder", "tile_px", "near"),
    [
        ("resnet18", "unet", 100, "Choose 96 or 128."),
        ("resnet18", "unet", 16, "Choose 32."),
        ("resnet18", "deeplabv3plus", 72, "Choose 64 or 80."),
        ("mit_b0", "pspnet", 24, "Choose 32."),
        ("swin_tiny", "unet", 224 + 16, "Choose 224 or 256."),
        ("vit_small", "dpt", 48, "Choose 32 or 64."),
        ("resnet18", "unet", 0, "Choose 32."),
    ],
)
def test_a_tile_off_the_stride_is_refused_with_its_neighbours(
    backbone: str, decoder: str, tile_px: int, near: str
) -> None:
    with pytest.raises(ConfigError, match="must be a multiple of") as refused:
        catalog.check(backbone, decoder, tile_px)
    assert str(refused.value).endswith(near)


def test_an_unknown_decoder_lists_the_known() -> None:
    with pytest.raises(
        ConfigError, match=r"decoder\.name='unett' is not known\. Did you mean 'unet'\? Allowed: deeplab"
    ):
        catalog.check("resnet18", "unett", 256)


def test_a_check_of_listed_names_loads_no_torch() -> None:
    code = (
        "import sys; from glidexp.models import catalog; catalog.check('resnet18', 'unet', 256);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'segmentation_models_pytorch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_misspelt_backbone_is_refused_without_loading_timm() -> None:
    code = (
        "import sys\nfrom glidexp.errors import ConfigError\nfrom glidexp.models import catalog\n"
        "try:\n    catalog.check('regnety_04', 'unet', 256)\n"
        "except ConfigError as error:\n    print(error)\n"
        "    sys.exit('torch' in sys.modules or 'timm' in sys.modules)\nsys.exit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "regnety_004" in done.stdout and "resnet18" in done.stdout and done.stdout.count("\n") == 1


def test_names_read_from_the_source_are_those_of_timm() -> None:
    import timm

    listed = set(timm.list_models())
    assert listed <= timm_names()
    assert len(timm_names() - listed) < 50  # aliases and deprecated names


@pytest.mark.parametrize(
    ("name", "family", "dilates"),
    [
        ("regnety_004", catalog.Family.conv, True),
        ("resnet26.bt_in1k", catalog.Family.conv, True),
        ("pvt_v2_b0", catalog.Family.four_stage, False),
        ("vgg11", catalog.Family.conv, False),
        ("deit_tiny_patch16_224", catalog.Family.plain_vit, False),
    ],
)
def test_a_timm_model_is_understood(name: str, family: catalog.Family, dilates: bool) -> None:
    found = resolve_timm(name)
    assert (found.family, found.dilates) == (family, dilates)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hiera_tiny_224", "cannot be used here"),
        ("maxvit_tiny_tf_224", r"height \(\d+\) must be divisible by window \(7\)"),
        ("resnet50.no_such_tag", "Invalid pretrained tag"),
        ("hf-hub:somebody/model", "neither listed nor a timm model"),
        ("local-dir:/tmp", "neither listed nor a timm model"),
    ],
)
def test_a_timm_model_that_cannot_serve_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        catalog.check(name, "unet", 256)
    assert "\n" not in str(refused.value)


def test_the_table_was_made_with_the_timm_of_the_lock() -> None:
    locked = re.search(r"(?m)^timm==(\S+)$", (ROOT / "requirements.lock").read_text())
    assert locked is not None
    assert f"# timm {locked[1]}" == MADE_WITH, "write the table anew: python -m glidexp.models.timm_table"


@with_its_timm
@pytest.mark.parametrize("name", ["botnet26t_256", "coat_lite_mini", "convnext_atto", "beit_base_patch16_224", "dla34"])
def test_the_table_says_what_trying_says(name: str) -> None:
    found = timm_table.known(name)
    assert found is not None
    try:
        tried: catalog.Backbone | str = on_paper(name)
    except UnusableError as error:
        tried = str(error)
    if isinstance(found, catalog.Backbone):
        found = replace(found, failing=())
    assert found == tried


@with_its_timm
def test_a_timm_name_that_does_not_fit_is_refused_without_torch() -> None:
    code = (
        "import sys\nfrom glidexp.models import catalog\n"
        "try: catalog.check('convnext_atto', 'dpt', 256)\nexcept Exception as error: print(error)\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        "decoder.name=dpt cannot stand on backbone.name=convnext_atto. Decoders for convnext_atto: unet" in done.stdout
    )


def test_a_table_of_another_timm_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.csv"
    other.write_text("# timm 0.1.0\n" + timm_table.TABLE.read_text().partition("\n")[2])
    monkeypatch.setattr(timm_table, "TABLE", other)
    timm_table._rows.cache_clear()
    try:
        assert timm_table.known("convnext_atto") is None
    finally:
        timm_table._rows.cache_clear()


def test_a_timm_model_is_tried_on_paper_with_its_decoder() -> None:
    catalog.check("regnety_004", "unet", 64)
    catalog.check("deit_tiny_patch16_224", "dpt", 64)
    catalog.check("deit_tiny_patch16_224", "unet", 64)
    with pytest.raises(ConfigError, match=r"Decoders for deit_tiny_patch16_224: unet, .*dpt"):
        catalog.check("deit_tiny_patch16_224", "deeplabv3plus", 64)
    with pytest.raises(ConfigError, match="multiple of 32"):
        catalog.check("regnety_004", "unet", 100)
