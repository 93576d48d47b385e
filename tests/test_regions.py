"""The transferability set by region: read in layouts that were made up, told where it is not there."""

from pathlib import Path

import numpy as np
import pytest
from archives import contents, write_zip
from PIL import Image
from runs import SMALL

from glidexp import door
from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.prepare import declared_regions, declared_sensors, prepare
from glidexp.errors import ConfigError, DataError
from glidexp.study.plan.making import make_plan
from glidexp.study.plan.words import split
from glidexp.training.check import check_data

LAYOUT = """
regions:
  greenland: {images: Set A/GL/image, labels: Set A/GL/label, sensor: sentinel2}
  andes: {images: "SA/{id}_img.*", labels: "SA/{id}_mask.png", sensor: landsat8, gsd_m: 15}
"""
TILES = 9
"""of each region; a number stands for a tile of each of them"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set unpacked, beside its layout, and as the archive of the record in a folder of its own."""
    place, rng = tmp_path_factory.mktemp("transfer"), np.random.default_rng(0)
    for n in range(TILES):
        for image, mask in (
            (f"Set A/GL/image/{n + 1}.png", f"Set A/GL/label/{n + 1}.png"),
            (f"SA/{n + 1}_img.png", f"SA/{n + 1}_mask.png"),
        ):
            for name, pixels in (
                (image, rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)),
                (mask, np.kron(rng.integers(0, 2, (4, 4), dtype=np.uint8), np.full((16, 16), 255, dtype=np.uint8))),
            ):
                file = place / "unpacked" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
    (place / "record").mkdir()
    write_zip(place / "record" / "Transferability validation.zip", contents(place / "unpacked"))
    (place / "layout.yaml").write_text(LAYOUT)
    return place


def settings(place: Path, root: str, **more: object) -> DatasetConfig:
    given = {"root": str(place / root), "layout": str(place / "layout.yaml"), **more}
    return DatasetConfig(kind=DatasetKind.glid_transfer, name="glid_transfer", **given)


def test_regions_are_those_of_the_layout_in_a_folder_and_in_the_archive(place: Path) -> None:
    assert declared_regions(settings(place, "unpacked")) == ["andes", "greenland"]
    assert declared_sensors(settings(place, "unpacked")) == ["landsat8", "sentinel2"]
    stores = [
        prepare(settings(place, root), 64, place / root / "data", progress=False) for root in ("unpacked", "record")
    ]
    assert stores[0].data_hash == stores[1].data_hash and stores[0].split_hash == stores[1].split_hash
    index = stores[0].index
    assert index.groupby("region")["sensor"].unique().map(list).to_dict() == {
        "andes": ["landsat8"], "greenland": ["sentinel2"],
    }  # fmt: skip
    assert index.groupby("region")["gsd_m"].unique().map(list).to_dict() == {"andes": [15.0], "greenland": [10.0]}
    assert (
        {*index[index["split"] == "test"]["region"]}
        == {"andes", "greenland"}
        == {*index[index["split"] == "val"]["region"]}
    )
    row = int(np.flatnonzero(index["tile"] == "andes/3")[0])
    assert np.array_equal(stores[0].images[row], np.asarray(Image.open(place / "unpacked" / "SA" / "3_img.png")))
    groups = index.groupby("block")["region"].nunique()
    assert (groups == 1).all()  # no group of neighbouring numbers goes across regions


def test_the_study_of_generated_regions_is_planned_on_it(place: Path) -> None:
    """Nothing but `dataset` differs from what plans and runs it on the generated regions elsewhere."""
    words = [word for word in SMALL if not word.startswith("dataset")]
    words += [f"paths.data={place / 'study'}", f"paths.mlruns={place / 'mlruns'}", "study=transfer_region"]
    words += ["study.seeds=[0]", "train.compile=off", "dataset=glid_transfer"]
    typed = split([*words, f"dataset.root={place / 'record'}", f"dataset.layout={place / 'layout.yaml'}"])
    plan = make_plan(door.compose_sweep(list(typed.own)).study, typed, door.compose).plan
    assert [cell.arm for cell in plan.cells] == ["all", "andes", "greenland"]
    assert [word for word in plan.cells[1].words if word.startswith("subset")] == [
        "subset.regions=[andes]", "subset.val_from=source",
    ]  # fmt: skip


def test_what_is_missing_is_told_in_one_sentence(place: Path, tmp_path: Path) -> None:
    def told(dataset: DatasetConfig) -> str:
        with pytest.raises((DataError, ConfigError)) as caught:
            check_data(dataset, 64, door.compose([]).sensor_mix)
        return str(caught.value)

    assert "Zenodo record 14838695" in told(DatasetConfig(kind=DatasetKind.glid_transfer))
    assert "gone does not exist" in told(settings(place, "gone"))
    without = told(settings(place, "record", layout=None))
    assert "dataset.layout is not given" in without and "Set A/GL/image: 9 .png" in without
    for text, said in (
        ("regions: [a, b]", "has no regions"),
        ("regions: {andes: {images: a}}", "region andes needs images and labels"),
        ("regions: {andes: {images: a, labels: b, gsd: 3}}", "region andes does not know 'gsd'"),
        ("regions: {andes: {images: a, labels: b, sensor: sentinel9}}", "sentinel9"),
        ("regions: {andes: {images: a, labels: b, gsd_m: -3}}", "must be metres above 0"),
        ("regions: {andes: {images: NOWHERE, labels: SA}}", "holds no picture|files have no partner"),
    ):
        (tmp_path / "layout.yaml").write_text(text)
        with pytest.raises((DataError, ConfigError), match=said):
            check_data(
                settings(place, "unpacked", layout=str(tmp_path / "layout.yaml")), 64, door.compose([]).sensor_mix
            )
    with pytest.raises(ConfigError, match=r"dataset\.layout=x would not be used with dataset\.kind=synthetic"):
        DatasetConfig(layout="x")
