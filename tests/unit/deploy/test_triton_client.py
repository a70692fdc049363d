"""deploy/triton/client.py against servers that are none of the protocol."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from commands import call
from PIL import Image

pytest.importorskip("tritonclient.http")


@contextmanager
def answering(content: bytes) -> Iterator[str]:
    """A server that sends these bytes to whoever connects."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(content)
                connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "{}:{}".format(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)  # `accept` returns
        thread.join(10)


def json_answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "Expected HTTP/"),
        (json_answer(b"<html>"), "Invalid value"),
        (json_answer(b"[]"), "Open Inference Protocol v2 is expected"),
        (json_answer(b"{}"), "it names no inputs"),
        (json_answer(b'{"inputs": [{}], "outputs": null}'), "it names no inputs"),
        (
            json_answer(b'{"inputs": [{"name": "x", "datatype": "FP32"}], "outputs": []}'),
            "it names no outputs",
        ),
    ],
)
def test_another_kind_of_server_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    flags = ["--image_path", tmp_path / "a.png", "--save_dir", tmp_path / "out"]
    with answering(content) as url:
        done = call("deploy/triton/client.py", "--url", url, *flags, "--timeout", 5)
    assert done.status == 2 and words in done.error_lines[0], done.err
