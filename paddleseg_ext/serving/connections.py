"""Bounds on connections: idle ones are closed, and their number is limited.

uvicorn has no limit on the time for a request's head or for reading an answer, and accepts
connections until the process has no file descriptors left.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from paddleseg_ext.common.limits import process_limit

HEAD_S = 10.0  # for a request's head, from the connection or the last answer on
READING_S = 60.0  # beyond the deadline, for a client to read its answer
LOOK_S = 1.0
MOST_CONNECTIONS = 512
ACCEPTED_AT_ONCE = 64  # asyncio accepts a whole backlog before it handles the first of it
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 38\r\n"
    b'Retry-After: 1\r\nConnection: close\r\n\r\n{"error":"there are many connections"}'
)


def most_connections() -> int:
    """At most half of the file descriptors: files and libraries need some, too."""
    descriptors = process_limit("RLIMIT_NOFILE")
    if descriptors is None:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, descriptors // 2))


def backlog(most: int) -> int:
    """Connections that wait in the kernel; few enough that a burst leaves descriptors free."""
    return max(1, min(ACCEPTED_AT_ONCE, most // 4))


def bounded_protocol(most: int, head_s: float, request_s: float) -> type[H11Protocol]:
    """Uvicorn's HTTP with bounds.

    Args:
        most: connections; one more gets 503 and is closed.
        head_s: seconds for the head of a request; then the connection is closed.
        request_s: seconds from a request's head until its answer is read; likewise.
    """

    class BoundedConnection(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.write(FULL)
                transport.close()
                return
            self._look((None, False), self.loop.time())

        def _look(self, seen: tuple[RequestResponseCycle | None, bool], since: float) -> None:
            """Close the connection if nothing changed for too long; else look again later."""
            if self.transport.is_closing():
                # Bytes may still wait for a client that does not read.
                self.loop.call_later(request_s, self.transport.abort)
                return
            cycle = self.cycle
            at_work = cycle is not None and not cycle.response_complete
            now = self.loop.time()
            if (cycle, at_work) != seen:
                seen, since = (cycle, at_work), now
            elif now - since >= (request_s if at_work else head_s):
                self.transport.abort()
                return
            self.loop.call_later(min(LOOK_S, head_s), self._look, seen, since)

    return BoundedConnection
