"""`glidexp doctor`: machine, folders and programs, and what to do about them."""

from pathlib import Path

from glidexp.options import Parser, data_option


def run(argv: list[str]) -> int:
    """Looks at all of it; gives the exit code."""
    parser = Parser(
        prog="glidexp doctor", description="Looks at machine, folders and programs; exit code 1 when something fails."
    )
    data_option(parser)
    parser.add_argument("--mlruns", default="mlruns", help="folder of the tracking store (default: mlruns)")
    parser.add_argument("--device", default="auto", help="as train.device (default: auto)")
    parser.add_argument("--no-self-test", action="store_true", help="leave out the training of at most 20 seconds")
    given = parser.parse_args(argv)
    from glidexp.training.doctor.checks import examine

    return examine(Path(given.data), Path(given.mlruns), device=given.device, self_test=not given.no_self_test)
