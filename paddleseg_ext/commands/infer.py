"""Run an exported bundle: images in, label maps, overlays and scores out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.flags import (
    add_device_flag,
    add_switch,
    boolean,
    make_parser,
    natural_int,
    positive_int,
)
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.evaluation.prediction_run import (
    WARM_UP_RUNS,
    RunSettings,
    check_inputs_stay,
    output_files,
    predict_and_save,
)
from paddleseg_ext.images.samples import Sample, collect_samples, image_sizes
from paddleseg_ext.inference.activity import shortfall
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.choice import ONNX_BACKENDS, choose_backend
from paddleseg_ext.inference.class_table import find_class_table
from paddleseg_ext.inference.engines.base import Backend
from paddleseg_ext.inference.engines.open import open_backend
from paddleseg_ext.inference.engines.paddle_inference import (
    PRECISIONS,
    PaddleOptions,
    check_options,
)
from paddleseg_ext.inference.engines.tensorrt import MIN_SUBGRAPH, TensorRtOptions, shapes_of
from paddleseg_ext.inference.video import (
    Source,
    VideoSettings,
    open_camera,
    open_video,
    result_path,
)
from paddleseg_ext.inference.video_run import run_video
from paddleseg_ext.scoring.metrics import ABSENT_RULES
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, PROTOCOLS

# Those that show a bundle whole images; the others are for val.py.
PROTOCOLS_OF_BUNDLES = (DEFAULT_PROTOCOL, "ss", "scale_0.5", "scale_0.75", "half_resize")

DESCRIPTION = f"""{__doc__}

Writes SAVE_DIR/label_maps/NAME.png (palette PNG, pixel value = class id, original size),
SAVE_DIR/overlays/NAME.jpg and SAVE_DIR/inference.json (integer counts, timings, what ran).
An image that cannot be read is reported, the rest is done, and the exit status is 1.
With --video or --camera it writes SAVE_DIR/overlays/NAME.mp4 and SAVE_DIR/inference.json.

--backend auto takes the fastest backend that is installed and that the bundle records as right
(paddleseg-ext tune), and Paddle Inference where nothing is recorded or flags of Paddle's
are given. It says which, and why.

  python infer.py --config output/export/deploy.yaml --image_path street.png --device cpu
  python infer.py --config output/export/deploy.yaml --image_path infer.list --device cpu \\
      --enable_mkldnn True --cpu_threads 2 --benchmark True
  python infer.py --config output/export/deploy.yaml --video street.mp4 --device cpu
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = make_parser(DESCRIPTION, "infer")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    add_input_flags(parser)
    parser.add_argument("--save_dir", default="output/infer", metavar="DIR", help="for the results")
    parser.add_argument("--batch_size", type=positive_int, default=1, help="images in a run")
    add_backend_flags(parser)
    add_switch(parser, "--benchmark", f"time the run, after {WARM_UP_RUNS} runs that do not count")
    parser.add_argument("--save_log_path", metavar="FILE", help="also write the benchmark there")
    parser.add_argument("--model_name", default="", help="what the benchmark calls the model")
    parser.add_argument(
        "--print_detail", type=boolean, default=True, help="progress and scores on the terminal"
    )
    parser.add_argument(
        "--absent_class", choices=ABSENT_RULES, default="skip", help="how absent classes count"
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS_OF_BUNDLES,
        default=DEFAULT_PROTOCOL,
        help="how the network is run and scored, see val.py; needs a bundle that gives logits",
    )
    parser.add_argument(
        "--num_classes",
        type=positive_int,
        help="for a bundle of PaddleSeg's whose graph ends in argmax: it does not say it itself",
    )
    return parser


