"""`glidexp ui`: the runs in MLflow's pages."""

from glidexp.options import Parser, store_options


def run(argv: list[str]) -> int:
    """Serves the pages until it is stopped; gives the exit code."""
    parser = Parser(prog="glidexp ui", description="Opens the runs in MLflow's pages at 127.0.0.1.")
    store_options(parser)
    parser.add_argument("--port", type=int, default=5000, help="port at 127.0.0.1 (default: 5000)")
    given = parser.parse_args(argv)
    from glidexp.tracking.ui import serve

    return serve(uri=given.uri, mlruns=given.mlruns, port=given.port)
