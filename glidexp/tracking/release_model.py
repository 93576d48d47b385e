"""A released bundle as an MLflow model: models-from-code, nothing pickled, no signature.

MLflow's signature holds one kind of input. A released model takes arrays, paths and folders, so it has none; what it
takes stands in its metadata and in `pyfunc_release.py`, which checks it.
"""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

from glidexp.tracking.model import BUNDLE_KEY
from glidexp.tracking.store import import_pyfunc

NAME = "release"
"""of the logged model; the one that training leaves is called model"""
SCRIPT = Path(__file__).with_name("pyfunc_release.py")
TAKES = "array (B, C, H, W) or (C, H, W) of 0-255, path of a scene, or folder of scenes"


def write_release(folder: Path, bundle: Path, *, pip_requirements: list[str], entity: Any = None) -> None:
    """Writes an MLflow model into a folder that does not exist yet.

    Args:
        folder: where
        bundle: folder of the release; copied to artifacts/
        pip_requirements: what loading needs, as `name==version`
        entity: `mlflow.models.Model` to fill in, with the run and model id it belongs to
    """
    pyfunc = import_pyfunc()
    told = logging.getLogger("mlflow.pyfunc"), logging.getLogger("mlflow.models.model")
    before = [one.level for one in told]
    for one in told:
        one.setLevel(logging.ERROR)  # it misses the signature
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method", category=UserWarning)
            pyfunc.save_model(
                folder,
                python_model=str(SCRIPT),
                artifacts={BUNDLE_KEY: str(bundle)},
                pip_requirements=pip_requirements,
                metadata={"takes": TAKES},
                mlflow_model=entity,
            )
    finally:
        for one, level in zip(told, before, strict=True):
            one.setLevel(level)
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)
