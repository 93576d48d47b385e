"""Settings of the data: where tiles come from, which ground trains and which reports, which sensors are drawn."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from glidexp.config.ranges import at_least, within
from glidexp.errors import ConfigError, unknown_name


class DatasetKind(StrEnum):
    synthetic = "synthetic"
    scenes = "scenes"
    folder = "folder"
    glid = "glid"
    glid_transfer = "glid_transfer"
    store = "store"


TERRAIN = ("elevation", "slope")
"""bands that a DEM gives a scene"""
MOST_BLOCKS_BETWEEN = 100
"""of the split by block: wider than that no ground is left between sides"""
GENERATED = "generated"
"""`dataset.classes` of generated scenes, whose ground is known"""
GENERATED_BANDS = ("red", "green", "blue", "nir")
"""of generated scenes, the last one where it is asked for"""


class StretchMethod(StrEnum):
    percentile = "percentile"
    minmax = "minmax"
    fixed = "fixed"


# a class could have no member of that name, which is a word of the language
StretchScope = StrEnum("StretchScope", {"scene": "scene", "sensor": "sensor", "global": "global"})


class SplitBy(StrEnum):
    scene = "scene"
    block = "block"
    region = "region"
    random = "random"


class Weighting(StrEnum):
    natural = "natural"
    balanced = "balanced"


@dataclass(kw_only=True, slots=True)
class StretchConfig:
    """Linear stretch of scene values to 0-255, recorded scene by scene in the store's manifest."""

    method: StretchMethod = StretchMethod.percentile
    scope: StretchScope = StretchScope.scene
    """what shares its limits: the pixels of a scene, of all scenes of a sensor, or of all scenes (global)"""
    low: float = 2.0
    """percentile in 0-100 (method=percentile) or scene value (method=fixed) that becomes 0; unused by minmax"""
    high: float = 98.0
    """percentile in 0-100 (method=percentile) or scene value (method=fixed) that becomes 255; unused by minmax"""
    sample_blocks: int = 0
    """blocks of the file, drawn by a hash, that give a scene's limits; 0: every pixel does, so that they are exact"""

    def __post_init__(self) -> None:
        at_least("dataset.stretch.sample_blocks", self.sample_blocks, 0)
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ConfigError(f"dataset.stretch.low={self.low} and dataset.stretch.high={self.high} must be finite.")
        if self.method == StretchMethod.minmax:
            return
        if not self.low < self.high:
            raise ConfigError(f"dataset.stretch.low={self.low} must be less than dataset.stretch.high={self.high}.")
        if self.method == StretchMethod.percentile and not (self.low >= 0 and self.high <= 100):
            raise ConfigError(f"dataset.stretch: percentiles {self.low} and {self.high} must be from 0 to 100.")


@dataclass(kw_only=True, slots=True)
class SplitConfig:
    """Which ground trains, which chooses (val), which reports (test)."""

    by: SplitBy = SplitBy.scene
    val: float = 0.15
    """share of the scenes (or blocks), 0-1"""
    test: float = 0.2
    """share of the scenes (or blocks), 0-1"""
    block_m: float = 10000.0
    """side of a square spatial block, metres (by=block)"""
    buffer_m: float = 0.0
    """ground this near to a block of another side is left out, metres (by=block)"""
    leave_out: str | None = None
    """a sensor or region whose ground is the whole test side; `test` is not used then"""
    folds: int = 0
    """number of folds that the ground is dealt out to; 0: shares instead. `test` is not used then"""
    fold: int = 0
    """the fold that is test, from 0; the next one is val, unless val is 0"""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise ConfigError(
                f"dataset.split.val={self.val} and dataset.split.test={self.test} must be 0 or more and leave a share "
                "to train: their sum must be below 1."
            )
        if not 0 < self.block_m < math.inf:
            raise ConfigError(f"dataset.split.block_m={self.block_m} must be above 0 metres, and finite.")
        at_least("dataset.split.buffer_m", self.buffer_m, 0)
        if self.by == SplitBy.block and self.buffer_m > MOST_BLOCKS_BETWEEN * self.block_m:
            raise ConfigError(
                f"dataset.split.buffer_m={self.buffer_m:g} is more than {MOST_BLOCKS_BETWEEN} blocks of "
                f"dataset.split.block_m={self.block_m:g}, which leaves no tile: lower it."
            )
        at_least("dataset.split.fold", self.fold, 0)
        least = 3 if self.val > 0 else 2
        if self.folds and not (self.folds >= least and 0 <= self.fold < self.folds):
            raise ConfigError(
                f"dataset.split.folds={self.folds} and dataset.split.fold={self.fold}: folds must be 0 or {least} and "
                "more, and fold one of 0 to folds - 1."
            )
        if (bool(self.folds), bool(self.leave_out), self.by == SplitBy.random).count(True) > 1:
            raise ConfigError(
                f"dataset.split.folds={self.folds}, dataset.split.leave_out={self.leave_out} and "
                f"dataset.split.by={self.by.value}: of folds, leave_out and by=random only one can be had."
            )

    @property
    def has_test(self) -> bool:
        """Whether some ground is to report on."""
        return self.test > 0 or bool(self.folds) or bool(self.leave_out)


