"""Puts the answers to overlapping windows together, one row of windows in memory at a time."""

import torch

from glidexp.mapping.windows import Axis


class Blend:
    """Takes windows from left to right and from top to bottom, and gives rows of the scene once no more is added.

    Args:
        rows: windows down the scene
        cols: windows across it
        device: where the answers are
    """

    def __init__(self, rows: Axis, cols: Axis, device: torch.device) -> None:
        self._rows, self._cols, self._device = rows, cols, device
        self.carry = torch.zeros(rows.ramp, cols.length, device=device)
        """what the last row of windows gave to the first rows of the next one, (ramp, W)"""
        self._across = [torch.from_numpy(cols.weights(j)).to(device) for j in range(len(cols))]
        self._row = torch.zeros(0, 0, device=device)

    def begin(self, number: int) -> None:
        """Starts a row of windows."""
        self._row = torch.zeros(
            self._rows.ends[number] - self._rows.begins[number], self._cols.length, device=self._device
        )

    def add(self, number: int, col: int, probability: torch.Tensor) -> None:
        """Adds the answer (h, w) to a whole window of the row that was begun."""
        rows, cols = self._rows, self._cols
        top, left = rows.starts[number], cols.starts[col]
        used = probability[rows.begins[number] - top : rows.ends[number] - top]
        used = used[:, cols.begins[col] - left : cols.ends[col] - left]
        self._row[:, cols.begins[col] : cols.ends[col]].addcmul_(used, self._across[col])

    def end(self, number: int) -> tuple[int, torch.Tensor]:
        """First row, and the rows (n, W) that are finished."""
        row = self._row.mul_(torch.from_numpy(self._rows.weights(number)).to(self._device)[:, None])
        ramp = self._rows.ramp
        if number > 0:
            row[:ramp] += self.carry
        if number == len(self._rows) - 1:
            return self._rows.begins[number], row
        keep = len(row) - ramp
        self.carry = row[keep:].clone()
        return self._rows.begins[number], row[:keep]
