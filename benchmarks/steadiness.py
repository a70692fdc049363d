"""How steady label maps of a film are, with and without `--smooth`, where the truth is known.

Films are drawn: the camera pans over a street, a car drives through, every frame has noise of its
own. For each weight of the frames before, it prints temporal consistency and mIoU, their change
with 95% intervals over the films, and how much more processor time a frame takes. The consistency
of the drawn labels themselves is the most that can be had.

  python benchmarks/steadiness.py --config output/demo/bundle/deploy.yaml --films 8 --frames 12
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.options import option, parse_options
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.labels import CITYSCAPES, IGNORE_INDEX
from paddleseg_ext.images.scenes import draw_film
from paddleseg_ext.inference.flow import TemporalConsistency
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.smoothing import DEFAULT_MEMORY, SmoothedPredictor
from paddleseg_ext.scoring.bootstrap import bootstrap_difference, image_draws, interval_of
from paddleseg_ext.scoring.confusion import ClassPixels, count_pairs
from paddleseg_ext.scoring.metrics import summarize


@dataclass(frozen=True)
class FilmOptions:
    """Films, and what is measured on them."""

    config: Path = option(Path("output/demo/bundle"), "a bundle of Cityscapes' classes")
    backend: str = option("openvino", "runtime")
    films: int = option(8, "drawn films", at_least=2)
    frames: int = option(12, "of each film", at_least=2)
    size: list[int] = option([384, 192], "width and height", nargs=2)
    memory: list[float] = option([0.3, DEFAULT_MEMORY, 0.8], "weights of the frames before")
    seed: int = option(1000, "of the first film")


@dataclass
class Film:
    """The figures of one film."""

    consistency: TemporalConsistency
    pairs: NDArray[np.int64]
    seconds: float = 0.0


def watch(predictor: Predictor, memory: float, seed: int, options: FilmOptions) -> Film:
    """Predict a film's frames in their order."""
    classes = predictor.class_table.num_classes
    film = Film(TemporalConsistency(), np.zeros((classes, classes), np.int64))
    runner = SmoothedPredictor(predictor, memory) if memory else predictor
    width, height = options.size
    for image, label in draw_film(seed, (width, height), options.frames):
        started = time.process_time()
        found = runner(image).label_map
        film.seconds += time.process_time() - started
        film.consistency.add(image, found)
        film.pairs += count_pairs(found, label, classes, IGNORE_INDEX)
    return film


def truth(options: FilmOptions, seeds: range) -> float:
    """The consistency of the drawn labels."""
    kept = compared = 0
    for seed in seeds:
        consistency = TemporalConsistency()
        width, height = options.size
        for image, label in draw_film(seed, (width, height), options.frames):
            consistency.add(image, label)
        kept, compared = kept + consistency.kept, compared + consistency.compared
    return kept / compared


def consistency(films: list[Film], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """(R,) of draws of films."""
    kept = np.array([film.consistency.kept for film in films])
    compared = np.array([film.consistency.compared for film in films])
    return (drawn @ kept) / (drawn @ compared)


def areas(films: list[Film]) -> ClassPixels:
    """The counts of each film."""
    return ClassPixels.of_images([vars(ClassPixels.of(film.pairs)) for film in films])


def main() -> None:
    """Draw, predict, print."""
    options = parse_options(FilmOptions, __doc__ or "")
    seeds = range(options.seed, options.seed + options.films)
    draws = np.concatenate([np.ones((1, len(seeds)), np.int64), image_draws(len(seeds), 1000, 0)])
    found: dict[float, list[Film]] = {memory: [] for memory in [0.0, *options.memory]}
    with Predictor.open(options.config, options.backend, threads=1) as predictor:
        if predictor.class_table.class_names != CITYSCAPES.class_names:
            raise SystemExit(
                f"error: {options.config}: a bundle of Cityscapes' classes is expected, which the "
                f"drawn films have, got {predictor.class_table.name}"
            )
        predictor.warm_up()
        for seed in track(seeds, "films", total=len(seeds)):
            for memory, films in found.items():  # in turns
                films.append(watch(predictor, memory, seed, options))
    print(
        f"{len(seeds)} films of {options.frames} frames; of the labels: {truth(options, seeds):.4f}"
    )
    plain = found[0.0]
    for memory, films in found.items():
        score = summarize(sum(film.pairs for film in films)).mean_iou
        values = consistency(films, draws)
        line = f"memory {memory:g}: consistency {values[0]:.4f}, mIoU {score:.4f}"
        if memory:
            steps = values - consistency(plain, draws)
            gain = interval_of(float(steps[0]), steps[1:], len(seeds))
            change = bootstrap_difference(areas(plain), areas(films))
            ratio = sum(f.seconds for f in films) / sum(f.seconds for f in plain)
            line += f"; change {gain.words()}, {change.words()}; processor time x{ratio:.2f}"
        print(line)


if __name__ == "__main__":
    main()
