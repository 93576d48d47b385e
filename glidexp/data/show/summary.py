"""What is in a finished store, in numbers and on the terminal: from its index, inventory and manifest alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from glidexp.config import DatasetKind
from glidexp.data.check import divided
from glidexp.data.ready.layout import GLID_COUNTS
from glidexp.data.ready.pictures import GREY, ZERO_255, ZERO_ONE
from glidexp.data.sizes import SIZES_KM2, size_of
from glidexp.data.store import SPLITS, TileStore
from glidexp.wording import does, many

BUFFERS_M = (5_000.0, 10_000.0, 15_000.0)
"""distances to ice at which lakes are counted"""
SMALLEST_PX = 6
"""lakes of fewer pixels are told apart: the smallest that lake inventories from 30 m pixels map"""
REASONS = {
    "lakes_far_from_ice": "lakes farther from a glacier than dataset.buffer_m",
    "scenes_beyond": "scenes beyond dataset.within",
    "lakes_beyond": "lakes beyond dataset.within",
    "lakes_too_small": "lakes of fewer pixels than dataset.min_lake_px",
    "tiles_on_divided_ground": "tiles with lake on ground of two sides, or too near to it",
    "tiles_on_divided_ground_without_lake": "tiles without lake on such ground",
    "tiles_without_lake": "tiles without lake beyond dataset.empty_share",
    "parts_without_valid_pixel": "parts of large scenes without a valid pixel",
    "tiles_without_valid_pixel": "tiles without a valid pixel",
    "tiles_like_a_test_tile": "training tiles that show the ground of a test tile",
}
"""what was dropped, and why"""


@dataclass(frozen=True, slots=True)
class Summary:
    """Tables of a store. Lakes are None where it comes from no inventory."""

    places: pd.DataFrame
    """a row a sensor and region: tiles by side, tiles, lake_km2 (of labels; NaN where
    the pixel size of some is not known), lakes (drawn) and lakes under 6 px"""
    lakes: pd.DataFrame | None
    """a row a scene and lake: sensor, region, scene, lake, area_km2, area_px, glacier_distance_m, lake_type, fate,
    size, px (labelled), tiles (in how many), cut (by an edge of a tile or scene, in any of them)"""
    sizes: pd.DataFrame | None
    """a row a size class: drawn, in_no_tile, far_from_ice, too_small (numbers), km2 (drawn)"""
    buffers: pd.DataFrame | None
    """a row a buffer_m: dropped (lakes beyond it), dropped_km2, kept, kept_km2; None without glaciers"""
    dropped: dict[str, int]
    """sentence: how many"""

    def cells_of_places(self) -> list[list[Any]]:
        """Rows of `places` as they are shown."""
        return [[*row[:6], area_of(row[6]), *row[7:]] for row in self.places.to_numpy(dtype=object).tolist()]

    def cells_of_sizes(self) -> list[list[Any]]:
        """Rows of `sizes` as they are shown."""
        rows = [] if self.sizes is None else self.sizes.to_numpy(dtype=object).tolist()
        return [[str(row[0]).replace("_", " "), *row[1:5], f"{row[5]:.3f}"] for row in rows]

    def cells_of_buffers(self) -> list[list[Any]]:
        """Rows of `buffers` as they are shown: buffer, dropped, km2, kept, km2."""
        return [
            [km(row["buffer_m"]), row["dropped"], f"{row['dropped_km2']:.3f}", row["kept"], f"{row['kept_km2']:.3f}"]
            for row in ([] if self.buffers is None else self.buffers.to_dict("records"))
        ]

    @property
    def cut(self) -> int:
        """Lakes that an edge cuts, of a tile or of a scene."""
        return 0 if self.lakes is None else int(self.lakes["cut"].sum())

    @property
    def in_two(self) -> int:
        """Lakes with pixels in more than one tile."""
        return 0 if self.lakes is None else int((self.lakes["tiles"] > 1).sum())


def summarise(store: TileStore) -> Summary:
    """Counts what a store holds.

    A lake in two scenes, or in two parts of one, counts in each.

    Raises:
        DataError: the inventory was changed
    """
    lakes = _lakes(store)
    return Summary(
        places=_places(store, lakes),
        lakes=lakes,
        sizes=None if lakes is None else _sizes(lakes),
        buffers=None if lakes is None else _buffers(lakes, _asked(store)),
        dropped={REASONS.get(key, key.replace("_", " ")): n for key, n in store.manifest["dropped"].items()},
    )


def beyond(lakes: pd.DataFrame, nearest_m: float) -> pd.DataFrame:
    """Lakes farther from ice than this, far ones last."""
    far = lakes[lakes["glacier_distance_m"] > nearest_m]
    return far.sort_values(["glacier_distance_m", "scene", "lake"], kind="stable")


def cautions(store: TileStore) -> list[str]:
    """What must be known to read the numbers of a store."""
    manifest, found = store.manifest, []
    if manifest["split_rule"].get("by") == "random":
        found.append("tiles were shared out at random: test tiles have neighbours in train, so scores on them leak")
    overlap_px = manifest.get("recipe", {}).get("overlap_px", 0)
    if overlap_px:
        found.append(f"tiles for training overlap by {overlap_px} px: lake area counts what is in two tiles twice")
    if manifest.get("seams"):
        from glidexp.data.builder import seams  # which knows GDAL

        found.append(seams.told(manifest["seams"]))
    if len(lakes := divided.of_store(store)):
        found.append(divided.told(lakes, manifest["split_rule"]))
    return found + [f"scene left out: {reason}" for reason in manifest.get("skipped", {}).values()]


def known_places(store: TileStore) -> str:
    """Of how many tiles it is known where they lie, and of which scene they are."""
    index = store.index
    return f"position of {many((index['crs'] != '').sum(), 'tile')}, scene of {(index['scene'] != 'unknown').sum()}"


def odd(store: TileStore) -> list[str]:
    """What somebody should look at before trusting ready tiles."""
    found, index, labels = [], store.index, store.manifest.get("labels", {})
    if labels.get(GREY):
        found.append(
            f"{many(labels[GREY], 'label')} {does(labels[GREY], 'have')} grey edges; lake is what is above 127"
        )
    if labels.get(ZERO_ONE) and (labels.get(ZERO_255) or labels.get(GREY)):
        found.append(f"{labels[ZERO_ONE]} labels are 0 and 1 and others 0 and 255: two sources were mixed")
    full = index[index["lake_fraction"] > 0.999]["tile"].tolist()
    if full:
        found.append(f"{many(len(full), 'tile')} {does(len(full), 'are')} lake all over, first {full[0]}")
    if store.manifest["recipe"].get("kind") == DatasetKind.glid.value:
        for name, published in GLID_COUNTS.items():
            n = store.manifest.get("pairs", {}).get(name, 0)
            if n != published:
                found.append(
                    f"{name} holds {many(n, 'pair')}; the published set has {published}: a part, or other files"
                )
    return found


def km(metres: float) -> str:
    """A distance in kilometres, as text."""
    return f"{metres / 1000:g} km"


def area_of(km2: float) -> str:
    """A cell of a table; – where it is not known."""
    return "–" if km2 != km2 else f"{km2:.3f}"


def _asked(store: TileStore) -> float:
    return float(store.manifest.get("recipe", {}).get("buffer_m", 0.0))


def _lakes(store: TileStore) -> pd.DataFrame | None:
    known = store.inventory
    if known is None:
        return None
    # stores from before edges were marked lack the column: there a lake in two tiles is one that was cut
    cut = known["cut"] if "cut" in known else known.duplicated(["scene", "lake"], keep=False)
    known = known.assign(in_tile=known["tile"] != "", cut=cut)
    groups = known.groupby(["scene", "lake"], sort=True)
    columns = ["area_km2", "glacier_distance_m", "lake_type", "fate"]
    table = (
        groups[columns]
        .first()
        .join(groups.agg(px=("px", "sum"), tiles=("in_tile", "sum"), cut=("cut", "any")))
        .reset_index()
    )
    # first() skips what is missing, so a distance that is not known has to be put back
    table["glacier_distance_m"] = groups["glacier_distance_m"].max().to_numpy()
    scenes = store.index.groupby("scene")[["sensor", "region", "gsd_m"]].first()
    table = table.join(scenes, on="scene")
    table[["sensor", "region"]] = table[["sensor", "region"]].fillna("(scene without tiles)")
    table["area_px"] = table["area_km2"] * 1e6 / table["gsd_m"] ** 2
    return table.assign(size=size_of(table["area_km2"]))


def _places(store: TileStore, lakes: pd.DataFrame | None) -> pd.DataFrame:
    index = store.index
    km2 = index["lake_fraction"] * index["valid_fraction"] * store.tile_px**2 * index["gsd_m"] ** 2 / 1e6
    tiles = index.assign(km2=km2, **{side: index["split"] == side for side in SPLITS})
    groups = tiles.groupby(["sensor", "region"])
    table = groups[list(SPLITS)].sum()
    # the area of tiles of which the pixel size is not known is not 0
    table["lake_km2"] = groups["km2"].agg(lambda of: of.sum(skipna=False))
    table.insert(3, "tiles", table[list(SPLITS)].sum(axis=1))
    if lakes is not None:
        drawn = lakes[lakes["px"] > 0].assign(small=lambda t: t["area_px"] < SMALLEST_PX)
        counted = drawn.groupby(["sensor", "region"]).agg(lakes=("lake", "size"), under_6px=("small", "sum"))
        table = table.join(counted).fillna({"lakes": 0, "under_6px": 0}).astype({"lakes": int, "under_6px": int})
    return table.reset_index()


def _sizes(lakes: pd.DataFrame) -> pd.DataFrame:
    drawn = lakes["px"] > 0
    rows = []
    for name in SIZES_KM2:
        own = lakes["size"] == name
        fates = {fate: int((own & (lakes["fate"] == fate)).sum()) for fate in ("far_from_ice", "too_small")}
        lost = int((own & ~drawn & (lakes["fate"] == "labelled")).sum())
        km2 = float(lakes.loc[own & drawn, "area_km2"].sum())
        rows.append({"size": name, "drawn": int((own & drawn).sum()), "in_no_tile": lost, **fates, "km2": km2})
    return pd.DataFrame(rows)


def _buffers(lakes: pd.DataFrame, asked_m: float) -> pd.DataFrame | None:
    known = lakes[lakes["glacier_distance_m"].notna()]
    if known.empty:
        return None
    rows = []
    for buffer_m in sorted({*BUFFERS_M, *([asked_m] if asked_m > 0 else [])}):
        far = known["glacier_distance_m"] > buffer_m
        areas = {"dropped_km2": known.loc[far, "area_km2"].sum(), "kept_km2": known.loc[~far, "area_km2"].sum()}
        rows.append({"buffer_m": buffer_m, "dropped": int(far.sum()), "kept": int((~far).sum()), **areas})
    return pd.DataFrame(rows)


def show(store: TileStore, console: Console | None = None) -> None:
    """Prints the summary: tiles and lakes by sensor and region, lakes by size, what was dropped and why."""
    console, summary, manifest = console or Console(), summarise(store), store.manifest
    console.print()
    lakes_too = ["lakes", "<6 px"] if summary.lakes is not None else []
    headings = ["sensor", "region", *SPLITS, "tiles", "lake km2", *lakes_too]
    console.print(_table(f"{many(len(store), 'tile')} of {store.tile_px} px", headings, summary.cells_of_places()))
    if summary.sizes is not None:
        headings = ["lakes", "drawn", "in no tile", "far from ice", "too small", "drawn km2"]
        console.print(_table("", headings, summary.cells_of_sizes()))
    if summary.buffers is not None:
        rows = [cells[:4] for cells in summary.cells_of_buffers()]
        console.print(_table("", ["a buffer of", "would drop", "km2", "and keep"], rows))
    lines = ["lakes: " + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in manifest["lakes"].items())]
    if summary.cut:
        lines.append(f"lakes cut by an edge of a tile or scene: {summary.cut}; in more than one tile: {summary.in_two}")
    lines += [f"left out: {reason}: {n}" for reason, n in summary.dropped.items()]
    lines += cautions(store)
    size = sum(manifest["files"].values()) >> 20
    lines.append(f"store: {store.path}, {size} MiB, data {store.data_hash[:12]}, split {store.split_hash[:12]}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(title=title or None, title_justify="left", show_edge=False, box=SIMPLE_HEAD, pad_edge=False)
    for n, heading in enumerate(headings):
        text = n == 0 or all(isinstance(row[n], str) and not row[n].replace(".", "").isdigit() for row in rows)
        table.add_column(heading, justify="left" if text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    return table
