"""Batches from a tile store: a thread copies the rows of the next batches into a ring of reused buffers.

The copy is one `index_select(out=)` from the memory map, so a batch costs little more than moving its bytes; worker
processes would only add transport. The order of an epoch is a function of (seed, epoch) alone, so a run resumes
anywhere with `skip`.

Tiles that fit stay in a GPU's memory (`resident`) and are gathered there; else pinned buffers are copied beside the
step. Order and batches are the same on every road.
"""

import mmap
import os
import queue
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from glidexp.data.order import Rows, order, times_before
from glidexp.data.resident import Arrays, ResidentTiles
from glidexp.errors import ConfigError
from glidexp.wording import does, many

HELD = 2
"""batches a consumer may look at: the current and the one before"""
AHEAD = {"cpu": 1, "cuda": 2}
"""batches made before they are asked for; on a CPU every buffer more is one more that the caches must hold"""


@dataclass(slots=True)
class Batch:
    """Views of reused buffers: valid until the batch after the next one is asked for."""

    image: torch.Tensor
    """(B, C, H, W) uint8, channels_last, on the loader's device"""
    label: torch.Tensor
    """(B, H, W) uint8 of 0, 1, 255, on the loader's device"""
    rows: torch.Tensor
    """(B,) int64 rows of the store, on the CPU"""
    again: torch.Tensor
    """(B,) int64 on the CPU: how often the epoch gave each of them before; 0 without weights"""


@dataclass(slots=True)
class _Slot:
    """One place of the ring: a host buffer and, on a GPU, its twin there with the events that guard both."""

    host_image: torch.Tensor
    host_label: torch.Tensor
    image: torch.Tensor
    label: torch.Tensor
    filled: torch.cuda.Event | None
    released: torch.cuda.Event | None


@dataclass(slots=True)
class _Ring:
    """The buffers between two epochs: kept, since fresh memory costs a page fault every 4 KiB."""

    slots: list[_Slot]
    held: list[_Slot]
    """still looked at by who consumed the last epoch, oldest first"""


