"""A request's body to a file in its own folder, counted while it comes."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from glidexp.serving.refusal import Refusal

STALL_S = 60.0
"""seconds without a byte after which an upload is given up"""
SLOWEST = 1000
"""bytes a second that must come on the whole, after `STALL_S`: an upload that trickles takes a place"""
FIELD = "scene"
"""of a form, the part that is the scene"""
SLACK = 65536
"""bytes of a form beside its file"""
RAW = "application/octet-stream"
UPLOAD = "upload"


async def receive(request: Request, folder: Path, *, most: int, name: str) -> tuple[Path, str]:
    """Writes what is sent: the file itself as the body, or a form with one file.

    Args:
        request: not read yet
        folder: where the file goes, empty
        most: bytes of the file
        name: that the request's address gives, may be empty

    Returns:
        the file, and its name as told

    Raises:
        Refusal: 400 broken form, 408 stalled, 413 too many bytes, 415 another type of content
    """
    kind, options = parse_options_header(request.headers.get("content-type", RAW))
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > most + SLACK:
        raise _too_large(most)
    path = folder / UPLOAD
    chunks = _counted(request, most)
    if kind == b"multipart/form-data":
        return path, await _form(chunks, options.get(b"boundary"), path, most) or name
    if not kind.startswith(b"image/") and kind.decode("latin-1") != RAW:
        raise Refusal(
            415, f"content of type {kind.decode('latin-1')[:60]} is not taken: send the file itself as {RAW} or "
            f"image/..., or a multipart form with the part '{FIELD}'.",
        )  # fmt: skip
    with path.open("wb") as stream:
        async for chunk in chunks:
            stream.write(chunk)
    return path, name


async def _counted(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body as it comes; ends with a refusal where it is too much, or where too little comes."""
    held, began = 0, time.monotonic()
    source = request.stream().__aiter__()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(source), STALL_S)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal(408, f"no byte of the scene came for {STALL_S:g} s: send it again.") from None
        except ClientDisconnect:
            raise Refusal(400, "the line was cut before the whole scene had come: send it again.") from None
        held += len(chunk)
        if time.monotonic() - began > STALL_S + held / SLOWEST:
            raise Refusal(408, f"the scene came with less than {SLOWEST:g} bytes a second: send it over a faster line.")
        if held > most + SLACK:
            raise _too_large(most)
        yield chunk


async def _form(chunks: AsyncIterator[bytes], boundary: bytes | None, path: Path, most: int) -> str:
    """Writes the one file of a form; gives its name as told."""
    if not boundary:
        raise Refusal(400, "the form names no boundary: let your program write its Content-Type.")
    with path.open("wb") as stream:
        parts = _Parts(stream)
        try:
            parser = MultipartParser(boundary, parts.callbacks())
            async for chunk in chunks:
                parser.write(chunk)
        except FormParserError as error:
            raise Refusal(400, f"the form is broken: {error}") from None
        if not parts.whole or parts.files != 1:
            found = f"it holds {parts.files}" if parts.whole else "it ends too early"
            raise Refusal(400, f"the form must hold one file, as part '{FIELD}': {found}.")
        if stream.tell() > most:
            raise _too_large(most)
    return parts.name


class _Parts:
    """What the parser of a form calls: the bytes of its file go to a stream, other fields are passed over.

    The parser's own files and fields are not used, as fields are kept in memory whatever their size.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._field, self._value, self._inside = stream, b"", b"", False
        self._headers: dict[bytes, bytes] = {}
        self.files, self.name, self.whole = 0, "", False

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda data, start, end: setattr(self, "_field", self._field + data[start:end]),
            "on_header_value": lambda data, start, end: setattr(self, "_value", self._value + data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._begin,
            "on_part_data": self._data,
            "on_end": lambda: setattr(self, "whole", True),
        }

    def _header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _begin(self) -> None:
        told = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        self._inside = b"filename" in told
        if self._inside:
            self.files += 1
            self.name = unquote(told[b"filename"].decode("utf-8", "replace"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._inside and self.files == 1:
            self._stream.write(data[start:end])


def _too_large(most: int) -> Refusal:
    words = f"the scene has more than the {most / 1e6:g} MB allowed"
    return Refusal(413, f"{words}: cut or compress it, or start the server with a higher --max-mb.")
