"""Evaluations of several processes as one: counts are added, every image is there once."""

from collections.abc import Sequence

from paddleseg_ext.evaluation.evaluator import Evaluation, merge_evaluations
from paddleseg_ext.evaluation.extras import Extras


def gather(
    part: Evaluation, num_processes: int, names: Sequence[str], extras: Extras | None = None
) -> Evaluation:
    """The evaluation of all samples, in every process.

    Args:
        part: what this process scored; it may be empty.
        names: of all samples, in their order.
        extras: what this process found beside the counts; takes over the others' findings.

    Raises:
        CheckFailed: an image is missing or was scored twice.
    """
    if num_processes == 1:
        return part
    import paddle.distributed as dist

    everybody: list[tuple[Evaluation, Extras | None]] = []
    dist.all_gather_object(everybody, (part, extras))
    rank = dist.get_rank()
    for other, (_, findings) in enumerate(everybody):
        if other != rank and extras is not None and findings is not None:
            extras.merge(findings)
    return merge_evaluations([evaluation for evaluation, _ in everybody], names)
