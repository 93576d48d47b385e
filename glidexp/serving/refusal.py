"""What a request is told when it cannot be answered: an HTTP status and one line; and that files are read alone."""

import re

from glidexp.errors import GlidexpError

ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""setting of GDAL: it looks for no files beside an upload"""
LONGEST = 500
"""characters of a line"""
_FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/:,;'\"()]+/)+")


class Refusal(GlidexpError):
    """A request that cannot be answered.

    Args:
        status: of HTTP: 400 broken, 404 gone, 413 too large, 415 no such format, 422 a scene or setting that does not
            fit the model, 500 failed by itself, 503 busy, 504 took too long
        words: one line
        retry_s: seconds after which another try makes sense
    """

    def __init__(self, status: int, words: str, retry_s: int | None = None) -> None:
        super().__init__(plain(words))
        self.status, self.words, self.retry_s = status, plain(words), retry_s

    def __reduce__(self) -> tuple[type["Refusal"], tuple[int, str, int | None]]:
        return Refusal, (self.status, self.words, self.retry_s)


def plain(words: str) -> str:
    """One line without the folders of this machine, which are nobody's business but its own."""
    return _FOLDERS.sub("", " ".join(words.split()))[:LONGEST]
