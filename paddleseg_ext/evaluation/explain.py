"""Overlays of a network's gates, and of Grad-CAM of a class.

Papers: Selvaraju et al., Grad-CAM (ICCV 2017, https://arxiv.org/abs/1610.02391), for segmentation
as Vinogradova et al., Towards Interpretable Semantic Segmentation via Gradient-weighted Class
Activation Mapping (AAAI 2020, https://arxiv.org/abs/2002.11434): the score of a class is the sum of
its logits over the pixels that are predicted as it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import (
    STATUS_DONE,
    STATUS_FAILED,
    DataError,
    UsageError,
    failing_alone,
    nearest_name,
)
from paddleseg_ext.common.files import write_bytes, write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.palette import caption
from paddleseg_ext.inference.outputs import encode_jpeg
from paddleseg_ext.inference.predictor import Predictor

if TYPE_CHECKING:
    from paddle import Tensor, nn

    from paddleseg_ext.inference.pipeline import SampleLike

FOLDER, RECORD = "explain", "explain.json"
MOST_CLASSES = 3  # of a picture, where none is named
MOST_DOTS = 2  # in the names of layers that a message lists
HEAT_WEIGHT = 0.55  # of the colours in an overlay
MOST_LETTERS = 60  # of a name in the name of a file, of 3 bytes in some scripts
_STRANGE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Heat:
    """One map of an image.

    Attributes:
        kind: `gate` or `cam`.
        name: of the gate's layer, or of the class.
        plane: `(h, w)` float32 at any size.
        note: what it shows, with its range, for the caption.
    """

    kind: str
    name: str
    plane: NDArray[np.float32]
    note: str


def gates_of(model: "nn.Layer") -> dict[str, tuple["nn.Layer", "nn.Layer"]]:
    """Name -> the layers whose outputs are a gate's features and the gate before its sigmoid.

    Layers of ours name them in `GATES`; a network without such layers has none.
    """
    found = {}
    for path, layer in model.named_sublayers(include_self=True):
        for name, (features, gate) in getattr(layer, "GATES", {}).items():
            label = ".".join(part for part in (path, name) if part)
            found[label] = (getattr(layer, features), getattr(layer, gate))
    return found


class Explainer:
    """Maps of what one network attends to."""

    def __init__(
        self,
        model: "nn.Layer",
        table: ClassTable,
        classes: Sequence[str] = (),
        layer: str | None = None,
    ):
        """
        Args:
            model: in evaluation mode.
            table: of its classes.
            classes: names or numbers; of none the largest of each image are explained.
            layer: whose output Grad-CAM weights, by its name in the network; None takes the last
                one of those whose map is coarsest (of the backbone, where there is one).

        Raises:
            UsageError: the network has no such layer, or there is no such class.
        """
        self._model = model
        self._table = table
        self._classes = class_numbers(classes, table)
        self._layers = dict(model.named_sublayers())
        self.gates = gates_of(model)
        if layer is not None and layer not in self._layers:
            known = [name for name in self._layers if name.count(".") < MOST_DOTS]
            raise UsageError(
                f"--explain_layer: {type(model).__name__} has no layer '{layer}'"
                f"{nearest_name(layer, known)}"
            )
        self.layer = layer

    def explain(self, tensor: NDArray[np.float32]) -> list[Heat]:
        """The gates' maps, and Grad-CAM of each class.

        Args:
            tensor: `(channels, h, w)`, the network's input.

        Raises:
            UsageError: Grad-CAM is of no use on the layer: the logits do not depend on it.
        """
        import paddle

        batch = paddle.to_tensor(tensor[np.newaxis])
        if self.layer is None:
            self.layer = self._coarsest_layer(batch)
        wanted = {self.layer: self._layers[self.layer]}
        for name, (features, gate) in self.gates.items():
            wanted |= {f"{name} features": features, f"{name} gate": gate}
        with _outputs_of(wanted) as outputs, types_for(self._model):
            logits = self._model(batch)[0]
        heats = [
            _gate_map(name, outputs[f"{name} features"], outputs[f"{name} gate"])
            for name in self.gates
        ]
        predicted = logits[0].argmax(axis=0)
        numbers = self._classes
        if numbers is None:
            counts = np.bincount(predicted.numpy().ravel())
            numbers = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
            numbers = numbers[:MOST_CLASSES]
        for number in numbers:
            heats.append(self._cam(number, logits, predicted, outputs[self.layer]))
        return heats

    def _cam(self, number: int, logits: "Tensor", predicted: "Tensor", features: "Tensor") -> Heat:
        import paddle

        own = (predicted == number).astype(logits.dtype)
        pixels = int(own.sum())
        score = (logits[0, number] * own).sum() if pixels else logits[0, number].sum()
        gradient = paddle.grad(score, features, retain_graph=True, allow_unused=True)[0]
        if gradient is None:
            raise UsageError(
                f"--explain_layer {self.layer}: the main head's logits do not depend on it; name "
                "another layer"
            )
        weights = gradient.mean(axis=[2, 3], keepdim=True)
        plane = (weights * features).sum(axis=1)[0].clip(min=0.0)
        peak = float(plane.numpy().max())
        where = f"{pixels} pixels" if pixels else "no pixel is predicted as it: all pixels"
        name = self._table.class_names[number]
        note = f"Grad-CAM of {name} at {self.layer} ({where})"
        if not peak > 0:
            note += ", 0 everywhere: no feature there speaks for it"
        return Heat("cam", name, (plane / (peak or 1.0)).numpy(), note)

    def _coarsest_layer(self, batch: "Tensor") -> str:
        """The last layer of the coarsest maps, pooled ones left out.

        Of the backbone, where there is one; else not of the layers with gates, whose inner maps mix
        features and gates, if there are others. The main head's logits must depend on it.
        """
        import paddle

        prefix = "backbone." if any(n.startswith("backbone.") for n in self._layers) else ""
        gated = [layer for layer in self._layers.values() if hasattr(layer, "GATES")]
        inner = {id(x) for layer in gated for x in layer.sublayers(include_self=True)}
        watched = {name: x for name, x in self._layers.items() if name.startswith(prefix)}
        with _outputs_of(watched) as outputs, types_for(self._model):
            score = self._model(batch)[0].sum()
        maps = {
            name: output
            for name, output in outputs.items()
            if len(getattr(output, "shape", ())) == 4
            and _is_strided(tuple(output.shape[2:]), tuple(batch.shape[2:]))
        }
        outside = [name for name in maps if id(self._layers[name]) not in inner]
        for names in (outside, list(maps)):
            smallest = min((maps[n].shape[2] * maps[n].shape[3] for n in names), default=0)
            for name in reversed(names):
                if maps[name].shape[2] * maps[name].shape[3] != smallest:
                    continue
                found = paddle.grad(score, maps[name], retain_graph=True, allow_unused=True)[0]
                if found is not None:
                    return name
        raise UsageError(
            f"--explain: {type(self._model).__name__} has no map that Grad-CAM can weight by "
            "itself; name a layer with --explain_layer"
        )


def _is_strided(map_hw: tuple[int, int], image_hw: tuple[int, int]) -> bool:
    """Whether a map has more than one pixel and is the image at a stride of 2, 4, ... or 64.

    The bins of pyramid pooling are none: they have one size whatever the image's.
    """
    return (
        min(map_hw) > 0
        and max(map_hw) > 1
        and any(
            all(
                abs(side - whole / stride) < 1 for side, whole in zip(map_hw, image_hw, strict=True)
            )
            for stride in (1, 2, 4, 8, 16, 32, 64)
        )
    )


@contextmanager
def _outputs_of(layers: "Mapping[str, nn.Layer]") -> "Iterator[dict[str, Tensor]]":
    """A dict of the layers' outputs, by their names here, in the order in which they ran."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_layer: Any, _inputs: Any, output: Any) -> None:
            outputs.pop(name, None)  # of two calls the last counts, also for the order
            outputs[name] = output

        return hook

    handles = [layer.register_forward_post_hook(keep(name)) for name, layer in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _gate_map(name: str, features: "Tensor", gate: "Tensor") -> Heat:
    """How far a gate is open at each place.

    A gate of one value per channel: the mean over the channels, weighted by how strong each
    channel's feature is there. A gate of one value per channel and place: the mean over the
    channels.
    """
    import paddle.nn.functional as F

    opened = F.sigmoid(gate)
    if gate.shape[2] * gate.shape[3] == 1:
        strength = features.abs()
        total = strength.sum(axis=1).clip(min=1e-12)
        plane = (strength * opened).sum(axis=1) / total
        how = "per channel, weighted by the features"
    else:
        plane = opened.mean(axis=1)
        how = "per place, mean of the channels"
    values = plane[0].numpy()
    spread = f"{float(values.min()):.2f} to {float(values.max()):.2f}"
    gates = opened.numpy()
    every = f"channels {float(gates.min()):.2f} to {float(gates.max()):.2f}"
    return Heat("gate", name, values, f"gate {name} ({how}): {spread}; {every}")


def overlay(
    image: NDArray[np.uint8], plane: NDArray[np.float32], note: str, stretch: bool
) -> NDArray[np.uint8]:
    """`(H + h, W, 3)` uint8 RGB: the image under the map's colours, and the note below it.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        plane: `(H, W)` float32.
        note: of the caption.
        stretch: blue is the map's own least value and red its largest; else 0 and 1.
    """
    low, high = (float(plane.min()), float(plane.max())) if stretch else (0.0, 1.0)
    scaled = np.clip((plane - low) / max(high - low, 1e-12), 0.0, 1.0)
    heat = cv2.applyColorMap((scaled * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    blended = cv2.addWeighted(
        image, 1 - HEAT_WEIGHT, cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), HEAT_WEIGHT, 0
    )
    return np.vstack([blended, caption(note, image.shape[1])])


def class_numbers(names: Sequence[str], table: ClassTable) -> list[int] | None:
    """The numbers of classes that a user names; None of none.

    Raises:
        UsageError: a class is unknown.
    """
    numbers = []
    for name in names:
        if name in table.class_names:
            numbers.append(table.class_names.index(name))
        elif name.isdecimal() and int(name) < table.num_classes:
            numbers.append(int(name))
        else:
            raise UsageError(
                f"--explain: there is no class '{name}'{nearest_name(name, table.class_names)}; "
                f"a name or a number of 0 to {table.num_classes - 1} is expected"
            )
    return list(dict.fromkeys(numbers)) or None


def explainer_of(
    predictor: Predictor,
    classes: Sequence[str],
    layer: str | None,
    samples: Sequence["SampleLike"],
    save_dir: Path,
) -> Explainer:
    """The explainer of a predictor's network; all that can be wrong is found here.

    Args:
        predictor: of the engine `eager`.
        classes: see `Explainer`.
        layer: see `Explainer`.
        samples: that will be explained.
        save_dir: where.

    Raises:
        UsageError: see `Explainer`; or a result could replace an image.
    """
    folder = (save_dir / FOLDER).resolve()
    for sample in samples:
        if sample.image.resolve().is_relative_to(folder):
            raise UsageError(
                f"--save_dir: '{sample.image}' is an input, and a result would replace it; give "
                "another folder"
            )
    engine: Any = predictor.engine
    explainer = Explainer(engine.model, predictor.class_table, classes, layer)
    if not explainer.gates:
        log(f"--explain: {engine.subject} has no gates: Grad-CAM alone is written")
    return explainer


def explain_and_save(
    predictor: Predictor, explainer: Explainer, samples: Sequence["SampleLike"], save_dir: Path
) -> int:
    """Write `explain/NAME/gate_LAYER.jpg`, `explain/NAME/cam_CLASS.jpg` and `explain.json`.

    Whole images at the size of the validation transforms, whatever protocol predicts them.

    Args:
        predictor: whose network `explainer` has.
        explainer: of `explainer_of`.
        samples: images.
        save_dir: the folder.

    Returns:
        The exit status: 1 where a sample failed, which is reported and left out.

    Raises:
        UsageError: no layer can be explained.
    """
    record: dict[str, Any] = {}
    failed = 0
    for sample in track(samples, "explain", total=len(samples)):
        try:
            with failing_alone():
                record[sample.name] = _save_one(predictor, explainer, sample, save_dir)
        except DataError as error:
            log(f"{sample.image}: {error}", "ERROR")
            failed += 1
    content = {"layer": explainer.layer, "gates": list(explainer.gates), "images": record}
    write_json(save_dir / RECORD, content)
    log(f"{len(record)} images explained in {save_dir / FOLDER}")
    return STATUS_FAILED if failed else STATUS_DONE


def _save_one(
    predictor: Predictor, explainer: Explainer, sample: "SampleLike", save_dir: Path
) -> dict[str, str]:
    """File -> what it shows, of one image."""
    prepared = predictor.prepare(sample.image)
    written = {}
    for heat in explainer.explain(prepared.tensor):
        plane = predictor.postprocess.full_logits(heat.plane[np.newaxis], prepared.geometry)[0]
        name = f"{heat.kind}_{_stem_of(heat, predictor.class_table)}.jpg"
        picture = overlay(prepared.image, plane, heat.note, stretch=heat.kind == "gate")
        write_bytes(save_dir / FOLDER / sample.name / name, encode_jpeg(picture))
        written[name] = heat.note
    return written


def _stem_of(heat: Heat, table: ClassTable) -> str:
    """The name of a layer or class as a file may have it; with its number where others share it."""
    stem = _in_file_name(heat.name)
    if heat.kind == "cam" and [*map(_in_file_name, table.class_names)].count(stem) > 1:
        return f"{stem}_{table.class_names.index(heat.name)}"
    return stem


def _in_file_name(name: str) -> str:
    return _STRANGE.sub("_", name)[:MOST_LETTERS]
