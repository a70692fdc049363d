r"""Predict with a checkpoint in dynamic graph: label maps and overlays, scores where labels are.

    python predict.py --config YML --model_path output/best_model/model.pdparams \
        --image_path infer.list --save_dir output/predict

Writes SAVE_DIR/label_maps/NAME.png (palette PNG, pixel value = class id, original size),
SAVE_DIR/overlays/NAME.jpg and SAVE_DIR/predict.json. What infer.py prints as `#inference` for the
exported bundle is printed as `#predict` here: the two must be equal. Images are predicted as the
yml's `test_config:` evaluates them, unless flags say otherwise.
"""

import argparse
from dataclasses import MISSING, dataclass
from pathlib import Path

from paddleseg_ext.checkpoints.manifest import configuration_for
from paddleseg_ext.commands.output_flags import save_confidence_option, unknown_below_option
from paddleseg_ext.common.files import require_file, require_writable
from paddleseg_ext.common.flags import (
    add_config_flags,
    add_device_flag,
    add_flags_of_paddleseg,
    make_parser,
)
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.options import add_options, option, read_options, refuse_idle, switch
from paddleseg_ext.evaluation.protocol_choice import (
    ProtocolFlags,
    require_whole_maps,
    rule_of,
    say_rule,
)


@dataclass(frozen=True)
class PredictOptions:
    """How a checkpoint predicts images."""

    model_path: str = option(MISSING, "the checkpoint", metavar="PDPARAMS")
    image_path: str = option(
        MISSING,
        "an image, a folder of images, or a list with 'image' or 'image label' in each line",
        metavar="PATH",
    )
    save_dir: Path = option(Path("output/predict"), "folder of the results", metavar="DIR")
    batch_size: int = option(1, "images per run", at_least=1)
    print_detail: bool = option(True, "progress and scores on the terminal")
    custom_color: list[int] | None = option(
        None, "red, green and blue of every class in label maps and overlays", metavar="N"
    )
    legend: bool = switch(
        "names and shares of the classes below each overlay, which is higher then"
    )
    save_confidence: bool = save_confidence_option()
    unknown_below: float | None = unknown_below_option()
    explain: list[str] | None = option(
        None,
        "also write explain/NAME/: the gates of ARM, FFM and BGA and Grad-CAM of these classes "
        "(by name or number; of none: the three largest of each image)",
        nargs="*",
        metavar="CLASS",
    )
    explain_layer: str | None = option(
        None,
        "layer of Grad-CAM, by its name in the network (default: the last of the coarsest maps)",
        needs="--explain",
        metavar="NAME",
    )


_PADDLESEGS = {
    "--flip_vertical": "no protocol here has it; leave it out",
    "--data_format": "networks here take (N, C, H, W) only; leave it out",
    "--use_multilabel": "a pixel has one class here; leave it out",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `predict`."""
    parser = make_parser(__doc__, "predict")
    add_config_flags(parser, required=False)
    add_options(parser, PredictOptions)
    add_options(parser.add_argument_group("protocol"), ProtocolFlags)
    add_device_flag(parser)
    add_flags_of_paddleseg(parser, _PADDLESEGS)
    return parser


def main(argv: list[str]) -> int:
    """Check all that can be checked without Paddle, then run."""
    args = build_parser().parse_args(argv)
    options = read_options(PredictOptions, args)
    refuse_idle(options, {"--explain": options.explain is not None})
    config = configuration_for(options.model_path, args.config, args.opts)
    flags = read_options(ProtocolFlags, args)
    rule = rule_of(flags, config)
    require_whole_maps(rule, "predict")
    wanted = {"confidence"} if options.save_confidence else set()
    device = resolve_device(args.device)
    require_file(options.model_path, "--model_path")
    require_writable(options.save_dir, "--save_dir")
    fix_thread_count()

    from paddleseg_ext.evaluation.prediction_run import (
        RunSettings,
        check_inputs_stay,
        output_files,
        predict_and_save,
    )
    from paddleseg_ext.images.samples import collect_samples

    samples = collect_samples(options.image_path)
    check_inputs_stay(samples, output_files(samples, options.save_dir))

    from paddleseg_ext.evaluation.eager import eager_predictor

    say_rule(rule, flags, config)
    what_ran = {"config": args.config, "model_path": options.model_path}
    if options.unknown_below is not None:
        what_ran["unknown_below"] = options.unknown_below
    settings = read_options(
        RunSettings,
        args,
        title="predict",
        absent=rule.absent_class,
        protocol=rule.make(),
        source=what_ran,
    )
    predictor = eager_predictor(config, options.model_path, device)
    predictor.set_colours(options.custom_color, "--custom_color")
    predictor = predictor.with_outputs(wanted, options.unknown_below)
    if options.explain is None:
        return predict_and_save(predictor, samples, settings)

    from paddleseg_ext.evaluation.explain import explain_and_save, explainer_of

    explainer = explainer_of(
        predictor, options.explain, options.explain_layer, samples, options.save_dir
    )
    status = predict_and_save(predictor, samples, settings)
    return max(status, explain_and_save(predictor, explainer, samples, options.save_dir))
