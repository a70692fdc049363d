"""What a resumed run must have in common with the one that was interrupted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.precision import FP32, Precision
from paddleseg_ext.training.run_folder import (
    Learner,
    find_resume_folder,
    load_paddlesegs_iteration,
)
from paddleseg_ext.training.state import TrainState

RUN = TrainState(seed=0, batch_size=2, world_size=2, num_samples=9, iters=20, threads=1)


def test_another_number_of_processes_is_refused_even_for_the_same_global_batch() -> None:
    saved = replace(RUN, iteration=4)
    RUN.check_same_run(saved, Path("iter_4"))
    alone = replace(RUN, world_size=1, batch_size=4)
    with pytest.raises(UsageError, match=r"had world_size 2, this one has 1.*--nproc_per_node"):
        alone.check_same_run(saved, Path("iter_4"))


def test_a_folder_without_an_optimizer_is_no_place_to_go_on_from(tmp_path: Path) -> None:
    (tmp_path / "model.pdparams").write_bytes(b"best")
    with pytest.raises(UsageError, match=r"holds no 'model.pdopt'.*SAVE_DIR/iter_N, or 'auto'"):
        find_resume_folder(str(tmp_path), tmp_path)


@pytest.mark.parametrize("has_table", [True, False])
def test_a_checkpoint_of_paddlesegs_with_and_without_the_names_of_its_layers(
    has_table: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def learner() -> Learner:
        model = paddle.nn.Conv2D(2, 3, 1)
        optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
        return Learner(model, optimizer, Precision(FP32))

    def step(one: Learner) -> np.ndarray:
        before = one.model.bias.numpy().copy()
        one.model.bias.sum().backward()
        one.optimizer.step()
        one.optimizer.clear_grad()
        return before - one.model.bias.numpy()

    theirs, ours = learner(), learner()
    step(theirs)
    state = theirs.model.state_dict()
    weights = state if has_table else {name: tensor.numpy() for name, tensor in state.items()}
    paddle.save(weights, str(tmp_path / "model.pdparams"))
    paddle.save(theirs.optimizer.state_dict(), str(tmp_path / "model.pdopt"))
    load_paddlesegs_iteration(tmp_path, ours)
    assert ("starts from zero" in capsys.readouterr().out) is not has_table
    # The second step of a momentum of 0.9 is 1.9 times the first one.
    np.testing.assert_allclose(step(ours), 0.19 if has_table else 0.1, rtol=1e-5)
