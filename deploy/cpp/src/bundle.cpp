#include "bundle.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "failure.hpp"

namespace paddleseg_ext {
namespace {

namespace fs = std::filesystem;
using Kind = Value::Kind;

const std::string kDeployFile = "deploy.yaml";
const std::string kExpected = "the section 'Deploy:' of a deploy.yaml, which export_model.py writes,";
constexpr std::size_t kLongestFileName = 255;
constexpr std::size_t kShapeSides = 4;
constexpr std::int64_t kChannels = 3;

bool fits(const Value& value, const std::string& kind) {
  if (kind == "text") return value.kind == Kind::text;
  if (kind == "whole") return value.kind == Kind::whole;
  if (kind == "number") return value.is_number();
  if (kind == "flag") return value.kind == Kind::flag;
  if (kind == "list") return value.kind == Kind::list;
  if (kind == "section") return value.kind == Kind::section;
  return true;  // any
}

void check_value(const Value& value, const Key& key, const std::string& where) {
  if (key.is_nullable && value.kind == Kind::null) return;
  if (!key.is_done)
    refuse(where + ": '" + key.name + "' is newer than this program: build it again, or use paddleseg-ext infer");
  bool is_fit = fits(value, key.kind);
  if (is_fit && !key.item_kind.empty()) {
    for (const ValuePtr& item : value.items) is_fit = is_fit && fits(*item, key.item_kind);
    for (const auto& [name, item] : value.entries) is_fit = is_fit && fits(*item, key.item_kind);
  }
  if (!is_fit) refuse(where + ": " + key.name + ": a " + key.kind + " is expected, got " + value.described());
  const bool is_choice = std::find(key.choices.begin(), key.choices.end(), value.text) != key.choices.end();
  if (!key.choices.empty() && !is_choice)
    refuse(where + ": " + key.name + ": unknown " + shown(value.text) + nearest_name(value.text, key.choices));
  if ((key.has_least && !(value.real >= key.least)) || (key.has_limit && !(value.real < key.limit)))
    refuse(where + ": " + key.name + ": " + value.described() + " is out of range");
}

std::string text_of(const Value& section, const std::string& key, const std::string& fallback) {
  const Value* value = section.find(key);
  return value == nullptr || value->kind == Kind::null ? fallback : value->text;
}

const Value& section_of(const Value& manifest, const std::string& key) {
  static const Value empty = [] {
    Value value;
    value.kind = Kind::section;
    return value;
  }();
  const Value* value = manifest.find(key);
  return value == nullptr ? empty : *value;
}

std::string check_file_name(const std::string& where, const Value* value) {
  const std::string name = value == nullptr || value->kind != Kind::text ? "" : value->text;
  const bool is_place = name.empty() || name == "." || name == ".." || name.find_first_of("/\\") != std::string::npos;
  if (is_place || name.size() > kLongestFileName || !bad_letter(name).empty())
    refuse(where + ": the plain name of a file in the same folder is expected, got " + shown(name));
  return name;
}

void check_name(const std::string& where, const std::string& name) {
  if (const std::string letter = bad_letter(name); !letter.empty())
    refuse(where + ": " + shown(name) + " holds the letter " + letter + ", which no name holds");
}

void check_choice(const std::string& where, const std::string& value, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), value) == known.end())
    refuse(where + ": unknown " + shown(value) + nearest_name(value, known));
}

// `size` whole numbers from 0 to 255.
std::vector<std::uint8_t> bytes_of(const Value& list, std::size_t size, const std::string& where) {
  std::vector<std::uint8_t> result;
  bool is_fit = list.kind == Kind::list && list.items.size() == size;
  for (const ValuePtr& item : list.items) {
    is_fit = is_fit && item->kind == Kind::whole && item->whole >= 0 && item->whole <= 255;
    if (is_fit) result.push_back(static_cast<std::uint8_t>(item->whole));
  }
  if (!is_fit)
    refuse(where + ": " + std::to_string(size) + " whole numbers from 0 to 255 expected, got " + list.described());
  return result;
}

