"""From the pixels of a scene to a probability and a mark a pixel: strips, windows, network, blend, files.

Strips are decoded along the file's own blocks by a thread while the network works on the ones before. A window row of
pixels, of answers, and a strip are all that is in memory, whatever the scene's height.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from affine import Affine

from glidexp.data.scenes import stretch
from glidexp.data.scenes.reading import Scene
from glidexp.data.scenes.strips import Strips
from glidexp.errors import RunFailed
from glidexp.mapping.blend import Blend
from glidexp.mapping.spread import spread_of, votes_of
from glidexp.mapping.windows import Axis
from glidexp.mapping.workfiles import INVALID, LAKE, LOOK, MARKS, NODATA, PROBABILITY, SPREAD, STEPS, WorkFiles

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Answer = Callable[[torch.Tensor], torch.Tensor]
"""uint8 (B, C, H, W) to probabilities (B, 1, H, W); of a mean of N networks (B, 1 + N, H, W), the mean first"""
UNIT_PX = 256
"""rows read at once, rounded up to the file's blocks"""
HIGHEST_PX = 2048
"""blocks of more rows are read in pieces"""
KEPT_BYTES = 256 << 20
"""decoded pixels that stay in memory from the first pass to the second; those of larger scenes go through a file"""
LOOK_PX = 1600
"""longest side of the small picture"""


class Band:
    """The stretched rows of a scene that the windows at work need; rows above them are let go."""

    def __init__(self, strips: Iterator[tuple[int, Bytes, Mask]], top: int) -> None:
        self._strips, self.top = strips, top
        self.image: Bytes | None = None
        self.valid: Mask = np.zeros((0, 0), bool)

    def rows(self, top: int, bottom: int) -> tuple[Bytes, Mask]:
        """Pixels (h, W, C) and valid (h, W) of these rows; none above `top` are asked for again."""
        images = [] if self.image is None else [self.image[top - self.top :]]
        valids = [] if self.image is None else [self.valid[top - self.top :]]
        held = sum(len(one) for one in valids)
        while held < bottom - top:
            first, image, valid = next(self._strips)
            skip = max(top - first, 0)  # a strip may begin above the first window after a restart
            images.append(image[skip:])
            valids.append(valid[skip:])
            held += len(valids[-1])
        self.image = images[0] if len(images) == 1 else np.concatenate(images)
        self.valid = valids[0] if len(valids) == 1 else np.concatenate(valids)
        self.top = top
        return self.image[: bottom - top], self.valid[: bottom - top]


def look_step(scene: Scene) -> int:
    """Pixels of a scene to one of its small picture."""
    return max(1, math.ceil(max(scene.height, scene.width) / LOOK_PX))


def look_shape(scene: Scene) -> tuple[int, int, int]:
    """Of the small picture."""
    step = look_step(scene)
    return math.ceil(scene.height / step), math.ceil(scene.width / step), 3


def fitted(strips: Strips, config: Any) -> stretch.Stretch | None:
    """Limits of all valid pixels; None where there is none. The decoded strips are kept for the second pass."""
    counts = stretch.no_counts(strips.scene)
    for _, pixels, valid in strips.kept():
        stretch.count_values(pixels, valid, counts)
    return stretch.fit(counts, config, strips.scene.terrain, strips.scene.numbers) if counts.any() else None


def below(scene: Scene, row: int) -> Scene:
    """The scene from a row on."""
    return replace(
        scene, top=scene.top + row, height=scene.height - row, transform=scene.transform @ Affine.translation(0, row)
    )


def unit_px(scene: Scene) -> int:
    """Rows that are read at once: whole blocks of the file."""
    block = scene.strip_px if scene.strip_px <= HIGHEST_PX else UNIT_PX
    return math.ceil(UNIT_PX / block) * block


def in_8_bit(pixels: npt.NDArray[Any], valid: Mask, tables: Bytes | None) -> Bytes:
    """Pixels (bands, h, W) as (h, W, C), black where they are not valid.

    Args:
        pixels: codes, or values of 8 bit
        valid: (h, W)
        tables: of the stretch; None takes pixels as they are
    """
    image = pixels.transpose(1, 2, 0).astype(np.uint8) if tables is None else stretch.apply(pixels, tables)
    if not valid.all():
        image[~valid] = 0
    return image