@dataclass(kw_only=True, slots=True)
class SyntheticConfig:
    """The embedded scene generator."""

    seed: int = 0
    sensors: list[str] = field(default_factory=lambda: ["worldview2", "gaofen2", "sentinel2", "landsat8"])
    regions: list[str] = field(default_factory=lambda: ["himalaya", "andes", "greenland", "alaska"])
    scenes_per_sensor: int = 6
    scene_px: int = 1024
    """side of the square scenes at 2, 4 and 30 m, pixels; 1.5 times that at 10 m, so that the 10 km buffer fits"""

    def __post_init__(self) -> None:
        for name in ("sensors", "regions"):
            if not getattr(self, name):
                raise ConfigError(f"dataset.synthetic.{name}=[] makes no scenes: name at least one.")


@dataclass(kw_only=True, slots=True)
class DatasetConfig:
    """Where tiles come from and how they are made."""

    name: str = "synthetic"
    """shown in tracking; a label, not a path"""
    kind: DatasetKind = DatasetKind.synthetic
    root: str | None = None
    """folder of scenes, or catalogue: CSV, GeoParquet, STAC JSON (kind=scenes); folder or archive of images/ and
    labels/ (kind=folder, glid; several with the separator of PATH between); folder or archive of regions
    (kind=glid_transfer); folder of a tile store (kind=store)"""
    lakes: str | None = None
    """lake polygons, any vector format of GDAL (kind=scenes)"""
    lake_type_column: str | None = None
    """column of dataset.lakes that holds the type of a lake; when not given: lake_type, gl_type, type or kind, if there
    is one (kind=scenes)"""
    lake_id_column: str | None = None
    """column of dataset.lakes that holds the id of a lake; when not given: lake_id, gl_id, glake_id, rgi_id, rgiid or
    id, if there is one, else the number of the feature (kind=scenes)"""
    lakes_crs: str | None = None
    """CRS of dataset.lakes, where the file names none or a wrong one (kind=scenes)"""
    glaciers_crs: str | None = None
    """CRS of dataset.glaciers, likewise (kind=scenes)"""
    lakes_layer: str | None = None
    """layer of dataset.lakes, where several hold polygons (kind=scenes)"""
    glaciers_layer: str | None = None
    """layer of dataset.glaciers, likewise (kind=scenes)"""
    previous: str | None = None
    """lake polygons of an earlier version; what dataset.lakes changed goes into the manifest (kind=scenes)"""
    previous_layer: str | None = None
    """layer of dataset.previous, likewise (kind=scenes)"""
    within: str | None = None
    """polygons of the ground that dataset.lakes covers: beyond it no pixel is labelled; where they have a column
    checked, those count that are (kind=scenes)"""
    within_layer: str | None = None
    """layer of dataset.within, likewise (kind=scenes)"""
    glaciers: str | None = None
    """glacier outlines, any vector format of GDAL; needed unless buffer_m is 0 (kind=scenes)"""
    sensor: str = "unknown"
    """sensor of every scene or tile that does not name its own (kind=scenes, folder)"""
    manifest: str | None = None
    """CSV of tile, scene, sensor, region, gsd_m, row, col for tiles without georeference (kind=folder, glid)"""
    images: str = "images/{id}.*"
    """where images lie below root: {id} is the name shared with the label, {scene} {sensor} {region} are taken over,
    * is anything, .* at the end any of .png .jpg .jpeg .tif .tiff (kind=folder)"""
    labels: str = "labels/{id}.*"
    """where labels lie below root, likewise (kind=folder)"""
    layout: str | None = None
    """YAML that says where the images and labels of each region lie, their sensor and gsd_m (kind=glid_transfer)"""
    classes: str | None = None
    """labels are land cover of several classes, to train an encoder on: a CSV of name and value, or of name, red,
    green and blue (kind=folder); generated: the generator's own classes (kind=synthetic)"""
    sensors_file: str | None = None
    """YAML of sensors of your own, added to the registry: `name: {gsd_m: 3.0, bands: [blue, green, red]}`"""
    buffer_m: float = 10000.0
    """lakes farther than this from a glacier are dropped as non-glacial, metres; 0 keeps all"""
    min_lake_px: float = 0.0
    """lakes smaller than this many pixels are not labelled"""
    part_km: float = 150.0
    """scenes longer than this on a side are cut into parts, kilometres; 0 never cuts (kind=scenes)"""
    bands: list[str] = field(default_factory=lambda: ["red", "green", "blue"])
    """bands taken from the scenes, by lower-case name, in the order of the store's channels; with a DEM also elevation
    and slope, behind the others (kind=scenes, synthetic)"""
    dem: str | None = None
    """DEM that gives the bands elevation and slope of dataset.bands: a raster of heights in metres, or a folder of
    them; pixels without height are without data (kind=scenes)"""
    mask_clouds: bool = False
    """pixels under clouds, as a product's own layer or the catalogue's column clouds marks them, are without data
    (kind=scenes)"""
    all_touched: bool = False
    """a pixel is lake where a polygon touches it; else where its centre lies in one (kind=scenes, synthetic)"""
    overlap_px: int = 0
    """pixels that a tile for training shares with the next; val and test never overlap (kind=scenes, synthetic)"""
    empty_share: float = 0.0
    """tiles without lake kept as real negatives, as a share of the tiles with lake"""
    stretch: StretchConfig = field(default_factory=StretchConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def __post_init__(self) -> None:
        for name in ("buffer_m", "min_lake_px", "part_km", "overlap_px", "empty_share"):
            at_least(f"dataset.{name}", getattr(self, name), 0)
        if self.layout and self.kind is not DatasetKind.glid_transfer:
            raise ConfigError(f"dataset.layout={self.layout} would not be used with dataset.kind={self.kind}.")
        if self.classes:
            self._check_classes()
        if not self.bands or len(set(self.bands)) < len(self.bands) or any(b != b.strip().lower() for b in self.bands):
            raise ConfigError(
                f"dataset.bands=[{','.join(self.bands)}] must be lower-case names, each once: such as [red,green,blue]."
            )
        if self.kind is DatasetKind.synthetic:
            known = (*GENERATED_BANDS, *TERRAIN)
            for band in self.bands:
                if band not in known:
                    raise unknown_name("dataset.bands", band, known)
        self._check_terrain()

    @property
    def terrain(self) -> list[str]:
        """Bands that come of a DEM: of generated scenes there is one."""
        of_dem = self.dem or self.kind is DatasetKind.synthetic
        return [band for band in self.bands if of_dem and band in TERRAIN]

    def _check_terrain(self) -> None:
        """Refuses bands of a DEM where the augmentation would take them for colours."""
        count = len(self.terrain)
        if count and (len(self.bands) == count or self.terrain != self.bands[-count:]):
            raise ConfigError(
                f"dataset.bands=[{','.join(self.bands)}] must name bands of the scenes first, then those of a DEM "
                f"({', '.join(self.terrain)}): such as [red,green,blue,slope]."
            )

    def _check_classes(self) -> None:
        """Refuses classes of labels that have none."""
        if self.kind not in (DatasetKind.folder, DatasetKind.synthetic):
            raise ConfigError(
                f"dataset.classes={self.classes} does not go with dataset.kind={self.kind}: land cover is read from "
                "folders of images and class maps (dataset=land_cover) or generated (dataset=land_cover_synthetic)."
            )
        if (self.kind is DatasetKind.synthetic) != (self.classes == GENERATED):
            allowed = GENERATED if self.kind is DatasetKind.synthetic else "the path of a CSV of the classes"
            raise ConfigError(f"dataset.classes={self.classes}: for dataset.kind={self.kind} it must be {allowed}.")


@dataclass(kw_only=True, slots=True)
class SensorMixConfig:
    """Which sensors a run trains on, and how often each is drawn."""

    sensors: list[str] = field(default_factory=lambda: ["all"])
    """names of the registry, or ["all"] for every sensor present"""
    weighting: Weighting = Weighting.natural
    """natural: by number of tiles; balanced: every sensor as often as the others"""
    weights: dict[str, float] = field(default_factory=dict)
    """relative sampling weight of a sensor, multiplied with the weighting; 1 when not named"""
    region_weights: dict[str, float] = field(default_factory=dict)
    """how often regions are drawn, as parts of a whole: {andes: 3, alaska: 1}; 1 when not named. By their tiles when
    none is given"""


@dataclass(kw_only=True, slots=True)
class TileSizeConfig:
    px: int = 256
    """side of a square tile, pixels"""

    def __post_init__(self) -> None:
        within("tile_size.px", self.px, 32, 2**14, "pixels such as 256 or 512")