std::optional<Lookup> lookup_of(const Value& section, const std::string& key, const std::string& where) {
  const Value* value = section.find(key);
  if (value == nullptr || value->kind == Kind::null) return std::nullopt;
  const std::vector<std::uint8_t> bytes = bytes_of(*value, 256, where + ": " + key);
  Lookup lookup{};
  std::copy(bytes.begin(), bytes.end(), lookup.begin());
  return lookup;
}

void read_names(const Value& names, const std::string& where, ClassTable* table) {
  for (const ValuePtr& name : names.items) {
    check_name(where, name->text);
    const auto& known = table->class_names;
    if (std::find(known.begin(), known.end(), name->text) != known.end())
      refuse(where + ": different names are expected, two classes are " + shown(name->text));
    table->class_names.push_back(name->text);
  }
  if (table->class_names.empty() || table->class_names.size() > kMostClasses)
    refuse(where + ": 1 to " + std::to_string(kMostClasses) + " are expected, got " +
           std::to_string(table->class_names.size()));
}

ClassTable read_table(const Value& section, const std::string& where) {
  if (section.kind != Kind::section)
    refuse(where + ": the keys of a class table are expected, got " + section.described());
  check_section(section, kClasses, where);
  ClassTable table;
  table.name = section.find("name")->text;
  check_name(where + ": name", table.name);
  read_names(*section.find("class_names"), where + ": class_names", &table);
  const Value& palette = *section.find("palette");
  if (palette.items.size() != table.class_names.size())
    refuse(where + ": palette: a colour for each class is expected, got " + palette.described());
  for (std::size_t i = 0; i < palette.items.size(); ++i) {
    const std::vector<std::uint8_t> colour = bytes_of(*palette.items[i], 3, where + ": palette");
    std::copy(colour.begin(), colour.end(), table.palette[i].begin());
  }
  if (const Value* index = section.find("ignore_index")) table.ignore_index = static_cast<int>(index->whole);
  if (const Value* other = section.find("other_colours")) table.other_colours = static_cast<int>(other->whole);
  if (const Value* unknown = section.find("unknown"); unknown != nullptr && unknown->kind == Kind::whole) {
    if (unknown->whole < table.size() || unknown->whole == table.ignore_index)
      refuse(where + ": unknown: a value that is no class and not ignored is expected, got " + unknown->text);
    std::copy(std::begin(kUnknownColour), std::end(kUnknownColour), table.palette[static_cast<std::size_t>(unknown->whole)].begin());
  }
  table.lookup_suffix = text_of(section, "lookup_suffix", table.lookup_suffix);
  table.label_lookup = lookup_of(section, "label_lookup", where);
  table.class_lookup = lookup_of(section, "class_lookup", where);
  if (const Value* colours = section.find("label_colours"))
    for (const ValuePtr& row : colours->items) {
      const std::vector<std::uint8_t> bytes = bytes_of(*row, 4, where + ": label_colours");
      table.label_colours.push_back({bytes[0], bytes[1], bytes[2], bytes[3]});
    }
  return table;
}

// The format comes first: the keys of a later one are not this release's to judge.
void check_format(const Value& manifest, const std::string& where) {
  const Value* format = manifest.find("format");
  const bool is_whole = format != nullptr && format->kind == Kind::whole;
  const std::string expected = where + ": format " + std::to_string(kFormat) + " is expected, got ";
  if (is_whole && format->whole > static_cast<std::int64_t>(kFormat))
    refuse(expected + format->text + ": a later release of paddleseg_ext wrote it; use that one");
  if (!is_whole || format->whole != static_cast<std::int64_t>(kFormat))
    refuse(expected + (format == nullptr ? "nothing" : format->described()) + "; export the model again");
}

void read_rule(const Value& section, const std::string& where, EvaluationRule* rule) {
  check_section(section, kEvaluation, where);
  rule->protocol = text_of(section, "protocol", rule->protocol);
  std::vector<std::string> known;
  for (const Protocol& protocol : kProtocols) known.push_back(protocol.name);
  check_choice(where + ": protocol", rule->protocol, known);
  rule->absent_class = text_of(section, "absent_class", rule->absent_class);
  if (const Value* flip = section.find("flip_horizontal")) rule->flip_horizontal = flip->flag;
  if (const Value* scales = section.find("scales"))
    for (const ValuePtr& scale : scales->items) {
      if (!(scale->real > 0 && scale->real <= kLargestScale))
        refuse(where + ": scales: numbers above 0 and up to " + std::to_string(kLargestScale) +
               " are expected, got " + scale->described());
      rule->scales.push_back(scale->real);
    }
}

