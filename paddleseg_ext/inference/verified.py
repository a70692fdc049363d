"""The record of a comparison that a bundle keeps per runtime (`Manifest.verified`).

`export`, `tune`, `parity` and `quantize` write it; `--backend auto` and `bench` read it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from paddleseg_ext.common.errors import UsageError, shown
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.inference.engines.table import ENGINES, release

SHOWN_NEW_SIZE_S = 0.05  # a shorter delay of a new input size is not reported


@dataclass(frozen=True)
class Verified:
    """The result of one command's comparison of one runtime with the network.

    Attributes:
        grade: of `scoring.verdict`.
        passed: whether the runtime predicts what the network does.
        num_different: pixels that differ, of all images.
        num_images: images that were compared.
        command: the verb that compared.
        version: release of the engine.
        cpu: the processor.
        cpu_threads: threads of a run.
        ratio: speed over that of runtime `paddle`; None where it was not measured.
        new_size_s: seconds that the first run of an input size takes longer.
        new_size_share: share of the images that were the first of their size.
        mean_iou_before: of the FP32 network, for an INT8 graph on labelled images.
        mean_iou_after: of the INT8 graph on the same images.
        int8_kernels: INT8 kernels that ran.
        num_pixels: of all images; 0 where that was not recorded.
        preferred: whether `tune` took it, of the runtimes of its precision.
    """

    grade: str
    passed: bool
    num_different: int = option(0, "", at_least=0)
    num_images: int = option(0, "", at_least=0)
    command: str = ""
    version: str = ""
    cpu: str = ""
    cpu_threads: int | None = option(None, "", at_least=0)
    ratio: float | None = option(None, "", at_least=0)
    new_size_s: float = option(0.0, "", at_least=0)
    new_size_share: float = option(0.0, "", at_least=0)
    mean_iou_before: float | None = option(None, "", at_least=0)
    mean_iou_after: float | None = option(None, "", at_least=0)
    int8_kernels: int | None = option(None, "", at_least=0)
    num_pixels: int = option(0, "", at_least=0)
    preferred: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """The section of a deploy.yaml; what is not known is left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}

    @classmethod
    def from_dict(cls, section: Any, where: str) -> "Verified":
        """The record of a section; keys of later releases are left out.

        Raises:
            UsageError: no section, or no grade in it.
        """
        if not isinstance(section, Mapping):
            raise UsageError(f"{where}: a section is expected, got {shown(section)}")
        names = {field.name for field in fields(cls)}
        return from_section(cls, {k: v for k, v in section.items() if k in names}, where)

    def foreign_version(self, engine: str) -> str:
        """Why this record is of another release than the installed one; empty where it is not."""
        installed = ENGINES[engine].installed_version
        if self.version and installed and release(str(self.version)) != installed:
            return f"recorded of version {self.version}, installed is {installed}"
        return ""

    @property
    def is_of_this_cpu(self) -> bool:
        """Whether the speed was measured on this processor."""
        return self.cpu in ("", cpu_name())

    @property
    def speed(self) -> float | None:
        """`ratio` where it holds on this machine."""
        return self.ratio if self.is_of_this_cpu else None

    @property
    def different(self) -> float | None:
        """Share of the pixels that differ; None where it was not recorded."""
        return self.num_different / self.num_pixels if self.num_pixels else None

    def pace(self) -> str:
        """The measured speed, for the log of the command that measured it."""
        return (
            f"{self.ratio or 0.0:.2f} times as fast as paddle, a new input size takes "
            f"{self.new_size_s:.3f} s more"
        )

    def praise(self) -> str:
        """The grade and the speed, for the log."""
        by = f" by {self.command} on {self.num_images} images" if self.command else ""
        parts = [f"{self.grade}{by}"]
        if self.speed:
            parts.append(f"{self.speed:.2f} times as fast as paddle")
        elif self.ratio:
            parts.append(f"speed not measured on this CPU, but on {self.cpu}")
        text = f"verified ({', '.join(parts)})"
        if self.new_size_s >= SHOWN_NEW_SIZE_S:
            text += f"; a new input size takes {self.new_size_s:.2f} s more"
        return text
