"""Whether a bundle was made from the checkpoint that it is compared with.

An INT8 run within its budget does not show it: the step from one checkpoint to a later one may be
smaller than what INT8 may differ by. So this is asked of the bundle itself, for every run.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from numpy.typing import NDArray

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.parity.weights import WeightDifference, compare_weights, tensor_shapes

STALE_CHECKPOINT = "stale checkpoint"


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

    def why_stale(self, bundle: Bundle) -> str:
        """Why the bundle is not of this checkpoint, one line; empty where it is, or is unknown.

        The hash in the bundle's manifest decides. Another hash is forgiven where every tensor is
        the checkpoint's all the same: then the file was only saved again. A bundle without a hash
        is judged by its tensors.
        """
        recorded = bundle.manifest.checkpoint if bundle.manifest else {}
        if recorded.get("sha256"):
            if recorded["sha256"] == sha256_of(self.path):
                return ""
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
