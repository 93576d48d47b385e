"""HTTP as uvicorn speaks it, with a time within which the head of a request must be there.

uvicorn waits for a head without end, so that connections that send nothing, or a letter now and then, would hold
sockets and memory for as long as they like (the attack called slow loris). What follows a head has limits of its own.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0
"""seconds from the first moment of a connection, or the first byte of a later request, to the end of its head"""
LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class TimedHeads(H11Protocol):
    """A connection that is closed where the head of a request takes longer than `HEAD_S`."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Stops the clock at the end of a head, and starts it where another one begins."""
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        """Looks again: the request's own rest may be missing."""
        super().on_response_complete()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._stop()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """Lets the clock run exactly while a head is awaited, or the rest of a request that was answered without it;
        between two requests uvicorn's own does.
        """
        answered = self.cycle is not None and self.cycle.response_complete
        awaited = self.conn.their_state is h11.IDLE or (self.conn.their_state is h11.SEND_BODY and answered)
        if not awaited or self.transport.is_closing() or self.timeout_keep_alive_task is not None:
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(HEAD_S, self._late)

    def _late(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            if self.conn.our_state is h11.IDLE:  # else it has its answer
                self.transport.write(LATE)
            self.transport.close()

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
