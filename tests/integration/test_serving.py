"""A bundle served by the real command: the answers are those of `infer.py`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .conftest import Deployment, load_script
from .serving import PROJECT, Server, serving

HIDDEN_PADDLESEG = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "paddleseg":
            raise ImportError(name + " is hidden")

sys.meta_path.insert(0, Hidden())
import importlib, pkgutil
import paddleseg_ext.serving
for module in pkgutil.walk_packages(paddleseg_ext.serving.__path__, "paddleseg_ext.serving."):
    importlib.import_module(module.name)
assert "paddle" not in sys.modules
print(*sorted(name for name in sys.modules if name.startswith("paddleseg_ext.")))
"""


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    with serving(bundle) as running:
        yield running


@pytest.fixture(scope="module")
def inferred(
    bundle: Path, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What `infer.py` writes for the data set's images."""
    save_dir = tmp_path_factory.mktemp("inferred")
    arguments = ["--config", str(bundle), "--image_path", str(deployment.list)]
    arguments += ["--save_dir", str(save_dir), "--device", "cpu", "--cpu_threads", "1"]
    assert load_script("infer").main(arguments) == 0
    return save_dir


def test_answers_are_infers_files(server: Server, deployment: Deployment, inferred: Path) -> None:
    for i in range(3):
        content = (deployment.list.parent / f"city{i}" / "frame.png").read_bytes()
        labels = httpx.post(f"{server.url}/v1/segment?output=labels", content=content, timeout=30)
        assert labels.content == (inferred / f"label_maps/city{i}/frame.png").read_bytes()
        overlay = httpx.post(
            f"{server.url}/v1/segment?output=overlay", files={"image": content}, timeout=30
        )
        assert overlay.content == (inferred / f"overlays/city{i}/frame.jpg").read_bytes()


def test_a_client_that_goes_away_costs_no_place(server: Server, deployment: Deployment) -> None:
    content = (deployment.list.parent / "city0" / "frame.png").read_bytes()
    for _ in range(20):  # more than the queue has
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{server.url}/v1/segment", content=content, timeout=0.001)
    until = time.monotonic() + 30
    while "images_in_service 0.0" not in httpx.get(f"{server.url}/metrics", timeout=30).text:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert httpx.post(f"{server.url}/v1/segment", content=content, timeout=30).status_code == 200


def test_a_refusal_reaches_a_client_that_is_still_sending(server: Server) -> None:
    response = httpx.post(f"{server.url}/v1/segment", content=bytes(20 << 20), timeout=30)
    assert response.status_code == 413


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGHUP,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("default_signals")
def test_stopping_finishes_what_was_accepted(
    number: signal.Signals, bundle: Path, deployment: Deployment
) -> None:
    content = (deployment.list.parent / "city0" / "frame.png").read_bytes()
    with serving(bundle, "--max_batch", "2") as server, ThreadPoolExecutor(6) as pool:
        url = f"{server.url}/v1/segment"
        answers = [pool.submit(httpx.post, url, content=content, timeout=60) for _ in range(6)]
        while not any(answer.done() for answer in answers):
            time.sleep(0.005)
        server.process.send_signal(number)
        assert [answer.result().status_code for answer in answers] == [200] * 6
        assert server.process.wait(60) == 0
        assert server.process.stdout is not None
        assert "everything accepted was answered" in server.process.stdout.read()


@pytest.mark.slow
def test_a_client_that_does_not_read_holds_up_no_end(bundle: Path) -> None:
    with serving(bundle, "--deadline", "1") as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        time.sleep(8)  # until nothing more fits between the two
        start = time.monotonic()
        assert server.stop() == 0
        assert 5 < time.monotonic() - start < 30  # the deadline and what is left to clients
        assert server.process.stdout is not None
        assert "did not take their answers" in server.process.stdout.read()


def test_other_names_and_sites_are_kept_out(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    for host, status in (("localhost", 200), ("127.0.0.1", 200), ("evil.example", 421)):
        response = httpx.get(f"{server.url}/", headers={"Host": f"{host}:{port}"}, timeout=30)
        assert response.status_code == status
    response = httpx.get(f"{server.url}/v1/model", headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 403


def test_a_port_in_use_is_one_line(server: Server, bundle: Path) -> None:
    port = server.url.rpartition(":")[2]
    command = [sys.executable, "-m", "paddleseg_ext", "serve", "--config", str(bundle)]
    done = subprocess.run(
        [*command, "--port", port],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert f"error: --port {port}: cannot listen" in done.stderr and "Traceback" not in done.stderr


def test_serving_stands_without_paddleseg_and_training() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN_PADDLESEG], capture_output=True, text=True, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "paddleseg_ext.serving.app" in loaded
    for unwanted in ("models", "losses", "training", "checkpoints", "registry"):
        assert not any(name.startswith(f"paddleseg_ext.{unwanted}") for name in loaded)
    # The bundle's protocol, which needs NumPy and OpenCV alone.
    evaluation = {name for name in loaded if name.startswith("paddleseg_ext.evaluation.")}
    assert evaluation == {
        "paddleseg_ext.evaluation.bundle_protocol",
        "paddleseg_ext.evaluation.protocols",
    }
