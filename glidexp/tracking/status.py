"""The status with which a run, or a parent of runs, ends: the true one, whatever ended it."""

from glidexp.tracking.database import first_line


def true_status(error: BaseException | None) -> tuple[str, str]:
    """Status of a run that ended by `error`, and the line that tells why.

    A signal ends a run as KILLED: whatever is no `Exception` (KeyboardInterrupt and its like), and SystemExit with 128
    and more. A SystemExit with any other code, 0 too, is FAILED: the run was left before its end.
    """
    if error is None:
        return "FINISHED", ""
    if isinstance(error, SystemExit):
        killed = isinstance(error.code, int) and error.code > 128
        return ("KILLED" if killed else "FAILED"), f"SystemExit: {error.code}"
    line = f"{type(error).__name__}: {first_line(error)}"
    return ("FAILED" if isinstance(error, Exception) else "KILLED"), line
