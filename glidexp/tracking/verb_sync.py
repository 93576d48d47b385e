"""`glidexp sync`: what waits in the spools of a store is sent."""

from glidexp.options import Parser


def run(argv: list[str]) -> int:
    """Sends it; gives the exit code."""
    parser = Parser(
        prog="glidexp sync",
        description="Sends what runs could not log because the tracking store was away. Exit code 1: some is left.",
    )
    parser.add_argument("--mlruns", default="mlruns", help="folder of the store (default: mlruns)")
    parser.add_argument("--uri", default=None, help="tracking address, when it is not the one the runs began with")
    given = parser.parse_args(argv)
    from glidexp.tracking.sync import sync

    return sync(uri=given.uri, mlruns=given.mlruns)
