"""Several processes, started by `python -m paddle.distributed.launch`; one needs nothing."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddle import nn


@dataclass(frozen=True)
class World:
    """This process among its equals."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process prints, evaluates and writes."""
        return self.rank == 0


def join_world(device: str) -> World:
    """Select the device and, when launched with others, join them."""
    import paddle
    import paddle.distributed as dist

    size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if size == 1:
        paddle.set_device(device)
        return World()
    dist.init_parallel_env()
    return World(dist.get_rank(), dist.get_world_size())


def parallelize(model: "nn.Layer", world: World, device: str) -> "nn.Layer":
    """`model` with gradients averaged over the processes; on GPUs, BN statistics too.

    Paddle's SyncBatchNorm has no CPU kernel: on CPU each process normalises by its own batch.
    """
    import paddle
    from paddle import nn

    if world.size == 1:
        return model
    if device == "gpu":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return paddle.DataParallel(model)


def wait_for_all(world: World) -> None:
    """Return when every process has come here."""
    if world.size > 1:
        import paddle.distributed as dist

        dist.barrier()
