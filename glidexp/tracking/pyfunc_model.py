"""The script that MLflow stores with a model and runs to load it (models-from-code): no pickle, a bundle beside it.

Imported by nothing; `tracking.model` hands its path to MLflow. Needs the package `glidexp` where the model is loaded.
"""

from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel
from mlflow.pyfunc.model import PythonModelContext


class LakeModel(PythonModel):
    """Image batches in, lake probability out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the bundle that lies among the model's artifacts. MLflow demands the name `context`."""
        from glidexp.models.export import load_bundle

        self.predictor = load_bundle(context.artifacts["bundle"])

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Lake probability.

        MLflow's signature holds one type of number, float32: give `mlflow.pyfunc.load_model(...).predict` images after
        `.astype(np.float32)`. Called past the signature (`unwrap_python_model()`), uint8 is taken as it is.

        Args:
            context: unused
            model_input: float32 or uint8 (B, C, H, W) in 0-255, any B, H and W
            params: unused

        Returns:
            float32 (B, 1, H, W) in 0-1

        Raises:
            ValueError: another number of bands, or values beyond 0-255
        """
        import torch

        from glidexp.models.predictor import check_levels

        check_levels(np.asarray(model_input))
        image = torch.from_numpy(np.ascontiguousarray(model_input))
        with torch.inference_mode():
            probability: np.ndarray = self.predictor(image).cpu().numpy()
        return probability


mlflow.models.set_model(LakeModel())
