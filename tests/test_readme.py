"""The first screen of the README: one sentence, a picture, two commands, and the commands do what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from test_archive import write_pairs

from glidexp.config import SyntheticConfig
from glidexp.data.synthetic.world import generate

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMAND = re.compile(r"```(?:bash|sh)\n(.*?)```", re.DOTALL)
WITH_FILES = re.compile(r"\n\n```\n(.*?)```", re.DOTALL)
SHORT = ["train.epochs=1", "tile_size.px=64", "tracking=light", "train.threads=1"]
"""what is added to a training, so that it ends soon"""


def commands() -> list[str]:
    """Every command of the README's code blocks, comments left out."""
    lines = [line.split(" #")[0].strip() for block in COMMAND.findall(README) for line in block.splitlines()]
    return [line for line in lines if line]


def make(target: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    words = ["make", "-C", str(folder), target, *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_first_screen() -> None:
    first = README.split("\n## ")[0]
    assert len(first.splitlines()) <= 30
    assert re.search(r"!\[.+\]\(docs/img/\w+\.png\)", first)
    assert commands()[:2] == ["make train", "make test"]


def test_make_alone_lists_its_targets() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "train", "test", "lint", "ui", "bench", "clean"):
        assert f"make {target} " in shown


def test_make_names_the_python_it_needs(tmp_path: Path) -> None:
    failed = make("setup", ROOT, PYTHON="", VENV=str(tmp_path / "none"))
    assert failed.returncode != 0
    assert "Python 3.11 or newer" in failed.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the environment of this one, so that a command writes nothing here."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    environment = Path(sys.prefix)
    if not (environment / ".ready").exists():
        pytest.skip("the tests do not run in the environment that make sets up")
    (folder / ".venv").symlink_to(environment)
    for stale in (folder / "requirements.lock", folder / "pyproject.toml"):
        os.utime(stale, (0, 0))  # copied just now, yet not newer than the environment
    return folder


def ran(line: str, words: list[str], folder: Path, warmed: bool = True) -> str:
    """What a command of the environment, `python` or `glidexp`, prints; it must end well."""
    program = Path(sys.executable).parent / words[0]
    if warmed and program.exists():
        words = [warm.python(), *(words[1:] if program.name == "python" else [str(program), *words[1:]])]
    elif program.exists():
        words = [str(program), *words[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_commands_run(checkout: Path) -> None:
    """Runs each command as it stands, but for what would take long or never end.

    `make test` would run itself; `make train` is run by its own test; servers are only asked for their help page.
    What comes after the first training begins warm (tests/warm.py): its imports are no news then.
    """
    tried, trained = 0, ""
    for line in commands():
        words = line.split()
        if words[:2] in (["make", "test"], ["make", "train"], ["make", "bench"], ["make", "setup"]):
            continue
        if words[:2] in (["make", "ui"], ["glidexp", "ui"]):
            words = ["glidexp", "ui", "--help"]
        if words[0] == "git" or words[0] == "cd":
            continue
        if words[:2] == ["python", "train.py"] and "--help" not in words:
            words += ["dataset=smoke", *SHORT, "tracking.log_model=true"]
        if words[:2] == ["glidexp", "evaluate"]:
            words = [trained if word == "RUN" else word for word in words] + ["tile_size.px=64"]
        trained = next(iter(re.findall(r"/runs/([0-9a-f]{32})", ran(line, words, checkout, bool(trained)))), trained)
        tried += 1
    assert tried >= 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_on_ones_own_files_run(tmp_path: Path) -> None:
    """The blocks whose capital words stand for a reader's files: scenes with inventories, and the published set.

    The scenes are generated ones of one sensor; the published set is in its layout, small, and trained on shortly and
    from scratch, since weights cannot be fetched everywhere. What the build says to do next is done.
    """
    spec = SyntheticConfig(sensors=["sentinel2"], regions=["himalaya", "andes"], scenes_per_sensor=2, scene_px=512)
    made = generate(spec, tmp_path / "made", progress=False, workers=1)
    write_pairs(tmp_path / "GLID" / "GLID", range(1, 25))
    write_pairs(tmp_path / "GLID" / "val", range(1, 7), list(range(1001, 1007)))
    files = {"SCENES": made / "scenes", "LAKES.gpkg": made / "lakes.gpkg", "GLACIERS.gpkg": made / "glaciers.gpkg"}
    files["FOLDER"] = tmp_path / "GLID"
    build, train = (block.replace("\\\n", " ") for block in WITH_FILES.findall(README))
    for name, place in files.items():
        build, train = build.replace(f"={name}", f"={place}"), train.replace(f"={name}", f"={place}")
    small = ["tile_size.px=64", "dataset.split.block_m=2000"]
    (advice,) = re.findall(r"python train\.py.*", ran(build, [*build.split(), *small], tmp_path))
    for line in (train, advice):
        words = line.replace("train.py", str(ROOT / "train.py")).split()
        said = ran(line, [*words, *SHORT, "init=scratch", "train.batch_size=2"], tmp_path)
        assert re.search(r"pooled, threshold \S+ +\d+", said)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_make_train_beats_the_naive_row_and_passes_its_mark(checkout: Path, default_data: Path) -> None:
    """The demo as a newcomer runs it, on generated scenes, which another test has made too."""
    (checkout / "data").mkdir(exist_ok=True)
    for made in default_data.iterdir():
        if made.is_dir():
            shutil.copytree(made, checkout / "data" / made.name, dirs_exist_ok=True, copy_function=os.link)
    done = make("train", checkout)
    assert done.returncode == 0, done.stderr
    found = re.search(r"pooled, threshold \S+ +\d+ +\d+ +\S+ +\S+ +\S+ +(\S+)", done.stdout)
    naive = re.search(r"naive: index threshold +\d+ +\d+ +\S+ +\S+ +\S+ +(\S+)", done.stdout)
    assert found
    assert naive
    assert float(naive[1]) < 0.60
    assert float(found[1]) > 0.75
    assert "glidexp ui" in done.stdout