def stretched(
    strips: Strips, limits: stretch.Stretch | None, offset: int, files: WorkFiles, step: int
) -> Generator[tuple[int, Bytes, Mask], None, None]:
    """Strips as 8 bit (h, W, C), black where not valid; rows of the small picture are written on the way."""
    tables = limits.tables(strips.scene.numbers, strips.scene.terrain) if limits else None
    for top, pixels, valid in strips.once():
        image = in_8_bit(pixels, valid, tables)
        row = top + offset
        first = -row % step
        small = image[first::step, ::step]
        if len(small):
            colours = small[..., [min(i, small.shape[2] - 1) for i in range(3)]] if small.shape[2] != 3 else small
            files.write(LOOK, (row + first) // step, colours)
        yield row, image, valid


@contextmanager
def behind(files: WorkFiles, cuts: Mapping[int, float], last: int, name: str) -> Iterator[Callable[..., None]]:
    """Gives a function that takes finished rows; a thread writes them while the network works on the next ones.

    Of rows that are waiting there is no more than one lot, so that memory does not grow where the disk is slow.

    Raises:
        RunFailed: an answer is no number, which would be written as ground without lake
    """

    def put(number: int, first: int, rows: list[torch.Tensor], good: Mask, carry: torch.Tensor) -> None:
        # by NumPy, as PyTorch would begin as many threads again in this one
        probability: Floats = rows[0].cpu().numpy()
        # one pass for all rows that are sound: the largest of them is no number where any is none
        if np.isnan(probability.max()) and (lost := int(np.count_nonzero(np.isnan(probability) & good))):
            raise RunFailed(
                f"{name}: the network's answer is no number at {lost} pixels from row {first} on: give "
                "--precision=fp32; where that is no help, its weights are damaged."
            )
        marks = _marks(probability, cuts)
        np.nan_to_num(probability, copy=False)  # of pixels without data
        probability *= STEPS
        probability += 0.5
        levels = probability.astype(np.uint8)
        if not good.all():
            levels[~good], marks[~good] = NODATA, INVALID
        files.write(PROBABILITY, first, levels)
        files.write(MARKS, first, marks)
        if files.networks:
            each = np.stack([one.cpu().numpy() for one in rows[1:]])
            spread = spread_of(each)
            spread[~good] = NODATA
            files.write(SPREAD, first, spread)
            for file, votes in zip(files.votes, votes_of(each, cuts[LAKE]), strict=True):
                files.write(file, first, votes)
        files.keep(number + 1, carry.cpu().numpy(), last=number + 1 == last)

    with ThreadPoolExecutor(1) as thread:
        waiting: list[Future[None]] = []

        def write(*rows: Any) -> None:
            if waiting:
                waiting.pop().result()
            waiting.append(thread.submit(put, *rows))

        yield write
        for job in waiting:
            job.result()


def run_windows(
    strips: Iterator[tuple[int, Bytes, Mask]],
    rows: Axis,
    cols: Axis,
    answer: Answer,
    files: WorkFiles,
    *,
    cuts: Mapping[int, float],
    device: torch.device,
    batch: int,
    step: Callable[[str], None],
    name: str = "",
) -> int:
    """Maps a scene from the first unfinished row of windows on.

    Args:
        strips: stretched rows, from at most the first row of these windows on
        rows: windows down the scene
        cols: windows across it
        answer: the network, of a mean that `files` are made for with each of its networks
        files: take the rows; say which are finished
        cuts: least probability for each bit of a mark: of a lake, of what may be lake, of what is surely lake
        device: of the network
        batch: windows a forward pass
        step: called after each row of windows
        name: of the scene, for `step`

    Returns:
        windows that the network saw; those without a valid pixel are spared

    Raises:
        RunFailed: an answer is no number, or the disk refuses the rows
    """
    blends, seen = [Blend(rows, cols, device) for _ in range(1 + files.networks)], 0
    if files.carry is not None:
        for blend, carry in zip(blends, files.carry if files.networks else [files.carry], strict=True):
            blend.carry = torch.from_numpy(carry).to(device)
    band = Band(strips, 0)
    with behind(files, cuts, len(rows), name) as write:
        for number in range(files.rows, len(rows)):
            top = rows.starts[number]
            image, valid = band.rows(top, min(top + rows.window, rows.length))
            somewhere: Mask = np.asarray(valid.any(axis=0), dtype=bool)
            wanted = [j for j, left in enumerate(cols.starts) if somewhere[left : left + cols.window].any()]
            for blend in blends:
                blend.begin(number)
            for at in range(0, len(wanted), batch):
                some = wanted[at : at + batch]
                tiles = np.stack([_tile(image, cols.starts[j], rows.window, cols.window) for j in some])
                answers = answer(torch.from_numpy(tiles).permute(0, 3, 1, 2).to(device, non_blocking=True))
                for place, j in enumerate(some):
                    for channel, blend in enumerate(blends):
                        blend.add(number, j, answers[place, channel])
            seen += len(wanted)
            first, done = zip(*(blend.end(number) for blend in blends), strict=True)
            good = valid[first[0] - top : first[0] - top + len(done[0])]
            kept = torch.stack([blend.carry for blend in blends]) if files.networks else blends[0].carry
            write(number, first[0], list(done), good, kept)
            step(name)
    return seen


def windows_with_data(marks_HW: Bytes, rows: Axis, cols: Axis, number: int) -> int:
    """Of the first rows of windows the windows with a valid pixel, which `run_windows` counts of those that it maps.

    Args:
        marks_HW: of the whole scene
        rows: windows down the scene
        cols: windows across it
        number: how many rows
    """
    seen = 0
    for top in rows.starts[:number]:
        somewhere = (marks_HW[top : top + rows.window] != INVALID).any(axis=0)
        seen += sum(bool(somewhere[left : left + cols.window].any()) for left in cols.starts)
    return seen


def _tile(image: Bytes, left: int, height: int, width: int) -> Bytes:
    """A window of rows (h, W, C); what lies beyond the scene mirrors what lies within, as the network pads."""
    tile = image[:, left : left + width]
    more = height - tile.shape[0], width - tile.shape[1]
    return np.pad(tile, ((0, more[0]), (0, more[1]), (0, 0)), mode="reflect") if any(more) else tile


def _marks(probability_HW: Floats, cuts: Mapping[int, float]) -> Bytes:
    """Bits of rows."""
    found = np.zeros(probability_HW.shape, np.uint8)
    for bit, cut in cuts.items():
        found |= (probability_HW >= cut).view(np.uint8) * np.uint8(bit)
    return found
