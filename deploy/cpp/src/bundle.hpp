// The bundle: deploy.yaml and the files that it names, checked by the rules of the Python package.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bundle_keys.hpp"
#include "value.hpp"

namespace paddleseg_ext {

using Colour = std::array<std::uint8_t, 3>;
using Lookup = std::array<std::uint8_t, 256>;
// Called with each warning, a line.
using Warn = std::function<void(const std::string&)>;

// Names and colours of the classes, and how values in label files become them.
struct ClassTable {
  std::string name;
  std::vector<std::string> class_names;
  std::array<Colour, 256> palette{};  // black where a value is no class
  int ignore_index = 255;
  std::optional<Lookup> label_lookup, class_lookup;
  std::string lookup_suffix = "_labelIds.png";
  std::vector<std::array<std::uint8_t, 4>> label_colours;  // red, green, blue, class
  int other_colours = 254;

  int size() const { return static_cast<int>(class_names.size()); }
  // The lookup for the values of a label file; none where they are classes already.
  std::optional<Lookup> lookup_for(const std::string& label_path) const;
};

// A table of which only the number of classes is known.
ClassTable generic_table(int num_classes);

struct EvaluationRule {
  std::string protocol = "whole";
  std::vector<double> scales;
  bool flip_horizontal = false;
  std::string absent_class = "skip";
};

struct Bundle {
  std::filesystem::path deploy_file, model_file;
  std::vector<ValuePtr> transforms;
  std::vector<std::int64_t> input_shape;  // N, 3, H, W, -1 where free; empty where it is not said
  std::string input_type = "float32", output_op = "none", upsampling = "graph";
  int native_stride = 0;
  std::vector<double> temperatures;  // of the confidence: one for all classes, or one each; empty: 1
  std::string color_order = "RGB", orientation = "stored", network;
  std::optional<ClassTable> class_table;
  EvaluationRule rule;
  std::vector<std::pair<std::string, std::string>> graphs;  // onnx, onnx_int8 -> file

  bool has_manifest = false;

  // The ONNX graph of `fp32`, `bf16` (which runs that of fp32) or `int8`.
  // Throws Failure: there is none; it says how to make it.
  std::filesystem::path graph_file(const std::string& precision) const;
};

// Reads a deploy.yaml, or that of a folder.
// Throws Failure: a missing or short file, an unknown key, a wrong value.
Bundle read_bundle(const std::string& path, const Warn& warn);

// Checks the values of a section against the generated table of its keys.
void check_section(const Value& section, const std::vector<Key>& keys, const std::string& where);

}  // namespace paddleseg_ext
