"""What is drawn where, in which colour."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glidexp.scoring import figures, plots
from glidexp.scoring.counts import BINS


def tile(px: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.zeros((px, px), dtype=np.uint8)
    truth[10:30, 10:40] = 1
    truth[-8:] = 255
    probability = np.zeros((px, px), dtype=np.float32)
    probability[15:35, 10:40] = 0.9
    return rng.integers(0, 256, (px, px, 3), dtype=np.uint8), truth, probability


def histogram() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.multinomial(9000, np.ones(BINS) / BINS), rng.multinomial(900, np.arange(BINS) / 32640)])


def test_overlay_gives_each_kind_of_pixel_its_colour() -> None:
    image = np.zeros((16, 4, 3), dtype=np.uint8)
    truth, predicted = np.zeros((16, 4), dtype=np.uint8), np.zeros((16, 4), dtype=bool)
    truth[:4, 1:3], predicted[:4, 2:] = 1, True
    valid = np.ones((16, 4), dtype=bool)
    valid[8:] = False
    drawn = figures.error_overlay(image, truth, predicted, valid)
    assert drawn.dtype == np.uint8 and drawn.shape == image.shape
    assert tuple(drawn[0, 0]) == (150, 150, 150)  # the image itself, in grey
    assert tuple(drawn[0, 1]) == figures.MISS and tuple(drawn[0, 3]) == figures.FALSE_ALARM
    np.testing.assert_allclose(drawn[0, 2], 0.9 * np.array(figures.HIT) + 0.1 * 150, atol=1)
    assert {tuple(pixel) for pixel in drawn[8:].reshape(-1, 3)} == {figures.INVALID, (110, 110, 110)}


def test_hits_false_alarms_misses_and_the_image_are_told_apart_in_grey() -> None:
    """Lightness (ITU-R BT.601, what Pillow's `L` is) of each kind on black and on white ground."""
    truth, predicted = np.array([[1, 0, 1, 0]], dtype=np.uint8), np.array([[True, True, False, False]])
    grounds = [np.full((1, 4, 3), value, dtype=np.uint8) for value in (0, 255)]
    light = [
        np.asarray(Image.fromarray(figures.error_overlay(one, truth, predicted)).convert("L")).astype(int)[0]
        for one in grounds
    ]
    hit, alarm, miss, image = np.array(light).T
    assert hit.max() + 25 < alarm.min() and alarm.max() + 25 < image.min() and image.max() + 25 < miss.min()
    differing = figures.difference_overlay(grounds[0], truth, predicted, ~predicted)
    right, wrong = (np.dot(differing[0, place], (0.299, 0.587, 0.114)) for place in (2, 0))
    assert right + 25 < wrong, "the one and the other are right"


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("px", [32, 64, 300])
def test_grid_takes_any_size_and_number_of_bands(px: int, bands: int) -> None:
    image, truth, probability = tile(px)
    image = np.repeat(image[..., :1], bands, axis=2)
    grid = figures.probe_grid([image], [truth], [probability], 0.5, ["t"], panel_px=64)
    assert grid.dtype == np.uint8 and grid.ndim == 3 and grid.shape[2] == 3


def test_grid_shows_image_truth_prediction_and_error_in_its_panels() -> None:
    image, truth, probability = tile()
    grid = figures.probe_grid([image, image], [truth, truth], [probability, probability], 0.5, ["a", "b"], panel_px=64)
    top, left = figures._HEAD + figures._LINE, figures._MARGIN
    panels = [
        grid[top : top + 64, left + i * (64 + figures._GAP) : left + i * (64 + figures._GAP) + 64] for i in range(4)
    ]
    np.testing.assert_array_equal(panels[0], image)
    np.testing.assert_array_equal(panels[1], figures.truth_picture(truth))
    np.testing.assert_array_equal(panels[2], figures.probability_picture(probability, 0.5))
    np.testing.assert_array_equal(panels[3], figures.error_overlay(image, truth, probability >= 0.5, truth <= 1))
    second = top + 64 + figures._LINE + figures._GAP
    np.testing.assert_array_equal(grid[second : second + 64, left : left + 64], image)


def test_the_legend_has_a_scale_of_probability_and_hatching() -> None:
    image, truth, probability = tile()
    grid = figures.probe_grid([image], [truth], [probability], 0.5, ["a"])
    foot = grid[-figures._FOOT :].reshape(-1, 3)
    seen = {tuple(colour) for colour in foot.tolist()}
    assert {figures.LAND, figures.LAKE, figures.HIT, figures.FALSE_ALARM, figures.MISS, figures.INVALID} <= seen
    assert (110, 110, 110) in seen, "what is not valid is hatched, in the legend too"
    assert (grid[-figures._FOOT :, [0, -1]] == 255).all(), "the legend has room"


def test_rim_follows_the_threshold_and_nan_is_drawn_as_land() -> None:
    _, _, probability = tile()
    for threshold, expected in ((0.5, 2 * 20 + 2 * 30 - 4), (0.95, 0)):
        drawn = figures.probability_picture(probability, threshold)
        assert (drawn == figures.OUTLINE).all(axis=2).sum() == expected
    probability[:] = np.nan
    assert (figures.probability_picture(probability, 0.5) == figures.LAND).all()


def test_a_long_title_keeps_what_tells_tiles_apart_and_its_counts() -> None:
    end = "_r0001_c0002 · false 12,345 px · missed 9 px"
    shown = figures._shortened("S2B_MSIL1C_20210815T045659_N0301_R119_T45RTM_20210815T070512" + end, 560)
    assert shown.startswith("…") and shown.endswith(end)
    assert figures._shortened("short", 560) == "short"


def test_inputs_are_left_alone() -> None:
    image, truth, probability = tile()
    kept = [part.copy() for part in (image, truth, probability)]
    figures.probe_grid([image], [truth], [probability], 0.5, ["t"])
    for part, before in zip((image, truth, probability), kept, strict=True):
        np.testing.assert_array_equal(part, before)


def test_png_of_an_array_is_exact_and_alone_in_its_folder(tmp_path: Path) -> None:
    image, _, _ = tile(300)
    path = figures.save_png(image, tmp_path / "new" / "noise.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    assert [entry.name for entry in path.parent.iterdir()] == ["noise.png"]


@pytest.mark.parametrize("hist", [histogram(), np.zeros((2, BINS), dtype=np.int64), histogram() * [[1], [0]]])
@pytest.mark.parametrize("threshold", [0.4, 0.0, 1.0, 0.9999999])
def test_plots_draw_with_and_without_lakes(hist: np.ndarray, threshold: float) -> None:
    naive = {"index_threshold": (0.5, 0.3), "background": (0.0, float("nan"))}
    for figure in (
        plots.pr_figure(hist, threshold, naive=naive),
        plots.reliability_figure(hist, title="val"),
        plots.reliability_figure(hist, temperature=2.5),
    ):
        picture = Image.open(io.BytesIO(figures.png_bytes(figure)))
        assert picture.format == "PNG" and min(picture.size) > 300


def test_pr_plot_marks_the_point_of_the_threshold() -> None:
    axes = plots.pr_figure(histogram(), 0.5).axes[0]
    at_half = next(line for line in axes.lines if line.get_label() == "threshold 0.5")
    hist = histogram()
    true, false = hist[1, 128:].sum(), hist[0, 128:].sum()
    assert at_half.get_xdata()[0] == pytest.approx(true / hist[1].sum())
    assert at_half.get_ydata()[0] == pytest.approx(true / (true + false))
