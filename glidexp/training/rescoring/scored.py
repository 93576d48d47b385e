"""Which tiles are scored, by which bands, and which ones the model may be fitted to before."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.config.evaluation import CARD, VAL, Adapt, EvalSplit, EvaluateConfig
from glidexp.data.sensor_mix import chosen_sensors
from glidexp.data.store import ICE, INVENTORY, TileStore, canonical, data_hash, sha_key
from glidexp.data.subset import chosen_regions
from glidexp.errors import ConfigError
from glidexp.tracking.run import DIGEST_LIMIT
from glidexp.training.rescoring.adapt import unlabelled_rows

KNOWN = ("tile", "scene", "sensor", "region", "gsd_m", "row", "col", "block", "crs")
"""of a store's index beside the transform: by these tiles are grouped, put together and measured"""


def which_split(wanted: EvalSplit, card: Mapping[str, Any], tiles: TileStore) -> str:
    """`test` or `all`. On the split that it was trained with a model is scored on test, elsewhere on all there is."""
    if wanted is not EvalSplit.auto:
        return str(wanted)
    return "test" if card.get("split_hash") == tiles.split_hash else "all"


def fixed_threshold(config: EvaluateConfig, card: Mapping[str, Any]) -> float | None:
    """The threshold as far as it is known before a tile is met: None where it is to be found on the target's val."""
    if config.eval.threshold == VAL:
        return None
    return float(card.get("threshold", 0.5)) if config.eval.threshold == CARD else float(config.eval.threshold)


def fitted_rows(config: EvaluateConfig, tiles: TileStore, split: str) -> dict[str, npt.NDArray[np.int64]]:
    """Rows of the target that the model is fitted to, `val` for the threshold and `train` without labels; none by rule.

    Raises:
        ConfigError: all tiles are scored, or there are none to fit to
    """
    found: dict[str, npt.NDArray[np.int64]] = {}
    if config.eval.threshold != VAL and config.eval.adapt is Adapt.none:
        return found
    if split == "all":
        raise ConfigError(
            "eval.threshold=val and eval.adapt need tiles that are not scored: eval.split=test takes the test split."
        )
    taken = _fitted(config, tiles)
    if config.eval.adapt is not Adapt.none:
        found["train"] = unlabelled_rows(tiles, taken, config.eval.adapt)
    if config.eval.threshold == VAL:
        found["val"] = np.flatnonzero(taken & (tiles.index["split"] == "val").to_numpy()).astype(np.int64)
        if not len(found["val"]):
            raise ConfigError(
                "eval.threshold=val: no val tile of the sensors and regions that it is to be fitted to: give a number."
            )
    return found


def _wanted(config: EvaluateConfig, tiles: TileStore) -> tuple[str, npt.NDArray[np.bool_]]:
    """What is scored in words, and (n,) tiles of these sensors and regions, of any split."""
    present = set(_column(tiles, "sensor"))
    chosen = chosen_sensors(config.sensor_mix, present)
    drawn = [name for name in chosen if config.sensor_mix.weights.get(name, 1.0) > 0]
    there = set(_column(tiles, "region"))
    regions = chosen_regions(config.eval.regions, there, "eval.regions")
    named = ", ".join(chosen)
    return (named if len(regions) == len(there) else f"{named} in {', '.join(regions)}"), _of(tiles, drawn, regions)


def _fitted(config: EvaluateConfig, tiles: TileStore) -> npt.NDArray[np.bool_]:
    """(n,) tiles that may be looked at: of the sensors and regions that are named, else of those that are scored."""
    _, taken = _wanted(config, tiles)
    if not (config.eval.fit_sensors or config.eval.fit_regions):
        return taken

    def chosen(column: str, names: list[str]) -> list[str]:
        there = _column(tiles, column)
        return chosen_regions(names, there, f"eval.fit_{column}s") if names else sorted(set(there[taken]))

    return _of(tiles, chosen("sensor", config.eval.fit_sensors), chosen("region", config.eval.fit_regions))


def _column(tiles: TileStore, name: str) -> npt.NDArray[np.str_]:
    return tiles.index[name].to_numpy(dtype=object).astype(str)


def _of(tiles: TileStore, sensors: Iterable[str], regions: Iterable[str]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.isin(_column(tiles, "sensor"), [*sensors])
    return found & np.isin(_column(tiles, "region"), [*regions])


def rows_of(config: EvaluateConfig, tiles: TileStore, split: str) -> npt.NDArray[np.int64]:
    """Rows of the store that are scored, ascending.

    Raises:
        GlidexpError: an absent sensor or region, or no tile at all
    """
    named, taken = _wanted(config, tiles)
    if split == "test":
        taken &= (tiles.index["split"] == "test").to_numpy()
    if not taken.any():
        raise ConfigError(
            f"no {'test ' * (split == 'test')}tile of {named} to score: choose other sensors, "
            "another dataset.split, or eval.split=all."
        )
    return np.flatnonzero(taken).astype(np.int64)


def naive_rows(tiles: TileStore, rows: npt.NDArray[np.int64], split: str) -> npt.NDArray[np.int64]:
    """Rows whose pixels give the naive indices their thresholds: val's, or those that are scored.

    Where all tiles are scored, val tiles beside them are those of sensors or regions that were not asked for.
    """
    val = tiles.rows("val")
    return val if split == "test" and len(val) else rows


def digest_of(tiles: TileStore, rows: npt.NDArray[np.int64], split: str) -> str:
    """Names the scored tiles in tracking: the whole store's hash, as in training, unless some were left out."""
    whole = len(tiles) if split == "all" else len(tiles.rows("test"))
    digest = tiles.data_hash if len(rows) == whole else data_hash(tiles.index["xxh3"].iloc[rows].tolist())
    return digest[:DIGEST_LIMIT]


def known_of(tiles: TileStore, rows: npt.NDArray[np.int64]) -> str:
    """sha256 of what a store says of tiles beside their pixels and labels, which their own hashes hold: the names of
    the bands, where tiles lie, of which sensor and scene they are, and what an inventory says of their lakes."""
    index = tiles.index.iloc[rows]
    known: dict[str, Any] = {name: index[name].astype(object).where(index[name].notna(), None) for name in KNOWN}
    known = {name: values.tolist() for name, values in known.items()}
    known["transform"] = [None if one is None else [float(value) for value in one] for one in index["transform"]]
    known["bands"] = tiles.bands
    known |= {name: tiles.manifest.get(sha_key(name)) for name in (INVENTORY, ICE)}
    return hashlib.sha256(canonical(known)).hexdigest()
