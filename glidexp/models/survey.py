"""Looks at tiles of a store as `validity` describes them: those that a network was trained on, and scenes of others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.data import traits
from glidexp.data.steps import Step, shown_steps, untold
from glidexp.data.store import INVALID, TileStore
from glidexp.models.embedding import certainty_of, features, has_encoder
from glidexp.models.predictor import Predictor
from glidexp.models.validity import ALL, STEPS, Axes, Group, Validity, Verdict
from glidexp.scoring.cloud import Cloud

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TILES = 128
"""of a sensor whose traits are taken, of training and of val"""
SEEN = 128
"""of all sensors that the encoder is shown; half as many val tiles"""
PART = 8
"""tiles in memory at once"""
LEAST = 8
"""training tiles from which a sensor has statistics of its own"""
LEAST_HELD = 8
"""val tiles likewise"""
SCENES = "scene_validity.csv"
"""what a run keeps of its test scenes, as `scene_table` gives it"""
OF_SCENE = 16
"""tiles of a scene whose traits are taken"""
SEEN_OF_SCENE = 6


@dataclass(frozen=True, slots=True)
class Look:
    """Tiles in numbers."""

    traits: Floats
    """(N, T)"""
    histograms: npt.NDArray[np.int64]
    """(N, 2, 16)"""

    def shares(self, of: npt.NDArray[np.bool_]) -> Floats:
        """(2, 16) shares of the pixels of some of the tiles."""
        counts = self.histograms[of].sum(axis=0)
        found: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return found


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

    def looked_at(self, rows: Rows, told: Step = untold) -> Look:
        """The pixels of some tiles in numbers. `told` hears of each."""
        found, counts = [], []
        for row in rows.tolist():
            image, valid = self.store.images[row][..., list(self.order)], self.store.labels[row] != INVALID
            found.append(traits.traits(image, valid, self.bands))
            counts.append(traits.histograms(image, valid, self.bands))
            told("")
        return Look(np.array(found), np.array(counts))

    def seen(self, rows: Rows, predictor: Predictor, told: Step = untold) -> Floats:
        """What the encoder makes of some tiles, (N, F); never many of them in memory. `told` hears of each part."""
        found = []
        for at in range(0, len(rows), PART):
            part = rows[at : at + PART]
            found.append(features(predictor, self.images(part)))
            told("", len(part))
        return np.concatenate(found)

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
    train, val = tiles.usable(train), tiles.usable(val)
    if len(train) < LEAST or len(val) < LEAST_HELD:
        return None
    index = tiles.store.index
    sensors = index["sensor"].astype(str).to_numpy()
    some, held = (spread(rows, sensors[rows], TILES * len(set(sensors[rows]))) for rows in (train, val))
    with shown_steps(len(some) + len(held), "tiles", True, what="traits for validity", late=True) as step:
        look, look_held = (tiles.looked_at(rows, step) for rows in (some, held))
    shown, shown_held = spread(train, sensors[train], SEEN), spread(val, sensors[val], SEEN // 2)
    axes = None
    if has_encoder(predictor):
        count = len(shown) + len(shown_held)
        with shown_steps(count, "tiles", True, what="features for validity", late=True) as step:
            features_NF, held_NF = (tiles.seen(rows, predictor, step) for rows in (shown, shown_held))
        axes = Axes.fit(features_NF)
        reduced, reduced_held = axes.reduced(features_NF), axes.reduced(held_NF)
    groups = {}
    for name in [*sorted(set(sensors[train])), ALL]:
        own = (sensors == name) | (name == ALL)  # of all rows of the store
        of, of_held = own[some], own[held]
        if of.sum() < LEAST or of_held.sum() < LEAST_HELD:
            continue
        embedding = None
        if axes is not None and own[shown].sum() >= LEAST and own[shown_held].sum() >= LEAST_HELD:
            embedding = Cloud.fit(reduced[own[shown]], reduced_held[own[shown_held]])
        trained_on = index.iloc[train[own[train]]]
        groups[name] = Group(
            name=name,
            tiles=len(trained_on),
            regions=tuple(sorted(set(trained_on["region"].astype(str)))),
            traits=Cloud.fit(look.traits[of], look_held.traits[of_held]),
            embedding=embedding,
            steps=np.percentile(look.traits[of], STEPS, axis=0),
            histograms=look.shares(of),
            held={"tiles": int(of_held.sum()), "scenes": int(index["scene"].iloc[held[of_held]].nunique())},
        )
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
    scenes = index.groupby(index["scene"].astype(str), sort=True).indices
    with shown_steps(len(scenes), "scenes", True, what="distance", late=True) as step:
        for scene, part in scenes.items():
            own = used[np.sort(part)]
            sensor, some = str(tiles.store.index["sensor"].iloc[own[0]]), _evenly(own, OF_SCENE)
            seen = tiles.seen(_evenly(own, SEEN_OF_SCENE), predictor) if validity.axes is not None else None
            certain = None
            if sure:
                predictor.tell(sensor=sensor, gsd_m=float(tiles.store.index["gsd_m"].iloc[own[0]]))
                certain = certainty_of(predictor, tiles.images(some), tiles.store.labels[some] != INVALID)
            yield str(scene), validity.judge(sensor, tiles.looked_at(some).traits, seen, certain)
            step(str(scene))


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
