"""Evaluations of several processes as one: counts are added, every image is there once."""

from collections.abc import Sequence

from paddleseg_ext.distributed.world import World, wait_for_all
from paddleseg_ext.evaluation.evaluator import Evaluation, merge_evaluations
from paddleseg_ext.evaluation.extras import Extras


def gather(
    part: Evaluation, world: World, names: Sequence[str], extras: Extras | None = None
) -> Evaluation:
    """The evaluation of all samples, in every process.

    Args:
        part: what this process scored; it may be empty.
        world: this process among those that scored.
        names: of all samples, in their order.
        extras: what this process found beside the counts; takes over the others' findings.

    Raises:
        CheckFailed: an image is missing or was scored twice.
    """
    if world.size == 1:
        return part
    import paddle.distributed as dist

    wait_for_all(world)

    everybody: list[tuple[Evaluation, Extras | None]] = []
    dist.all_gather_object(everybody, (part, extras))
    for rank, (_, findings) in enumerate(everybody):
        if rank != world.rank and extras is not None and findings is not None:
            extras.merge(findings)
    return merge_evaluations([evaluation for evaluation, _ in everybody], names)