void read_graphs(const Value& manifest, const std::string& where, Bundle* bundle) {
  for (const auto& [name, hash] : section_of(manifest, "files").entries) {
    Value file;
    file.kind = Kind::text;
    file.text = name;
    check_file_name(where + ".files", &file);
  }
  for (const auto& [name, graph] : section_of(manifest, "graphs").entries)
    bundle->graphs.emplace_back(name, check_file_name(where + ".graphs." + name + ".file", graph->find("file")));
}

// What divides logits before the softmax of the confidence.
void read_calibration(const Value& section, const std::string& where, Bundle* bundle) {
  const auto add = [&](const Value& value, const std::string& key) {
    if (!value.is_number() || !(value.real > 0.0)) refuse(where + "." + key + ": a number above 0 is expected, got " + value.described());
    bundle->temperatures.push_back(value.real);
  };
  if (const Value* all = section.find("class_temperatures"))
    for (const ValuePtr& value : all->items) add(*value, "class_temperatures");
  if (const Value* one = section.find("temperature"); one != nullptr && bundle->temperatures.empty()) add(*one, "temperature");
}

void read_manifest(const Value& manifest, Bundle* bundle) {
  const std::string where = bundle->deploy_file.string() + ": Manifest";
  check_section(manifest, kManifest, where);
  bundle->has_manifest = true;
  bundle->network = manifest.find("network")->text;
  check_name(where + ".network", bundle->network);
  check_section(section_of(manifest, "checkpoint"), kCheckpoint, where + ".checkpoint");
  check_section(section_of(manifest, "variables"), kVariables, where + ".variables");
  check_section(section_of(manifest, "cost"), kCost, where + ".cost");
  const Value& before = section_of(manifest, "preprocess");
  check_section(before, kPreprocess, where + ".preprocess");
  bundle->color_order = text_of(before, "color_order", "RGB");
  bundle->orientation = text_of(before, "orientation", "stored");
  const Value& after = section_of(manifest, "postprocess");
  check_section(after, kPostprocess, where + ".postprocess");
  bundle->upsampling = text_of(after, "upsampling", "graph");
  if (const Value* stride = after.find("native_stride")) bundle->native_stride = static_cast<int>(stride->whole);
  if (const std::string op = text_of(after, "output_op", ""); op != bundle->output_op)
    refuse(where + ".postprocess: output_op " + shown(op) + " and Deploy's '" + bundle->output_op +
           "' differ; export the model again");
  if (bundle->upsampling != "graph" && bundle->output_op != "none")
    refuse(where + ".postprocess.upsampling: 'graph' is expected where output_op is not 'none', got '" +
           bundle->upsampling + "'");
  read_calibration(section_of(after, "calibration"), where + ".postprocess.calibration", bundle);
  bundle->class_table = read_table(*after.find("classes"), where + ".postprocess.classes");
  read_graphs(manifest, where, bundle);
  for (const auto& [name, record] : section_of(manifest, "verified").entries) {
    if (record->kind != Kind::section)
      refuse(where + ".verified." + name + ": a section is expected, got " + record->described());
    for (const Key& key : kVerified)  // keys of later releases are left out
      if (const Value* value = record->find(key.name)) check_value(*value, key, where + ".verified." + name);
  }
  read_rule(section_of(manifest, "evaluation"), where + ".evaluation", &bundle->rule);
}

