"""`glidexp audit`: which aggregations printed scores can and cannot be, and by how much they miss."""

from glidexp.options import Parser
from glidexp.scoring.audit import NAMES

MEANING = {"p": "precision", "r": "recall", "f1": "F1", "iou": "IoU of the lake", "miou": "what was called mIoU"}


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp audit",
        description="Says which aggregations printed scores can and cannot be, and by how much they miss. Give two or "
        "more, in per cent or as 0-1, with the digits that were printed: they say how far a value may be rounded.",
    )
    for name in NAMES:
        parser.add_argument(f"--{name}", metavar="SCORE", help=MEANING[name])
    return parser


def run(argv: list[str]) -> int:
    """Prints the table; gives the exit code."""
    given = vars(options().parse_args(argv))
    from rich.console import Console

    from glidexp.scoring.audit import audit
    from glidexp.scoring.tables import audit_table

    readings = audit({name: text for name, text in given.items() if text is not None})
    Console().print(audit_table(readings))
    return 0
