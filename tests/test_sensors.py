"""The sensor registry."""

import math
from pathlib import Path

import pytest

from glidexp.data import sensors
from glidexp.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("name", "gsd_m"), [("worldview2", 2), ("gaofen2", 4), ("sentinel2", 10), ("landsat8", 30), ("landsat7", 30)]
)
def test_published_ground_sample_distances(name: str, gsd_m: float) -> None:
    assert sensors.get(name).gsd_m == gsd_m


def test_every_known_sensor_has_the_three_colours_once() -> None:
    for name in sensors.names():
        bands = sensors.get(name).bands
        assert len(set(bands)) == len(bands)
        assert (
            name == "unknown" or {"red", "green", "blue"} <= set(bands) or (name, bands) == ("sentinel1", ("vv", "vh"))
        )
    assert math.isnan(sensors.get("unknown").gsd_m)


def test_unknown_name_says_which_are_known() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.sensor='sentinel' is not known\. Did you mean 'sentinel2'\?"):
        sensors.get("sentinel")


def test_codes_and_names_of_products() -> None:
    got = [sensors.get("sentinel2").band_of(code) for code in ("B02", "b2", "B8A", "B08", "B10", "B13")]
    assert got == ["blue", "blue", "nir2", "nir", "cirrus", ""]
    assert [sensors.get(f"landsat{n}").band_of("B4") for n in (5, 7, 8, 9)] == ["nir", "nir", "red", "red"]
    told = {
        "LC08_L1TP_140041_20201103": "landsat8",
        "LC80460282016177LGN00": "landsat8",
        "LE71400412000304SGS00": "landsat7",
        "LT05_L2SP_1": "landsat5",
        "LC09_L2SP_1": "landsat9",
        "S2B_MSIL1C_2020": "sentinel2",
        "T45RVL_20201012T045719": "sentinel2",
        "landsat-8": "landsat8",
        "sentinel-2a": "sentinel2",
        "S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A": "sentinel1",
        "sentinel-1a": "sentinel1",
        "khumbu": "",
        "unknown": "",
    }
    assert {name: sensors.of_product(name) for name in told} == told


def test_own_sensors_join_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "_registry", lambda own={}: own)  # the shared one stays as it is
    path = tmp_path / "mine.yaml"
    path.write_text("drone: {gsd_m: 0.1, bands: [Red, Green, Blue]}\n")
    assert sensors.register_file(path) == ["drone"]
    assert sensors.get("drone").bands == ("red", "green", "blue")


@pytest.mark.parametrize(
    "text",
    [
        *("drone: {gsd_m: -1}", "drone: {gsd_m: two}", "drone: 3", "- drone", "a: !!python/object:os.system {}"),
        "drone: {gsd_m: 1, bands: [red], codes: [B1, B2]}",
        "drone: {gsd_m: 1, product: '('}",
    ],
)
def test_bad_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        sensors.register_file(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
