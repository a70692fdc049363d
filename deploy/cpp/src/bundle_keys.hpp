// Written by generate_keys.py from the Python package's declarations; not to be edited.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace paddleseg_ext {

constexpr std::size_t kFormat = 1;
constexpr std::size_t kLargestSide = 65536;
constexpr std::size_t kLargestScale = 64;
constexpr std::size_t kMostClasses = 254;
constexpr std::size_t kMostYamlBytes = 1048576;
constexpr std::size_t kMostValues = 50000;
constexpr std::size_t kMostLetters = 2097152;
constexpr std::size_t kDeepest = 50;
constexpr std::size_t kLongestNumber = 100;
constexpr std::size_t kJpegQuality = 90;
constexpr std::size_t kLongestJpegSide = 65500;
constexpr double kOverlayWeight = 0.6;
constexpr char kConfidenceMeans[] = "confidence: the largest softmax at the original size after all resizing, as value / 255";
constexpr char kNoScores[] = "the graph ends in argmax and returns class ids: scores and confidence need one that was exported with --output_op none (or softmax)";
constexpr char kCoincheung[] = "CoinCheung/BiSeNet tools/evaluate.py";
constexpr unsigned char kUnknownColour[3] = {255, 0, 255};

inline const std::vector<std::string> kModelFiles = {"model.json", "model.pdmodel"};
inline const std::vector<std::string> kOutputOps = {"none", "softmax", "argmax"};
inline const std::vector<std::string> kInputTypes = {"float32", "uint8"};
inline const std::vector<std::string> kInterpolations = {"NEAREST", "LINEAR", "CUBIC", "AREA", "LANCZOS4", "PILLOW_LINEAR"};
inline const std::vector<std::string> kAbsentRules = {"skip", "zero", "one", "smooth"};
inline const std::vector<std::string> kImageSuffixes = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"};
inline const std::vector<std::string> kVideoCodecs = {"avc1", "vp09", "vp08", "mp4v"};
inline const std::vector<std::string> kVideoSuffixes = {".mp4", ".webm", ".webm", ".mp4"};
inline const std::vector<std::string> kPlayedCodecs = {"avc1", "vp09", "vp08"};

// One key of a section; `limit` is not allowed itself. `is_done`: it is acted on.
struct Key {
  std::string name, kind, item_kind;
  bool is_done, is_required, is_nullable, has_least, has_limit;
  double least, limit;
  std::vector<std::string> choices;
};

inline const std::vector<Key> kTop = {
    {"Deploy", "any", "", true, true, false, false, false, 0, 0, {}},
    {"Manifest", "any", "", true, false, false, false, false, 0, 0, {}},
};

inline const std::vector<Key> kDeploy = {
    {"model", "text", "", true, false, false, false, false, 0, 0, {}},
    {"params", "text", "", true, false, false, false, false, 0, 0, {}},
    {"transforms", "any", "", true, false, false, false, false, 0, 0, {}},
    {"input_shape", "list", "", true, false, true, false, false, 0, 0, {}},
    {"input_dtype", "text", "", true, false, false, false, false, 0, 0, {}},
    {"output_op", "text", "", true, false, true, false, false, 0, 0, {}},
    {"output_dtype", "text", "", true, false, true, false, false, 0, 0, {}},
};

inline const std::vector<Key> kManifest = {
    {"format", "whole", "", true, true, false, false, false, 0, 0, {}},
    {"network", "text", "", true, true, false, false, false, 0, 0, {}},
    {"checkpoint", "section", "any", true, true, false, false, false, 0, 0, {}},
    {"variables", "section", "any", true, true, false, false, false, 0, 0, {}},
    {"preprocess", "section", "any", true, true, false, false, false, 0, 0, {}},
    {"postprocess", "section", "any", true, true, false, false, false, 0, 0, {}},
    {"versions", "section", "", true, true, false, false, false, 0, 0, {}},
    {"files", "section", "text", true, true, false, false, false, 0, 0, {}},
    {"sizes", "section", "whole", true, true, false, false, false, 0, 0, {}},
    {"graphs", "section", "section", true, false, false, false, false, 0, 0, {}},
    {"verified", "section", "any", true, false, false, false, false, 0, 0, {}},
    {"cost", "section", "any", true, false, false, false, false, 0, 0, {}},
    {"evaluation", "section", "any", true, false, false, false, false, 0, 0, {}},
};

