"""Flags that every command has."""

from paddleseg_ext.common import flags


def test_opts_given_twice_are_all_kept() -> None:
    parser = flags.make_parser("")
    flags.add_opts_flag(parser)
    assert parser.parse_args([]).opts == []
    given = ["--opts", "iters=3", "batch_size=2", "--opts", "iters=4"]
    assert parser.parse_args(given).opts == ["iters=3", "batch_size=2", "iters=4"]
    assert parser.parse_args([]).opts == []
