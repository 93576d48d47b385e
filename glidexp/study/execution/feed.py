"""Cells that are found while others run: what a search and a sweep say to each other."""

from abc import ABC, abstractmethod

from glidexp.study.execution.cells import Cell
from glidexp.study.execution.ledger import Entry


class Feed(ABC):
    """Where cells come from that no plan holds beforehand."""

    @property
    @abstractmethod
    def most(self) -> int:
        """Cells that there can be."""

    @abstractmethod
    def more(self, free: int) -> list[Cell]:
        """Cells for free places, which the plan does not hold yet; none where there will be no more."""

    @abstractmethod
    def again(self, cell: Cell) -> bool:
        """Whether a run of a cell that failed before is to be begun again."""

    @abstractmethod
    def early(self, cell: Cell) -> str:
        """Why a cell that is at work is to be ended; empty where it goes on."""

    @abstractmethod
    def ended(self, cell: Cell, entry: Entry) -> None:
        """Takes note of the end of a cell, more than once perhaps."""
