"""Ends this process when another one of its job is lost: collectives would wait for it for ever.

A launcher ends its own processes when one of them dies. It does not notice the loss of another
node's process, of a machine, or of a process that is stopped; and when it is killed itself, its
processes continue. So the first process and every other one send each other a byte per second. A
process that receives none, or whose connection closes without a good-bye, ends.
"""

import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from paddleseg_ext.common.errors import STATUS_FAILED

BEAT_SECONDS = 1.0
# Below a minute together with the launcher's few seconds; a busy machine may be silent for ten.
SILENCE_SECONDS = 40.0
GOOD_BYE_SECONDS = 10.0
_BEAT, _GOOD_BYE = b".", b"!"
_ENDED = "has ended before its work was done"
_TOKEN_BYTES, _RANK_BYTES = 16, 4

Connections = dict[int, socket.socket]  # by the rank at the other end


class Watch:
    """Sends and expects beats on every connection, in one thread per connection."""

    def __init__(
        self,
        connections: Connections,
        on_loss: Callable[[str], None],
        silence_seconds: float = SILENCE_SECONDS,
    ):
        """
        Args:
            connections: to the processes that are watched and that watch this one.
            on_loss: called with a description of each loss.
            silence_seconds: time without a beat after which a process counts as lost.
        """
        self._on_loss = on_loss
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, args=(rank, connection), daemon=True)
            for rank, connection in connections.items()
        ]
        for connection in connections.values():
            connection.settimeout(silence_seconds)
        self._launcher = os.getppid()
        threading.Thread(target=self._watch_launcher, daemon=True).start()
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Send good-byes: the end of this process is no loss, its work is done."""
        self._over.set()
        for thread in self._threads:
            thread.join(GOOD_BYE_SECONDS)

    def _listen(self, rank: int, connection: socket.socket) -> None:
        with connection:
            try:
                loss = self._exchange(connection)
            except TimeoutError:
                loss = "has not been heard of for too long"
            except OSError:
                loss = _ENDED
        if loss:
            self._on_loss(f"process {rank} {loss}")

    def _exchange(self, connection: socket.socket) -> str:
        """Exchange beats until one side is done; returns how the other was lost, or ""."""
        while not self._over.wait(BEAT_SECONDS):
            connection.sendall(_BEAT)
            heard = connection.recv(64)
            if _GOOD_BYE in heard:
                return ""
            if not heard:
                return _ENDED
        _say_good_bye(connection)
        return ""

    def _watch_launcher(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            if os.getppid() != self._launcher:
                self._on_loss("the launcher of this process has ended")
                return


def _say_good_bye(connection: socket.socket) -> None:
    """Send and wait until the other end closes: closing first could discard its input."""
    with suppress(OSError):
        connection.sendall(_GOOD_BYE)
        connection.shutdown(socket.SHUT_WR)
        while _GOOD_BYE not in (heard := connection.recv(64)) and heard:
            pass


def end_process(loss: str) -> None:
    """Print the loss and end at once, wherever the main thread waits."""
    print(
        f"failed: {loss}; this process ends, too. The same command with --resume_model auto "
        "continues from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(STATUS_FAILED)


def connect(rank: int, size: int, host: str, share: Callable[[Any], Any]) -> Connections:
    """Connections between process 0 and every other process.

    Args:
        rank: of this process.
        size: number of processes.
        host: of process 0.
        share: returns in every process the value that process 0 passes.
    """
    if rank > 0:
        port, token = share(None)
        connection = socket.create_connection((host, port), SILENCE_SECONDS)
        connection.sendall(token + rank.to_bytes(_RANK_BYTES, "big"))
        return {0: connection}
    token = secrets.token_bytes(_TOKEN_BYTES)
    with socket.create_server(("", 0), backlog=size) as server:
        server.settimeout(SILENCE_SECONDS)
        share((server.getsockname()[1], token))
        connections: Connections = {}
        while len(connections) < size - 1:
            connection, _ = server.accept()
            connection.settimeout(SILENCE_SECONDS)
            greeting = connection.recv(_TOKEN_BYTES + _RANK_BYTES, socket.MSG_WAITALL)
            if secrets.compare_digest(greeting[:_TOKEN_BYTES], token):
                connections[int.from_bytes(greeting[_TOKEN_BYTES:], "big")] = connection
            else:  # not of this job
                connection.close()
    return connections
