"""The loader: right bytes, an order that is a function of (seed, epoch), weights, and threads that end."""

import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from glidexp.config import Resident
from glidexp.data.loader import Batch, Loader, order
from glidexp.data.resident import stays
from glidexp.errors import ConfigError


@dataclass
class Memory:
    """A store in memory: the two arrays are all that the loader needs."""

    images: np.ndarray
    labels: np.ndarray


def memory(n: int = 23, px: int = 8, channels: int = 3) -> Memory:
    rng = np.random.default_rng(0)
    return Memory(
        rng.integers(0, 256, (n, px, px, channels)).astype(np.uint8),
        rng.choice([0, 1, 255], (n, px, px)).astype(np.uint8),
    )


@pytest.mark.parametrize("px", [8, 5])
@pytest.mark.parametrize("weights", [None, np.arange(17.0)])
def test_resident_tiles_make_the_same_batches(px: int, weights: np.ndarray | None) -> None:
    """Order, pixels, layout, parts and skipping: what a batch holds does not depend on where tiles lie."""
    store, rows = memory(px=px), np.arange(3, 20)[::-1]
    for part in ((0, 1), (1, 2)):
        whole = {"seed": 1, "weights": weights, "drop_last": True, "part": part}
        ring, there = Loader(store, rows, 4, **whole), Loader(store, rows, 4, **whole, resident=True)
        for epoch, skip in ((0, 0), (1, 2), (2, len(ring))):
            for one, other in zip(ring.epoch(epoch, skip), there.epoch(epoch, skip), strict=True):
                assert torch.equal(one.rows, other.rows) and torch.equal(one.again, other.again)
                assert torch.equal(one.image, other.image) and torch.equal(one.label, other.label)
                assert one.image.stride() == other.image.stride()
    kept = Loader(store, rows, 4, shuffle=False, resident=True)
    assert [len(batch.rows) for batch in kept.epoch(0)] == [4, 4, 4, 4, 1]
    assert flat(kept, 0) == rows.tolist()


