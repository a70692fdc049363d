"""Two ends of a connection: who leaves is not missed, who is lost is."""

import os
import queue
import socket
import subprocess
import sys
import threading
import time

import pytest

from paddleseg_ext.distributed import watch
from paddleseg_ext.distributed.watch import Watch, connect


class Pair:
    """A watch, and what it reports about the other end."""

    def __init__(self, silence_seconds: float = 20.0):
        mine, self.other_end = socket.socketpair()
        self.losses: queue.Queue[str] = queue.Queue()
        self.watch = Watch({3: mine}, self.losses.put, silence_seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.02)


def test_a_connection_that_ends_is_a_loss() -> None:
    pair = Pair()
    pair.other_end.close()
    assert pair.losses.get(timeout=10) == "process 3 has ended before its work was done"


def test_silence_is_a_loss() -> None:
    pair = Pair(silence_seconds=0.2)
    assert pair.losses.get(timeout=10) == "process 3 has not been heard of for too long"


def test_who_says_good_bye_is_not_missed() -> None:
    pair = Pair()
    other = Watch({0: pair.other_end}, pair.losses.put)
    time.sleep(0.1)
    other.leave()
    pair.watch.leave()
    assert pair.losses.empty()


def test_both_may_leave_at_once() -> None:
    for _ in range(20):
        pair = Pair()
        other = Watch({0: pair.other_end}, pair.losses.put)
        leaving = [threading.Thread(target=end.leave) for end in (pair.watch, other)]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join(10)
            assert not thread.is_alive()
        assert pair.losses.empty()


def test_the_first_process_is_found_by_all_and_strangers_are_sent_away() -> None:
    passed: queue.Queue[tuple] = queue.Queue()
    found: dict[int, watch.Connections] = {}

    def share(value: tuple) -> None:
        with socket.create_connection(("127.0.0.1", value[0])) as stranger:
            stranger.sendall(b"?" * 20)
            for _ in range(2):
                passed.put(value)

    def join(rank: int) -> None:
        found[rank] = connect(rank, 3, "127.0.0.1", share if rank == 0 else lambda _: passed.get())

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found[0]) == [1, 2]
    for rank in (1, 2):
        found[rank][0].sendall(bytes([rank]))
        assert found[0][rank].recv(1) == bytes([rank])
    for connections in found.values():
        for connection in connections.values():
            connection.close()


ORPHAN = """
import os, time
watching, tell = os.pipe()
if os.fork():
    os.read(watching, 1)
    os._exit(0)  # the launcher, which dies first
from paddleseg_ext.distributed.watch import Watch, end_process
Watch({}, end_process)
os.write(tell, b"!")
time.sleep(60)
"""


def test_a_process_does_not_outlive_its_launcher() -> None:
    """Else a second run, started by the same command, would write into the same folder."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN],
        capture_output=True,
        text=True,
        timeout=50,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    # The pipes stay open for as long as the orphan lives.
    assert time.monotonic() - started < 30
    assert "failed: the launcher of this process has ended" in done.stderr
