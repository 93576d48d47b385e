"""What every request passes: who it says it was sent to and by whom. And what every answer carries.

A page of somebody else, open in the same browser, can send requests to 127.0.0.1. Under a name of its own that leads
here (DNS rebinding) it could read the answers too, so the name in Host must be an address, localhost or one that was
given; and it may not upload, so a foreign Origin is refused.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glidexp.serving.refusal import Refusal

DRAIN_BYTES, DRAIN_S, IDLE_S = 64 << 20, 10.0, 1.0
"""most of a refused body that is read, and for how long; a client that sends nothing is answered at once"""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
}


def host_of(netloc: str) -> str:
    """The name in `name:port` or `[address]:port`; empty where it is none."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_known(name: str, names: Iterable[str]) -> bool:
    """Whether a server that listens at `names` may be called so: an address cannot be made to lead elsewhere."""
    if name == "localhost" or name in {one.lower() for one in names}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Body:
    """What a client sends. Of a refused request the rest is read and thrown away before the answer, up to a limit: a
    client that is cut off while it sends seldom reads what it is told."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._begun, self._whole = receive, False, False

    async def receive(self) -> Message:
        """The next message, noted."""
        message = await self._receive()
        self._begun = True
        self._whole |= message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def drain(self, headers: Headers) -> None:
        """Reads on, unless the client waits for leave to send (Expect) or has nothing to send."""
        sends = "content-length" in headers or "transfer-encoding" in headers
        if not sends or ("expect" in headers and not self._begun):
            return
        held = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self._whole and held < DRAIN_BYTES:
                    held += len((await asyncio.wait_for(self.receive(), IDLE_S)).get("body", b""))


class Guard:
    """Middleware: refuses foreign names and origins, and adds headers to all answers.

    Args:
        app: what is guarded
        names: beside addresses and localhost, what the server is called
        tell: makes an answer of a refusal
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], tell: Callable[[Refusal], Any]) -> None:
        self._app, self._names, self._tell = app, tuple(names), tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        body = _Body(receive)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= 400:
                    await body.drain(Headers(scope=scope))
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.judge(Headers(scope=scope))
        answer = self._app if refusal is None else self._tell(refusal)
        await answer(scope, body.receive, with_headers)

    def judge(self, headers: Headers) -> Refusal | None:
        """Why a request is refused; None where it is not."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not is_known(host_of(hosts[0]), self._names):
            named = host_of(hosts[0])[:60] if hosts else ""
            return Refusal(400, f"this server is not known as '{named}': call it by its address or as localhost, or "
                           "start it with --name.")  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != hosts[0].lower():
            return Refusal(403, "a page of another site may not use this server.")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return Refusal(403, "a page of another site may not use this server.")
        return None
