"""The HTTP service above its capacity: it must stay alive, bounded and quick to refuse.

Starts `serve` on 127.0.0.1, measures its capacity with as many clients as keep it busy, then sends
requests at 1.2 times that rate, at fixed moments, whatever comes back. With --mixed_sizes images
have several sizes, in the random order of a fixed seed. Fails (status 1) where

  - a request got neither 200 nor 503, or the server died,
  - memory after the run is more than 5% above what it was after warm-up, or ever above --most_mib,
  - the 99th percentile of accepted requests is above (p99 of the queue wait) + 3 x (median of the
    rest, of the size that takes longest),
  - the 95th percentile of refusals is 50 ms or more. A busy machine has the same effect, so run it
    alone. The share of refusals above 50 ms and the slowest are reported, not judged.

  python benchmarks/load.py --config bundle/deploy.yaml --minutes 30 --backend paddle_onednn
  python benchmarks/load.py --config bundle/deploy.yaml --minutes 60 --backend openvino \
      --mixed_sizes True --most_mib 1500
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import httpx
import numpy as np

from paddleseg_ext.commands.runtime_flags import NAMES
from paddleseg_ext.common.errors import CheckFailed, run_command
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import option, parse_options, switch
from paddleseg_ext.images.scenes import draw_scene

PROJECT = Path(__file__).resolve().parents[1]
OVERLOAD = 1.2
MOST_GROWTH = 0.05
MOST_REFUSAL_MS = 50.0
MEDIANS = 3.0
PATIENCE_S = 120.0
CAPACITY_CLIENTS = 4
MIXED = (1.0, 0.75, 0.5, 0.37, 0.25)  # of each side; .37 gives sides that no stride divides
KIB = 1024


@dataclass(frozen=True)
class LoadOptions:
    """Options of the measurement."""

    config: str = option(MISSING, "deploy.yaml of the bundle", metavar="YAML")
    minutes: float = option(1.0, "of overload", above=0)
    capacity_seconds: float = option(20.0, "of measuring capacity", above=0)
    size: tuple[int, int] = option((1024, 512), "of the image", nargs=2, metavar=("W", "H"))
    mixed_sizes: bool = switch(f"images of {', '.join(map(str, MIXED))} times --size, too")
    most_mib: float | None = option(None, "of memory, at any time", above=0)
    deadline: float | None = option(None, "of the service, seconds", above=0)
    backend: str = option("paddle", "runtime of the network", choices=NAMES)
    precision: Literal["fp32", "int8"] | None = option(None, "unless --backend names it")
    cpu_threads: int | None = option(None, "of the network", at_least=1)
    queue_size: int = option(8, "images accepted and not yet answered", at_least=1)
    max_batch: int = option(1, "images that may run together", at_least=1)
    python: str = option(sys.executable, "that serves, with requirements/serve.txt")
    save_path: str = option("output/load.json", "for the figures")


@dataclass(frozen=True)
class Answer:
    """The outcome of one request."""

    status: int
    latency_ms: float
    queue_ms: float
    image: int = 0  # its number


def main(argv: list[str] | None = None) -> int | None:
    """Serve, load, judge.

    Raises:
        CheckFailed: naming every bound that was broken.
    """
    options = parse_options(LoadOptions, __doc__ or "", argv)
    images = draw_images(options)
    server = start(options)
    try:
        url = wait_until_ready(server)
        figures = asyncio.run(load(url, server.pid, images, options))
        figures["alive"] = server.poll() is None
        server.send_signal(signal.SIGTERM)
        figures["exit_status"] = server.wait(PATIENCE_S)
    finally:
        server.kill()
    broken = judge(figures, options.most_mib)
    write_json(options.save_path, figures | {"broken": broken})
    for name, value in figures.items():
        log(f"[LOAD] {name}: {value}")
    if broken:
        raise CheckFailed("; ".join(broken))
    return None


def draw_images(options: LoadOptions) -> list[bytes]:
    """JPEGs of the sizes that are sent."""
    files = []
    for share in MIXED if options.mixed_sizes else MIXED[:1]:
        size = (round(options.size[0] * share), round(options.size[1] * share))
        image, _ = draw_scene(0, size)
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        files.append(encoded.tobytes())
    return files


def start(options: LoadOptions) -> subprocess.Popen:
    """The service, on any free port."""
    command = [options.python, "-m", "paddleseg_ext", "serve", "--port=0"]
    names = ("config", "backend", "precision", "cpu_threads", "queue_size", "max_batch", "deadline")
    for name in names:
        value = getattr(options, name)
        command += [] if value is None else [f"--{name}={value}"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def wait_until_ready(server: subprocess.Popen) -> str:
    """The address that it prints."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"ready on (http://\S+)", line):
            return found[1]
    raise CheckFailed("the service did not start")


async def load(url: str, pid: int, images: list[bytes], options: LoadOptions) -> dict[str, Any]:
    """Capacity, then overload."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits) as client:
        for number, image in enumerate(images):  # some engines compile for each size
            await ask(client, image, number)
        await keep_busy(client, images, options.capacity_seconds / 4)  # warm-up
        capacity = await keep_busy(client, images, options.capacity_seconds)
        log(f"[LOAD] capacity: {capacity:.2f} images/s")
        # The first minute of overload fills every buffer that there is.
        rate, seconds = OVERLOAD * capacity, options.minutes * 60
        await overload(client, images, rate, min(60.0, seconds / 2))
        memory_before = resident_mib(pid)
        answers = await overload(client, images, rate, seconds)
    return {
        "capacity_images_s": capacity,
        "rate_images_s": rate,
        "minutes": options.minutes,
        "sizes": len(images),
        "memory_before_mib": memory_before,
        "memory_after_mib": resident_mib(pid),
        "memory_most_mib": resident_mib(pid, "VmHWM"),
        **summarise(answers),
    }


def shuffled(images: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Numbers and images without an end, in an order that is the same each time."""
    generator = np.random.default_rng(0)
    while True:
        number = int(generator.integers(len(images)))
        yield number, images[number]


async def keep_busy(client: httpx.AsyncClient, images: list[bytes], seconds: float) -> float:
    """Images per second of a few clients, each of which sends one image after the other."""
    start, order = time.perf_counter(), shuffled(images)

    async def ask_on() -> int:
        done = 0
        while time.perf_counter() - start < seconds:
            number, image = next(order)
            done += (await ask(client, image, number)).status == 200
        return done

    done = sum(await asyncio.gather(*(ask_on() for _ in range(CAPACITY_CLIENTS))))
    return done / (time.perf_counter() - start)


async def overload(
    client: httpx.AsyncClient, images: list[bytes], rate: float, seconds: float
) -> list[Answer]:
    """Answers to requests that are sent at fixed times, however slow earlier answers are."""
    start, order = time.perf_counter(), shuffled(images)
    tasks = []
    for moment in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + moment / rate - time.perf_counter()))
        number, image = next(order)
        tasks.append(asyncio.create_task(ask(client, image, number)))
    return list(await asyncio.gather(*tasks))