def test_what_stays_on_the_device(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """`auto` keeps tiles on a GPU where they take at most half of what is free; a CPU has them anyway."""
    store, cpu, gpu = memory(n=10), torch.device("cpu"), torch.device("cuda:0")
    nbytes = store.images.nbytes + store.labels.nbytes
    for free, fits in ((2 * nbytes, True), (2 * nbytes - 2, False)):
        monkeypatch.setattr("glidexp.data.resident.free_bytes", lambda _, free=free: free)
        assert stays(Resident.auto, store, 10, gpu, "tiles") is fits
        assert stays(Resident.on, store, 10, gpu, "tiles")
        assert not stays(Resident.auto, store, 10, cpu, "tiles") and not stays(Resident.off, store, 10, gpu, "tiles")
    monkeypatch.setattr("glidexp.data.resident.free_bytes", lambda _: nbytes - 1)
    with pytest.raises(ConfigError, match=r"train\.resident=on: .* do not fit"):
        stays(Resident.on, store, 10, cpu, "tiles")


def seen(loader: Loader, epoch: int, skip: int = 0) -> list[list[int]]:
    return [batch.rows.tolist() for batch in loader.epoch(epoch, skip)]


def flat(loader: Loader, epoch: int) -> list[int]:
    return [row for batch in seen(loader, epoch) for row in batch]


@pytest.mark.parametrize("px", [8, 5])  # 5: rows that are no whole number of 8-byte words
def test_batches_hold_their_rows(px: int) -> None:
    store = memory(px=px)
    loader = Loader(store, np.arange(3, 20), 4, seed=1)
    for batch in loader.epoch(0):
        rows = batch.rows.numpy()
        assert batch.image.dtype == torch.uint8 and batch.image.shape == (len(rows), 3, px, px)
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(batch.image.permute(0, 2, 3, 1).numpy(), store.images[rows])
        assert np.array_equal(batch.label.numpy(), store.labels[rows])


def test_each_row_once_and_another_order_each_epoch_and_seed() -> None:
    loader = Loader(memory(), np.arange(23), 4, seed=1)
    first, second = (flat(loader, epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second and first != flat(Loader(memory(), np.arange(23), 4, seed=2), 0)
    assert first == flat(Loader(memory(), np.arange(23), 7, seed=1), 0)


def test_the_order_is_frozen() -> None:
    """Raw Philox words do not change with NumPy: this order must not either, or resumed runs would differ."""
    assert order(8, seed=3, epoch=5, weights=None).tolist() == order(8, seed=3, epoch=5, weights=None).tolist()
    words = np.random.Philox(key=np.array([3, 5], dtype=np.uint64)).random_raw(8).tolist()
    assert order(8, seed=3, epoch=5, weights=None).tolist() == sorted(range(8), key=words.__getitem__)


@pytest.mark.parametrize("skip", [0, 1, 3, 6, 7])
def test_skip_resumes(skip: int) -> None:
    loader = Loader(memory(), np.arange(23), 4, seed=1)
    assert seen(loader, 2, skip) == seen(loader, 2)[skip:]


def test_length_and_last_batch() -> None:
    keep = Loader(memory(), np.arange(23), 4)
    drop = Loader(memory(), np.arange(23), 4, drop_last=True)
    assert (len(keep), len(drop)) == (6, 5)
    assert [len(b) for b in seen(keep, 0)] == [4, 4, 4, 4, 4, 3]
    assert [len(b) for b in seen(drop, 0)] == [4] * 5
    assert flat(Loader(memory(), np.array([5, 2, 9]), 2, shuffle=False), 0) == [5, 2, 9]


def test_a_batch_stays_valid_while_the_next_is_looked_at() -> None:
    store = memory(n=40)
    loader = Loader(store, np.arange(40), 4, seed=1)
    before: Batch | None = None
    for epoch in (0, 1):  # also across epochs
        for batch in loader.epoch(epoch):
            for one in (before, batch):
                if one is not None:
                    assert np.array_equal(one.image.permute(0, 2, 3, 1).numpy(), store.images[one.rows.numpy()])
            before = batch


@pytest.mark.parametrize("skip", [0, 3])
def test_a_batch_says_how_often_the_epoch_gave_its_tiles_before(skip: int) -> None:
    loader = Loader(memory(), np.arange(23), 4, seed=1, weights=np.array([9.0] * 3 + [1.0] * 20))
    came = Counter(row for batch in seen(loader, 5)[:skip] for row in batch)
    most = 0
    for batch in loader.epoch(5, skip):
        for row, again in zip(batch.rows.tolist(), batch.again.tolist(), strict=True):
            assert again == came[row]
            came[row] += 1
            most = max(most, again)
    assert most > 1
    plain = Loader(memory(), np.arange(23), 4, seed=1)
    assert not any(batch.again.any() for batch in plain.epoch(0))


def test_weighted_draw_keeps_every_groups_share() -> None:
    weights = np.array([3.0] * 10 + [1.0] * 20 + [0.0] * 5)
    loader = Loader(memory(35), np.arange(35), 8, seed=1, weights=weights)
    total: Counter[int] = Counter()
    for epoch in range(40):
        drawn = Counter(flat(loader, epoch))
        assert sum(drawn.values()) == 35
        # 35 * 30/50 = 21 draws of the first ten, 14 of the next twenty, none of the last
        assert sum(drawn[i] for i in range(10)) == 21 and sum(drawn[i] for i in range(10, 30)) == 14
        assert all(drawn[i] in (2, 3) for i in range(10)) and all(drawn[i] in (0, 1) for i in range(10, 30))
        total.update(drawn)
    # leftover fractions wander: over 40 epochs each row nears its share of 84 and 28
    assert all(abs(total[i] - 84) < 15 for i in range(10)) and all(abs(total[i] - 28) < 15 for i in range(10, 30))


def test_equal_weights_draw_each_row_once() -> None:
    assert sorted(order(50, seed=0, epoch=0, weights=np.full(50, 0.1)).tolist()) == list(range(50))


def test_threads_end() -> None:
    before = threading.active_count()
    loader = Loader(memory(), np.arange(23), 2)
    for _ in loader.epoch(0):
        break
    stopped = loader.epoch(0)
    next(stopped)
    stopped.close()
    assert len(seen(loader, 1)) == 12
    assert threading.active_count() == before


def test_two_epochs_at_once_do_not_share_buffers() -> None:
    store = memory()
    loader = Loader(store, np.arange(23), 4, seed=1)
    for a, b in zip(loader.epoch(0), loader.epoch(1), strict=True):
        for one in (a, b):
            assert np.array_equal(one.label.numpy(), store.labels[one.rows.numpy()])


def test_an_error_in_the_thread_reaches_the_consumer() -> None:
    loader = Loader(memory(), np.array([0, 1, 99]), 2, shuffle=False)  # row 99 does not exist
    before = threading.active_count()
    with pytest.raises(IndexError):
        seen(loader, 0)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("rows", "batch", "more"),
    [
        ([], 4, {}),
        ([1, 2], 0, {}),
        ([1, 2], 4, {"drop_last": True}),
        ([1, 2], 1, {"weights": np.array([1.0])}),
        ([1, 2], 1, {"weights": np.array([0.0, 0.0])}),
        ([1, 2], 1, {"weights": np.array([1.0, -1.0])}),
    ],
)
def test_impossible_settings_are_refused(rows: list[int], batch: int, more: dict) -> None:
    with pytest.raises(ConfigError):
        Loader(memory(), np.array(rows, dtype=np.int64), batch, **more)


@pytest.mark.gpu
def test_batches_on_the_gpu_hold_their_rows() -> None:
    store = memory(n=200, px=64)
    loader = Loader(store, np.arange(200), 8, seed=1, device="cuda")
    for epoch in range(3):
        before = None
        for batch in loader.epoch(epoch):
            assert batch.image.is_cuda and batch.image.is_contiguous(memory_format=torch.channels_last)
            for one in (before, batch):
                if one is not None:
                    rows = one.rows.numpy()
                    assert np.array_equal(one.image.permute(0, 2, 3, 1).cpu().numpy(), store.images[rows])
                    assert np.array_equal(one.label.cpu().numpy(), store.labels[rows])
            before = batch
