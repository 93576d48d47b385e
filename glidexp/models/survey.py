"""Looks at tiles of a store as `validity` describes them: those that a network was trained on, and scenes of others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.data import traits
from glidexp.data.store import INVALID, TileStore
from glidexp.models.embedding import certainty_of, features
from glidexp.models.predictor import Predictor
from glidexp.models.validity import ALL, STEPS, Axes, Group, Validity, Verdict
from glidexp.scoring.cloud import Cloud

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TILES = 256
"""of a sensor whose traits are taken"""
SEEN = 128
"""of all sensors that the encoder is shown; half as many val tiles"""
LEAST = 8
"""tiles from which a sensor has statistics of its own"""
SCENES = "scene_validity.csv"
"""what a run keeps of its test scenes, as `scene_table` gives it"""
OF_SCENE = 16
"""tiles of a scene whose traits are taken"""
SEEN_OF_SCENE = 6


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles of a store in the bands of a network."""

    store: TileStore
    order: Sequence[int]
    """where each band of the network lies in the store"""
    bands: tuple[str, ...]

    def images(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """(N, H, W, C)."""
        return np.stack([self.store.images[row][..., list(self.order)] for row in rows.tolist()])

    def looked_at(self, rows: Rows) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Traits (N, T) and summed histograms (2, 16)."""
        found, counts = [], np.zeros((2, traits.BINS), np.int64)
        for row in rows.tolist():
            image, valid = self.store.images[row][..., list(self.order)], self.store.labels[row] != INVALID
            found.append(traits.traits(image, valid, self.bands))
            counts += traits.histograms(image, valid, self.bands)
        return np.array(found), counts

    def usable(self, rows: Rows) -> Rows:
        """Those of the rows with pixels enough."""
        share = self.store.index["valid_fraction"].to_numpy()[rows]
        found: Rows = rows[share >= traits.LEAST_VALID]
        return found


def learn(tiles: Tiles, train: Rows, val: Rows, predictor: Predictor) -> Validity | None:
    """What a model keeps of the tiles that it was trained on; None where they are too few to tell anything.

    Args:
        tiles: the store
        train: rows that were trained on
        val: rows that no weight was learnt from, of the same sensors and regions
        predictor: the trained network, in evaluation mode
    """
    index, used, kept = tiles.store.index, tiles.usable(train), tiles.usable(val)
    sensors = index["sensor"].astype(str).to_numpy()
    if len(used) < LEAST or len(kept) < 2:
        return None
    names = [name for name in sorted(set(sensors[used])) if _enough(sensors, name, used, kept)]
    shown = {
        side: spread(rows, sensors[rows], most)
        for side, rows, most in (("train", used, SEEN), ("val", kept, SEEN // 2))
    }
    raw = {side: features(predictor, tiles.images(rows)) for side, rows in shown.items()}
    axes = Axes.fit(raw["train"])
    reduced = {side: axes.reduced(values) for side, values in raw.items()}
    groups = {}
    for name in [*names, ALL]:
        of = {
            side: rows if name == ALL else rows[sensors[rows] == name]
            for side, rows in (("train", used), ("val", kept))
        }
        some = {
            side: spread(rows, sensors[rows], TILES * (len(names) if name == ALL else 1)) for side, rows in of.items()
        }
        own, counts = tiles.looked_at(some["train"])
        held, _ = tiles.looked_at(some["val"])
        picked = {
            side: np.ones(len(rows), bool) if name == ALL else sensors[rows] == name for side, rows in shown.items()
        }
        near = [reduced[side][picked[side]] for side in ("train", "val")]
        groups[name] = Group(
            name, len(of["train"]), tuple(sorted(set(index["region"].astype(str).iloc[of["train"]]))),
            Cloud.fit(own, held),
            Cloud.fit(*near) if len(near[0]) >= LEAST and len(near[1]) > 1 else None,
            np.percentile(own, STEPS, axis=0), counts / np.maximum(counts.sum(axis=1, keepdims=True), 1),
            {"tiles": len(some["val"]), "scenes": int(index["scene"].iloc[some["val"]].nunique())},
        )  # fmt: skip
    return Validity(tiles.bands, tiles.store.tile_px, groups, axes)


def spread(rows: Rows, names: npt.NDArray[np.object_], most: int) -> Rows:
    """At most `most` of the rows, ascending: as many of each name as there are, evenly spaced among its own."""
    if len(rows) <= most:
        return rows
    parts = [rows[names == name] for name in sorted(set(names))]
    each = max(1, most // len(parts))
    return np.sort(np.concatenate([_evenly(part, each) for part in parts]))


def verdicts(
    validity: Validity, tiles: Tiles, rows: Rows, predictor: Predictor, *, sure: bool = False
) -> Iterable[tuple[str, Verdict]]:
    """Each scene of some tiles held against the training tiles, by name; tiles without a scene are one.

    Args:
        validity: of the model
        tiles: the store
        rows: of the scenes
        predictor: the model, in evaluation mode
        sure: also how sure the model is of its map of each
    """
    used = tiles.usable(rows)
    index = tiles.store.index.iloc[used]
    for scene, part in index.groupby(index["scene"].astype(str), sort=True).indices.items():
        own = used[np.sort(part)]
        sensor, some = str(tiles.store.index["sensor"].iloc[own[0]]), _evenly(own, OF_SCENE)
        found, _ = tiles.looked_at(some)
        seen, certain = features(predictor, tiles.images(_evenly(own, SEEN_OF_SCENE))), None
        if sure:
            predictor.tell(sensor=sensor, gsd_m=float(tiles.store.index["gsd_m"].iloc[own[0]]))
            certain = certainty_of(predictor, tiles.images(some), tiles.store.labels[some] != INVALID)
        yield str(scene), validity.judge(sensor, found, seen, certain)


def scene_table(validity: Validity, tiles: Tiles, rows: Rows, predictor: Predictor) -> pd.DataFrame:
    """The same as a row a scene: scene, sensor, region, tiles, outside, and distance and percentile of both views."""
    first = tiles.store.index.groupby(tiles.store.index["scene"].astype(str))[["sensor", "region"]].first()
    found = []
    for scene, verdict in verdicts(validity, tiles, rows, predictor):
        row = {"scene": scene, "sensor": first.loc[scene, "sensor"], "region": first.loc[scene, "region"]}
        row |= {"against": verdict.group, "tiles": verdict.tiles, "outside": verdict.outside}
        row["distance"] = verdict.distance
        for view, one in (("statistics", verdict.statistics), ("embedding", verdict.embedding)):
            row |= {view: one.value if one else np.nan, f"{view}_percentile": one.percentile if one else np.nan}
        found.append(row)
    return pd.DataFrame(found)


def _evenly(rows: Rows, most: int) -> Rows:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _enough(sensors: npt.NDArray[np.object_], name: str, used: Rows, kept: Rows) -> bool:
    return bool((sensors[used] == name).sum() >= LEAST and (sensors[kept] == name).sum() > 1)