def add_input_flags(parser: argparse.ArgumentParser) -> None:
    """What is predicted: images, a video or a camera."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--image_path",
        metavar="PATH",
        help="an image, a folder of images, or a list with 'image' or 'image label' in each line",
    )
    source.add_argument("--video", metavar="FILE", help="a video; every frame of it is predicted")
    source.add_argument(
        "--camera", type=natural_int, metavar="N", help="a camera, from 0; Ctrl-C ends the film"
    )
    parser.add_argument(
        "--most_frames", type=positive_int, metavar="N", help="of a video or camera: then it ends"
    )
    add_switch(parser, "--show_fps", "draw into the video how many frames a second are done")


def add_backend_flags(parser: argparse.ArgumentParser) -> None:
    """What runs the network, and on what."""
    add_device_flag(parser)
    parser.add_argument(
        "--backend",
        choices=("auto", "paddle", *ONNX_BACKENDS),
        default="auto",
        help="what runs the network; all but paddle need an ONNX graph in the bundle, and a CPU",
    )
    parser.add_argument("--use_trt", type=boolean, default=False, help="TensorRT; needs a GPU")
    parser.add_argument(
        "--min_subgraph_size",
        type=positive_int,
        default=MIN_SUBGRAPH,
        help="smaller parts of the graph are not given to TensorRT",
    )
    parser.add_argument(
        "--trt_cache_dir",
        type=Path,
        metavar="DIR",
        help="where TensorRT's engines are kept (default: tensorrt, beside the bundle)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="int8 needs a bundle that `quantize` wrote, or TensorRT; fp16 a GPU",
    )
    parser.add_argument(
        "--enable_mkldnn",
        type=boolean,
        help="oneDNN, for --backend paddle on a CPU (default: False)",
    )
    parser.add_argument(
        "--cpu_threads", type=positive_int, help="default: OMP_NUM_THREADS, else every core"
    )
    parser.add_argument(
        "--streams",
        type=positive_int,
        default=1,
        help="batches that are run at a time, for onnxruntime and openvino: 1 gives the shortest "
        "run, one for each core the most images",
    )
    parser.add_argument(
        "--cpu_affinity",
        type=boolean,
        default=False,
        metavar="True|False",
        help="bind each thread of onnxruntime or openvino to a core: for a machine that does "
        "nothing else (docs/performance.md)",
    )


def main(argv: list[str]) -> int:
    """Check all that can be checked without Paddle, then run."""
    args = build_parser().parse_args(argv)
    check_input_flags(args)
    device, threads = resolve_device(args.device), fix_thread_count(args.cpu_threads)
    options = PaddleOptions(
        device=device,
        enable_mkldnn=bool(args.enable_mkldnn),
        cpu_threads=threads,
        use_trt=args.use_trt,
        precision=args.precision,
    )
    for_paddle = device == "gpu" or args.use_trt or args.enable_mkldnn is not None
    if args.backend == "paddle" or for_paddle:
        check_options(options)
    bundle = read_bundle(args.config)
    name = find_backend(args, bundle, for_paddle)
    check_protocol(args.protocol, bundle)
    bundle.preprocess()  # refuses what it cannot do before Paddle is loaded
    require_writable(args.save_dir, "--save_dir")
    inputs = open_inputs(args)
    backend = open_backend(
        bundle,
        name,
        precision=args.precision,
        threads=threads,
        streams=args.streams,
        pinned=args.cpu_affinity,
        device=device,
        use_trt=args.use_trt,
        tensorrt=tensorrt_options(args, bundle, inputs) if args.use_trt else None,
    )
    fallen = shortfall(backend.describe(), name, args.precision, threads, device, args.use_trt)
    if fallen:
        warn(f"backend {name}: {fallen}")
    return run(args, bundle, backend, inputs)


def check_input_flags(args: argparse.Namespace) -> None:
    """Flags that belong to images, or to videos.

    Raises:
        UsageError: one that does nothing here.
    """
    if args.benchmark and args.streams > 1:
        raise UsageError("--benchmark times one run after the other: leave --streams out")
    if args.image_path is not None:
        if args.most_frames is not None or args.show_fps:
            raise UsageError("--most_frames and --show_fps are for --video and --camera")
    elif args.benchmark or args.save_log_path or args.protocol != DEFAULT_PROTOCOL:
        raise UsageError("--benchmark, --save_log_path and --protocol are for --image_path")


def check_protocol(protocol: str, bundle: Bundle) -> None:
    """Refuse what the bundle's output does not allow.

    Raises:
        UsageError: it says how to export the bundle.
    """
    if protocol == DEFAULT_PROTOCOL:
        return
    if bundle.output_op != "none":
        raise UsageError(
            f"--protocol {protocol} needs logits, and this bundle's graph ends in "
            f"{bundle.output_op}: export it with --output_op none"
        )
    if bundle.postprocess().upsampling != "graph":
        raise UsageError(
            f"--protocol {protocol} needs logits at the input's size, and this bundle's are "
            "enlarged afterwards: export it with --upsample graph"
        )


def open_inputs(args: argparse.Namespace) -> list[Sample] | Source:
    """The images, or the opened video or camera.

    Raises:
        UsageError: nothing there that can be read, or the result would replace it.
    """
    if args.image_path is not None:
        samples = collect_samples(args.image_path)
        check_inputs_stay(samples, output_files(samples, Path(args.save_dir)))
        if args.save_log_path:
            check_inputs_stay(samples, [Path(args.save_log_path)], "--save_log_path")
        return samples
    source = open_video(args.video) if args.video is not None else open_camera(args.camera)
    result_path(source, Path(args.save_dir))
    return source


def run(
    args: argparse.Namespace, bundle: Bundle, backend: Backend, inputs: list[Sample] | Source
) -> int:
    """Predict all, write the results; returns the exit status."""
    preprocess, postprocess = bundle.preprocess(), bundle.postprocess()
    table = find_class_table(bundle, backend, args.num_classes)
    source = {"bundle": str(bundle.deploy_file), "output_op": bundle.output_op}
    if isinstance(inputs, Source):
        video = VideoSettings(
            save_dir=Path(args.save_dir),
            batch_size=args.batch_size,
            streams=args.streams,
            show_fps=args.show_fps,
            most_frames=args.most_frames,
            print_detail=args.print_detail,
            what_ran=source | {"backend": backend.describe()},
        )
        return run_video(backend, inputs, preprocess, postprocess, table, video)
    settings = RunSettings(
        title="inference",
        save_dir=Path(args.save_dir),
        batch_size=args.batch_size,
        streams=args.streams,
        absent=args.absent_class,
        print_detail=args.print_detail,
        benchmark=args.benchmark,
        benchmark_log=Path(args.save_log_path) if args.save_log_path else None,
        model_name=args.model_name or (bundle.manifest.network if bundle.manifest else ""),
        protocol=PROTOCOLS[args.protocol],
        source=source,
    )
    return predict_and_save(backend, inputs, preprocess, postprocess, table, settings)


def tensorrt_options(
    args: argparse.Namespace, bundle: Bundle, inputs: Sequence[Sample] | Source
) -> TensorRtOptions:
    """Engines for the shapes that these images have in front of the network.

    Raises:
        UsageError: none of the images can be opened.
    """
    sizes_hw = (
        [inputs.size_hw]
        if isinstance(inputs, Source)
        else image_sizes([sample.image for sample in inputs])
    )
    if not sizes_hw:
        raise UsageError(f"--use_trt True: none of the images of {args.image_path} can be opened")
    shapes = shapes_of(bundle, sizes_hw, args.batch_size)
    return TensorRtOptions(shapes, args.min_subgraph_size, args.trt_cache_dir)


def find_backend(args: argparse.Namespace, bundle: Bundle, for_paddle: bool) -> str:
    """The name for `open_backend`; what `auto` chose is logged.

    Raises:
        UsageError: flags of Paddle's beside another backend.
    """
    if for_paddle and args.backend in ONNX_BACKENDS:
        raise UsageError(
            f"--backend {args.backend} runs on a CPU and knows no --enable_mkldnn or --use_trt; "
            "leave these out and give --device cpu, or use --backend paddle"
        )
    if args.backend == "auto" and not for_paddle:
        name, reason = choose_backend(bundle, args.precision)
        log(f"backend {name}: {reason}")
        return name
    if args.backend in ONNX_BACKENDS:
        return args.backend
    return "paddle_onednn" if args.enable_mkldnn else "paddle"
