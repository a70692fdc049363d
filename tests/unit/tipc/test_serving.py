"""Asking a service: a stand-in answers; whatever it does, its process is gone afterwards."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.tipc import serving
from paddleseg_ext.tipc.serving import AskOptions, ask_service

# A service on the standard library: not ready at first, then answers by the code in `{answer}`.
SERVICE = """
import sys, pathlib
from http.server import BaseHTTPRequestHandler, HTTPServer
port = next(int(w.partition("=")[2]) for w in sys.argv if w.startswith("--port="))
pathlib.Path({pid!r}).write_text(str(__import__("os").getpid()))
asked = []
class Handler(BaseHTTPRequestHandler):
    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        asked.append(self.path)
        ready = asked.count("/readyz") > 1
        told = b'{{"backend": {{"name": "openvino"}}}}' if self.path == "/v1/model" else b"{{}}"
        self.reply(200 if ready or self.path != "/readyz" else 503, told)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        {answer}
    def log_message(self, *words): pass
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        pixels = np.full((4, 6), number + 1, np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return folder


@pytest.fixture
def service(tmp_path):
    def command(answer: str) -> list[str]:
        return [sys.executable, "-c", SERVICE.format(answer=answer, pid=str(tmp_path / "pid"))]

    return command


def is_gone(tmp_path: Path) -> bool:
    return not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_answers_are_kept_under_the_images_names_and_the_service_is_stopped(
    images, service, tmp_path
):
    save_dir = tmp_path / "results"
    ask_service(AskOptions(str(images), save_dir, service("self.reply(200, body)")))
    for number in range(2):
        kept = cv2.imread(str(save_dir / f"label_maps/{number}.png"), cv2.IMREAD_UNCHANGED)
        assert (kept == number + 1).all()
    left = json.loads((save_dir / "inference.json").read_text())
    assert left["backend"] == {"name": "openvino"}
    assert is_gone(tmp_path)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("self.reply(503, b'busy')", "the service answers 503: busy"),
        ("self.reply(200, b'no picture')", "no label map from the service"),
        ("__import__('os')._exit(3)", "no label map from the service"),
    ],
)
def test_a_wrong_answer_fails_and_the_service_is_stopped(
    images, service, tmp_path, answer, message
):
    with pytest.raises(CheckFailed, match=message):
        ask_service(AskOptions(str(images), tmp_path / "results", service(answer)))
    assert is_gone(tmp_path)


def test_a_command_that_is_not_there_is_wrong_use(images, tmp_path):
    with pytest.raises(UsageError, match="/no/such: it cannot be started"):
        ask_service(AskOptions(str(images), tmp_path / "out", ["/no/such"]))


def test_a_service_that_does_not_start_fails(images, tmp_path, monkeypatch):
    with pytest.raises(CheckFailed, match="ended with status 4 before it was ready"):
        ends = [sys.executable, "-c", "exit(4)"]
        ask_service(AskOptions(str(images), tmp_path / "results", ends))
    monkeypatch.setattr(serving, "READY_SECONDS", 0.5)
    with pytest.raises(CheckFailed, match="was not ready within"):
        sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
        ask_service(AskOptions(str(images), tmp_path / "r", sleeps))
    with pytest.raises(UsageError, match="expected behind '--'"):
        ask_service(AskOptions(str(images), tmp_path / "results", []))
