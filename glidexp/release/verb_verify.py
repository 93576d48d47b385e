"""`glidexp verify`: what it takes, and what it prints."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.options import Parser

if TYPE_CHECKING:
    from glidexp.release.report import Check


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp verify",
        description="Checks a released bundle: sha256 of every file, no pickle, and weights, ONNX and torch.export "
        "against the answers kept with its probe tiles. Exit code 1: something is not as it was released.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a release")
    return parser


def run(argv: list[str]) -> int:
    """Verifies and prints a row a check; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.release.report import State
    from glidexp.release.verify import verify

    checks = verify(Path(given.bundle).expanduser())
    say(checks)
    return int(any(check.state is State.failed for check in checks))


def say(checks: "Iterable[Check]") -> None:
    """A line a check: state, name, sentence."""
    for check in checks:
        print(f"{check.state:<7}  {check.name:<24}  {check.sentence}")
