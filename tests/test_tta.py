"""Mean of the views: by hand, turning with the image, carried by the bundle; a run's model gives what was scored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import small_config

from glidexp.config import Config, TrainConfig, Tta
from glidexp.data.prepare import prepare
from glidexp.errors import ConfigError, DataError
from glidexp.identity import config_id
from glidexp.models import graph
from glidexp.models.build import assemble
from glidexp.models.export import load_bundle, read_card, save_bundle
from glidexp.models.predictor import Predictor
from glidexp.models.tta import VIEWS, MeanOfViews, turned, turned_back, views_of, with_views
from glidexp.scoring.counts import histograms_of_bins, logit_bins
from glidexp.scoring.scores import read_scores
from glidexp.training.run import run

pytestmark = pytest.mark.usefixtures("plain_figures")


class Slope(torch.nn.Module):
    """Adds the column, left to right: not the same for a turned image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :1] + torch.arange(image.shape[-1], dtype=image.dtype)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    model = assemble("mobilenetv3", "fcn", in_channels=3)
    with torch.no_grad():  # moves the batch statistics, which would otherwise make all alike
        model.train()(torch.randn(4, 3, 64, 64))
    return model.eval()


def logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def test_mean_probability_of_hand() -> None:
    image = torch.zeros(1, 1, 1, 2)
    found = MeanOfViews(Slope(), Tta.flips)(image)
    # a pixel is met twice in column 0 and twice in column 1
    expected = logit((0.5 + 1 / (1 + np.exp(-1))) / 2)
    assert torch.allclose(found, torch.full((1, 1, 1, 2), expected))


def test_views_are_all_of_them_and_can_be_undone() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    seen = [turned(image, view) for view in VIEWS[Tta.d4]]
    assert len({tuple(view.flatten().tolist()) for view in seen}) == 8
    assert {tuple(view.shape[-2:]) for view in seen} == {(3, 4), (4, 3)}
    for view, picture in zip(VIEWS[Tta.d4], seen, strict=True):
        assert torch.equal(turned_back(picture, view), image)
    assert set(VIEWS[Tta.flips]) < set(VIEWS[Tta.d4])
    by_hand = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
    for view in VIEWS[Tta.flips]:
        assert any(torch.equal(turned(image, view), other) for other in by_hand)


@pytest.mark.parametrize("kind", [Tta.flips, Tta.d4])
def test_the_answer_turns_with_the_image(kind: Tta) -> None:
    model, image = network(), torch.randn(2, 3, 64, 96)
    averaged = with_views(model, kind)
    with torch.inference_mode():
        for view in VIEWS[kind]:
            assert torch.allclose(averaged(turned(image, view)), turned(averaged(image), view), atol=1e-5)
        alone = model(image.flip(-1)) - model(image).flip(-1)
    assert alone.abs().max() > 1e-2, "the network itself does not turn with the image"


def test_a_sure_view_cannot_outvote_the_others_and_nothing_overflows() -> None:
    class OneSure(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answers = iter([200.0, -1.0, -1.0, -1.0] + [-200.0] * 4)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.full_like(image, next(self.answers))

    model = MeanOfViews(OneSure(), Tta.flips)
    image = torch.zeros(1, 1, 2, 2)
    wrong = 1 / (1 + np.exp(1))
    assert torch.allclose(model(image), torch.tensor(logit((1 + 3 * wrong) / 4)))
    assert torch.isfinite(model(image)).all()


def test_none_is_the_network_itself() -> None:
    model = network()
    assert with_views(model, Tta.none) is model
    assert (views_of(model), views_of(with_views(model, "d4"))) == ("none", "d4")
    with pytest.raises(ConfigError, match="Allowed: none, flips, d4"):
        with_views(model, "d5")


def test_a_bundle_carries_its_views(tmp_path: Path) -> None:
    model = network()
    card = {
        "architecture": {"backbone": "mobilenetv3", "decoder": "fcn", "in_channels": 3},
        "mean": [120.0, 125.0, 123.0],
        "std": [75.0, 74.0, 76.0],
    }
    save_bundle(tmp_path / "one", model, card=card)
    save_bundle(tmp_path / "views", with_views(model, "d4"), card=card)
    assert "tta" not in read_card(tmp_path / "one") and read_card(tmp_path / "views")["tta"] == "d4"
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("one", "views")]
    assert weights[0] == weights[1]
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    predictor = load_bundle(tmp_path / "views")
    with torch.inference_mode():
        expected = torch.sigmoid(with_views(model, "d4")(predictor.normalise(image)))
        assert torch.equal(predictor(image), expected)
        assert torch.allclose(predictor(image.flip(-1)), predictor(image).flip(-1), atol=1e-5)
    save_bundle(tmp_path / "newer", model, card=card | {"tta": "d5"})
    with pytest.raises(DataError, match="tta='d5'"):
        load_bundle(tmp_path / "newer")


