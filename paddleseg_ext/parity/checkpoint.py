"""Whether a bundle was made from the checkpoint that it is compared with.

An INT8 run within its budget does not show it: the step from one checkpoint to a later one may be
smaller than what INT8 may differ by. So this is asked of the bundle itself, for every run.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from numpy.typing import NDArray

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.parity.weights import WeightDifference, compare_weights, tensor_shapes

STALE_CHECKPOINT = "stale checkpoint"
CHANGED_WEIGHTS = "one weight changed"


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint that was given.

    Attributes:
        path: its file.
        tensors: the network's, with the checkpoint in it; called where they are looked at.
    """

    path: str
    tensors: Callable[[], Iterable[NDArray]]

    def compare(self, bundle: Bundle) -> WeightDifference:
        """The bundle's tensors beside the checkpoint's; none are looked at in an ONNX graph."""
        if bundle.params_file is None:
            return WeightDifference(0, 0)
        return compare_weights(bundle.params_file, self.tensors())

    def why_changed(self, bundle: Bundle) -> str:
        """Which file of the bundle has some tensors with other values than the checkpoint's.

        One line; empty where none has. A file whose tensors are mostly others, as where batch
        normalisation was put into the convolutions, cannot be compared so, nor can INT8 graphs.
        """
        files = [bundle.params_file] if bundle.params_file is not None else []
        if bundle.has_onnx and find_spec("onnx"):
            files.append(bundle.onnx_file())
        for file in files:
            found = compare_weights(file, self.tensors())
            if found.num_changed and not found.mostly_foreign:
                return (
                    f"{CHANGED_WEIGHTS}: {found.num_changed} of {found.num_tensors} tensors of "
                    f"{file} have other values than in {self.path}; export it again"
                )
        return ""

    def why_stale(self, bundle: Bundle) -> str:
        """Why the bundle is not of this checkpoint, one line; empty where it is, or is unknown.

        Another hash than the one in the bundle's manifest is forgiven where every tensor is the
        checkpoint's all the same: then the file was only saved again. The right hash, or none,
        proves nothing: then the tensors decide, where they can be compared.
        """
        recorded = bundle.manifest.checkpoint if bundle.manifest else {}
        if recorded.get("sha256") not in (None, "", sha256_of(self.path)):
            found = self.compare(bundle)
            if found.num_tensors and not found.num_foreign:
                return ""
            given = read_manifest(self.path).iteration
            return (
                f"{STALE_CHECKPOINT}: {bundle.deploy_file} was exported from "
                f"{recorded.get('path')} (iteration {recorded.get('iteration')}), the checkpoint "
                f"given is {self.path} (iteration {given}) and has other content; export this one, "
                "or give that one"
            )
        found = self.compare(bundle)
        if found.mostly_foreign and self._comparable(bundle):
            return (
                f"{STALE_CHECKPOINT}: {found.num_foreign} of {found.num_tensors} tensors of "
                f"{bundle.params_file} are not those of {self.path}; export it again"
            )
        return ""

    def _comparable(self, bundle: Bundle) -> bool:
        """Whether the tensors could be the checkpoint's, by their shapes.

        Exporters that put batch normalisation into the convolutions leave less than half of the
        tensors, and none as it was.
        """
        assert bundle.params_file is not None
        wanted = Counter(tensor.shape for tensor in self.tensors() if tensor.size > 1)
        held = Counter(tensor_shapes(bundle.params_file))
        return not held - wanted and held.total() >= wanted.total() / 2
