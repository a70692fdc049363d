"""What a resumed run must have in common with the one that was interrupted."""

from dataclasses import replace
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.run_folder import find_resume_folder
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
