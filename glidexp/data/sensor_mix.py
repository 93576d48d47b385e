"""Which rows a run trains on, and how often each is drawn."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glidexp.config import SelfTrainingConfig, SensorMixConfig, SubsetConfig, Weighting
from glidexp.data.subset import ALL, part_of, unlabelled_of, val_rows
from glidexp.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from glidexp.data.store import TileStore


def chosen_sensors(mix: SensorMixConfig, present: Iterable[str]) -> list[str]:
    """The sensors of a mix, checked against those that the data has.

    Args:
        mix: names, or ["all"]
        present: sensors of the data

    Raises:
        ConfigError: a sensor that the data does not have, a weight for a sensor outside the mix
    """
    here = sorted(set(present))
    if not mix.sensors:
        raise ConfigError(f"sensor_mix.sensors is empty: name some of {', '.join(here)}, or all.")
    chosen = here if ALL in mix.sensors else sorted(set(mix.sensors))
    absent = [name for name in chosen if name not in here]
    if absent:
        raise ConfigError(
            f"sensor_mix.sensors: {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not in the data. "
            f"Present: {', '.join(here)}."
        )
    for name, weight in mix.weights.items():
        if name not in chosen:
            raise unknown_name("sensor_mix.weights", name, chosen)
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"sensor_mix.weights.{name}={weight} must be 0 or a finite number above it.")
    if all(mix.weights.get(name, 1.0) == 0 for name in chosen):
        raise ConfigError("sensor_mix.weights are all 0: give at least one sensor a weight above 0.")
    return chosen


def training_rows(
    store: "TileStore",
    mix: SensorMixConfig,
    subset: SubsetConfig | None = None,
    seed: int = 0,
    unlabelled: SelfTrainingConfig | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64] | None]:
    """Training rows that the mix takes, and the relative frequency of each.

    With weighting=balanced the rows of each sensor share a weight of 1, with weighting=natural each row has 1; both are
    multiplied with the sensor's entry in `weights`; `region_weights` then say how often each region is drawn, whatever
    its sensors. Sensors of weight 0 are left out. A subset draws from the rows of
    the mix; weights are those of what it leaves. Tiles of self-training are added to these, weighted as `draw` says.

    Args:
        store: opened store
        mix: settings
        subset: part of these rows that is used; all of them when not given
        seed: of the run, by which the part is drawn
        unlabelled: of self-training; no more rows when not given

    Returns:
        rows (n,), ascending, and weights (n,), or None where all are equal

    Raises:
        ConfigError: see `chosen_sensors`, `subset.part_of` and `subset.unlabelled_of`; or no tile of the mix in train
    """
    chosen = drawn_sensors(store, mix)
    rows = store.rows("train")
    sensors = store.index["sensor"].to_numpy(dtype=object)[rows]
    taken = np.isin(sensors.astype(str), chosen)
    rows, sensors = rows[taken], sensors[taken]
    if len(rows) == 0:
        raise ConfigError(
            f"sensor_mix.sensors: no train tile of {', '.join(chosen)}: choose others or another dataset.split."
        )
    if subset is not None:
        rows = part_of(store, rows, subset, seed)
        if len(rows) == 0:
            raise ConfigError(
                f"subset.regions=[{','.join(subset.regions)}]: no train tile of {', '.join(chosen)} there: choose "
                "other regions, sensors or dataset.split."
            )
        sensors = store.index["sensor"].to_numpy(dtype=object)[rows]
    weights = np.empty(len(rows), dtype=np.float64)
    for name in chosen:
        own = sensors == name
        share = 1.0 / max(int(own.sum()), 1) if mix.weighting == Weighting.balanced else 1.0
        weights[own] = share * mix.weights.get(name, 1.0)
    if mix.region_weights:
        weights *= _by_region(store.index["region"].to_numpy(dtype=object)[rows].astype(str), weights, mix)
    if unlabelled is not None and unlabelled.on:
        more = unlabelled_of(store, rows, unlabelled)
        draw = unlabelled.draw
        each = weights.mean() if draw is None else weights.sum() * draw / (1 - draw) / len(more)
        rows, weights = np.concatenate([rows, more]), np.concatenate([weights, np.full(len(more), each)])
        order = np.argsort(rows)
        rows, weights = rows[order], weights[order]
    return rows, None if np.ptp(weights) == 0 else weights


def _by_region(
    regions: npt.NDArray[np.str_], weights: npt.NDArray[np.float64], mix: SensorMixConfig
) -> npt.NDArray[np.float64]:
    """(n,) factors by which each region's rows together weigh what the mix says; within a region all stays as it is.

    Raises:
        ConfigError: a region that is not trained on, or a weight that is not above 0
    """
    here = sorted(set(regions.tolist()))
    for name, weight in mix.region_weights.items():
        if name not in here:
            raise unknown_name("sensor_mix.region_weights", name, here)
        if not 0 < weight < float("inf"):
            raise ConfigError(
                f"sensor_mix.region_weights.{name}={weight} must be a finite number above 0: subset.regions leaves out."
            )
    factors = np.empty(len(regions), dtype=np.float64)
    for name in here:
        own = regions == name
        factors[own] = mix.region_weights.get(name, 1.0) / weights[own].sum()
    return factors


def drawn_sensors(store: "TileStore", mix: SensorMixConfig) -> list[str]:
    """The sensors of a mix that are drawn at all.

    Raises:
        ConfigError: see `chosen_sensors`
    """
    chosen = chosen_sensors(mix, store.index["sensor"].unique().tolist())
    return [name for name in chosen if mix.weights.get(name, 1.0) > 0]


def judging_rows(store: "TileStore", mix: SensorMixConfig, subset: SubsetConfig, seed: int) -> npt.NDArray[np.int64]:
    """The val rows that choose epoch and threshold of a run: `subset.val_rows` for the sensors of the mix.

    Raises:
        ConfigError: see `chosen_sensors` and `subset.val_rows`
    """
    return val_rows(store, subset, drawn_sensors(store, mix), seed)
