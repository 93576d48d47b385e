"""What a study consists of: arms, seeds, and a cell for each of both, which is one training and where it is scored."""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of a study: an arm with a seed."""

    arm: str
    seed: int
    words: tuple[str, ...]
    """what `python train.py` is given; the run is exactly that command's"""
    key: str
    """config id of the run: by it a finished one is found and an interrupted one goes on"""
    scored_on: tuple[str, ...] | None = None
    """what `glidexp evaluate RUN` is given to score it on the study's ground; None: its own test set is that ground"""

    @property
    def name(self) -> str:
        """`arm|seed`, the cell's name in `cells.json`."""
        return f"{self.arm}|{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A study as it is to be carried out."""

    name: str
    question: str
    primary: str
    """score that decides, as tracking names it"""
    arms: tuple[str, ...]
    """baseline first"""
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    alpha: float = 0.05
    budget: str = ""
    """what is equal in every arm, in words"""
    identity: str = ""
    """what names a study whose cells are found only while it goes on; empty: its cells name it"""

    def to_json(self) -> str:
        """The plan as text, from which `from_json` makes it again."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Reads what `to_json` wrote."""
        found: dict[str, Any] = json.loads(text)
        cells = tuple(
            Cell(**{**cell, "words": tuple(cell["words"]), "scored_on": cell["scored_on"] and tuple(cell["scored_on"])})
            for cell in found.pop("cells")
        )
        return cls(**{**found, "arms": tuple(found["arms"]), "seeds": tuple(found["seeds"]), "cells": cells})
