"""Starts the HTTP service, waits until it is ready, posts every image, and stops it."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path

from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError
from paddleseg_ext.common.files import atomic_path, require_writable, write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import option
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.reading import decode_label_values
from paddleseg_ext.images.samples import Sample, collect_samples
from paddleseg_ext.inference.outputs import LABEL_MAPS

HOST = "127.0.0.1"
READY, MODEL, SEGMENT = "/readyz", "/v1/model", "/v1/segment?output=labels"
READY_SECONDS = 120.0
ANSWER_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class AskOptions:
    """Options of `tipc ask`.

    Attributes:
        service: the command that starts the service; it gets `--host` and a free `--port`.
    """

    image_path: str = option(MISSING, "image, folder or list", metavar="PATH")
    save_dir: Path = option(MISSING, "for results", metavar="DIR")
    service: Sequence[str] = ()


def ask_service(options: AskOptions) -> None:
    """Starts the service, asks it for label maps, and stops it.

    Writes `label_maps/NAME.png` and `inference.json` to `save_dir`.

    Raises:
        UsageError: no command, no images.
        CheckFailed: the service does not start, does not answer, or returns something else than
            a label map.
    """
    if not options.service:
        raise UsageError("the command that starts the service is expected behind '--'")
    samples = collect_samples(options.image_path)
    require_writable(options.save_dir, "--save_dir")
    with _service(options.service) as address:
        model = json.loads(_request(address + MODEL))
        for sample in track(samples, "asked"):
            _ask(address, sample, options.save_dir)
    # The report of the runtime is compared with the request, as after infer.py.
    result = {"backend": model.get("backend") or {}, "service": model}
    write_json(options.save_dir / "inference.json", result)
    log(f"{len(samples)} answers written to {options.save_dir}")


@contextlib.contextmanager
def _service(command: Sequence[str]) -> Iterator[str]:
    """Yields the address of a running service, which is stopped however the block ends."""
    port = _free_port()
    try:
        process = subprocess.Popen([*command, f"--host={HOST}", f"--port={port}"])
    except OSError as error:
        raise UsageError(f"{command[0]}: it cannot be started: {error.strerror}") from None
    address = f"http://{HOST}:{port}"
    try:
        _wait_until_ready(process, address)
        yield address
        if process.poll() is not None:
            raise CheckFailed(f"the service ended by itself with status {process.returncode}")
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen, address: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CheckFailed(
                f"the service ended with status {process.returncode} before it was ready"
            )
        with contextlib.suppress(OSError):  # refused, reset, or 503 while it loads
            _request(address + READY)
            return
        time.sleep(0.2)
    raise CheckFailed(f"the service was not ready within {READY_SECONDS:.0f} s")


def _request(url: str, body: bytes | None = None) -> bytes:
    """Returns the answer to a GET, or to a POST where there is a body."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return answer.read()


def _ask(address: str, sample: Sample, save_dir: Path) -> None:
    """Posts one image and saves the label map, a PNG whose pixel values are class ids."""
    try:
        content = _request(address + SEGMENT, sample.image.read_bytes())
        decode_label_values(content, "its answer")
    except urllib.error.HTTPError as error:
        said = error.read(200).decode("utf-8", "replace")
        raise CheckFailed(f"{sample.image}: the service answers {error.code}: {said}") from None
    except (OSError, DataError) as error:
        raise CheckFailed(f"{sample.image}: no label map from the service: {error}") from None
    path = save_dir / LABEL_MAPS / f"{sample.name}.png"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
