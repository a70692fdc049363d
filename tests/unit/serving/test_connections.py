"""A server with short times, asked by clients that misbehave."""

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from paddleseg_ext.serving import connections

HEAD_S, REQUEST_S = 0.4, 1.2
LONG_S = 10.0
PAGE = b"x" * 100_000


async def answer(scope: dict, receive: object, send: object) -> None:
    """A large page at once; at `/slow` an empty one after longer than a head may take."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(HEAD_S * 2)
    headers = [(b"content-length", str(len(PAGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE})


@contextmanager
def serving(most: int) -> Iterator[int]:
    """Its port."""
    protocol = connections.bounded_protocol(most, HEAD_S, REQUEST_S)
    config = uvicorn.Config(
        answer, port=0, http=protocol, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def connect(port: int, receive_bytes: int | None = None) -> socket.socket:
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(LONG_S)
    made.connect(("127.0.0.1", port))
    return made


def seconds_until_closed(client: socket.socket) -> float:
    start = time.monotonic()
    try:
        while client.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - start


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come(sent: bytes) -> None:
    with serving(9) as port, connect(port) as client:
        client.sendall(sent)
        assert HEAD_S * 0.9 <= seconds_until_closed(client) < LONG_S / 2


def test_a_slow_answer_is_no_slow_head() -> None:
    with serving(9) as port, connect(port) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while more := client.recv(1 << 20):
            received += more
        assert received.endswith(PAGE)


def test_a_client_that_does_not_read() -> None:
    with serving(9) as port, connect(port, 4096) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        time.sleep(REQUEST_S + 3 * HEAD_S)
        received = 0
        try:
            while more := client.recv(1 << 20):
                received += len(more)
        except ConnectionResetError:
            pass
        assert received < 300 * len(PAGE)


def test_one_connection_too_many() -> None:
    with serving(2) as port, connect(port), connect(port):
        time.sleep(0.1)
        with connect(port) as third:
            text = b""
            while more := third.recv(4096):
                text += more
    head, _, body = text.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in head
    assert f"Content-Length: {len(body)}".encode() in head


def test_descriptors_are_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    most = connections.most_connections()
    assert most + connections.backlog(most) < 200
