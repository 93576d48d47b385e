"""The model as MLflow keeps it: saved from a script, loaded in a fresh place, equal to the network, nothing pickled."""

from pathlib import Path

import numpy as np
import pytest
import torch

from glidexp.config import BackboneConfig, DecoderConfig, InitConfig
from glidexp.models.build import build_model
from glidexp.models.export import load_bundle, save_bundle
from glidexp.tracking.model import write_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),  # of mlflow's own import
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle and the MLflow model made of it, 4 bands."""
    folder = tmp_path_factory.mktemp("mlflow")
    torch.manual_seed(0)
    net = build_model(BackboneConfig(name="mobilenetv3"), DecoderConfig(name="unet"), InitConfig(), in_channels=4)
    card = {
        "architecture": {"backbone": "mobilenetv3", "decoder": "unet", "in_channels": 4},
        "mean": [100.0, 110.0, 120.0, 130.0],
        "std": [50.0, 50.0, 60.0, 60.0],
    }
    bundle = save_bundle(folder / "bundle", net, card=card)
    write_model(folder / "model", bundle, in_channels=4, pip_requirements=["torch", "safetensors"])
    return bundle, folder / "model"


def test_the_loaded_model_equals_the_network_for_any_size(made: tuple[Path, Path]) -> None:
    import mlflow.pyfunc

    bundle, folder = made
    model = mlflow.pyfunc.load_model(str(folder))
    predictor = load_bundle(bundle)
    for shape in ((1, 4, 64, 64), (3, 4, 128, 96), (2, 4, 37, 50)):
        image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
        with torch.inference_mode():
            expected = predictor(torch.from_numpy(image)).numpy()
        probability = model.predict(image)
        assert probability.dtype == np.float32 and probability.shape == (shape[0], 1, *shape[2:])
        np.testing.assert_array_equal(probability, expected)
    with pytest.raises(mlflow.exceptions.MlflowException):
        model.predict(image[:, :3])
    with pytest.raises(ValueError, match=r"holds values of 0 to 255, not of 0 to 25500: stretch a scene of 16 bit"):
        model.predict(image * 100)


def test_nothing_in_the_model_is_pickled(made: tuple[Path, Path]) -> None:
    names = [path.name for path in made[1].rglob("*") if path.is_file()]
    assert "weights.safetensors" in names and "pyfunc_model.py" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin"))]
    for path in made[1].rglob("*"):
        assert not (path.is_file() and path.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05")), path


def test_whole_numbers_need_a_cast_because_a_signature_holds_one_type(made: tuple[Path, Path]) -> None:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(made[1]))
    image = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32), dtype=np.uint8)
    with pytest.raises(mlflow.exceptions.MlflowException, match="uint8 does not match expected dtype float32"):
        model.predict(image)
    expected = model.predict(image.astype(np.float32))
    np.testing.assert_array_equal(model.unwrap_python_model().predict(None, image), expected)
