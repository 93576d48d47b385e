"""What costs seconds to import comes when it is needed: nothing of it for help and settings, no more for a training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import words

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch", "torchvision", "timm", "segmentation_models_pytorch", "kornia", "mlflow", "sqlalchemy", "pandas",
    "pyarrow", "scipy", "matplotlib", "rasterio", "boto3", "shapely", "pyproj", "geopandas", "PIL", "optuna", "ray",
    "submitit", "onnx", "onnxruntime", "fastapi", "uvicorn", "peft",
}  # fmt: skip
"""none of them is loaded by a help page, or by settings that are put together and checked"""
NOT_TRAINING = {
    "rasterio", "boto3", "geopandas", "pyogrio", "matplotlib", "kornia", "torchmetrics", "skimage", "sklearn", "optuna",
    "ray", "submitit", "onnx", "onnxruntime", "uvicorn", "flask", "peft", "lightning", "torchgeo", "mlflow.server",
    "mlflow.pyfunc", "scipy.ndimage", "scipy.spatial",
}  # fmt: skip
"""nor are these by the first step of a training whose tiles are there: scenes, pictures and studies come later"""
OF_NETWORKS = {"timm", "segmentation_models_pytorch", "torchvision"}
"""come with the first network from them"""
OF_DATABASES = {"sqlalchemy", "alembic"}
"""come where a database is opened, and not for a server"""

SCRIPT = """
import contextlib, io, json, sys
from pathlib import Path
from glidexp import cli, door

asked, place, words, told = *map(json.loads, sys.argv[1:]), {}

def note(name):
    told[name] = [one for one in asked if one in sys.modules]

page = io.StringIO()
with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
    cli.main(["--help"])
for verb in [line.split()[0] for line in page.getvalue().splitlines() if line.startswith("  ")]:
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        cli.main([verb, "--help"])
assert page.getvalue().count("age: ") > 15, page.getvalue()
note("help")
door.compose(words)
note("settings")

import pytest
from glidexp.tracking import store

with pytest.MonkeyPatch.context() as patches:
    patches.setattr(store, "_ask_server", lambda uri: None)
    patches.setattr(store.import_mlflow().MlflowClient, "search_experiments", lambda *_, **__: [])
    store.open_store("http://127.0.0.1:9", Path(place))
note("server")

import ranks_train
from glidexp.training.progress import Meter

class Enough(BaseException):
    pass

def enough(*_):
    note("step")
    raise Enough

with pytest.MonkeyPatch.context() as patches, contextlib.suppress(Enough):
    ranks_train.patch(patches)
    patches.setattr(Meter, "step", enough)
    cli.main(["train", *words])
print(json.dumps(told))
"""


@pytest.mark.slow
def test_what_is_dear_to_import_comes_when_it_is_needed(small_data: Path, tmp_path: Path) -> None:
    """One process, in the order in which things are needed."""
    asked = sorted(HEAVY | NOT_TRAINING | OF_NETWORKS | OF_DATABASES)
    typed = words(small_data, tmp_path / "runs", "backbone=mobilenetv3", "augmentation=none")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(json.dumps, (asked, str(tmp_path / "server"), typed))],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = {name: set(found) for name, found in json.loads(done.stdout.splitlines()[-1]).items()}
    assert not (told["help"] | told["settings"]) & HEAVY
    assert "mlflow" in told["server"] and not told["server"] & (NOT_TRAINING | OF_DATABASES | OF_NETWORKS | {"torch"})
    assert told["step"] >= {"torch", "pandas"} | OF_DATABASES, "nothing was trained"
    assert not told["step"] & (NOT_TRAINING | OF_NETWORKS)
