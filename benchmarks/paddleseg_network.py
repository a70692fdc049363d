r"""One network of a yml of PaddleSeg's through our commands; `paddleseg_ymls.py` starts it.

    python benchmarks/paddleseg_network.py YML --data_root DIR --save_dir DIR [--alone]

Trains one iteration on small crops of drawn data, evaluates, exports and infers, and writes
SAVE_DIR/result.json after each step. `--alone` runs what PaddleSeg itself has of these steps,
without this project: building, a loss and its gradients, a prediction, a static graph, its
predictor.
"""

import argparse
import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIDE = 128  # pixels, of the images and of PaddleSeg's own steps
STEPS = ("trains", "evaluates", "exports", "infers")
SIZES = ("crop_size", "target_size")


def main() -> None:
    """Run the steps until one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ymls", nargs="+", metavar="YML", help="one; several with --build")
    parser.add_argument("--data_root", type=Path)
    parser.add_argument("--save_dir", type=Path)
    parser.add_argument("--side", type=int, default=64, help="pixels, of the crops")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--build", action="store_true", help="only build, and print BUILD REASON")
    arguments = parser.parse_args()
    if arguments.build:
        for yml in arguments.ymls:
            print(f"BUILD {reason_of_failure(lambda yml=yml: build(yml))}", flush=True)
        return
    steps = alone(arguments.ymls[0]) if arguments.alone else ours(arguments)
    result: dict[str, Any] = {}
    name = "alone.json" if arguments.alone else "result.json"
    for step, run in steps:
        result[step] = reason_of_failure(run)
        (arguments.save_dir / name).write_text(json.dumps(result))
        if result[step] and (not arguments.alone or step == "builds"):
            sys.exit(1)


def reason_of_failure(run: Callable[[], Any]) -> str:
    """Empty where `run` returns; else the error in a line, and the last place in PaddleSeg."""
    try:
        status = run()
        return f"status {status}" if isinstance(status, int) and status else ""
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = next((line for line in lines if "Error: " in line), lines[-1] if lines else "")
        places = [
            f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if "paddleseg/" in frame.filename
        ]
        return f"{type(error).__name__}: {text[:300]}{f' [{places[-1]}]' if places else ''}"


def build(yml: str) -> None:
    """Build the network of a yml."""
    from paddleseg_ext.config import load_config
    from paddleseg_ext.models.build import build_model

    build_model(config := load_config(yml), num_classes_of(config))


def num_classes_of(config: Any) -> int:
    """The number of classes, which a data set here and now need not have."""
    from paddleseg_ext.common.errors import UsageError
    from paddleseg_ext.data.build import class_table_of

    try:
        return class_table_of(config).num_classes
    except UsageError:
        return config.model.get("num_classes") or 19


def small_options(config: Any, data_root: Path, side: int) -> list[str]:
    """`--opts` for drawn data, small crops and fresh weights."""
    from paddleseg_data import draw_data_set

    num_classes = num_classes_of(config)
    opts = {"model.pretrained": "null"}
    backbone = config.model.get("backbone") or {}
    if "pretrained" in backbone:
        opts["model.backbone.pretrained"] = "null"
    if "img_size" in backbone:  # some transformers take no other
        opts["model.backbone.img_size"] = str(SIDE)
        side = SIDE
    for section in ("train_dataset", "val_dataset"):
        spec = config.section(section)
        root = draw_data_set(spec, num_classes, data_root)
        opts[f"{section}.dataset_root"] = str(root)
        for key in ("train_path", "val_path"):
            if key in spec:
                opts[f"{section}.{key}"] = str(root / key.replace("_path", ".txt"))
        for number, transform in enumerate(spec.get("transforms") or []):
            for key in SIZES:
                if key in transform:
                    place = f"{section}.transforms.{number}.{key}"
                    opts[place] = f"[{side}, {side}]" if key == "crop_size" else f"[{SIDE}, {SIDE}]"
            if "short_size" in transform:
                opts[f"{section}.transforms.{number}.short_size"] = str(SIDE)
    if "crop_size" in config.test_config:
        opts |= {"test_config.crop_size": f"[{SIDE}, {SIDE}]", "test_config.stride": "[64, 64]"}
    return [f"{key}={value}" for key, value in opts.items()]


def ours(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps as commands of this project."""
    from paddleseg_ext.commands.main import main as command
    from paddleseg_ext.config import load_config

    folder, config = arguments.save_dir, load_config(arguments.ymls[0])
    opts: list[str] = []
    failure = reason_of_failure(
        lambda: opts.extend(small_options(config, arguments.data_root, arguments.side))
    )
    if failure:
        yield "trains", lambda: failed(failure)
    common = ["--config", arguments.ymls[0]]
    weights = ["--model_path", f"{folder}/train/iter_1/model.pdparams"]
    lines = {
        "trains": [
            "train", *common, "--iters", "1", "--batch_size", "2", "--save_dir", f"{folder}/train",
            "--learning_rate", "1e-4",  # without pretrained weights STDC2 diverges by 0.01
        ],
        "evaluates": ["val", *common, *weights, "--save_dir", f"{folder}/val"],
    }  # fmt: skip
    for step, line in lines.items():
        yield step, lambda line=line: command([*line, "--device", "cpu", "--opts", *opts])
    export = ["export", *common, *weights, "--save_dir", f"{folder}/bundle", "--onnx", "False"]
    ways = [[*export, "--opts", *opts]]
    for batch in ("-1", "1"):  # a fixed size is checked faster
        size = ["--input_shape", batch, "3", str(SIDE), str(SIDE)]
        ways.insert(-1 if batch == "-1" else 2, [*export, *size, "--opts", *opts])
    yield "exports", lambda: one_of(ways, command)
    line = ["infer", "--config", f"{folder}/bundle/deploy.yaml", "--device", "cpu"]
    line += ["--save_dir", f"{folder}/infer", "--image_path"]
    yield "infers", lambda: command([*line, drawn_image(opts)])


