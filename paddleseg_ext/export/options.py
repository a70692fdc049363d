"""The options of an export."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.flags import boolean
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.images.functional import check_channels


def _auto_or_boolean(text: str) -> bool | None:
    return None if text.strip().lower() == "auto" else boolean(text)


@dataclass(frozen=True)
class ExportOptions(CheckedOptions):
    """Where a bundle goes and what its graph takes and returns.

    Raises:
        UsageError: a value is out of range, or two of them exclude each other.
    """

    save_dir: Path = option(Path("output/inference_model"), "the bundle's folder")
    input_shape: tuple[int, ...] = option(
        (-1, 3, -1, -1),
        "N 3 H W, or H W alone; height comes first, -1 is any (default: any batch, height and "
        "width)",
        metavar="N",
    )
    output_op: Literal["none", "argmax", "softmax"] = option(
        "none",
        "the graph's last step; it returns logits, int32 class ids, or probabilities. Where "
        "preprocessing resizes, class ids return to the image's size by nearest, the others "
        "bilinearly",
    )
    onnx: bool | None = option(
        None,
        "also write model.onnx, for the runtimes onnxruntime and openvino and for quantize; auto "
        "(default): where the converter is installed, paddleseg_ext[onnx]",
        parse=_auto_or_boolean,
        metavar="auto|True|False",
    )
    mnn: bool = option(
        False,
        "also write model.mnn, for the runtime mnn and for phones; made from model.onnx, needs "
        "paddleseg_ext[onnx,mnn]",
    )
    ncnn: bool = option(
        False,
        "also write model.ncnn.param and .bin, for the runtime ncnn and for phones; needs a fixed "
        "--input_shape, paddleseg_ext[onnx,ncnn] and pnnx (requirements/pnnx.txt)",
    )
    fold_normalize: bool = option(
        False, "put Normalize into the graph, which then takes bytes (N, 3, H, W)"
    )
    upsample: Literal["graph", "host"] = option(
        "graph",
        "where logits are upsampled to the input's size: in the graph, or afterwards by infer.py, "
        "which interpolates only where classes meet (the label maps are the same but for "
        "rounding); needs --output_op none",
    )
    web: Path | None = option(
        None,
        "also write a folder with a page that runs the network in the browser (docs/web.md); needs "
        "the ONNX graph, and once the network, for ONNX Runtime Web",
        metavar="DIR",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "input_shape", _full_input_shape(self.input_shape))
        flags = {"--mnn True": self.mnn, "--ncnn True": self.ncnn, "--web": self.web is not None}
        for flag in (flag for flag, is_wanted in flags.items() if is_wanted):
            if self.onnx is False:
                raise UsageError(f"{flag} needs --onnx True: it is made from model.onnx")
            object.__setattr__(self, "onnx", True)
        if self.ncnn and (
            min(self.input_shape[2:]) < 0 or self.fold_normalize or self.output_op != "none"
        ):
            raise UsageError(
                "--ncnn True needs a fixed height and width (--input_shape H W), --output_op none "
                "and --fold_normalize False"
            )
        if self.upsample == "host" and self.output_op != "none":
            raise UsageError(
                f"--upsample host needs a graph that returns logits: --output_op none, not "
                f"{self.output_op}"
            )

    @property
    def input_dtype(self) -> str:
        """Of the graph's input."""
        return "uint8" if self.fold_normalize else "float32"


def with_channels(input_shape: Sequence[int], channels: int) -> tuple[int, int, int, int]:
    """The shape of a network that takes so many channels, 1 or 3; 3 is the default of the flag.

    Raises:
        UsageError: `input_shape` asks for a grey input of an RGB network, or other channels.
    """
    batch, asked, height, width = input_shape
    if check_channels(asked, "--input_shape") < channels:
        raise UsageError(f"--input_shape: the network takes {channels} channels, got {asked}")
    return batch, channels, height, width


def _full_input_shape(values: Sequence[int]) -> tuple[int, int, int, int]:
    """`N 3 H W` of `N 3 H W`, `3 H W` or `H W`; -1 means any.

    Raises:
        UsageError: another count of numbers, zeros, or another channel count.
    """
    if len(values) not in (2, 3, 4) or any(v == 0 or v < -1 for v in values):
        raise UsageError(
            f"--input_shape: 'N 3 H W' with -1 for any is expected, got {list(values)}"
        )
    batch, channels, height, width = (*(-1, 3)[: 4 - len(values)], *values)
    return batch, check_channels(channels, "--input_shape"), height, width