void read_deploy(const Value& deploy, Bundle* bundle) {
  const std::string where = bundle->deploy_file.string() + ": Deploy";
  check_section(deploy, kDeploy, where);
  bundle->output_op = text_of(deploy, "output_op", "none");
  check_choice(bundle->deploy_file.string() + ": output_op", bundle->output_op, kOutputOps);
  bundle->input_type = text_of(deploy, "input_dtype", "float32");
  check_choice(bundle->deploy_file.string() + ": input_dtype", bundle->input_type, kInputTypes);
  if (const Value* transforms = deploy.find("transforms"); transforms != nullptr && transforms->kind != Kind::null) {
    bool is_list = transforms->kind == Kind::list;
    for (const ValuePtr& item : transforms->items) is_list = is_list && item->kind == Kind::section;
    if (!is_list)
      refuse(where + ".transforms: a list of '- type: NAME' items is expected, got " + transforms->described());
    bundle->transforms = transforms->items;
  }
  const Value* shape = deploy.find("input_shape");
  if (shape == nullptr || shape->kind == Kind::null) return;
  bool is_shape = shape->items.size() == kShapeSides;
  for (const ValuePtr& side : shape->items) {
    const bool is_free = side->kind == Kind::null;
    is_shape = is_shape && (is_free || (side->kind == Kind::whole && side->whole >= -1 &&
                                        side->whole <= static_cast<std::int64_t>(kLargestSide)));
    bundle->input_shape.push_back(is_free ? -1 : side->whole);
  }
  if (!is_shape)
    refuse(where + ": input_shape: 4 numbers up to " + std::to_string(kLargestSide) +
           " are expected ([N, 3, H, W], -1 where a side is free), got " + shape->described());
  if (bundle->input_shape[1] != -1 && bundle->input_shape[1] != kChannels)
    refuse(where + ": input_shape: the graph takes " + std::to_string(bundle->input_shape[1]) +
           " channels, and images are read with 3 here; run infer.py");
}

std::string sha256_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<char> part(1 << 16);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_DigestInit_ex(context, EVP_sha256(), nullptr);
  while (stream.read(part.data(), static_cast<std::streamsize>(part.size())) || stream.gcount() > 0)
    EVP_DigestUpdate(context, part.data(), static_cast<std::size_t>(stream.gcount()));
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVP_DigestFinal_ex(context, digest, &length);
  EVP_MD_CTX_free(context);
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4U];
    text += "0123456789abcdef"[digest[i] & 15U];
  }
  return text;
}

// Refuses a link out of the bundle to content that the manifest does not vouch for.
void require_inside(const fs::path& file, const fs::path& folder) {
  std::error_code error;
  if (!fs::is_symlink(file, error)) return;
  const fs::path root = fs::canonical(folder, error), place = fs::canonical(file, error);
  const auto [end, unused] = std::mismatch(root.begin(), root.end(), place.begin(), place.end());
  if (error || end != root.end())
    refuse(file.string() + ": a file of the bundle is expected, this is a link to another one outside of it, whose "
           "sha256 is not in the manifest; put the file itself there");
}

void check_files(const Value& manifest, const Bundle& bundle, const Warn& warn) {
  const fs::path folder = bundle.deploy_file.parent_path();
  const Value& sizes = section_of(manifest, "sizes");
  const Value& files = section_of(manifest, "files");
  for (const auto& [name, graph] : bundle.graphs)
    if (files.find(graph) == nullptr) require_inside(folder / graph, folder);
  for (const auto& [name, hash] : files.entries) {
    const fs::path file = folder / name;
    std::error_code error;
    const bool is_there = fs::is_regular_file(file, error);
    const Value* size = sizes.find(name);
    const std::int64_t expected = size == nullptr ? 0 : size->whole;
    const auto found = is_there ? static_cast<std::int64_t>(fs::file_size(file, error)) : 0;
    if (is_there && found < expected)
      refuse(file.string() + ": " + std::to_string(expected) + " bytes are expected, " + std::to_string(found) +
             " are there; copy the bundle again, or export it again");
    if (!is_there) {
      warn(file.string() + " is named in " + bundle.deploy_file.filename().string() + " and missing");
    } else if (sha256_of(file) != hash->text) {
      require_inside(file, folder);
      warn(file.string() + " was changed after the export: its hash is not the one in the manifest, " +
           "whose verdicts and calibration are of another file; export again");
    }
  }
}

}  // namespace

