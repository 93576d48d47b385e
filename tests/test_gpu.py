"""The road over a GPU: on the stand-in of `standin.py` everywhere, and the same tests on a real one where there is one.

`pytest -m gpu` on a machine with a GPU runs every test that needs it, these and those of other files.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from runs import small_config, undrawn
from standin import StandIn, standin
from test_loop import Blobs, Training, config
from test_watch import poison_gradient

from glidexp.config import AugmentationConfig, LossConfig
from glidexp.data.loader import Loader
from glidexp.data.store import TileStore
from glidexp.errors import RunFailed
from glidexp.mapping.network import predicting
from glidexp.mapping.raster import run_windows
from glidexp.mapping.windows import axis
from glidexp.models.hardware import failures_told
from glidexp.models.predictor import Predictor
from glidexp.models.resampled import resampling, scale_vector
from glidexp.models.told import with_told
from glidexp.models.tta import with_views
from glidexp.training.augmentation.augment import Augment
from glidexp.training.averages import Ema, renew_batch_statistics
from glidexp.training.checkpoint import Series
from glidexp.training.device import resolve
from glidexp.training.doctor import checks
from glidexp.training.evaluate import Evaluator
from glidexp.training.land_cover import confusion
from glidexp.training.losses import build_loss
from glidexp.training.parts import Parts
from glidexp.training.rescoring.adapt import Matched
from glidexp.training.run import run

EVERY_LOSS = LossConfig(bce=1.0, dice=1.0, focal=1.0, tversky=1.0, focal_tversky=1.0, lovasz=1.0, boundary=1.0)
EVERYTHING = AugmentationConfig(
    flip=True, rot90=True, affine_p=0.5, rotate_deg=15.0, color_p=0.5, brightness=0.2, contrast=0.2, saturation=0.2,
    hue=0.02, gain_p=0.5, gain=0.1, haze_p=0.5, haze=[0.0, 0.2], gsd_p=0.5, gsd_factor=[1.0, 2.0], blur_p=0.5,
    blur_sigma_px=[0.3, 1.2],
)  # fmt: skip
"""but noise, whose bits are others on a GPU"""
MEAN, STD = [60.0] * 3, [50.0] * 3


class Gpu:
    """Where a test runs; `mode` is None on a real GPU."""

    def __init__(self, mode: StandIn | None) -> None:
        self.mode = mode

    @contextmanager
    def unwaited(self) -> Iterator[None]:
        """What happens inside makes the host wait for nothing."""
        if self.mode is None:
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
            return
        before = len(self.mode.waits)
        yield
        assert not self.mode.waits[before:]


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[Gpu]:
    if request.param == "real":
        with pytest.MonkeyPatch.context() as patches:  # or convolutions would keep ten bits of a number
            patches.setattr(torch.backends.cudnn, "allow_tf32", False)
            yield Gpu(None)
        return
    with standin() as mode:
        yield Gpu(mode)


def everything(device: str, **values: Any) -> Training:
    """A training with every loss, augmentation and average, on tiles that are not taken in order."""
    training = Training(config(device=device, ema_decay=0.5, clip_norm=0.5, accumulate=2, **values), n=20)
    training.loss = EVERY_LOSS
    training.augment = Augment(EVERYTHING, mean=MEAN, std=STD, seed=1, dtype=training.runtime.dtype)
    training.ema = Ema(training.model, 0.5)
    return training


def weights(training: Training) -> dict[str, torch.Tensor]:
    assert training.ema is not None
    return {name: value.cpu() for name, value in training.ema.network().state_dict().items()}


def close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], gpu: Gpu) -> None:
    """To rounding on the stand-in; a real GPU adds up in another order, of which Adam makes up to a step each time.

    The bias before the norm has no gradient but rounding, and the norm's mean goes with it.
    """
    for name in ours.keys() - {"0.bias", "1.running_mean"}:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-3 if gpu.mode else 2e-2, rtol=1e-3, msg=name)


@pytest.mark.parametrize("resident", [False, True])
def test_training_there_is_training_here_and_no_step_waits(gpu: Gpu, resident: bool) -> None:
    here, there = everything("cpu"), everything("cuda")
    loader = there.loader
    there.loader = Loader(
        there.tiles, loader.rows, 4, seed=1, device=there.runtime.device, drop_last=True, resident=resident
    )
    inside, ends = ExitStack(), []

    def asked(step: int = 0) -> bool:
        """From the first step of an epoch to its last but one: buffers and constants are there by then."""
        if step % 3 == 1:
            inside.enter_context(gpu.unwaited())
        elif step % 3 == 2:
            inside.close()
            ends.append(step)
        return False

    there.signals.asked = asked  # type: ignore[method-assign]
    here.run()
    there.run()
    assert ends == [2, 5, 8]
    assert [one["train/loss"] for one in there.epochs] == pytest.approx(
        [one["train/loss"] for one in here.epochs], rel=2e-3 if gpu.mode else 2e-2
    )
    close(weights(there), weights(here), gpu)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_short_numbers_train_too_and_fp16_skips_what_overflows(gpu: Gpu, precision: str) -> None:
    training = everything("cuda", precision=precision, epochs=2)
    assert next(iter(training.loader.epoch(0))).image.is_cuda
    if precision == "fp16":
        poison_gradient(training, 2)  # of the second step
    seen, real = [], training.optimizer.step

    def step(*args: Any, **kwargs: Any) -> Any:
        before = [weight.detach().clone() for weight in training.model.parameters()]
        done = real(*args, **kwargs)
        seen.append(any(bool((a != b).any()) for a, b in zip(before, training.model.parameters(), strict=True)))
        return done

    training.optimizer.step = step  # type: ignore[method-assign]
    training.run()
    assert seen == ([True, False] + [True] * 4 if precision == "fp16" else [True] * 6)
    assert all(math.isfinite(one["train/loss"]) for one in training.epochs)
    assert training.scaler.get_scale() == (2.0**15 if precision == "fp16" else 1.0)


def parts_of(training: Training) -> Parts:
    network = torch.nn.Sequential(training.model[0], training.model[1], torch.nn.Dropout(0.3), *training.model[2:])
    training.model = network
    training.optimizer = type(training.optimizer)(network.parameters(), lr=0.01, fused=True)
    training.ema = Ema(network, 0.5)
    device, position = training.runtime.device, training.position
    return Parts(network, training.optimizer, training.scaler, device, position, ema=training.ema)


def test_a_run_goes_on_as_though_it_had_not_been_cut(gpu: Gpu, tmp_path: Path) -> None:
    """Dropout, optimizer, scale and averages come back. Bit for bit but for kernels that add up in any order."""
    whole, cut, after = (everything("cuda", epochs=4, precision="fp16") for _ in range(3))
    kept = [parts_of(one) for one in (whole, cut, after)]
    series = Series(tmp_path / "last.pt", config_id="one")
    for training, parts, stop in ((whole, kept[0], None), (cut, kept[1], 7), (after, kept[2], None)):
        if training is after:
            found = series.load()
            assert found is not None
            parts.restore(found)
            parts.restore_random()
        else:
            torch.manual_seed(3)
        training.run(stop_after=stop)
        if stop:
            assert training.position.step == 4
            series.save(parts.state())
            assert len(parts.state()["rng"]) == 2, "the GPU's random numbers are not kept"
            torch.rand(5, device="cuda")
    assert after.position.step == whole.position.step == 12
    assert after.scaler.state_dict() == whole.scaler.state_dict() != {}
    close(weights(after), weights(whole), gpu)


def tiles(n: int = 11) -> TileStore:
    return cast(TileStore, Blobs(n))


def test_scores_there_are_scores_here(gpu: Gpu) -> None:
    """Counts differ by the few pixels whose logit lies on the edge of a bin. The last batch is smaller."""
    network = with_views(copy.deepcopy(Training(config()).model), "flips")
    found = []
    for device in ("cpu", "cuda"):
        runtime = resolve(config(device=device))
        normalise = Augment(AugmentationConfig(), mean=MEAN, std=STD, seed=0)
        model = runtime.place(copy.deepcopy(network))
        seen: list[torch.Tensor] = []
        for resident in (False, True):
            evaluator = Evaluator(tiles(), np.arange(11), normalise, runtime, 4, resident=resident)
            if gpu.mode is not None:
                gpu.mode.waits.clear()
            evaluator.histograms(model)
            if gpu.mode is not None and device == "cuda":  # at its ends alone, however many batches there are
                assert len(gpu.mode.waits) == 2 + resident
            found.append(
                evaluator.histograms(model, sink=lambda _, bins, seen=seen: seen.append(bins.cpu())).astype(np.int64)
            )
        assert len(torch.cat(seen)) == 22
    total = found[0].sum()
    for one in found[1:]:
        assert one.sum() == total and np.abs(one - found[0]).sum() < 0.01 * total


def test_classes_are_counted_there_too(gpu: Gpu) -> None:
    network, store = torch.nn.Conv2d(3, 4, 1), tiles()
    store.classes = ["a", "b", "c", "d"]  # type: ignore[misc]
    normalise = Augment(AugmentationConfig(), mean=MEAN, std=STD, seed=0, classes=True)
    found = []
    for device in ("cpu", "cuda"):
        runtime = resolve(config(device=device))
        found.append(
            confusion(Evaluator(store, np.arange(11), normalise, runtime, 4), runtime.place(copy.deepcopy(network)))
        )
        loss = build_loss(LossConfig(bce=0.0, dice=0.0, cross_entropy=1.0))
        logits, label = torch.randn(2, 4, 8, 8, device=device), torch.ones(2, 1, 8, 8, device=device)
        assert loss(logits, label, label).isfinite()
    assert np.abs(found[1] - found[0]).sum() < 0.01 * found[0].sum()


def test_fitting_to_other_ground_works_there(gpu: Gpu) -> None:
    """A table of new values, batch statistics without a question to the device, images scaled to one distance."""
    runtime = resolve(config(device="cuda"))
    image = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8).to(
        runtime.device, memory_format=torch.channels_last
    )
    label, rows = torch.zeros(4, 16, 16, dtype=torch.uint8, device=runtime.device), torch.arange(4)
    normalise = Augment(AugmentationConfig(), mean=MEAN, std=STD, seed=0)
    swapped = np.tile(np.arange(256, dtype=np.uint8)[::-1], (3, 1)).copy()
    matched = Matched(normalise, swapped, runtime.device)(image, label, rows, 0)
    torch.testing.assert_close(matched.image, normalise(255 - image, label, rows, 0).image)
    network = runtime.place(Training(config()).model)
    average = torch.optim.swa_utils.AveragedModel(network)
    renew_batch_statistics(average, [matched.image], runtime, frozen=set())
    with gpu.unwaited():
        renew_batch_statistics(average, [matched.image] * 3, runtime, frozen=set())
    resampling(network, scaled_from=5)
    vectors = torch.tensor([scale_vector(gsd, 10.0) for gsd in (10.0, 20.0, 10.0, 5.0)])
    assert network(with_told(matched.image, vectors)).shape == (4, 1, 16, 16)


class Kept:
    """Work files in memory."""

    carry, rows, networks = None, 0, 0

    def __init__(self) -> None:
        self.written: list[np.ndarray] = []

    def write(self, name: str, first: int, rows: np.ndarray) -> None:
        self.written.append(rows.copy())

    def keep(self, *_: Any, **__: Any) -> None: ...


def test_a_map_made_there_is_the_map_made_here(gpu: Gpu) -> None:
    network, pixels = Training(config()).model.eval(), np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    found = []
    for device in ("cpu", "cuda"):
        predictor = Predictor(copy.deepcopy(network), mean=MEAN, std=STD, stride=8, smallest_px=8).to(device).eval()
        predictor.tell(gsd_m=10.0)
        place, files = torch.device(device), Kept()
        strips = iter([(0, pixels, np.ones(pixels.shape[:2], bool))])
        with predicting(place, resolve(config(device=device)).precision):
            run_windows(
                strips, axis(90, 32, 8, 8), axis(70, 32, 8, 8), predictor, cast(Any, files), cuts={1: 0.5},
                device=place, batch=4, step=lambda _: None,
            )  # fmt: skip
        found.append(np.concatenate([one for one in files.written if one.dtype == np.uint8], axis=None).astype(int))
    assert len(found[0]) == 2 * 90 * 70
    assert (np.abs(found[0] - found[1]) > 1).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_whole_run_goes_there_and_its_model_comes_back(gpu: Gpu, small_data: Path, tmp_path: Path) -> None:
    """Learning rates by depth, recomputing, averages, views, what is told, checkpoint, bundle, validity."""
    words = [
        "train.device=cuda", "train.compile=off", "train.ema_decay=0.9", "train.average_last=1", "train.tta=flips",
        "optimizer.layer_decay=0.8", "input.embed=sensor", "train.gradient_checkpointing=true",
        "train.epochs=1", "tracking.probe_tiles=1", "tracking.log_masks=false",
    ]  # fmt: skip
    with undrawn():
        outcome = run(small_config(small_data, tmp_path, *words), choices={})
    assert outcome.metrics["best_epoch"] == 1 and outcome.metrics["tiles/test"] > 0


def test_a_full_memory_is_told_in_one_line(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of ..."
        )

    monkeypatch.setattr("glidexp.training.run.fit", full)
    with pytest.raises(
        RunFailed, match=r"^memory is full: a smaller train\.batch_size .* \(CUDA out of memory[^\n]*\)$"
    ):
        run(small_config(small_data, tmp_path), choices={})


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_compiled_training_is_an_uncompiled_one_and_compiles_once() -> None:
    losses = []
    for compiled in ("off", "on"):
        training = everything("cuda", precision="bf16", compile=compiled, epochs=2)
        with torch._dynamo.config.patch(error_on_recompile=True):
            training.run()
        losses.append([one["train/loss"] for one in training.epochs])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.gpu
def test_a_memory_that_is_really_full_is_told() -> None:
    with pytest.raises(RunFailed, match=r"^memory is full: less \(CUDA out of memory"), failures_told("less"):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")


@pytest.mark.gpu
@pytest.mark.slow
def test_the_doctor_finds_a_machine_that_trains() -> None:
    findings = [*checks.devices("cuda"), *checks.trial("cuda")]
    assert not [one for one in findings if one.level == "fail"]
