"""Run an exported bundle: images in, label maps, overlays and scores out.

Writes SAVE_DIR/label_maps/NAME.png (palette PNG, pixel value = class id, original size),
SAVE_DIR/overlays/NAME.jpg and SAVE_DIR/inference.json (integer counts, timings, what ran).
An image that cannot be read is reported, the rest is done, and the exit status is 1.
With --video or --camera it writes SAVE_DIR/overlays/NAME.webm, or .mp4 where
OpenCV can write H.264, and SAVE_DIR/inference.json.

--backend auto takes the fastest FP32 runtime that is installed and that the bundle records as right
(export records it, `paddleseg-ext tune` on your images). It takes Paddle Inference where nothing is
recorded or flags of Paddle's are given. The log names the runtime and the reason.

  paddleseg-ext infer --config output/export/deploy.yaml --image_path street.png
  paddleseg-ext infer --config output/export/deploy.yaml --image_path infer.list --device cpu \
      --enable_mkldnn True --cpu_threads 2 --benchmark True
  paddleseg-ext infer --config output/export/deploy.yaml --video street.mp4
"""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddleseg_ext.commands.output_flags import save_confidence_option, unknown_below_option
from paddleseg_ext.commands.runtime_flags import (
    RuntimeFlags,
    asked_runtime,
    for_many_images,
    runtime_of,
)
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.flags import make_parser, natural_int, positive_int
from paddleseg_ext.common.options import add_options, option, read_options, refuse_idle, switch
from paddleseg_ext.evaluation.bundle_protocol import PROTOCOLS_OF_BUNDLES, rule_for_bundle
from paddleseg_ext.evaluation.prediction_run import (
    WARM_UP_RUNS,
    RunSettings,
    check_inputs_stay,
    output_files,
    predict_and_save,
)
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.samples import Sample, collect_samples, image_sizes
from paddleseg_ext.images.video import Source, open_camera, open_video
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.engines.tensorrt import shapes_of
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.smoothing import DEFAULT_MEMORY, SmoothedPredictor, check_smoothing
from paddleseg_ext.inference.video import VideoSettings, check_video_stays
from paddleseg_ext.inference.video_files import AUTO, CODECS
from paddleseg_ext.inference.video_run import run_video
from paddleseg_ext.scoring.metrics import AbsentRule

BENCHMARK, IMAGES, FILM = "--benchmark True", "--image_path", "--video or --camera"


