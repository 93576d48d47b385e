"""What a model's training tiles look like, kept beside its weights, and how far from that other tiles are.

Two views of a tile: its traits (`data.traits`) and what the model's own encoder makes of it (`embedding`). In each a
cloud by sensor and one of all sensors together; val tiles, on which no weight was learnt, say how far is still near.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from glidexp.data import traits
from glidexp.errors import DataError
from glidexp.models.card import VALIDITY, read_part
from glidexp.scoring.cloud import INSIDE, Cloud

Floats = npt.NDArray[np.float64]
ALL = "all sensors"
FORMAT = "1"
MOST_AXES = 15
TILES_AN_AXIS = 4
"""least number of tiles to each principal axis"""
RARE = 1.0
"""per cent of the training tiles beyond which a trait is told"""
STEPS = np.linspace(0.0, 100.0, 201)
"""per cent at which traits of the training tiles are kept"""


@dataclass(frozen=True, slots=True)
class Group:
    """The training tiles of one sensor, or of all."""

    name: str
    tiles: int
    """that the model was trained on; statistics are of some of them"""
    regions: tuple[str, ...]
    traits: Cloud
    embedding: Cloud | None
    steps: Floats
    """(201, T): traits of the training tiles at `STEPS` per cent"""
    histograms: Floats
    """(2, 16): share of pixels by brightness and greenness"""
    held: Mapping[str, int]
    """val tiles and scenes that distances are measured against"""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far tiles lie from the training tiles: the median over them."""

    value: float
    """1 is where `cloud.INSIDE` per cent of the held-out tiles lie within"""
    percentile: float
    """per cent of the held-out tiles that lie nearer"""

    @property
    def outside(self) -> bool:
        return self.value > 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a scene is like what the model was trained on."""

    group: str
    """held against the training tiles of this sensor, or of all"""
    tiles: int
    statistics: Distance
    embedding: Distance | None
    unusual: tuple[str, ...]
    """traits that hardly any training tile has, in words; the farthest off first"""
    ranks: Floats
    """(T,) per cent of the training tiles that have less of each trait, of the median over the scene's tiles"""
    certainty: float | None = None
    """`scoring.expected.certainty` of the network's answer to these tiles; None where it was not asked"""

    @property
    def outside(self) -> bool:
        return any(one.outside for one in (self.statistics, self.embedding) if one is not None)

    @property
    def distance(self) -> float:
        """Both in one: their geometric mean."""
        return float(np.sqrt(self.statistics.value * (self.embedding or self.statistics).value))

    def sentence(self, name: str) -> str:
        """The warning, of a scene that is outside."""
        far = []
        for what, one in (("statistics", self.statistics), ("embedding", self.embedding)):
            if one is not None and one.outside:
                far.append(f"{one.value:.1f} by {what}")
        why = f" ({self.unusual[0]})" if self.unusual else ""
        return (
            f"{name}: outside what the model was trained on: distance {' and '.join(far)}, where {INSIDE:.0f} % of "
            f"held-out tiles of {self.group} lie within 1{why}."
        )

    def to_json(self) -> dict[str, Any]:
        """As a map's summary keeps it."""
        views = {"statistics": self.statistics, "embedding": self.embedding}
        return {
            "outside": self.outside,
            "against": self.group,
            "tiles": self.tiles,
            **{
                name: {"distance": round(one.value, 4), "percentile": round(one.percentile, 2)}
                for name, one in views.items()
                if one is not None
            },
            "unusual": list(self.unusual),
        }


