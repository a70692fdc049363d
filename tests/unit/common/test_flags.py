"""Flags that every command has."""

from paddleseg_ext.common import flags


def test_opts_given_twice_are_all_kept() -> None:
    parser = flags.make_parser("")
    flags.add_opts_flag(parser)
    assert parser.parse_args([]).opts == []
    given = ["--opts", "iters=3", "batch_size=2", "--opts", "iters=4"]
    assert parser.parse_args(given).opts == ["iters=3", "batch_size=2", "iters=4"]
    assert parser.parse_args([]).opts == []


def test_help_tells_a_default_once_and_only_where_there_is_one() -> None:
    parser = flags.make_parser("")
    flags.add_config_flags(parser)
    flags.add_device_flag(parser)
    parser.add_argument("--rounds", default=30, help="images, in turn")
    text = " ".join(parser.format_help().split())
    assert "images, in turn (default: 30)" in text
    assert "where to run (default: gpu where Paddle is built with CUDA and one is there)" in text
    assert "(default: None)" not in text and "(default: [])" not in text


def test_help_says_what_a_truth_value_is() -> None:
    parser = flags.make_parser("")
    parser.add_argument("--use_trt", type=flags.boolean, default=False, help="TensorRT")
    assert "--use_trt True|False" in parser.format_help()
