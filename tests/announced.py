"""A stand-in for the bar of a long work, which counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

from glidexp.data.steps import Step


class Announced:
    """Stands in for `shown_steps`: of each work the steps that were announced, and those that it told of."""

    def __init__(self) -> None:
        self.works: dict[str, list[int | Fraction]] = {}

    @contextmanager
    def __call__(
        self, total: int, unit: str, progress: bool, what: str = "tiles", *, late: bool = False
    ) -> Iterator[Step]:
        assert progress, "nobody would see it"
        work = self.works.setdefault(what, [0, 0])
        work[0] += total

        def step(name: str, count: int | Fraction = 1, /, *, before: bool = False) -> None:
            work[1] += count

        yield step