class Loader:
    """Batches of chosen rows, epoch by epoch."""

    def __init__(
        self,
        store: Arrays,
        rows: Rows,
        batch_size: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        weights: npt.NDArray[np.float64] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        part: tuple[int, int] = (0, 1),
        resident: bool = False,
    ) -> None:
        """Prepares the order; buffers are made by `epoch`.

        Args:
            store: a TileStore or anything with `images` (N, H, W, C) and `labels` (N, H, W), uint8
            rows: (n,) rows of the store that an epoch is drawn from
            batch_size: tiles a batch
            seed: with the epoch's number the only source of the order
            device: where image and label of a batch lie
            weights: (n,) relative frequency of each row, see `order`; needs shuffle
            shuffle: False gives the rows as they are
            drop_last: leave a last batch of fewer tiles out
            part: (i, n): of each batch, the i-th of n equal parts, for n processes that share it; needs drop_last
            resident: copy the rows to the device once and gather batches there; same batches, bit for bit

        Raises:
            ConfigError: no rows, a batch below 1 or larger than what is left, a batch that cannot be divided, weights
                that do not fit
        """
        if batch_size < 1:
            raise ConfigError(f"train.batch_size={batch_size} must be 1 or more.")
        if batch_size % part[1]:
            raise ConfigError(
                f"train.batch_size={batch_size} is shared by {many(part[1], 'process')}: give a multiple of {part[1]}."
            )
        if part[1] > 1 and not drop_last:
            raise ValueError("parts of a last batch of fewer tiles would not be equal: drop_last is needed")
        if len(rows) == 0:
            raise ConfigError("there are no tiles to load: look at the split and at sensor_mix.")
        if drop_last and len(rows) < batch_size:
            raise ConfigError(
                f"train.batch_size={batch_size} is more than the {many(len(rows), 'tile')} there "
                f"{does(len(rows), 'are')}: lower it."
            )
        if weights is not None:
            weights = np.asarray(weights, dtype=np.float64)
            if not shuffle or len(weights) != len(rows) or not np.isfinite(weights).all() or weights.min() < 0:
                raise ConfigError("sampling weights need shuffle, one finite value a row and none below 0.")
            if weights.sum() == 0:
                raise ConfigError("sensor_mix.weights are all 0: give at least one sensor a weight above 0.")
        self.rows = np.ascontiguousarray(rows, dtype=np.int64)
        self.batch_size, self.seed, self.weights = batch_size, seed, weights
        self.shuffle, self.drop_last = shuffle, drop_last
        self.own_size = batch_size // part[1]
        self._own = slice(part[0] * self.own_size, (part[0] + 1) * self.own_size)
        self.device = _with_index(torch.device(device))
        self.store = store
        n, height, width, channels = store.images.shape
        self._tile = (height, width, channels)
        self._images = _as_words(store.images, n)
        self._labels = _as_words(store.labels, n)
        # a first pass is bound by page faults and by the disk, later ones only where memory is too small to keep all
        self._cold = True
        self._ring: _Ring | None = None
        self._keeps = 2 * (store.images.nbytes + store.labels.nbytes) < _memory_bytes()
        self._resident = ResidentTiles(self._images, self._labels, self.rows, self.device) if resident else None

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def epoch_rows(self, epoch: int) -> Rows:
        """Rows in the order in which epoch `epoch` gives them, the last incomplete batch included."""
        return self.rows[self._positions(epoch)]

    def _positions(self, epoch: int) -> Rows:
        """Places among `rows`, in the order of an epoch."""
        if not self.shuffle:
            return np.arange(len(self.rows))
        return order(len(self.rows), seed=self.seed, epoch=epoch, weights=self.weights)

    def _again(self, drawn: Rows, skip: int) -> Iterator[torch.Tensor]:
        """How often the tiles of each batch came before in an order."""
        before = np.zeros_like(drawn) if self.weights is None else times_before(drawn)
        yield from map(torch.from_numpy, self._batches(before, skip))

    def _batches(self, drawn: Rows, skip: int) -> list[Rows]:
        """This process's part of each batch of an order."""
        whole = [drawn[i * self.batch_size : (i + 1) * self.batch_size] for i in range(skip, len(self))]
        return [batch[self._own] for batch in whole]

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of one epoch, the first `skip` of them left out.

        Buffers are reused: a batch is valid until the batch after the next one is asked for. Closing the generator (or
        leaving its for loop) stops the thread; an error in the thread is raised here.
        """
        if self._resident is not None:
            yield from self._gathered(self._resident, epoch, skip)
            return
        drawn = self.epoch_rows(epoch)
        batches, again = self._batches(drawn, skip), self._again(drawn, skip)
        free: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        ready: queue.SimpleQueue[tuple[_Slot, Batch] | BaseException | None] = queue.SimpleQueue()
        ring, self._ring = self._ring or self._new_ring(), None
        for slot in ring.slots:
            if not any(slot is other for other in ring.held):
                free.put(slot)
        stream = self._copy_stream()
        thread = threading.Thread(target=self._fill, args=(batches, free, ready, stream), name="loader", daemon=True)
        thread.start()
        try:
            while True:
                if len(ring.held) == HELD:
                    free.put(_release(ring.held.pop(0), self.device))
                item = ready.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                slot, batch = item
                batch.again = next(again)
                if slot.filled is not None:
                    torch.cuda.current_stream(self.device).wait_event(slot.filled)
                ring.held.append(slot)
                yield batch
        finally:
            free.put(None)
            thread.join()
            if stream is not None:  # what uses the ring next must come after the copies into it
                torch.cuda.current_stream(self.device).wait_stream(stream)
            self._ring = ring

    def _gathered(self, tiles: ResidentTiles, epoch: int, skip: int) -> Iterator[Batch]:
        """Batches of tiles that are on the device: no thread, no ring, nothing to wait for."""
        drawn = self._positions(epoch)
        batches, again = self._batches(drawn, skip), self._again(drawn, skip)
        if not batches:
            return
        index, at = tiles.index(np.concatenate(batches)), 0
        for positions in batches:
            image, label = tiles.gather(index[at : at + len(positions)])
            at += len(positions)
            batch = self._batch(image, label, torch.from_numpy(self.rows[positions]))
            batch.again = next(again)
            yield batch

    def _fill(
        self,
        batches: list[Rows],
        free: "queue.SimpleQueue[_Slot | None]",
        ready: "queue.SimpleQueue[tuple[_Slot, Batch] | BaseException | None]",
        stream: torch.cuda.Stream | None,
    ) -> None:
        """The thread: fills slots in the order of the batches until they end or None arrives in `free`."""
        try:
            advise, self._cold = self._cold or not self._keeps, False
            if advise and batches:
                self._will_need(batches[0])
            for position, rows in enumerate(batches):
                if advise and position + 1 < len(batches):
                    self._will_need(batches[position + 1])
                slot = free.get()
                if slot is None:
                    return
                ready.put((slot, self._copy(slot, torch.from_numpy(rows), stream)))
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  handed to the consumer, who raises it
            ready.put(error)

    def _copy(self, slot: _Slot, rows: torch.Tensor, stream: torch.cuda.Stream | None) -> Batch:
        """Fills a slot with rows and gives the batch that looks at it."""
        n = len(rows)
        if slot.filled is not None:
            slot.filled.synchronize()  # the pinned buffer may still be on its way to the device
        torch.index_select(self._images, 0, rows, out=slot.host_image[:n])
        torch.index_select(self._labels, 0, rows, out=slot.host_label[:n])
        if stream is not None and slot.filled is not None and slot.released is not None:
            with torch.cuda.stream(stream):
                stream.wait_event(slot.released)
                slot.image[:n].copy_(slot.host_image[:n], non_blocking=True)
                slot.label[:n].copy_(slot.host_label[:n], non_blocking=True)
                slot.filled.record(stream)
        return self._batch(slot.image[:n], slot.label[:n], rows)

    def _batch(self, image: torch.Tensor, label: torch.Tensor, rows: torch.Tensor) -> Batch:
        """The batch that looks at these words."""
        height, width, channels = self._tile
        pixels = image.view(torch.uint8).view(len(rows), height, width, channels).permute(0, 3, 1, 2)
        labels = label.view(torch.uint8).view(len(rows), height, width)
        return Batch(image=pixels, label=labels, rows=rows, again=torch.zeros_like(rows))

    def _copy_stream(self) -> torch.cuda.Stream | None:
        """A stream of its own for the copies to a GPU, so that they run beside the step."""
        if self.device.type != "cuda":
            return None
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        return stream

    def _new_ring(self) -> _Ring:
        ahead = AHEAD["cuda" if self.device.type == "cuda" else "cpu"]
        return _Ring(slots=[self._slot() for _ in range(HELD + ahead)], held=[])

    def _slot(self) -> _Slot:
        cuda = self.device.type == "cuda"
        image = torch.empty((self.own_size, *self._images.shape[1:]), dtype=self._images.dtype, pin_memory=cuda)
        label = torch.empty((self.own_size, *self._labels.shape[1:]), dtype=self._labels.dtype, pin_memory=cuda)
        if not cuda:
            return _Slot(image, label, image, label, None, None)
        there = [torch.empty(t.shape, dtype=t.dtype, device=self.device) for t in (image, label)]
        return _Slot(image, label, there[0], there[1], torch.cuda.Event(), torch.cuda.Event())

    def _will_need(self, rows: Rows) -> None:
        """Tells the kernel which parts of the maps come next, so that disk and copy overlap."""
        for array in (self.store.images, self.store.labels):
            mapped = getattr(array, "_mmap", None)
            if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
                continue
            size = array.nbytes // len(array)
            for row in rows.tolist():
                start = row * size // mmap.PAGESIZE * mmap.PAGESIZE
                with suppress(OSError):  # advice only: a kernel that refuses it reads later
                    mapped.madvise(mmap.MADV_WILLNEED, start, (row + 1) * size - start)


def _with_index(device: torch.device) -> torch.device:
    """`cuda` with the number of the current GPU, since the thread has a current GPU of its own."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _release(slot: _Slot, device: torch.device) -> _Slot:
    """Marks that all work on the slot's device buffers has been queued, so that they may be overwritten after it."""
    if slot.released is not None:
        slot.released.record(torch.cuda.current_stream(device))
    return slot


def _as_words(array: npt.NDArray[np.uint8], n: int) -> torch.Tensor:
    """(n, k) tensor over the same memory, in 8-byte words where a tile's size allows it: fewer elements copy faster."""
    flat = array.reshape(n, -1)
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so; nothing here writes
        warnings.filterwarnings("ignore", message=".*not writable.*")
        tensor = torch.from_numpy(flat)
    return tensor.view(torch.int64) if flat.shape[1] % 8 == 0 and flat.ctypes.data % 8 == 0 else tensor


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
