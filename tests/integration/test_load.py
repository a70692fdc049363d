"""The load of the service: what is sent, and what breaks its bounds."""

from itertools import islice

import cv2
import numpy as np

from benchmarks import load

SOUND = {
    "alive": True,
    "exit_status": 0,
    "statuses": {"200": 9, "503": 3},
    "memory_before_mib": 500.0,
    "memory_after_mib": 510.0,
    "memory_most_mib": 600.0,
}


def test_mixed_images_have_several_sizes_in_one_order() -> None:
    options = load.LoadOptions("deploy.yaml", size=(256, 128), mixed_sizes=True)
    images = load.draw_images(options)
    sizes = [cv2.imdecode(np.frombuffer(file, np.uint8), 1).shape[:2] for file in images]
    assert sizes[0] == (128, 256) and len(set(sizes)) == len(load.MIXED)
    assert any(side % 8 for size in sizes for side in size)
    first, again = ([number for number, _ in islice(load.shuffled(images), 50)] for _ in range(2))
    assert first == again and set(first) == set(range(len(images)))
    alone = load.draw_images(load.LoadOptions("deploy.yaml", size=(256, 128)))
    assert alone == images[:1]


def test_the_slowest_sizes_median_bounds_the_percentile() -> None:
    """Most images are small, and their median says nothing of a large one."""
    answers = [load.Answer(200, 20.0, 10.0, 1) for _ in range(90)]
    answers += [load.Answer(200, 110.0, 10.0, 0) for _ in range(10)]
    figures = SOUND | load.summarise(answers)
    assert figures["without_queue_median_ms"] == 100.0
    assert load.judge(figures | {"statuses": SOUND["statuses"]}) == []


def test_memory_has_two_bounds() -> None:
    assert load.judge(SOUND, most_mib=600.0) == []
    assert load.judge(SOUND, most_mib=599.0) == ["memory reached 600 MiB of 599 MiB"]
    grown = load.judge(SOUND | {"memory_after_mib": 530.0}, most_mib=700.0)
    assert grown == ["memory grew by 6.0%, at most 5% is allowed"]
