"""Options of a verb, read from the command line."""

import argparse
from typing import NoReturn

from glidexp.errors import GlidexpError


class Parser(argparse.ArgumentParser):
    """Options of a verb; a wrong one is told in one line, as every other mistake."""

    def error(self, message: str) -> NoReturn:
        """Raises GlidexpError."""
        raise GlidexpError(f"{self.prog}: {message}. What it takes: {self.prog} --help.")
