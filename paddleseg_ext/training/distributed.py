"""Several processes, started by `python -m paddle.distributed.launch`; one needs nothing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from paddleseg_ext.common.errors import UsageError

if TYPE_CHECKING:
    from paddle import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among its equals."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process prints, evaluates and writes."""
        return self.rank == 0

    def share_of(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this process takes on: every `size`-th, none twice."""
        return items[self.rank :: self.size]


def join_world(device: str) -> World:
    """Select the device and, when launched with others, join them."""
    import paddle
    import paddle.distributed as dist

    size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if size == 1:
        paddle.set_device(device)
        return World()
    if device == "cpu":  # else Paddle takes a GPU where there is one
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    dist.init_parallel_env()
    return World(dist.get_rank(), dist.get_world_size())


def parallelize(model: "nn.Layer", world: World, device: str, sync_bn: bool) -> "nn.Layer":
    """`model` with gradients averaged over the processes.

    Args:
        model: its batch norms are replaced in place where they are to be synchronised.
        world: alone in it, a process gets its `model` back.
        device: `cpu` or `gpu`.
        sync_bn: normalise by the mean and variance of all processes' batches.
    """
    import paddle
    from paddle import nn

    if world.size == 1:
        return model
    if sync_bn and device == "gpu":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif sync_bn:
        from paddleseg_ext.training.sync_batch_norm import convert

        convert(model)
    return paddle.DataParallel(model)


def require_same(mine: Mapping[str, Any], world: World) -> None:
    """Check that all processes are about to do the same run.

    Args:
        mine: by what names, what this process has.

    Raises:
        UsageError: another has something else; else they would wait for each other for ever.
    """
    if world.size == 1:
        return
    import paddle.distributed as dist

    everybody: list[dict[str, Any]] = []
    dist.all_gather_object(everybody, dict(mine))
    for rank, theirs in enumerate(everybody):
        for key, value in everybody[0].items():
            if theirs.get(key) != value:
                raise UsageError(
                    f"process 0 has {key} {value}, process {rank} has {theirs.get(key)}: every "
                    "node needs the same command and data, and --save_dir in a folder that all "
                    "of them see"
                )


def share_statistics(model: "nn.Layer", world: World) -> None:
    """Give every process the first one's running statistics (all that is not trained).

    They differ where each process normalises by its own batch; one network is to be scored.
    """
    if world.size > 1:
        import paddle.distributed as dist

        for tensor in model.state_dict().values():
            if tensor.stop_gradient:
                dist.broadcast(tensor, src=0)


def average_of_all(value: "Tensor", world: World) -> "Tensor":
    """The mean over the processes of a tensor, without gradient, the same in all of them."""
    value = value.detach()
    if world.size == 1:
        return value
    import paddle.distributed as dist

    value = value.clone()
    dist.all_reduce(value)
    return value / world.size


def wait_for_all(world: World) -> None:
    """Return when every process has come here."""
    if world.size > 1:
        import paddle.distributed as dist

        dist.barrier()