void check_section(const Value& section, const std::vector<Key>& keys, const std::string& where) {
  if (section.kind != Kind::section) refuse(where + ": a section is expected, got " + section.described());
  std::vector<std::string> known;
  for (const Key& key : keys) known.push_back(key.name);
  for (const auto& [name, value] : section.entries) {
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) refuse(where + ": unknown key " + shown(name) + nearest_name(name, known));
    check_value(*value, keys[static_cast<std::size_t>(found - known.begin())], where);
  }
  for (const Key& key : keys)
    if (key.is_required && section.find(key.name) == nullptr) refuse(where + ": '" + key.name + "' is missing");
}

std::optional<Lookup> ClassTable::lookup_for(const std::string& label_path) const {
  const bool ends = label_path.size() >= lookup_suffix.size() &&
                    label_path.compare(label_path.size() - lookup_suffix.size(), std::string::npos, lookup_suffix) == 0;
  const std::optional<Lookup> lookup = ends ? label_lookup : std::nullopt;
  if (!class_lookup || !lookup) return class_lookup ? class_lookup : lookup;
  Lookup both{};
  for (std::size_t i = 0; i < both.size(); ++i) both[i] = (*class_lookup)[(*lookup)[i]];
  return both;
}

ClassTable generic_table(int num_classes) {
  if (num_classes < 1 || num_classes > static_cast<int>(kMostClasses))
    refuse("num_classes: 1.." + std::to_string(kMostClasses) + " expected, got " + std::to_string(num_classes));
  ClassTable table;
  table.name = "list";
  table.lookup_suffix = "";
  for (int index = 0; index < num_classes; ++index) {
    table.class_names.push_back("class_" + std::to_string(index));
    // The colours of PASCAL VOC: a class number's bits spread over RGB.
    unsigned value = static_cast<unsigned>(index);
    for (int bit = 7; bit >= 0; --bit, value >>= 3U)
      for (unsigned channel = 0; channel < 3; ++channel)
        table.palette[static_cast<std::size_t>(index)][channel] |=
            static_cast<std::uint8_t>(((value >> channel) & 1U) << static_cast<unsigned>(bit));
  }
  return table;
}

std::filesystem::path Bundle::graph_file(const std::string& precision) const {
  const std::string name = precision == "int8" ? "onnx_int8" : "onnx";
  fs::path file;
  for (const auto& [key, graph] : graphs)
    if (key == name) file = deploy_file.parent_path() / graph;
  if (model_file.extension() == ".onnx" && precision != "int8") file = model_file;
  std::error_code error;
  if (!file.empty() && !fs::is_regular_file(file, error)) refuse(file.string() + " does not exist; copy the bundle again");
  if (file.empty())
    refuse(deploy_file.string() + ": the bundle has no " + (precision == "int8" ? "int8" : "fp32") + " ONNX graph; " +
           (precision == "int8" ? "make one with paddleseg-ext quantize --config " + deploy_file.string()
                                : "export it with export_model.py --onnx True"));
  return file;
}

Bundle read_bundle(const std::string& given, const Warn& warn) {
  Bundle bundle;
  std::error_code error;
  bundle.deploy_file = fs::is_directory(given, error) ? fs::path(given) / kDeployFile : fs::path(given);
  const std::string path = bundle.deploy_file.string();
  if (!fs::is_regular_file(bundle.deploy_file, error)) refuse("--config: '" + path + "' does not exist");
  const ValuePtr root = read_yaml(path, kExpected);
  const Value* deploy = root->find("Deploy");
  if (deploy == nullptr || deploy->kind != Kind::section) refuse(path + ": " + kExpected + " is expected");
  const Value* manifest = root->find("Manifest");
  if (manifest != nullptr) check_format(*manifest, path + ": Manifest");
  check_section(*root, kTop, path);
  read_deploy(*deploy, &bundle);
  if (manifest != nullptr) read_manifest(*manifest, &bundle);
  const fs::path folder = bundle.deploy_file.parent_path();
  Value model;
  model.kind = Kind::text;
  model.text = text_of(*deploy, "model", kModelFiles[0]);
  bundle.model_file = folder / check_file_name(path + ": Deploy.model", &model);
  if (manifest != nullptr) check_files(*manifest, bundle, warn);
  return bundle;
}

}  // namespace paddleseg_ext