@dataclass(frozen=True, slots=True)
class Axes:
    """The directions in which features of training tiles differ most."""

    centre: Floats
    """(F,)"""
    axes: Floats
    """(K, F), orthonormal"""

    @classmethod
    def fit(cls, vectors: Floats) -> Self:
        """Principal axes of (N, F)."""
        centre = vectors.mean(axis=0)
        _, _, axes = np.linalg.svd(vectors - centre, full_matrices=False)
        return cls(centre, axes[: max(1, min(MOST_AXES, len(vectors) // TILES_AN_AXIS))])

    def reduced(self, vectors: Floats) -> Floats:
        """(N, F) -> (N, K + 1): places along the axes, and the logarithm of what lies beside them all."""
        moved = vectors - self.centre
        along = moved @ self.axes.T
        beside = np.linalg.norm(moved - along @ self.axes, axis=1)
        return np.column_stack([along, np.log(beside + 1e-6)])


@dataclass(frozen=True, slots=True)
class Validity:
    """What a model was trained on, as far as pictures tell it."""

    bands: tuple[str, ...]
    tile_px: int
    groups: Mapping[str, Group]
    """by sensor, and `ALL`"""
    axes: Axes | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the traits."""
        return traits.names(self.bands)

    def group_of(self, sensor: str) -> Group:
        """The sensor's own tiles; all where there are none, or too few, of it."""
        return self.groups.get(sensor, self.groups[ALL])

    def judge(
        self, sensor: str, traits_NT: Floats, features_NF: Floats | None, certainty: float | None = None
    ) -> Verdict:
        """Holds tiles of one scene against the training tiles.

        Args:
            sensor: of the scene
            traits_NT: at least one tile
            features_NF: of some of its tiles; None where the network was not asked
            certainty: of the network's answer, kept with the verdict
        """
        group = self.group_of(sensor)
        seen = None
        if features_NF is not None and self.axes is not None and group.embedding is not None:
            seen = _distance(group.embedding, self.axes.reduced(features_NF))
        statistics, middle = _distance(group.traits, traits_NT), np.median(traits_NT, axis=0)
        ranks = np.array([np.interp(value, steps, STEPS) for value, steps in zip(middle, group.steps.T, strict=True)])
        unusual = self._unusual(group, middle, ranks)
        return Verdict(group.name, len(traits_NT), statistics, seen, unusual, ranks, certainty)

    def _unusual(self, group: Group, values: Floats, ranks: Floats) -> tuple[str, ...]:
        """Traits beyond what nearly all training tiles have, those farthest beyond, in spreads of the tiles, first."""
        low, high = (group.steps[np.searchsorted(STEPS, at)] for at in (RARE, 100 - RARE))
        beyond = np.maximum(values - high, low - values) / np.maximum(high - low, 1e-9)
        told = []
        for place in np.argsort(-beyond):
            if beyond[place] <= 0:
                break
            more = values[place] > high[place]
            share = ranks[place] if more else 100 - ranks[place]
            name = self.names[place]
            told.append(
                f"{traits.said(name, more=bool(more))} than {share:.0f} % of the training tiles: {name} "
                f"{values[place]:.3g}, there {low[place]:.3g} to {high[place]:.3g}"
            )
        return tuple(told)

    def to_bytes(self) -> bytes:
        """As `of_bundle` reads it: safetensors, float32."""
        from safetensors.numpy import save

        held: dict[str, Floats] = {}
        told: dict[str, Any] = {}
        for place, group in enumerate(self.groups.values()):
            parts = {"steps": group.steps, "histograms": group.histograms}
            for view, cloud in (("traits", group.traits), ("embedding", group.embedding)):
                if cloud is not None:
                    parts |= {f"{view}.{key}": getattr(cloud, key) for key in ("mean", "whiten", "held")}
            held |= {f"{place}.{key}": values for key, values in parts.items()}
            counts = {"traits": group.traits.count, "embedding": group.embedding.count if group.embedding else 0}
            told[group.name] = {
                "tiles": group.tiles, "regions": list(group.regions), "held": dict(group.held), "counts": counts,
            }  # fmt: skip
        if self.axes is not None:
            held |= {"centre": self.axes.centre, "axes": self.axes.axes}
        facts = {"format": FORMAT, "bands": list(self.bands), "tile_px": self.tile_px, "groups": told}
        arrays = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in held.items()}
        return bytes(save(arrays, metadata={"validity": json.dumps(facts)}))


def of_bundle(folder: Path, card: Mapping[str, Any]) -> Validity | None:
    """What a bundle keeps of its training tiles; None for a model from before this was kept.

    Raises:
        DataError: the file is missing or damaged
    """
    entry = card.get("validity")
    if not isinstance(entry, Mapping):
        return None
    return from_bytes(read_part(folder, str(entry["file"]), str(entry["sha256"])), folder / VALIDITY)


def from_bytes(content: bytes, where: Path) -> Validity:
    """What `Validity.to_bytes` wrote.

    Raises:
        DataError: of another version
    """
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little")
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["validity"])
    if facts["format"] != FORMAT:
        raise DataError(f"{where} has format {facts['format']}, this version of glidexp reads {FORMAT}.")
    held = {name: values.astype(np.float64) for name, values in load(content).items()}
    groups = {}
    for place, (name, told) in enumerate(facts["groups"].items()):
        clouds = {}
        for view, count in told["counts"].items():
            if count:
                mean, whiten, far = (held[f"{place}.{view}.{key}"] for key in ("mean", "whiten", "held"))
                clouds[view] = Cloud(mean, whiten, far, count)
        groups[name] = Group(
            name, told["tiles"], tuple(told["regions"]), clouds["traits"], clouds.get("embedding"),
            held[f"{place}.steps"], held[f"{place}.histograms"], told["held"],
        )  # fmt: skip
    axes = Axes(held["centre"], held["axes"]) if "axes" in held else None
    return Validity(tuple(facts["bands"]), int(facts["tile_px"]), groups, axes)


def _distance(cloud: Cloud, vectors: Floats) -> Distance:
    middle = float(np.median(cloud.distances(vectors)))
    return Distance(middle / max(cloud.limit, 1e-9), cloud.percentile(middle))
