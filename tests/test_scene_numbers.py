"""Scenes of any kind of number: codes in the order of values, and the same tiles whatever the values are kept in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from tiny_scenes import world, write_scene

from glidexp.config import DatasetConfig, StretchConfig, StretchMethod
from glidexp.config.data import StretchScope
from glidexp.data.prepare import prepare
from glidexp.data.scenes import numbers, stretch
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.reading import read_header, read_strips
from glidexp.data.store import TileStore
from glidexp.errors import DataError
from glidexp.mapping.levels import limits_asked
from glidexp.mapping.settings import StretchFrom

KINDS = ["uint16", "int16", "int32", "uint32", "float32", "float64"]


@pytest.mark.parametrize("kind", ["uint8", "int8", *KINDS, "int64", "float16"])
def test_codes_are_in_the_order_of_values_and_give_them_back(kind: str) -> None:
    rng = np.random.default_rng(0)
    whole = np.dtype(kind).kind in "iu"
    low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if whole else (-3e4, 3e4)
    few = np.clip([-32768, -9999, -1, 0, 1, 2, 300, 65535], low, high)
    values = np.concatenate([few, np.clip(rng.normal(0, 3000, 5000), low, high)])
    values = np.sort((np.rint(values) if whole else values * rng.choice([1, 1e-4], values.size)).astype(kind))
    codes = numbers.coded(values[None, None])[0, 0]
    levels = numbers.levels_of(numbers.kind_of([kind]))
    assert codes.dtype.kind == "u" and codes.max() < levels
    assert (np.diff(codes.astype(np.int64)) >= 0).all()
    back = numbers.values_of(numbers.kind_of([kind]))
    assert len(back) == levels and (np.diff(back) > 0).all()
    off = np.abs(back[codes] - values.astype(np.float64))
    if levels == numbers.LEVELS:
        assert off.max() == 0
    else:
        assert (off <= np.maximum(np.abs(values.astype(np.float64)) / 8192, 2.0**-26)).all()


def test_values_beyond_the_codes_have_the_last_ones_and_what_is_no_number_is_told() -> None:
    values = np.array([[[-np.inf, -1e30, 0.0, 1e30, np.inf, np.nan]], [[1.0, 1, 1, 1, 1, 1]]], np.float32)
    codes = numbers.coded(values)[0, 0]
    assert codes[:5].tolist() == [1, 1, numbers.ZERO, numbers.WIDE_LEVELS - 1, numbers.WIDE_LEVELS - 1]
    known = numbers.numbers_in(values)
    assert known is not None and known.tolist() == [[False, True, True, True, False, False]]
    assert numbers.numbers_in(np.ones((1, 2, 2), np.int32)) is None


@pytest.mark.parametrize(
    ("kind", "nodata", "whole"),
    [("uint16", 0, True), ("uint8", 255, True), ("int16", 0, True), ("int16", -9999, False), ("float32", -1.5, False)],
)
def test_one_band_without_data_is_a_dark_pixel_or_none(kind: str, nodata: float, whole: bool) -> None:
    values = np.full((2, 1, 3), 7, kind)
    values[0, 0, 1] = values[:, 0, 2] = nodata
    assert numbers.has_data(values, [nodata] * 2).tolist() == [[True, whole, False]]


def as_kind(root: Path, kind: str) -> DatasetConfig:
    """The same four scenes, with values in this kind of number: floats are reflectance, other kinds 10,000 of it."""
    dataset = world(root)
    for path in root.glob("s*.tif"):
        with rasterio.open(path) as source:
            pixels, profile = source.read(), source.profile
        values = (pixels / 10_000 if kind.startswith("float") else pixels).astype(kind)
        nodata = {"uint16": 0, "uint32": 0}.get(kind, -9999)
        values[:, :8, :9] = nodata
        with rasterio.open(path, "w", **(profile | {"dtype": kind, "nodata": nodata})) as sink:
            sink.write(values)
    return dataset


def limits_of(store: TileStore) -> np.ndarray:
    kept = store.manifest["stretch"]
    return np.array([[kept[name]["low"], kept[name]["high"]] for name in sorted(kept)])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    root = tmp_path_factory.mktemp("usual")
    return prepare(as_kind(root, "uint16"), 32, root / "data", progress=False)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_tiles_are_the_same_whatever_the_values_are_kept_in(usual: TileStore, tmp_path: Path, kind: str) -> None:
    store = prepare(as_kind(tmp_path, kind), 32, tmp_path / "data", progress=False)
    assert store.index["tile"].tolist() == usual.index["tile"].tolist()
    assert np.array_equal(store.labels, usual.labels)
    unit = 10_000 if kind.startswith("float") else 1
    np.testing.assert_allclose(limits_of(store) * unit, limits_of(usual), rtol=0 if kind == "int16" else 1 / 8192)
    apart = np.abs(store.images.astype(int) - usual.images)
    assert apart.max() <= (0 if kind == "int16" else 1)
    assert (apart > 0).mean() < 0.05


def test_pixels_that_are_no_number_have_no_data(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((3, 64, 96)).astype(np.float32)
    pixels[1, 10:20, 30:40], pixels[2, 0, 0] = np.nan, np.inf
    scene = read_header(SceneFile(write_scene(tmp_path / "s.tif", pixels=pixels), "s", "unknown"))
    ((_, codes, valid),) = read_strips(scene, 64)
    assert np.array_equal(valid, np.isfinite(pixels).all(axis=0)) and codes.dtype == np.uint32


@pytest.mark.parametrize("kinds", [("uint16", "int16"), ("uint16", "float32"), ("uint8", "uint16")])
def test_bands_in_files_of_several_kinds(tmp_path: Path, kinds: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    values = [rng.integers(1, 250, (1, 64, 96)).astype(kinds[place == 1]) for place in range(3)]
    paths = [write_scene(tmp_path / f"{name}.tif", pixels=v) for name, v in zip("rgb", values, strict=True)]
    bands = tuple(zip(("red", "green", "blue"), paths, strict=True))
    scene = read_header(SceneFile(paths[0], "s", "unknown", bands=bands))
    ((_, codes, _),) = read_strips(scene, 64)
    assert np.allclose(numbers.values_of(scene.numbers)[codes], np.concatenate(values), rtol=1 / 8192)


@pytest.mark.parametrize("scope", ["sensor", "global"])
@pytest.mark.parametrize("method", [StretchMethod.percentile, StretchMethod.minmax])
def test_scenes_of_several_kinds_share_limits(tmp_path: Path, scope: str, method: StretchMethod) -> None:
    """Scenes whose values are 1 to 4000, half of them kept as floats."""
    dataset = world(tmp_path)
    everything = []
    for place, path in enumerate(sorted(tmp_path.glob("s?.tif"))):
        with rasterio.open(path) as source:
            pixels, profile = source.read(), source.profile
        everything.append(pixels.reshape(3, -1))
        if place % 2:
            with rasterio.open(path, "w", **(profile | {"dtype": "float32"})) as sink:
                sink.write(pixels.astype(np.float32))
    config = StretchConfig(scope=StretchScope(scope), method=method)
    store = prepare(replace(dataset, stretch=config), 32, tmp_path / "data", progress=False)
    together = np.concatenate(everything, axis=1)
    percents = (config.low, config.high) if method is StretchMethod.percentile else (0, 100)
    expected = np.percentile(together, percents, axis=1, method="inverted_cdf")
    for low_high in limits_of(store):
        np.testing.assert_allclose(low_high, expected, rtol=1 / 8192)


def test_a_dems_levels_are_not_taken_for_codes() -> None:
    limits = stretch.Stretch(low=(0.1, 0.0), high=(0.5, 255.0))
    tables = limits.tables("float32", terrain=1)
    assert tables.shape == (2, numbers.WIDE_LEVELS)
    assert tables[1, :256].tolist() == list(range(256))
    codes = numbers.coded(np.array([0.05, 0.301, 0.7], np.float32))
    assert tables[0, codes].tolist() == [0, 128, 255]


def test_a_corner_of_a_usual_fill_is_told(tmp_path: Path) -> None:
    pixels = np.ones((3, 64, 96), np.int16)
    pixels[:, :20, :20] = -9999
    header = read_header(SceneFile(write_scene(tmp_path / "s.tif", pixels=pixels), "s", "unknown"))
    assert any("a corner is -9999 in all bands" in note for note in header.warnings)


@pytest.mark.parametrize(("kind", "fits"), [("uint16", True), ("float32", False)])
def test_limits_of_another_unit_are_refused(tmp_path: Path, kind: str, fits: bool) -> None:
    """By limits of 100 to 4000 all reflectance is black, and the map without lakes."""
    as_kind(tmp_path, kind)
    scene = read_header(SceneFile(tmp_path / "s0.tif", "s0", "sentinel2"))
    card = {"stretch": {"scope": "global", "limits": {"all": {"low": [100.0] * 3, "high": [4000.0] * 3}}}}
    assert limits_asked(StretchFrom.refit, card, scene)[0] is None
    if fits:
        assert limits_asked(StretchFrom.auto, card, scene)[0] is not None
        return
    with pytest.raises(
        DataError, match=r"s0\.tif holds values of 0\.000\d+ to 0\.\d+, nearly all below the limits of .*"
    ):
        limits_asked(StretchFrom.auto, card, scene)