async def ask(client: httpx.AsyncClient, image: bytes, number: int) -> Answer:
    """One request; status 0 where the connection broke."""
    start = time.perf_counter()
    try:
        response = await client.post("/v1/segment?output=labels", content=image)
    except httpx.HTTPError:
        return Answer(0, (time.perf_counter() - start) * 1000, 0.0, number)
    waited = re.search(r"queue;dur=([\d.]+)", response.headers.get("server-timing", ""))
    latency_ms = (time.perf_counter() - start) * 1000
    return Answer(response.status_code, latency_ms, float(waited[1]) if waited else 0.0, number)


def summarise(answers: list[Answer]) -> dict[str, Any]:
    """Figures of a phase, milliseconds."""
    accepted = [answer for answer in answers if answer.status == 200]
    refused_ms = [answer.latency_ms for answer in answers if answer.status == 503]
    found: dict[str, Any] = {"statuses": dict(Counter(str(answer.status) for answer in answers))}
    if accepted:
        latency_ms = np.array([answer.latency_ms for answer in accepted])
        queue_ms = np.array([answer.queue_ms for answer in accepted])
        numbers = np.array([answer.image for answer in accepted])
        medians = [np.median((latency_ms - queue_ms)[numbers == n]) for n in set(numbers)]
        found |= {
            "accepted_p50_ms": float(np.percentile(latency_ms, 50)),
            "accepted_p99_ms": float(np.percentile(latency_ms, 99)),
            "queue_p99_ms": float(np.percentile(queue_ms, 99)),
            "without_queue_median_ms": float(max(medians)),
        }
    if refused_ms:
        found |= {
            "refused_p50_ms": float(np.percentile(refused_ms, 50)),
            "refused_p95_ms": float(np.percentile(refused_ms, 95)),
            "refused_max_ms": float(max(refused_ms)),
            "refused_late_share": float(np.mean(np.array(refused_ms) >= MOST_REFUSAL_MS)),
        }
    return found


def judge(figures: dict[str, Any], most_mib: float | None = None) -> list[str]:
    """One sentence per bound that was exceeded."""
    broken = []
    if not figures["alive"] or figures["exit_status"] != 0:
        broken.append(f"the server died or did not stop well ({figures['exit_status']})")
    others = set(figures["statuses"]) - {"200", "503"}
    if others:
        broken.append(f"statuses other than 200 and 503: {sorted(others)}")
    growth = figures["memory_after_mib"] / figures["memory_before_mib"] - 1
    if growth > MOST_GROWTH:
        broken.append(f"memory grew by {growth:.1%}, at most {MOST_GROWTH:.0%} is allowed")
    if most_mib is not None and figures["memory_most_mib"] > most_mib:
        broken.append(f"memory reached {figures['memory_most_mib']:.0f} MiB of {most_mib:g} MiB")
    if "accepted_p99_ms" in figures:
        bound_ms = figures["queue_p99_ms"] + MEDIANS * figures["without_queue_median_ms"]
        if figures["accepted_p99_ms"] > bound_ms:
            broken.append(f"p99 {figures['accepted_p99_ms']:.0f} ms is above {bound_ms:.0f} ms")
    if figures.get("refused_p95_ms", 0.0) >= MOST_REFUSAL_MS:
        broken.append(f"refusals took {figures['refused_p95_ms']:.0f} ms (p95)")
    return broken


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Memory of a process; its most with `VmHWM`."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / KIB if found else 0.0


if __name__ == "__main__":
    run_command(main)
