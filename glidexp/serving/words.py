"""What an address may say and what is told of a refusal, as OpenAPI describes them."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from glidexp.serving.judge import ALLOWED
from glidexp.serving.upload import FIELD, RAW

BODY = {
    "requestBody": {
        "required": True,
        "description": f"{ALLOWED}, 8 or 16 bit: as the body itself, or as the one file of a form.",
        "content": {
            RAW: {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object", "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}  # fmt: skip


class Told(BaseModel):
    """What is told of a refusal."""

    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Told, "description": "broken form or Host"},
    413: {"model": Told, "description": "too many bytes or pixels"},
    415: {"model": Told, "description": "no format that is taken, or damaged"},
    422: {"model": Told, "description": "a scene or setting that does not fit the model"},
    503: {"model": Told, "description": "too many wait; Retry-After says when to try again"},
    504: {"model": Told, "description": "took longer than allowed"},
}


class Format(StrEnum):
    """What is sent back."""

    geojson = "geojson"
    geotiff = "geotiff"
    png = "png"


class Layer(StrEnum):
    """Which raster is sent back."""

    mask = "mask"
    probability = "probability"
    overlay = "overlay"


class Asked(BaseModel):
    """What an address may say of a scene."""

    model_config = ConfigDict(extra="forbid")
    sensor: str | None = Field(None, description="sensor of the scene; the server's --sensor where it is not given")
    threshold: float | None = Field(None, gt=0, lt=1, description="probability of a lake; the model's own if not given")
    gsd_m: float | None = Field(None, gt=0, le=10_000, description="metres to a pixel, for a picture without position")
    name: str = Field("", max_length=1000, description="name of the scene, where the file is the body itself")


class AskedFor(Asked):
    """The same, with what is to be sent back."""

    format: Format = Field(Format.geojson, description="outlines, or a raster as GeoTIFF or PNG")
    layer: Layer = Field(Layer.mask, description="of a raster; overlay: image and outlines, png only")