def test_views_are_another_run_and_none_is_the_old_one() -> None:
    ids = {kind: config_id(Config(train=TrainConfig(tta=kind)), recipe="r") for kind in Tta}
    assert len(set(ids.values())) == 3
    assert ids[Tta.none] == config_id(Config(), recipe="r")


@pytest.mark.slow
def test_the_logged_model_gives_what_was_scored(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    less = ["train.epochs=1", "tracking.probe_tiles=0", "tracking.log_masks=false"]
    config = small_config(small_data, tmp_path, "train.tta=d4", *less)
    finished = run(config, choices={})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    model = mlflow.pyfunc.load_model(f"runs:/{finished.run_id}/model")
    inner = model.unwrap_python_model().predictor.net
    assert views_of(inner) == "d4"
    folder = mlflow.artifacts.download_artifacts(f"runs:/{finished.run_id}/scores.parquet")
    table, kept = read_scores(Path(folder))
    kept = kept[(table["split"] == "test").to_numpy()]
    tiles = prepare(config.dataset, 64, small_data, progress=False)
    rows = tiles.rows("test")
    assert table.loc[table["split"] == "test", "tile"].tolist() == tiles.index.iloc[rows]["tile"].tolist()
    images = tiles.images[rows].transpose(0, 3, 1, 2).astype(np.float32)
    label = torch.from_numpy(tiles.labels[rows])

    def histograms(probability: np.ndarray) -> np.ndarray:
        bins = logit_bins(torch.logit(torch.from_numpy(probability).double()).float())
        return histograms_of_bins(bins, label).numpy()

    pixels = kept.sum()
    assert np.abs(histograms(model.predict(images)) - kept).sum() < 0.002 * pixels
    model.unwrap_python_model().predictor.net = inner.module
    assert np.abs(histograms(model.predict(images)) - kept).sum() > 0.02 * pixels, "one view gives something else"


@pytest.mark.slow
def test_the_views_are_in_the_graphs_that_need_no_package(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    one = torch.nn.Conv2d(3, 1, 3, stride=1, padding=1)  # an uneven kernel answers otherwise to each view
    given = {"mean": [100.0] * 3, "std": [50.0] * 3, "stride": 32, "smallest_px": 32}
    predictor, plain = (Predictor(model, **given).eval() for model in (with_views(one, Tta.d4), one))
    sizes = graph.Sizes(32, 32, None)
    program = graph.export(predictor, sizes)
    graph.save_onnx(program, sizes, {}, tmp_path / "model.onnx")
    graph.save_program(program, tmp_path / "model.pt2")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    image = 255 * torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected, other = predictor(image), plain(image)
        assert torch.allclose(graph.load_program(tmp_path / "model.pt2")(image), expected, atol=1e-6)
    assert np.allclose(session.run(None, {graph.IMAGE: image.numpy()})[0], expected.numpy(), atol=1e-5)
    assert (expected - other).abs().max() > 0.01
