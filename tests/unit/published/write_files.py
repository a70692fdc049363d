"""Writes files/: small checkpoints in every format, by PyTorch 2.13 and safetensors 0.8 themselves.

Not run by the tests, which do without PyTorch: `python write_files.py` where both are installed.
"""

import collections
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FILES = Path(__file__).parent / "files"


class Opens:
    """Pickled as a call of `open`, which must not be executed."""

    def __reduce__(self):
        return (open, ("this-file-must-not-appear", "w"))


def main() -> None:
    weight = torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2)
    state = collections.OrderedDict(
        {
            "conv.weight": weight,
            "conv.transposed": weight.permute(3, 0, 1, 2),  # not contiguous, shares the storage
            "bn.half": torch.tensor([0.5, -2.0], dtype=torch.float16),
            "bn.brain": torch.tensor([1.5, -3.0], dtype=torch.bfloat16),
            "bn.num_batches_tracked": torch.tensor(7),
            "bn.weight": torch.nn.Parameter(torch.tensor([1.0, 2.0])),
        }
    )
    torch.save(state, FILES / "zip.pth")
    torch.save(state, FILES / "legacy.pth", _use_new_zipfile_serialization=False)
    parallel = {f"module.{key}": value for key, value in state.items()}
    training = {"epoch": 3, "best": 0.5, "optimizer": {"state": {0: torch.zeros(2)}}}
    torch.save({"state_dict": parallel, **training}, FILES / "wrapped.pth.tar")
    torch.save(
        {"detail": {"conv.weight": weight}, "bga": {"bn.weight": weight[0, 0]}},
        FILES / "nested.pth",
    )
    torch.save({"conv.weight": weight, "extra": Opens()}, FILES / "hostile.pth")
    torch.save(
        {"conv.weight": weight, "extra": Opens()},
        FILES / "hostile_legacy.pth",
        _use_new_zipfile_serialization=False,
    )
    torch.save(torch.nn.Conv2d(1, 1, 1), FILES / "whole_module.pth")
    plain = {k: v.detach().contiguous().clone() for k, v in state.items()}
    save_file(plain, FILES / "plain.safetensors")
    np.savez(FILES / "plain.npz", **{"conv.weight": weight.numpy()})


if __name__ == "__main__":
    main()
