"""The wheel stands alone: code, config groups and the sensor registry are inside, and its console script works."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("glidexp-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_it_holds_every_config_and_the_registry(unpacked: Path) -> None:
    shipped = {str(path.relative_to(ROOT / "conf")) for path in (ROOT / "conf").rglob("*.yaml")}
    inside = {str(path.relative_to(unpacked / "glidexp" / "conf")) for path in unpacked.rglob("conf/**/*.yaml")}
    assert shipped == inside
    assert (unpacked / "glidexp" / "data" / "sensors.yaml").is_file()
    assert not list(unpacked.rglob("test_*.py"))


def test_it_composes_away_from_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from glidexp.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-I", "-c", code, str(unpacked), "train", "backbone=resnet34", "--cfg", "job"]
    shown = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "name: resnet34" in shown
    assert not list(tmp_path.iterdir())