inline const std::vector<Key> kCheckpoint = {
    {"path", "text", "", true, false, true, false, false, 0, 0, {}},
    {"sha256", "text", "", true, false, true, false, false, 0, 0, {}},
    {"iteration", "whole", "", true, false, true, true, false, 0, 0, {}},
};

inline const std::vector<Key> kVariables = {
    {"loaded", "whole", "", true, false, false, true, false, 0, 0, {}},
    {"total", "whole", "", true, false, false, true, false, 0, 0, {}},
};

inline const std::vector<Key> kPreprocess = {
    {"color_order", "text", "", true, false, false, false, false, 0, 0, {"RGB", "BGR"}},
    {"orientation", "text", "", true, false, false, false, false, 0, 0, {"stored", "upright"}},
    {"value_range", "list", "whole", true, false, true, false, false, 0, 0, {}},
    {"layout", "text", "", true, false, true, false, false, 0, 0, {}},
};

inline const std::vector<Key> kPostprocess = {
    {"classes", "any", "", true, true, false, false, false, 0, 0, {}},
    {"output_op", "text", "", true, false, true, false, false, 0, 0, {}},
    {"upsampling", "text", "", true, false, false, false, false, 0, 0, {"graph", "half_pixel", "aligned"}},
    {"resize_back", "text", "", true, false, true, false, false, 0, 0, {}},
    {"calibration", "section", "any", true, false, false, false, false, 0, 0, {}},
    {"class_statistics", "section", "any", true, false, false, false, false, 0, 0, {}},
    {"native_stride", "whole", "", true, false, false, true, false, 0, 0, {}},
};

inline const std::vector<Key> kCost = {
    {"parameters", "whole", "", true, false, true, true, false, 0, 0, {}},
    {"multiply_adds", "whole", "", true, false, true, true, false, 0, 0, {}},
    {"input_shape", "list", "whole", true, false, true, false, false, 0, 0, {}},
};

inline const std::vector<Key> kClasses = {
    {"name", "text", "", true, true, false, false, false, 0, 0, {}},
    {"class_names", "list", "text", true, true, false, false, false, 0, 0, {}},
    {"palette", "list", "", true, true, false, false, false, 0, 0, {}},
    {"ignore_index", "whole", "", true, false, false, true, true, 0, 256, {}},
    {"label_lookup", "list", "", true, false, true, false, false, 0, 0, {}},
    {"lookup_suffix", "text", "", true, false, false, false, false, 0, 0, {}},
    {"left_right", "list", "", true, false, true, false, false, 0, 0, {}},
    {"class_lookup", "list", "", true, false, true, false, false, 0, 0, {}},
    {"label_colours", "list", "", true, false, true, false, false, 0, 0, {}},
    {"other_colours", "whole", "", true, false, false, true, true, 0, 256, {}},
    {"unknown", "whole", "", true, false, true, true, true, 0, 256, {}},
};

inline const std::vector<Key> kEvaluation = {
    {"protocol", "text", "", true, false, false, false, false, 0, 0, {}},
    {"scales", "list", "number", true, false, true, false, false, 0, 0, {}},
    {"flip_horizontal", "flag", "", true, false, false, false, false, 0, 0, {}},
    {"crop_size", "list", "whole", true, false, true, false, false, 0, 0, {}},
    {"stride", "list", "whole", true, false, true, false, false, 0, 0, {}},
    {"absent_class", "text", "", true, false, false, false, false, 0, 0, {"skip", "zero", "one", "smooth"}},
};

inline const std::vector<Key> kVerified = {
    {"grade", "text", "", true, true, false, false, false, 0, 0, {}},
    {"passed", "flag", "", true, true, false, false, false, 0, 0, {}},
    {"num_different", "whole", "", true, false, false, true, false, 0, 0, {}},
    {"num_images", "whole", "", true, false, false, true, false, 0, 0, {}},
    {"command", "text", "", true, false, false, false, false, 0, 0, {}},
    {"version", "text", "", true, false, false, false, false, 0, 0, {}},
    {"cpu", "text", "", true, false, false, false, false, 0, 0, {}},
    {"cpu_threads", "whole", "", true, false, true, true, false, 0, 0, {}},
    {"ratio", "number", "", true, false, true, true, false, 0, 0, {}},
    {"new_size_s", "number", "", true, false, false, true, false, 0, 0, {}},
    {"new_size_share", "number", "", true, false, false, true, false, 0, 0, {}},
    {"mean_iou_before", "number", "", true, false, true, true, false, 0, 0, {}},
    {"mean_iou_after", "number", "", true, false, true, true, false, 0, 0, {}},
    {"int8_kernels", "whole", "", true, false, true, true, false, 0, 0, {}},
    {"num_pixels", "whole", "", true, false, false, true, false, 0, 0, {}},
    {"preferred", "flag", "", true, false, true, false, false, 0, 0, {}},
};

