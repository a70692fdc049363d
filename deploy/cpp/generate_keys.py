"""Write src/bundle_keys.hpp: the keys of a bundle, as the Python package declares them.

    python deploy/cpp/generate_keys.py [--check]

With --check nothing is written; status 1 where the file is not what the package says.
"""

import argparse
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from paddleseg_ext.common import transform_arguments, yml
from paddleseg_ext.common.files import write_text
from paddleseg_ext.images import labels
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.inference import manifest, outputs, preprocess, verified, video_files
from paddleseg_ext.inference.postprocess import NO_SCORES, OUTPUT_OPS
from paddleseg_ext.scoring.metrics import ABSENT_RULES
from paddleseg_ext.scoring.protocols import (
    COINCHEUNG,
    LARGEST_SCALE,
    PROTOCOLS,
    EvaluationRule,
    Protocol,
)

HEADER = Path(__file__).parent / "src" / "bundle_keys.hpp"
# Those that a graph runs; `evaluation.bundle_protocol` has the same names.
SECTIONS = {
    "kTop": None,
    "kDeploy": manifest.DeploySection,
    "kManifest": manifest.ManifestKeys,
    "kCheckpoint": manifest.CheckpointKeys,
    "kVariables": manifest.VariablesKeys,
    "kPreprocess": manifest.PreprocessKeys,
    "kPostprocess": manifest.PostprocessKeys,
    "kCost": manifest.CostKeys,
    "kClasses": labels._Entries,
    "kEvaluation": EvaluationRule,
    "kVerified": verified.Verified,
}
# Of sections whose keys decide label maps: those that the C++ program acts on. Another one is
# refused where a bundle gives it a value, so that a new key is never left out in silence.
DONE = {
    "kDeploy": [
        "model",
        "params",
        "transforms",
        "input_shape",
        "input_dtype",
        "output_op",
        "output_dtype",
    ],
    "kPreprocess": ["color_order", "orientation", "value_range", "layout"],
    "kPostprocess": [
        "classes",
        "output_op",
        "upsampling",
        "resize_back",
        "calibration",
        "class_statistics",
        "native_stride",
    ],
    "kClasses": [
        "name",
        "class_names",
        "palette",
        "ignore_index",
        "label_lookup",
        "lookup_suffix",
        "left_right",
        "class_lookup",
        "label_colours",
        "other_colours",
        "unknown",
    ],
}
KINDS = {str: "text", int: "whole", float: "number", bool: "flag", list: "list", dict: "section"}
KINDS |= {tuple: "list", Any: "any"}
CONSTANTS = {
    "kFormat": manifest.MANIFEST_FORMAT,
    "kLargestSide": transform_arguments.LARGEST_SIDE,
    "kLargestScale": LARGEST_SCALE,
    "kMostClasses": labels.MAX_CLASSES,
    "kMostYamlBytes": yml.MOST_BYTES,
    "kMostValues": yml.MOST_VALUES,
    "kMostLetters": yml.MOST_LETTERS,
    "kDeepest": yml.DEEPEST,
    "kLongestNumber": yml.LONGEST_NUMBER,
    "kJpegQuality": outputs.JPEG_QUALITY,
    "kLongestJpegSide": outputs.LONGEST_JPEG_SIDE,
}
NAMES = {
    "kModelFiles": manifest.MODEL_FILES,
    "kOutputOps": OUTPUT_OPS,
    "kInputTypes": manifest.INPUT_DTYPES,
    "kInterpolations": preprocess.INTERPOLATIONS,
    "kAbsentRules": ABSENT_RULES,
    "kImageSuffixes": IMAGE_SUFFIXES,
    "kVideoCodecs": video_files.CODECS,
    "kVideoSuffixes": video_files.CODECS.values(),  # of the codecs, in their order
    "kPlayedCodecs": video_files.PLAYED_BY_BROWSERS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the header, or compare it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args(argv).check:
        write_text(HEADER, header())
        return 0
    if HEADER.read_text(encoding="utf-8") == header():
        return 0
    print(f"failed: {HEADER} is out of date: run {Path(__file__).name}", file=sys.stderr)
    return 1


def header() -> str:
    """The text of the header."""
    lines = [
        "// Written by generate_keys.py from the Python package's declarations; not to be edited.",
        "#pragma once",
        "",
        "#include <cstddef>",
        "#include <string>",
        "#include <vector>",
        "",
        "namespace paddleseg_ext {",
        "",
        *(f"constexpr std::size_t {name} = {value};" for name, value in CONSTANTS.items()),
        f"constexpr double kOverlayWeight = {outputs.OVERLAY_WEIGHT};",
        f"constexpr char kConfidenceMeans[] = {_text(outputs.CONFIDENCE_MEANS)};",
        f"constexpr char kNoScores[] = {_text(NO_SCORES)};",
        f"constexpr char kCoincheung[] = {_text(COINCHEUNG)};",
        f"constexpr unsigned char kUnknownColour[3] = {_numbers(labels.UNKNOWN_COLOUR)};",
        "",
        *(f"inline const std::vector<std::string> {k} = {_texts(v)};" for k, v in NAMES.items()),
        "",
        "// One key of a section; `limit` is not allowed itself. `is_done`: it is acted on.",
        "struct Key {",
        "  std::string name, kind, item_kind;",
        "  bool is_done, is_required, is_nullable, has_least, has_limit;",
        "  double least, limit;",
        "  std::vector<std::string> choices;",
        "};",
        "",
    ]
    for name, section in SECTIONS.items():
        keys = [_key(field, section, name) for field in fields(section)] if section else _top_keys()
        lines += [f"inline const std::vector<Key> {name} = {{", *keys, "};", ""]
    return "\n".join([*lines, *_transforms(), *_protocols(), "}  // namespace paddleseg_ext", ""])


def _top_keys() -> list[str]:
    return [
        f"    {_row((name, 'any', ''), (True, required, False), {}, ())},"
        for name, required in (("Deploy", True), ("Manifest", False))
    ]


def _key(field: Field, section: type, table: str) -> str:
    hint = get_type_hints(section)[field.name]
    alternatives = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    is_nullable = type(None) in alternatives
    (kind,) = (each for each in alternatives if each is not type(None))
    origin, inner, choices = get_origin(kind), get_args(kind), ()
    if origin is Literal:
        kind, choices, inner = str, inner, ()
    item = next((KINDS.get(each, "") for each in inner[-1:] if each is not ...), "")
    if origin is tuple:
        item = KINDS[inner[0]]
    required = field.default is MISSING and field.default_factory is MISSING
    bounds = field.metadata.get("bounds", {})
    word = KINDS[kind if origin in (None, Literal) else origin]
    is_done = field.name in DONE.get(table, [field.name])
    words, flags = (field.name, word, item), (is_done, required, is_nullable)
    return f"    {_row(words, flags, bounds, choices)},"


def _row(words: Sequence[str], flags: Sequence[bool], bounds: Mapping, choices: Any) -> str:
    least, limit = bounds.get("at least"), bounds.get("below")
    every = [*flags, least is not None, limit is not None]
    entries = [*map(_text, words), *(str(flag).lower() for flag in every)]
    return f"{{{', '.join([*entries, str(least or 0), str(limit or 0), _texts(choices)])}}}"


def _transforms() -> list[str]:
    """Name -> arguments, with the words for what each may be."""
    lines = [
        "// An argument of a transform: its name, what it may be, and its default.",
        "struct Argument {",
        "  std::string name, expected, fallback;",
        "};",
        "struct Transform {",
        "  std::string name;",
        "  std::vector<Argument> arguments;",
        "};",
        "",
        "inline const std::vector<Transform> kTransforms = {",
    ]
    for name, factory in preprocess.TRANSFORMS.items():
        lines.append(f"    {{{_text(name)}, {{")
        for argument in inspect.signature(factory).parameters.values():
            expected = transform_arguments._KINDS[argument.name][0]
            default = "" if argument.default in (None, argument.empty) else str(argument.default)
            row = ", ".join(map(_text, (argument.name, expected, default)))
            lines.append(f"        {{{row}}},")
        lines.append("    }},")
    return [*lines, "};", ""]


def _protocols() -> list[str]:
    lines = [
        "// How a network is evaluated; see scoring/protocols.py. `is_whole`: a graph runs it.",
        "struct Protocol {",
        "  std::string name, source, merge;",
        "  bool is_whole, takes_scale, round_sides, align_corners, bytes_first, needs_full_size;",
        "  int side_multiple, label_stride;",
        "  double scale;",
        "};",
        "",
        "inline const std::vector<Protocol> kProtocols = {",
    ]
    for protocol in PROTOCOLS.values():
        lines.append(f"    {{{_protocol(protocol)}}},")
    return [*lines, "};", ""]


def _protocol(protocol: Protocol) -> str:
    from paddleseg_ext.evaluation.bundle_protocol import PROTOCOLS_OF_BUNDLES
    from paddleseg_ext.scoring.protocols import OPTIONS_OF

    flags = (
        protocol.name in PROTOCOLS_OF_BUNDLES,
        "scales" in OPTIONS_OF.get(protocol.name, ()),
        protocol.round_sides,
        protocol.align_corners,
        protocol.bytes_first,
        protocol.needs_full_size,
    )
    words = [*map(_text, (protocol.name, protocol.source, protocol.merge))]
    words += [str(flag).lower() for flag in flags]
    numbers = protocol.side_multiple, protocol.label_stride, protocol.scales[0]
    return ", ".join([*words, *map(str, numbers)])


def _texts(words: Sequence[str]) -> str:
    return f"{{{', '.join(map(_text, words))}}}"


def _numbers(values: Any) -> str:
    return f"{{{', '.join(str(int(value)) for value in values)}}}"


def _text(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    sys.exit(main())
