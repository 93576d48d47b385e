"""`glidexp data build`: settings, sizes, what it prints, and its refusals."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_scenes import world

from glidexp.cli import guarded
from glidexp.data.verbs import VERBS
from glidexp.data.verbs.verb_build import memory_bytes, run
from glidexp.door import compose
from glidexp.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent


def words_of(root: Path) -> list[str]:
    dataset = world(root)
    words = [f"dataset.{key}={getattr(dataset, key)}" for key in ("root", "lakes", "glaciers")]
    return [
        *words,
        "dataset.split.val=0.25",
        "dataset.split.test=0.25",
        "tile_size.px=32",
        f"paths.data={root / 'data'}",
    ]


def test_builds_says_what_is_in_it_and_how_to_train_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_of(tmp_path)
    assert run([*words, "--workers", "1", "--memory", "2GB"], compose) == 0
    text = capsys.readouterr().out
    assert "16 tiles of 32 px" in text and "lakes: in scenes 12, labelled 12" in text
    assert "left out: tiles without lake beyond dataset.empty_share: 8" in text
    lines = text.splitlines()
    (line,) = [line for line in lines if line.startswith("  python train.py ")]
    (place,) = [line.split()[1].rstrip(",") for line in lines if line.startswith("store: ")]
    assert (Path(place) / "manifest.json").is_file()
    assert f"report: {place}/report/report.html" in lines and (Path(place) / "report" / "contact_sheet.png").is_file()
    # the command's settings are those of this store: it is opened, not built
    from glidexp.data.prepare import recipe_id

    config = compose(shlex.split(line)[2:])
    assert recipe_id(config.dataset, config.tile_size.px) == Path(place).name
    assert run([*words, "--out", str(tmp_path / "mine")], compose) == 0
    assert f"dataset=store dataset.root={tmp_path / 'mine'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "size"), [(None, 0), ("800MB", 800_000_000), ("1.5GiB", 3 << 29), ("2g", 2_000_000_000), ("4096", 4096)]
)
def test_sizes(text: str | None, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["lots", "2TB", "-1GB", "0GB", "GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--memory={text} is not a size: give a number with MB or GB"):
        memory_bytes(text)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["dataset=folder"],
            "dataset.kind=folder is not built from scenes: ready tiles are read by glidexp data import",
        ),
        (["dataset=store"], "a store is built already"),
        ([], "dataset.root is not given"),
        (["--workers", "-1"], "--workers=-1 must be 1 or more"),
        (["--workers", "x"], "glidexp: data build: argument --workers: invalid int value"),
        (["dataset.root=a", "--map", "slurm"], "--map=slurm is not known: give ray or dask"),
    ],
)
def test_refusals_are_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda argv: run(argv, compose), words) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and says in told[0]


def test_the_verb_is_listed_and_explains_itself() -> None:
    assert "build" in VERBS
    help_text = subprocess.run(
        [sys.executable, "-m", "glidexp", "data", "build", "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert all(word in help_text for word in ("--workers", "--memory", "--map", "--skip-failed", "--out"))
