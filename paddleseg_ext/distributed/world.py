"""Several processes, started by `python -m paddle.distributed.launch`, or a single one."""

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.distributed.watch import Watch, connect, end_process

if TYPE_CHECKING:
    from paddle import Tensor, nn

T = TypeVar("T")

MEETING_POLL_SECONDS = 0.05
_meetings = itertools.count()  # every process takes part in all of them, in the same order


@dataclass(frozen=True)
class World:
    """This process among those of its job."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    def share_of(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of the items: every `size`-th, without overlap."""
        return items[self.rank :: self.size]


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Select the device and join the other processes of the job, if any, inside the context.

    When one of them is lost meanwhile, this process ends.
    """
    import paddle
    import paddle.distributed as dist

    size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if size == 1:
        paddle.set_device(device)
        yield World()
        return
    if device == "cpu":  # else Paddle selects a GPU where there is one
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    dist.init_parallel_env()
    world = World(dist.get_rank(), dist.get_world_size())
    host = os.environ["PADDLE_TRAINER_ENDPOINTS"].partition(":")[0]
    watch = Watch(connect(world.rank, world.size, host, share_first), end_process)
    yield world
    watch.leave()  # not after an error, which the others must notice


def share_first(value: Any) -> Any:
    """Returns in every process the value that process 0 passes."""
    import paddle.distributed as dist

    everybody: list[Any] = []
    dist.all_gather_object(everybody, value)
    return everybody[0]


def parallelize(model: "nn.Layer", world: World, device: str, sync_bn: bool) -> "nn.Layer":
    """Returns `model` with gradients averaged over the processes; `model` itself for a single one.

    Args:
        model: its batch norms are replaced in place where they are synchronised.
        world: this process among those that train together.
        device: `cpu` or `gpu`.
        sync_bn: whether to normalise by the mean and variance of all processes' batches.
    """
    import paddle
    from paddle import nn

    if world.size == 1:
        return model
    if sync_bn and device == "gpu":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif sync_bn:
        from paddleseg_ext.distributed.sync_batch_norm import synchronize_batch_norms

        synchronize_batch_norms(model)
    return paddle.DataParallel(model)


def require_same(mine: Mapping[str, Any], world: World) -> None:
    """Check that all processes are about to do the same run.

    Args:
        mine: settings of this process, by name.
        world: this process among the others.

    Raises:
        UsageError: another process has other settings; both would wait for ever.
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
    """Copy the first process's running statistics (all that is not trained) to the others.

    They differ where each process normalises by its own batch; all must score one network.
    """
    if world.size > 1:
        import paddle.distributed as dist

        for tensor in model.state_dict().values():
            if tensor.stop_gradient:
                dist.broadcast(tensor, src=0)


def average_of_all(value: "Tensor", world: World) -> "Tensor":
    """Mean of a tensor over the processes, without gradient, equal in all of them."""
    value = value.detach()
    if world.size == 1:
        return value
    import paddle.distributed as dist

    value = value.clone()
    dist.all_reduce(value)
    return value / world.size


def wait_for_all(world: World) -> None:
    """Return when every process has called this, however long it takes.

    Paddle's gloo limits a collective to 30 seconds, which cannot be changed. So where one process
    works and the others wait (checking data, scoring, writing), they wait here first.
    """
    if world.size == 1:
        return
    import paddle.distributed as dist
    from paddle.base import core

    store = core.create_or_get_global_tcp_store()
    number = next(_meetings)
    store.add(f"meeting/{number}", 1)
    while store.add(f"meeting/{number}", 0) < world.size:
        time.sleep(MEETING_POLL_SECONDS)
    dist.barrier()  # process 0 holds the store and may end only after the last query