def one_of(ways: list[list[str]], command: Callable[[list[str]], Any]) -> Any:
    """Run the first command, and each next one where those before fail."""
    from paddleseg_ext.common.errors import CheckFailed, UsageError

    for way in ways[:-1]:
        try:
            return command(way)
        except (CheckFailed, UsageError) as error:
            print(f"failed: {error}")
    return command(ways[-1])


def drawn_image(opts: list[str]) -> str:
    """A drawn validation image."""
    import cv2

    root = Path(dict(opt.split("=", 1) for opt in opts)["val_dataset.dataset_root"])
    files = (path for path in sorted(root.rglob("*val*")) if path.suffix in (".png", ".jpg"))
    return next(str(p) for p in files if cv2.imread(str(p), cv2.IMREAD_UNCHANGED).ndim == 3)


def failed(reason: str) -> None:
    """Raise with a reason that was found before."""
    raise RuntimeError(reason)


def alone(yml: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps as PaddleSeg's own classes do them, on random tensors."""
    import zlib  # noqa: F401  # before PaddleSeg

    import numpy as np
    import paddle
    import paddleseg  # noqa: F401
    from paddleseg.core.train import loss_computation
    from paddleseg.cvlibs import SegBuilder
    from paddleseg.cvlibs.config import parse_from_yaml

    made: dict[str, Any] = {}
    raw = parse_from_yaml(yml)
    builder = SegBuilder(None)
    rng = np.random.default_rng(0)
    images = paddle.to_tensor(rng.normal(size=(2, 3, SIDE, SIDE)).astype("float32"))

    def build() -> None:
        spec = {**raw["model"], "pretrained": None}
        if "backbone" in spec:
            spec["backbone"] = {**spec["backbone"], "pretrained": None}
        data = raw["train_dataset"]
        kind = builder.load_component_class(data["type"])
        classes = data.get("num_classes") or kind.NUM_CLASSES
        spec.setdefault("num_classes", classes)
        made["classes"] = spec["num_classes"]
        made["model"] = builder.build_component(spec)

    def train() -> None:
        section = raw["loss"]
        types = [builder.build_component(spec) for spec in section["types"]]
        if len(types) == 1:
            types *= len(section["coef"])
        shape = (2, SIDE, SIDE)
        labels = paddle.to_tensor(rng.integers(0, made["classes"], shape), "int64")
        edges = paddle.to_tensor(rng.integers(0, 2, shape), "int64").unsqueeze(1)
        made["model"].train()
        heads = made["model"](images)
        losses = {"types": types, "coef": section["coef"]}
        sum(loss_computation(heads, labels, edges, losses)).backward()

    def evaluate() -> None:
        made["model"].eval()
        with paddle.no_grad():
            first, again = (made["model"](images)[0].numpy() for _ in range(2))
        if np.abs(first - again).max() > 1e-3 * np.abs(first).max():
            raise RuntimeError("it gives another result each time it runs")

    yield "builds", build
    yield "trains", train
    yield "evaluates", evaluate
    yield "exports", lambda: save_graph(made["model"])
    yield "infers", lambda: run_graph(images[:1].numpy())


def save_graph(model: Any) -> None:
    """Trace a network for any size, or, where its code cannot be traced so, for `SIDE`."""
    import paddle

    def save(*shape: int) -> None:
        spec = [paddle.static.InputSpec(shape, "float32")]
        static = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
        paddle.jit.save(static, "alone/model")

    try:
        save(-1, 3, -1, -1)
    except Exception as error:  # of the network's code and Paddle's
        print(f"failed: {error}")
        save(1, 3, SIDE, SIDE)


def run_graph(images: Any) -> None:
    """Run the traced network in Paddle Inference, without oneDNN."""
    import paddle

    config = paddle.inference.Config("alone/model.json", "alone/model.pdiparams")
    config.disable_mkldnn()
    predictor = paddle.inference.create_predictor(config)
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(images)
    predictor.run()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    with contextlib.suppress(BrokenPipeError):
        main()