@dataclass(frozen=True)
class InferOptions:
    """How a bundle is run on images or a video."""

    save_dir: Path = option(Path("output/infer"), "folder of the results", metavar="DIR")
    batch_size: int = option(1, "images per run", at_least=1)
    save_log_path: Path | None = option(
        None, "also write the benchmark there", metavar="FILE", needs=BENCHMARK
    )
    model_name: str = option("", "name of the model in the benchmark", needs=BENCHMARK)
    print_detail: bool = option(True, "progress and scores on the terminal")
    legend: bool = switch(
        "names and shares of the classes below each overlay, which is higher then", needs=IMAGES
    )
    save_confidence: bool = save_confidence_option(
        "; of a video confidence/NAME/000000.png and so on"
    )
    save_familiarity: bool = switch(
        "also write familiarity/NAME.png: the standardised largest logit, of a bundle with class "
        "statistics (calibrate --train_data); 128 is the mean of training pixels, 16 a deviation",
        needs=IMAGES,
    )
    unknown_below: float | None = unknown_below_option()
    absent_class: AbsentRule | None = option(
        None, "how absent classes count (default: as the bundle says)", needs=IMAGES
    )
    protocol: str | None = option(
        None,
        "how the network is run and scored, see val.py; needs a bundle that gives logits (default: "
        "as the bundle says)",
        choices=PROTOCOLS_OF_BUNDLES,
    )
    custom_color: list[int] | None = option(
        None, "red, green and blue of every class in label maps and overlays", metavar="N"
    )
    save_label_maps: bool = switch(
        "also write label_maps/NAME/000000.png and so on, the label map of each frame", needs=FILM
    )
    show_fps: bool = switch("draw into the video how many frames per second are done", needs=FILM)
    consistency: bool = switch(
        "the share of pixels that keep their class along optical flow, of a video", needs=FILM
    )
    smooth: float | None = option(
        None,
        "average the scores of a video along optical flow, so that label maps are steadier; the "
        f"frames before weigh {DEFAULT_MEMORY}, or as said; what it costs: docs/trust.md",
        above=0,
        below=1,
        nargs="?",
        const=DEFAULT_MEMORY,
        metavar="WEIGHT",
        needs=FILM,
    )
    video_codec: str = option(
        AUTO,
        "of the written video; auto takes the first that browsers play and OpenCV can write here: "
        "H.264 as .mp4, VP9 or VP8 as .webm; mp4v is encoded several times faster, and browsers do "
        "not play it",
        choices=(AUTO, *CODECS),
        needs=FILM,
    )
    benchmark: bool = switch(
        f"time the run, after {WARM_UP_RUNS} runs that do not count", needs=IMAGES
    )
    num_classes: int | None = option(
        None,
        "for a bundle of PaddleSeg's whose graph ends in argmax: it does not say it itself",
        at_least=1,
    )

    @property
    def outputs(self) -> set[str]:
        """Further outputs of the predictor."""
        asked = {"confidence": self.save_confidence, "familiarity": self.save_familiarity}
        return {name for name, is_asked in asked.items() if is_asked}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `infer`."""
    parser = make_parser(__doc__, "infer")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--image_path",
        metavar="PATH",
        help="an image, a folder of images, or a list with 'image' or 'image label' in each line",
    )
    source.add_argument("--video", metavar="FILE", help="a video; every frame of it is predicted")
    source.add_argument(
        "--camera",
        type=natural_int,
        metavar="N",
        help="a camera, from 0; Ctrl-C or SIGTERM ends the film",
    )
    parser.add_argument(
        "--most_frames", type=positive_int, metavar="N", help="of a video or camera: then it ends"
    )
    add_options(parser, InferOptions)
    add_options(parser.add_argument_group("runtime"), RuntimeFlags)
    return parser


def main(argv: list[str]) -> int:
    """Check all that can be checked without an engine, then run."""
    args = build_parser().parse_args(argv)
    options, flags = read_options(InferOptions, args), read_options(RuntimeFlags, args)
    check_input_flags(args, options, flags)
    asked_runtime(flags)
    bundle = read_bundle(args.config, hashed=False)
    spec = runtime_of(flags, bundle)
    bundle.warn_of_changes(ENGINES[spec.engine].graphs.get(spec.precision))
    rule = rule_for_bundle(bundle, options.protocol)
    bundle.preprocess()  # refuses unknown transforms before an engine is loaded
    wanted = options.outputs
    bundle.require_outputs(wanted, options.unknown_below)
    if options.smooth is not None:
        check_smoothing(bundle.output_op, spec.streams)
    require_writable(options.save_dir, "--save_dir")
    inputs = open_inputs(args, options)
    if flags.streams is None and not isinstance(inputs, Source) and not options.benchmark:
        spec = for_many_images(spec, math.ceil(len(inputs) / options.batch_size))
    if spec.tensorrt is not None:
        spec = with_shapes(spec, bundle, inputs, options.batch_size)
    predictor = Predictor.of_bundle(bundle, spec, options.num_classes)
    predictor.set_colours(options.custom_color, "--custom_color")
    predictor = predictor.with_outputs(wanted, options.unknown_below)
    predictor.warn_of_shortfall()
    what_ran: dict[str, Any] = {"bundle": str(bundle.deploy_file), "output_op": bundle.output_op}
    if options.unknown_below is not None:
        what_ran["unknown_below"] = options.unknown_below
    if isinstance(inputs, Source):
        predictor = by_protocol(predictor, rule.make())
        what_ran["protocol"] = rule.make().describe()
        if options.smooth is not None:
            predictor = SmoothedPredictor(predictor, options.smooth)
            what_ran["smooth"] = options.smooth
        film = read_options(VideoSettings, args, what_ran=what_ran, streams=spec.streams)
        return run_video(predictor, inputs, film)
    settings = read_options(
        RunSettings,
        args,
        streams=spec.streams,
        title="inference",
        absent=options.absent_class or rule.absent_class,
        benchmark_log=options.save_log_path,
        model_name=options.model_name or (bundle.manifest.network if bundle.manifest else ""),
        protocol=rule.make(),
        source=what_ran,
    )
    return predict_and_save(predictor, inputs, settings)


def check_input_flags(args: argparse.Namespace, options: InferOptions, flags: RuntimeFlags) -> None:
    """Refuse flags that do nothing for images, or for videos.

    Raises:
        UsageError: naming them.
    """
    if options.benchmark and (flags.streams or 1) > 1:
        raise UsageError("--benchmark times one run after the other: leave --streams out")
    is_film = args.image_path is None
    refuse_idle(options, {BENCHMARK: options.benchmark, IMAGES: not is_film, FILM: is_film})
    if args.most_frames is not None and not is_film:
        raise UsageError(f"--most_frames does nothing without {FILM}")


def open_inputs(args: argparse.Namespace, options: InferOptions) -> list[Sample] | Source:
    """The images, or the opened video or camera.

    Raises:
        UsageError: nothing that can be read, or a result would replace an input.
    """
    if args.image_path is not None:
        samples = collect_samples(args.image_path)
        check_inputs_stay(samples, output_files(samples, options.save_dir))
        if options.save_log_path:
            check_inputs_stay(samples, [options.save_log_path], "--save_log_path")
        return samples
    source = open_video(args.video) if args.video is not None else open_camera(args.camera)
    check_video_stays(source, options.save_dir)
    return source


def with_shapes(
    spec: RuntimeSpec, bundle: Bundle, inputs: list[Sample] | Source, batch_size: int
) -> RuntimeSpec:
    """The runtime with TensorRT's shapes: those that these images have in front of the network.

    Raises:
        UsageError: none of the images can be opened.
    """
    assert spec.tensorrt is not None
    sizes_hw = (
        [inputs.size_hw]
        if isinstance(inputs, Source)
        else image_sizes([sample.image for sample in inputs])
    )
    if not sizes_hw:
        raise UsageError("--use_trt True: none of the images of --image_path can be opened")
    shapes = shapes_of(bundle, sizes_hw, batch_size)
    return replace(spec, tensorrt=replace(spec.tensorrt, shapes=shapes))
