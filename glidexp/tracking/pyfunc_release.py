"""The script that MLflow stores with a released model and runs to load it (models-from-code): no pickle.

Imported by nothing; `tracking.release_model` hands its path to MLflow. Needs the package `glidexp` where it is loaded.
"""

import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel
from mlflow.pyfunc.model import PythonModelContext

KEYS = {"scene", "dem", "sensor"}
"""of a dict"""

with warnings.catch_warnings(record=True):  # MLflow misses type hints, and sets filters of its own as it says so

    class ReleasedLakeModel(PythonModel):
        """Arrays, scenes or folders of scenes in, lake probability out."""

        def load_context(self, context: PythonModelContext) -> None:
            """Reads the bundle that lies among the model's artifacts. MLflow demands the name `context`."""
            from glidexp.models.export import load_bundle

            self.bundle = Path(context.artifacts["bundle"])
            self.predictor = load_bundle(self.bundle)

        def predict(self, context: PythonModelContext, model_input, params: dict[str, Any] | None = None):  # type: ignore[no-untyped-def]
            """Lake probability. Without type hints for what comes in and goes out: MLflow would read them as a schema.

            Args:
                context: unused
                model_input: uint8 or float array (B, C, H, W) or (C, H, W) in 0-255; or the path of a scene as
                    `glidexp predict` takes it, with its stretch; or a folder, of which every scene is taken; or
                    {"scene": such a path}, with "sensor": its name where the scene tells none, and, for a model that
                    takes bands of a DEM, "dem": a raster or folder of heights
                params: unused

            Returns:
                float32 (B, 1, H, W) or (1, H, W) for an array, (H, W) for a path, a dict by scene for a folder;
                0-1, of scenes in steps of 1/254, NaN where a scene has no data

            Raises:
                ValueError: a shape, type or number of bands that the model does not take, or values beyond 0-255
                GlidexpError: a scene that cannot be read, or a folder without any
            """
            told = model_input if isinstance(model_input, dict) else {"scene": model_input}
            if isinstance(model_input, dict) and not (isinstance(told.get("scene"), (str, Path)) and {*told} <= KEYS):
                raise ValueError(
                    f'a scene is given as {{"scene": PATH}}, with "dem": PATH and "sensor": NAME, not with '
                    f"{[*map(str, told)]}."
                )
            if isinstance(told.get("scene"), (str, Path)):
                from glidexp.mapping.arrays import probabilities_of

                also = {key: value for key, value in told.items() if key != "scene" and value is not None}
                return probabilities_of(self.bundle, Path(told["scene"]), **also)
            return self._of_array(np.asarray(model_input))

        def _of_array(self, image: np.ndarray) -> np.ndarray:
            import torch

            from glidexp.models.predictor import check_levels

            alone = image.ndim == 3
            if image.dtype != np.uint8:
                image = image.astype(np.float32)
            check_levels(image)
            batch = torch.from_numpy(np.ascontiguousarray(image[None] if alone else image))
            with torch.inference_mode():
                found: np.ndarray = self.predictor(batch).cpu().numpy()
            return found[0] if alone else found


mlflow.models.set_model(ReleasedLakeModel())