// An argument of a transform: its name, what it may be, and its default.
struct Argument {
  std::string name, expected, fallback;
};
struct Transform {
  std::string name;
  std::vector<Argument> arguments;
};

inline const std::vector<Transform> kTransforms = {
    {"Resize", {
        {"target_size", "[width, height]", "(512, 512)"},
        {"keep_ratio", "true or false", "False"},
        {"size_divisor", "a whole number from 1 to 65536", ""},
        {"interp", "a word", "LINEAR"},
    }},
    {"ResizeByShort", {
        {"short_size", "a whole number from 1 to 65536 (in training also a list of them)", ""},
        {"max_size", "a number above 0", "10000000000.0"},
    }},
    {"ResizeByLong", {
        {"long_size", "a whole number from 1 to 65536", ""},
    }},
    {"LimitLong", {
        {"max_long", "a whole number from 1 to 65536", ""},
        {"min_long", "a whole number from 1 to 65536", ""},
    }},
    {"Padding", {
        {"target_size", "[width, height]", ""},
        {"im_padding_value", "a number, or one per channel", "127.5"},
        {"label_padding_value", "a whole number from 0 to 255", "255"},
    }},
    {"Normalize", {
        {"mean", "a list of numbers, one per channel or one for all", "(0.5,)"},
        {"std", "a list of numbers, one per channel or one for all", "(0.5,)"},
    }},
};

// How a network is evaluated; see scoring/protocols.py. `is_whole`: a graph runs it.
struct Protocol {
  std::string name, source, merge;
  bool is_whole, takes_scale, round_sides, align_corners, bytes_first, needs_full_size;
  int side_multiple, label_stride;
  double scale;
};

inline const std::vector<Protocol> kProtocols = {
    {"ss", "CoinCheung/BiSeNet tools/evaluate.py", "softmax", true, false, false, true, false, true, 32, 1, 1.0},
    {"msf", "CoinCheung/BiSeNet tools/evaluate.py", "softmax", false, false, false, true, false, true, 32, 1, 0.5},
    {"ssc", "CoinCheung/BiSeNet tools/evaluate.py", "window_softmax", false, false, false, true, false, true, 1, 1, 1.0},
    {"mscf", "CoinCheung/BiSeNet tools/evaluate.py", "window_exp", false, false, false, true, false, true, 1, 1, 0.5},
    {"coincheung_demo", "CoinCheung/BiSeNet tools/demo.py, demo_video.py", "logits", false, false, false, false, false, true, 32, 1, 1.0},
    {"coincheung_demo_video", "CoinCheung/BiSeNet tools/demo.py, demo_video.py", "logits", false, false, false, false, false, true, 1, 1, 1.0},
    {"scale_0.5", "MichaelFan01/STDC-Seg evaluation.py", "logits", true, false, false, true, false, true, 1, 1, 0.5},
    {"scale_0.75", "MichaelFan01/STDC-Seg evaluation.py", "logits", true, false, false, true, false, true, 1, 1, 0.75},
    {"half_resize", "MaybeShewill-CV/bisenetv2-tensorflow tools/cityscapes", "window_softmax", true, true, false, false, true, true, 1, 1, 0.5},
    {"whole", "PaddleSeg 2.8 core/infer.py", "logits", true, true, true, false, false, false, 1, 1, 1.0},
    {"slide", "PaddleSeg 2.8 core/infer.py", "logits", false, true, true, false, false, false, 1, 1, 1.0},
    {"mmseg_whole", "mmsegmentation 0.19 segmentors/encoder_decoder.py", "softmax", false, true, true, false, false, false, 1, 1, 1.0},
    {"mmseg_slide", "mmsegmentation 0.19 segmentors/encoder_decoder.py", "softmax", false, true, true, false, false, false, 1, 1, 1.0},
    {"torchseg", "ycszen/TorchSeg furnace/engine/evaluator.py", "window_product", false, true, false, false, true, true, 1, 1, 1.0},
    {"label_1_8", "ycszen/TorchSeg furnace/engine/evaluator.py", "logits", false, false, false, false, false, true, 1, 8, 1.0},
};

}  // namespace paddleseg_ext
