"""The verbs that a command line calls, and what their own parsers find wrong in it."""

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.tipc.verbs import CHECKOUT


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("python train.py --iters 4", "train.py"),
        (f"env A=1 python {CHECKOUT}/infer.py --config x", f"{CHECKOUT}/infer.py"),
        (
            "python -m paddle.distributed.launch --log_dir=a --nproc_per_node=2 val.py --config x",
            "val.py",
        ),
        ("python -m paddleseg_ext quantize --data x", "-m paddleseg_ext quantize"),
        ("python -m paddleseg_ext tipc ask --save_dir x -- y", "-m paddleseg_ext tipc ask"),
        ("paddleseg-ext export --config x", "paddleseg-ext export"),
    ],
)
def test_a_verb_is_found_however_it_is_called(verbs, line, program):
    call = verbs.find(line.split())
    assert call.program == program
    assert " ".join(call.words) == line.partition(f"{program} ")[2]


@pytest.mark.parametrize("line", ["python other/train.py", "python -m paddle.utils", "ls", ""])
def test_programs_of_others_are_none_of_our_verbs(verbs, line):
    assert verbs.find(line.split()) is None
    verbs.require_sound(line.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("python -m paddleseg_ext trian --iters 4", r"no such command \(did you mean 'train'"),
        ("paddleseg-ext", "no such command"),
        ("python -m paddleseg_ext tipc aks", r"'-m paddleseg_ext tipc aks'.*did you mean 'ask'"),
        ("python train.py --iters 4", "'train.py' needs --config"),
        ("python infer.py --config x", "needs --image_path or --video or --camera"),
        ("python train.py --config x --itres 4", r"no flag '--itres' \(did you mean '--iters'"),
        ("python train.py --config x --iters 0", "--iters: expected a whole number of at least 1"),
        ("python train.py --config x --amp_level O3", "invalid choice: 'O3'"),
        ("python train.py now --config x", "does not take 'now'"),
        ("python train.py --config x --help", "ends 'train.py' before"),
        (
            "python -m paddleseg_ext tipc ask --image_path=x --save_dir=y -- "
            "python -m paddleseg_ext serve --config=z --prot=80",
            r"'-m paddleseg_ext serve' has no flag '--prot' \(did you mean '--port'",
        ),
    ],
)
def test_a_fault_is_what_the_parser_of_the_verb_finds(verbs, capfd, line, message):
    with pytest.raises(UsageError, match=message):
        verbs.require_sound(line.split())
    assert capfd.readouterr() == ("", "")


def test_every_fault_is_found_and_flags_that_the_chain_adds_are_not_missing(verbs):
    call = verbs.find(
        ["infer.py", "--cpu_threads", "none", "--bench", "True", "--precision", "fp31"]
    )
    found = list(call.faults(added=("--config", "--image_path")))
    assert len(found) == 3
    assert len(list(call.faults())) == 5
