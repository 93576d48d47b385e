"""A timm model by its own name as a backbone: does it exist, does it give feature maps, does it take any image size.

Everything is tried on torch's `meta` device: shapes only, no memory, no weights. Torch and timm load late: a name that
timm does not have is refused without them.
"""

import re
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glidexp.errors import ConfigError
from glidexp.models.catalog import BACKBONES, Backbone, Family

_FREE_SIZE: tuple[tuple[tuple[str, bool], ...], ...] = (
    (),
    (("dynamic_img_size", True),),
    (("strict_img_size", False),),
)
_SIDES_PX = (32, 64, 128, 256)
_PYRAMIDS = {
    (2, 4, 8, 16, 32): Family.conv,
    (1, 2, 4, 8, 16, 32): Family.conv,
    (4, 8, 16, 32): Family.four_stage,
}
_REFUSALS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""what timm and smp raise at a model that cannot do what is asked"""


@lru_cache(maxsize=1)
def timm_names() -> frozenset[str]:
    """Names of timm's models, read from its source files: importing timm takes seconds, a typing error should not."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "timm is not installed: only it knows backbones outside the list. Install it with pip install timm."
        )
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    pattern = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
    return frozenset(name for source in sources for name in pattern.findall(source.read_text(encoding="utf-8")))


@lru_cache(maxsize=32)
def resolve_timm(name: str) -> Backbone:
    """The timm model `name` (a pre-training tag after a dot is allowed) as a backbone.

    Raises:
        ConfigError: timm has no such model or tag, or it gives no feature maps that a decoder here can use, or it takes
            one image size only
    """
    names = timm_names()
    if name.partition(".")[0] not in names:
        near = get_close_matches(name, sorted(names | BACKBONES.keys()), n=4, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(
            f"backbone.name={name} is neither listed nor a timm model.{hint} Listed: {', '.join(BACKBONES)}. "
            "Or any name that timm.list_models() gives."
        )
    from glidexp.models.timm_table import known

    found = known(name)
    try:
        if isinstance(found, str):
            raise UnusableError(found)
        if found is None or "." in name:  # only timm itself knows its tags
            return on_paper(name)
    except UnusableError as error:
        raise ConfigError(
            f"backbone.name={name} is a timm model that cannot be used here: {error}. Choose one that gives maps at "
            f"1/4, 1/8, 1/16 and 1/32 for images of any size, or a listed one: {', '.join(BACKBONES)}."
        ) from None
    return found


class UnusableError(Exception):
    """A timm model that no decoder can stand on; the message says what it gives instead."""


def on_paper(name: str) -> Backbone:
    """Builds the timm model and finds out how it can be used.

    Raises:
        UnusableError: it gives no feature maps that a decoder here can use, or it takes one image size only
    """
    reason = ""
    for options in _FREE_SIZE:
        try:
            model = _features(name, **dict(options))
            family = _family(model)
            if family is None:
                reason = f"its feature maps are at 1/{', 1/'.join(map(str, model.feature_info.reduction()))}"
                break
            smallest = _smallest_px(model)
        except _REFUSALS as error:
            reason = reason or _first_line(error)  # the first: later tries fail at their own arguments
            continue
        return Backbone(f"tu-{name}", family, dilates=_dilates(name), options=options, smallest_px=smallest)
    raise UnusableError(reason)


def try_pair(backbone: str, decoder: str, tile_px: int) -> None:
    """Builds the network of an unlisted backbone on paper and sends one tile through it.

    Raises:
        ConfigError: it cannot be built or does not give one logit a pixel
    """
    import torch

    from glidexp.models.build import assemble

    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = assemble(backbone, decoder, in_channels=3).eval()
            shape = tuple(model(torch.zeros(1, 3, tile_px, tile_px)).shape)
    except _REFUSALS as error:
        raise ConfigError(
            f"backbone.name={backbone} does not go with decoder.name={decoder} at tile_size.px={tile_px}: "
            f"{_first_line(error)}. Choose another decoder or a listed backbone: {', '.join(BACKBONES)}."
        ) from error
    if shape != (1, 1, tile_px, tile_px):
        raise ConfigError(
            f"backbone.name={backbone} with decoder.name={decoder} turns {tile_px} px into {shape[-1]} px: choose "
            f"another decoder or a listed backbone: {', '.join(BACKBONES)}."
        )


def _features(name: str, **options: Any) -> Any:
    import timm
    import torch

    with torch.device("meta"):
        return timm.create_model(name, features_only=True, **options).eval()


def _family(model: Any) -> Family | None:
    scales = tuple(model.feature_info.reduction())
    if len(set(scales)) == 1 and len(scales) > 1:
        return Family.plain_vit
    return _PYRAMIDS.get(scales)


def _smallest_px(model: Any) -> int:
    import torch

    for side in _SIDES_PX:
        try:
            model(torch.zeros(1, 3, side, side, device="meta"))
            model(torch.zeros(1, 3, side, side + 32, device="meta"))
        except _REFUSALS as error:
            last = error
            continue
        return side
    raise last


def _dilates(name: str) -> bool:
    try:
        model = _features(name, output_stride=16)
    except _REFUSALS:
        return False
    return max(model.feature_info.reduction()) == 16


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
