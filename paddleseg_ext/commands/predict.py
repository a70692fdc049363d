r"""Predict with a checkpoint in dynamic graph: label maps and overlays, scores where labels are.

    python predict.py --config YML --model_path output/best_model/model.pdparams \
        --image_path infer.list --save_dir output/predict

Writes SAVE_DIR/label_maps/NAME.png (palette PNG, pixel value = class id, original size),
SAVE_DIR/overlays/NAME.jpg and SAVE_DIR/predict.json. What infer.py prints as `#inference` for the
exported bundle is printed as `#predict` here: the two must be equal.
"""

import argparse

from paddleseg_ext.common.files import require_file, require_writable
from paddleseg_ext.common.flags import (
    add_config_flags,
    add_device_flag,
    boolean,
    make_parser,
    positive_int,
)
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.config import ABSENT_RULES, load_config


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = make_parser(__doc__ or "", "predict")
    add_config_flags(parser)
    parser.add_argument("--model_path", required=True, metavar="PDPARAMS", help="the checkpoint")
    parser.add_argument(
        "--image_path",
        required=True,
        metavar="PATH",
        help="an image, a folder of images, or a list with 'image' or 'image label' in each line",
    )
    parser.add_argument("--save_dir", default="output/predict", metavar="DIR", help="for results")
    parser.add_argument("--batch_size", type=positive_int, default=1, help="images in a run")
    add_device_flag(parser)
    parser.add_argument(
        "--print_detail", type=boolean, default=True, help="progress and scores on the terminal"
    )
    parser.add_argument(
        "--absent_class",
        choices=ABSENT_RULES,
        default=argparse.SUPPRESS,
        help="how absent classes count (default: as in the yml)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Check all that can be checked without Paddle, then run."""
    args = build_parser().parse_args(argv)
    config = load_config(args.config, args.opts)
    device = resolve_device(args.device)
    require_file(args.model_path, "--model_path")
    save_dir = require_writable(args.save_dir, "--save_dir")
    fix_thread_count()

    from paddleseg_ext.images.samples import collect_samples

    samples = collect_samples(args.image_path)

    from paddleseg_ext.evaluation.prediction_run import (
        RunSettings,
        check_inputs_stay,
        output_files,
        predict_and_save,
    )

    check_inputs_stay(samples, output_files(samples, save_dir))

    from paddleseg_ext.data.build import class_table_of
    from paddleseg_ext.evaluation.eager import load_eager
    from paddleseg_ext.inference.postprocess import Postprocess
    from paddleseg_ext.inference.preprocess import Preprocess

    preprocess = Preprocess(config.val_dataset.get("transforms") or [])
    table = class_table_of(config)
    backend = load_eager(config, args.model_path, table.num_classes, device)
    settings = RunSettings(
        title="predict",
        save_dir=save_dir,
        batch_size=args.batch_size,
        absent=getattr(args, "absent_class", config.absent_class),
        print_detail=args.print_detail,
        source={"config": args.config, "model_path": args.model_path},
    )
    return predict_and_save(backend, samples, preprocess, Postprocess(), table, settings)
