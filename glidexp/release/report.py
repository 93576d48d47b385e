"""What a gate found: a check is passed, failed or skipped, and a sentence with the numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from glidexp.data.steps import shown_stage


class State(StrEnum):
    """Of a check."""

    passed = "passed"
    failed = "failed"
    skipped = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a candidate must hold to."""

    name: str
    state: State
    sentence: str
    """with the numbers it rests on"""


def judged(name: str, good: bool, sentence: str) -> Check:
    """A check that was made."""
    return Check(name, State.passed if good else State.failed, sentence)


def skipped(name: str, sentence: str) -> Check:
    """A check that could not be made, and why."""
    return Check(name, State.skipped, sentence)


def made(checks: Mapping[str, Callable[[], Check]]) -> list[Check]:
    """Makes checks one after the other, and shows which is being made.

    Args:
        checks: by what is looked at, in a few words
    """
    found = []
    for what, check in checks.items():
        with shown_stage(f"check: {what}"):
            found.append(check())
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """Every check of a candidate, in the order in which they were made."""

    run_id: str
    chosen: str
    """why this run"""
    against: str
    """the champion it was compared with, models:/NAME/3; empty when there was none"""
    checks: tuple[Check, ...]
    forced: bool = False
    """released although a check failed"""

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that say no."""
        return tuple(check for check in self.checks if check.state is State.failed)

    @property
    def verdict(self) -> str:
        """passed, refused, or forced."""
        return "passed" if not self.failed else "forced" if self.forced else "refused"

    def to_json(self) -> dict[str, Any]:
        """For `gate.json`."""
        return {
            "run_id": self.run_id,
            "chosen": self.chosen,
            "against": self.against,
            "verdict": self.verdict,
            "checks": [
                {"name": check.name, "state": str(check.state), "sentence": check.sentence} for check in self.checks
            ],
        }

    def tags(self) -> dict[str, str]:
        """For the version in the registry: a tag a check, and whether it was forced."""
        told = {f"glidexp.gate.{check.name}": f"{check.state}: {check.sentence}" for check in self.checks}
        names = ",".join(check.name for check in self.failed)
        return told | {
            "glidexp.gate": self.verdict,
            "glidexp.release.forced": names if self.forced and self.failed else "false",
            "glidexp.release.chosen": self.chosen,
        }
