r"""The table of docs/results/parity.md: networks in every runtime, PaddleSeg's in its own way, too.

    python benchmarks/parity_networks.py --dataset_root data/cityscapes --save_dir output/networks

Weights are random; batch statistics are those of the validation images, and the last convolution
is scaled so that the classes compete. That is harder on a runtime than trained weights: a network
that has learnt is decided nearly everywhere. The first validation images are made small, and label
maps are compared at that size. Prints a Markdown table. `--stages mnn ncnn web` compares these; for
MNN and ncnn the graph is exported at that size.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, nearest_name, run_command
from paddleseg_ext.common.files import write_text
from paddleseg_ext.common.log import log

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RUNTIMES = ("static", "paddle", "paddle_onednn", "onnxruntime", "openvino")
PHONES = ("mnn", "ncnn")  # have graphs of their own
NUM_IMAGES = 4
SMALLER_PX = 12  # makes sides that no stride divides
NUM_CLASSES = 19
LOGIT_SCALE = 8.0  # of trained networks' largest logits, roughly


@dataclass(frozen=True)
class Network:
    """One row of the table.

    Attributes:
        yml: below configs/.
        model: replaces the yml's `model:` where given.
        odd: the input is `SMALLER_PX` smaller than the images, and no multiple of any stride.
        paddlesegs_way: exported as PaddleSeg exports it.
    """

    yml: str
    model: dict[str, Any] = field(default_factory=dict)
    odd: bool = False
    paddlesegs_way: bool = False


def _paddlesegs(paddlesegs_way: bool) -> dict[str, Network]:
    way = "exported by PaddleSeg" if paddlesegs_way else "exported by this project"
    v1 = {"type": "paddleseg.BiseNetV1", "backbone": {"type": "paddleseg.ResNet18_vd"}}
    stdc = {"type": "paddleseg.STDCSeg", "backbone": {"type": "paddleseg.STDC1"}}
    v1_yml = "bisenetv1/bisenetv1_paddleseg_cityscapes_1024x512_160k.yml"
    stdc_yml = "stdcseg/stdc1_seg_cityscapes_1024x512_60k.yml"
    return {
        f"PaddleSeg BiSeNetV1, {way}": Network(v1_yml, v1, paddlesegs_way=paddlesegs_way),
        f"PaddleSeg STDC1-Seg, {way}": Network(stdc_yml, stdc, paddlesegs_way=paddlesegs_way),
        f"PaddleSeg STDC1-Seg, odd size, {way}": Network(stdc_yml, stdc, True, paddlesegs_way),
    }


NETWORKS = {
    "BiSeNetV1": Network("bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml"),
    "BiSeNetV2": Network("bisenetv2/bisenetv2_coincheung_cityscapes_1024x512_150k.yml"),
    "STDC1-Seg": Network("stdcseg/stdc1_seg_cityscapes_1024x512_60k.yml"),
    "STDC2-Seg": Network("stdcseg/stdc2_seg_cityscapes_1024x512_60k.yml"),
    "DABNet R18": Network("dabnet/dabnet_r18_cityscapes_1024x1024_80k.yml"),
    "DABNet EffB1": Network("dabnet/dabnet_efficientnetb1_cityscapes_1024x1024_80k.yml"),
    "BiSeNetV1, PaddleSeg's variant": Network(
        "bisenetv1/bisenetv1_paddleseg_cityscapes_1024x512_160k.yml"
    ),
    "PaddleSeg PP-LiteSeg": Network("pp_liteseg/pp_liteseg_stdc1_cityscapes_1024x512_160k.yml"),
    "PaddleSeg DDRNet-23": Network("ddrnet/ddrnet23_cityscapes_1024x1024_120k.yml"),
    **_paddlesegs(True),
    **_paddlesegs(False),
}


def main() -> None:
    """Make every network's weights, compare it, print the table."""
    parser = flags.make_parser(__doc__ or "")
    parser.add_argument("--dataset_root", default="data/cityscapes")
    parser.add_argument("--save_dir", default="output/parity_networks")
    parser.add_argument(
        "--size", nargs=2, type=flags.positive_int, default=[512, 256], metavar=("W", "H")
    )
    parser.add_argument("--seed", type=flags.natural_int, default=0, help="of the weights")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--stages", nargs="+", default=RUNTIMES, metavar="STAGE")
    arguments = parser.parse_args()
    for name in arguments.networks:
        if name not in NETWORKS:
            parser.error(f"unknown network '{name}'{nearest_name(name, NETWORKS)}")
    size_wh = (arguments.size[0], arguments.size[1])
    samples = make_images(arguments.dataset_root, Path(arguments.save_dir) / "data", size_wh)
    lines = [
        "| network | run | verdict | pixels that differ | largest margin | controls caught |",
        "|---|---|---|---|---|---|",
    ]
    for number, name in enumerate(arguments.networks):
        log(f"== {name}")
        folder = Path(arguments.save_dir) / str(number)
        made = measure(NETWORKS[name], folder, samples, size_wh, arguments.seed, arguments.stages)
        lines += table_rows(name, made)
        write_text(Path(arguments.save_dir) / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def make_images(dataset_root: str, folder: Path, size_wh: tuple[int, int]) -> Path:
    """Small copies of the first validation images and labels; gives their list."""
    from paddleseg_ext.data.datasets import Cityscapes

    dataset = Cityscapes(dataset_root, mode="val")
    lines = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(min(NUM_IMAGES, len(dataset))):
        image, label = dataset.read(number)
        small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
        classes = cv2.resize(label, size_wh, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{number}.png"), small[:, :, ::-1])
        cv2.imwrite(str(folder / f"{number}_labelTrainIds.png"), classes)
        lines.append(f"{number}.png {number}_labelTrainIds.png\n")
    write_text(folder / "val.list", "".join(lines))
    return folder / "val.list"


def measure(
    network: Network,
    folder: Path,
    samples: Path,
    size_wh: tuple[int, int],
    seed: int,
    stages: Sequence[str] = RUNTIMES,
) -> dict[str, Any]:
    """Calibrate, export, compare; gives `results.json`, or `refused` where export found a fault."""
    from paddleseg_ext.commands import export
    from paddleseg_ext.commands import parity as cli
    from paddleseg_ext.config import load_config

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").unlink(missing_ok=True)  # of an earlier run, perhaps another network
    yml, weights = folder / "network.yml", folder / "model.pdparams"
    write_text(yml, yaml.safe_dump(config_of(network, samples, size_wh)))
    config = load_config(yml)
    model = make_weights(config, weights, seed)
    command = ["--config", str(yml), "--model_path", str(weights), "--image_list", str(samples)]
    command += ["--save_dir", str(folder), "--cpu_threads", "1", "--batch_size", "1"]
    graphs: list[str] = []
    if network.paddlesegs_way:
        bundle = export_paddlesegs_way(model, config, folder / "paddleseg")
        command += ["--bundle", str(bundle), "--stages", "paddle", "paddle_onednn"]
    else:
        command += ["--stages", *stages]
        if stages == RUNTIMES:  # the faults need no other stage to be noticed
            command.append("--negative_controls")
        graphs = [name for name in PHONES if any(stage.startswith(name) for stage in stages)]
    try:
        if graphs:
            sides = [str(side) for side in reversed(size_wh)]
            target = ["--save_dir", str(folder / "bundle"), "--input_shape", *sides]
            asked = [word for name in graphs for word in (f"--{name}", "True")]
            export.main([*command[:4], *target, *asked])
            command += ["--bundle", str(folder / "bundle")]
        cli.main(command)
    except CheckFailed as failure:
        log(str(failure))
        if not (folder / "results.json").is_file():
            return {"refused": str(failure)}
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def config_of(network: Network, samples: Path, size_wh: tuple[int, int]) -> dict[str, Any]:
    """The configuration of a network on small images, compared as they are."""
    smaller = SMALLER_PX if network.odd else 0
    resize = {"type": "Resize", "target_size": [side - smaller for side in size_wh]}
    content: dict[str, Any] = {
        "_base_": str((CONFIGS / network.yml).resolve()),
        # The images are compared as they are, not by the authors' protocols, which start from the
        # full size.
        "test_config": {"_inherited_": False},
        "val_dataset": {
            "_inherited_": False,
            "type": "ListDataset",
            "dataset_root": str(samples.parent.resolve()),
            "val_path": samples.name,
            "mode": "val",
            "num_classes": NUM_CLASSES,
            "transforms": [resize, {"type": "Normalize"}],
        },
    }
    if network.model:
        content["model"] = {"_inherited_": False, **network.model}
    return content


def make_weights(config: Any, path: Path, seed: int) -> Any:
    """Random weights under which the classes compete, saved to `path`; gives the network."""
    import paddle

    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import save_weights
    from paddleseg_ext.data.build import build_dataset
    from paddleseg_ext.images.reading import read_image
    from paddleseg_ext.inference.preprocess import Preprocess
    from paddleseg_ext.models.build import build_model

    paddle.seed(seed)
    model = build_model(config, NUM_CLASSES)
    preprocess = Preprocess(config.val_dataset["transforms"])
    samples = build_dataset(config, "val_dataset").samples
    images = paddle.to_tensor(np.stack([preprocess(read_image(s.image))[0] for s in samples]))
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    momenta = [norm._momentum for norm in norms]
    for norm in norms:
        norm._momentum = 0.0  # the running statistics become those of the images
    model.train()
    with paddle.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm._momentum = momentum
    model.eval()
    _scale_last_convolution(model, images)
    save_weights(model, path, CheckpointManifest(iteration=0))
    return model


def _scale_last_convolution(model: Any, images: Any) -> None:
    """Bring every class's logits to mean 0 and one spread, as far as the last layer can."""
    import paddle

    seen: list[Any] = []
    hooks = [
        layer.register_forward_post_hook(lambda layer, _, out: seen.append((layer, out)))
        for layer in model.sublayers()
        if isinstance(layer, paddle.nn.Conv2D) and layer.weight.shape[0] == NUM_CLASSES
    ]
    with paddle.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    for layer, logits in seen:
        mean, spread = logits.mean([0, 2, 3]), logits.std([0, 2, 3])
        factor = LOGIT_SCALE / 3 / spread
        layer.weight.set_value(layer.weight * factor.reshape([-1, 1, 1, 1]))
        if layer.bias is not None:
            layer.bias.set_value((layer.bias - mean) * factor)


def export_paddlesegs_way(model: Any, config: Any, folder: Path) -> Path:
    """As PaddleSeg's `tools/export.py` and its `deploy.yaml`; says what its predictor does then.

    Source: PaddleSeg 2.8 `tools/export.py`, `deploy/python/infer.py`.
    """
    import paddle
    from paddleseg.deploy.export import WrappedModel

    wrapped = WrappedModel(model, "argmax")
    wrapped.eval()
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    paddle.jit.save(paddle.jit.to_static(wrapped, input_spec=spec), str(folder / "model"))
    deploy = {
        "model": "model.pdmodel",
        "params": "model.pdiparams",
        "transforms": [dict(spec) for spec in config.val_dataset["transforms"]],
        "input_shape": [-1, 3, -1, -1],
        "output_op": "argmax",
        "output_dtype": "int32",
    }
    write_text(folder / "deploy.yaml", yaml.safe_dump({"Deploy": deploy}))
    for what, why in paddlesegs_predictor(folder, deploy):
        log(f"PaddleSeg's deploy/python/infer.py, {what}: {why}")
    return folder / "deploy.yaml"


def paddlesegs_predictor(folder: Path, deploy: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Result of loading a bundle as PaddleSeg does: with the file it names, and the one it has."""
    from paddle import inference

    for name in (deploy["model"], "model.json"):
        try:
            config = inference.Config(str(folder / name), str(folder / deploy["params"]))
            config.disable_glog_info()
            config.enable_memory_optim()
            config.switch_ir_optim(True)
            config.disable_gpu()
            inference.create_predictor(config)
        except (RuntimeError, ValueError, OSError, SystemError) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            reasons = [line for line in lines if line and not line.startswith("[Hint")]
            yield name, f"{type(error).__name__}: {reasons[-1] if reasons else 'no reason'}"
        else:
            yield name, "loads"


def table_rows(name: str, results: dict[str, Any]) -> Iterator[str]:
    """One line for each run."""
    if "refused" in results:
        yield f"| {name} | export | refused: {results['refused']} | | | |"
        return
    controls = [control["caught"] for control in results["negative_controls"]]
    caught = f"{controls.count(True)} of {len(controls)}" if controls else ""
    for run in results["runs"]:
        if run["grade"] is None:
            continue
        margins = [flip["margin"] for flip in run.get("pixels", [])]
        pixels = run.get("num_pixels") or 0
        different = run.get("different_pixels", 0)
        share = f"{different:,} of {pixels:,}" if pixels else "no map"
        margin = f"{max(margins):.1e}" if margins else ""
        yield f"| {name} | {run['stage']} | {run['grade']} | {share} | {margin} | {caught} |"
        name = caught = ""


if __name__ == "__main__":
    run_command(main)
