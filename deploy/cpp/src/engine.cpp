#include "engine.hpp"

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <list>
#include <mutex>
#include <openvino/openvino.hpp>
#include <sstream>

#include "failure.hpp"

namespace paddleseg_ext {
namespace {

constexpr std::size_t kMostSizes = 10;  // compiled graphs that are kept, the last that were asked for
constexpr int kMostLayers = 64;         // prepared layers that OpenVINO keeps of each size by itself
constexpr int kProbeSide = 256;         // any size that every network takes
constexpr int kSides = 4;

// One for all graphs, never destroyed: OpenVINO frees a stack with the last graph of a Core that a
// second Core hands back to the system (see the Python package's engine).
ov::Core& core() {
  static auto* const only = new ov::Core();
  return *only;
}

std::string last_line(const std::string& text) {
  std::istringstream stream(text);
  std::string last;
  for (std::string line; std::getline(stream, line);)
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  return last.substr(std::min(last.size(), last.find_first_not_of(" \t")), 300);
}

std::string spelled(const ov::Shape& shape) {
  std::string text;
  for (const std::size_t side : shape) text += (text.empty() ? "[" : ", ") + std::to_string(side);
  return text + "]";
}

// Class ids as bytes; an axis of one between batch and rows is left out.
cv::Mat labels_of(const ov::Tensor& tensor, std::size_t index, int rows, int columns) {
  cv::Mat labels(rows, columns, CV_8U);
  const auto count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t place = index * count + i;
    const std::int64_t value = tensor.get_element_type() == ov::element::i64 ? tensor.data<const std::int64_t>()[place]
                                                                             : tensor.data<const std::int32_t>()[place];
    if (value < 0 || value > 255) refuse_image("class ids 0 to 255 are expected, got " + std::to_string(value));
    labels.data[i] = static_cast<std::uint8_t>(value);
  }
  return labels;
}

}  // namespace

struct Engine::Parts {
  std::filesystem::path file;
  std::shared_ptr<ov::Model> model;
  ov::AnyMap properties;
  std::vector<std::int64_t> input_shape;
  bool takes_bytes = false, is_by_size = false;
  std::mutex mutex;
  std::condition_variable changed;
  int free_streams = 1;
  std::list<std::pair<cv::Size, ov::CompiledModel>> compiled;  // the last used first

  ov::CompiledModel compiled_for(cv::Size size);
  void check(const std::vector<cv::Mat>& batch, cv::Size size) const;
  ov::Tensor input_of(const std::vector<cv::Mat>& batch, cv::Size size) const;
  [[noreturn]] void cannot_run(const ov::Shape& shape, const std::string& reason, bool lacks_memory) const;
  cv::Size probe_size() const;
};

cv::Size Engine::Parts::probe_size() const {
  const auto side = [&](std::size_t axis) {
    return input_shape.size() == kSides && input_shape[axis] > 0 ? static_cast<int>(input_shape[axis]) : kProbeSide;
  };
  return {side(3), side(2)};
}

// Of a free size OpenVINO computes some INT8 convolutions wrongly: such a graph is compiled per size.
ov::CompiledModel Engine::Parts::compiled_for(cv::Size size) {
  const std::lock_guard<std::mutex> lock(mutex);
  const cv::Size key = is_by_size ? size : cv::Size();
  for (auto entry = compiled.begin(); entry != compiled.end(); ++entry)
    if (entry->first == key) {
      compiled.splice(compiled.begin(), compiled, entry);
      return compiled.front().second;
    }
  std::shared_ptr<ov::Model> graph = model;
  if (is_by_size) {
    graph = model->clone();
    ov::PartialShape shape = graph->input(0).get_partial_shape();
    shape[2] = size.height;
    shape[3] = size.width;
    graph->reshape(shape);
  }
  compiled.emplace_front(key, core().compile_model(graph, "CPU", properties));
  if (compiled.size() > kMostSizes) compiled.pop_back();
  return compiled.front().second;
}

Engine::Engine(const Bundle& bundle, const RuntimeOptions& options) : parts_(std::make_unique<Parts>()) {
  parts_->file = bundle.graph_file(options.precision);
  parts_->input_shape = bundle.input_shape;
  parts_->takes_bytes = bundle.input_type == "uint8";
  parts_->free_streams = options.streams;
  parts_->properties = {
      {"NUM_STREAMS", options.streams},
      {"PERFORMANCE_HINT", options.streams == 1 ? "LATENCY" : "THROUGHPUT"},
      {"INFERENCE_NUM_THREADS", options.threads > 0 ? options.threads : available_cores()},
      {"INFERENCE_PRECISION_HINT", options.precision == "bf16" ? "bf16" : "f32"},
      {"ENABLE_CPU_PINNING", options.is_pinned},
      {"CPU_RUNTIME_CACHE_CAPACITY", kMostLayers},
  };
  try {
    parts_->model = core().read_model(parts_->file.string());
    const ov::PartialShape shape = parts_->model->input(0).get_partial_shape();
    if (shape.rank().is_dynamic() || shape.rank().get_length() != kSides)
      refuse(parts_->file.string() + ": an input (N, 3, H, W) is expected");
    bool is_int8 = false;
    for (const auto& node : parts_->model->get_ops()) is_int8 = is_int8 || std::string(node->get_type_name()) == "FakeQuantize";
    parts_->is_by_size = is_int8 && (shape[2].is_dynamic() || shape[3].is_dynamic());
    if (parts_->input_shape.empty())
      for (const ov::Dimension& side : shape) parts_->input_shape.push_back(side.is_static() ? side.get_length() : -1);
    parts_->compiled_for(parts_->probe_size());
  } catch (const ov::Exception& error) {
    refuse(parts_->file.string() + ": OpenVINO cannot load it: " + last_line(error.what()));
  }
}

Engine::~Engine() = default;

void Engine::Parts::check(const std::vector<cv::Mat>& batch, cv::Size size) const {
  const auto fixed = [&](std::size_t axis) { return input_shape.size() == kSides ? input_shape[axis] : -1; };
  const auto count = static_cast<std::int64_t>(batch.size());
  if (fixed(0) > 0 && count > fixed(0))
    refuse("the bundle was exported for batches of " + std::to_string(fixed(0)) + ": use --batch_size " +
           std::to_string(fixed(0)) + ", or export it without a fixed batch size");
  if ((fixed(2) > 0 && fixed(2) != size.height) || (fixed(3) > 0 && fixed(3) != size.width))
    refuse_image("the bundle was exported for inputs of " + std::to_string(fixed(3)) + "x" + std::to_string(fixed(2)) +
                 " (width x height), got " + std::to_string(size.width) + "x" + std::to_string(size.height) +
                 "; put a Resize into its transforms, or export it without a fixed size");
}

// The batch in one piece; where the graph takes more images, the last one is repeated.
ov::Tensor Engine::Parts::input_of(const std::vector<cv::Mat>& batch, cv::Size size) const {
  const std::size_t fixed = input_shape.size() == kSides && input_shape[0] > 0 ? static_cast<std::size_t>(input_shape[0]) : 0;
  const std::size_t count = std::max(batch.size(), fixed);
  const ov::Shape shape = {count, 3, static_cast<std::size_t>(size.height), static_cast<std::size_t>(size.width)};
  ov::Tensor input(takes_bytes ? ov::element::u8 : ov::element::f32, shape);
  auto* target = static_cast<std::uint8_t*>(input.data());
  for (std::size_t i = 0; i < count; ++i) {
    const cv::Mat& planes = batch[std::min(i, batch.size() - 1)];
    const std::size_t bytes = planes.total() * planes.elemSize();
    std::memcpy(target + i * bytes, planes.data, bytes);
  }
  return input;
}

void Engine::Parts::cannot_run(const ov::Shape& shape, const std::string& reason, bool lacks_memory) const {
  if (lacks_memory)
    refuse_image(file.string() + ": OpenVINO has not enough memory for an input of " + spelled(shape) + ": " + reason +
                 "; put a Resize or LimitLong into the transforms, or cut the image into parts");
  refuse_image(file.string() + ": OpenVINO cannot run it on an input of " + spelled(shape) + ": " + reason +
               "; where other sizes run, put a Resize or Padding into the transforms, else check that the graph is of "
               "this network");
}

std::vector<Output> Engine::run(const std::vector<cv::Mat>& batch) {
  const cv::Size size(batch.front().cols, batch.front().rows / 3);
  parts_->check(batch, size);
  std::unique_lock<std::mutex> lock(parts_->mutex);
  parts_->changed.wait(lock, [&] { return parts_->free_streams > 0; });
  --parts_->free_streams;
  lock.unlock();
  const std::shared_ptr<void> hold(nullptr, [&](void*) {
    const std::lock_guard<std::mutex> again(parts_->mutex);
    ++parts_->free_streams;
    parts_->changed.notify_one();
  });
  ov::Tensor tensor;
  ov::Shape shape;
  try {
    const ov::Tensor input = parts_->input_of(batch, size);
    shape = input.get_shape();
    // A request of its own for every call: none overwrites another's output.
    ov::InferRequest request = parts_->compiled_for(size).create_infer_request();
    request.set_input_tensor(input);
    request.infer();
    tensor = request.get_output_tensor(0);
  } catch (const ov::Exception& error) {
    const std::string reason = last_line(error.what());
    parts_->cannot_run(shape, reason, reason.find("alloc") != std::string::npos || reason.find("memory") != std::string::npos);
  }
  ov::Shape sides = tensor.get_shape();
  const bool is_scores = tensor.get_element_type() == ov::element::f32;
  const bool is_whole = tensor.get_element_type() == ov::element::i32 || tensor.get_element_type() == ov::element::i64;
  if ((!is_scores && !is_whole) || sides.size() != (is_scores ? 4U : 3U) || sides[0] != shape[0] || tensor.get_size() == 0)
    parts_->cannot_run(shape, "its output has the shape " + spelled(sides) + " of " + tensor.get_element_type().get_type_name(),
                       tensor.get_size() == 0);
  const auto memory = std::make_shared<ov::Tensor>(tensor);
  std::vector<Output> outputs(batch.size());
  const int rows = static_cast<int>(sides[sides.size() - 2]), columns = static_cast<int>(sides.back());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (!is_scores) {
      outputs[i].labels = labels_of(tensor, i, rows, columns);
      continue;
    }
    outputs[i].classes = static_cast<int>(sides[1]);
    auto* data = const_cast<float*>(tensor.data<const float>());
    outputs[i].planes = cv::Mat(static_cast<int>(sides[1]) * rows, columns, CV_32F, data + i * sides[1] * sides[2] * sides[3]);
    outputs[i].memory = memory;
  }
  return outputs;
}

int Engine::count_classes() {
  const cv::Size size = parts_->probe_size();
  return run({cv::Mat::zeros(3 * size.height, size.width, parts_->takes_bytes ? CV_8U : CV_32F)}).front().classes;
}

RuntimeReport Engine::describe() {
  static const std::vector<std::string> computes = {"Convolution", "GroupConvolution", "MatMul",
                                                    "FullyConnected", "Pooling", "Deconvolution"};
  static const std::map<std::string, std::string> names = {
      {"f32", "fp32"}, {"bf16", "bf16"}, {"f16", "fp16"}, {"i8", "int8"}, {"u8", "int8"}};
  const auto named = [](const std::string& word) {
    const auto found = names.find(word);
    return found == names.end() ? word : found->second;
  };
  const ov::CompiledModel compiled = parts_->compiled_for(parts_->probe_size());
  RuntimeReport report;
  for (const auto& node : compiled.get_runtime_model()->get_ops()) {
    const auto& facts = node->get_rt_info();
    const auto fact = [&](const char* key) { return facts.at(key).as<std::string>(); };
    const std::string layer = fact("layerType");
    ++report.kernels[layer + " " + fact("primitiveType")];
    if (std::find(computes.begin(), computes.end(), layer) != computes.end())
      ++report.kernel_precisions[named(fact("runtimePrecision"))];
  }
  const std::string version = ov::get_openvino_version().buildNumber;
  report.version = version.substr(0, version.find('-'));
  report.device = "cpu";
  const auto hint = compiled.get_property("INFERENCE_PRECISION_HINT").as<ov::element::Type>();
  report.precision = report.kernel_precisions.count("int8") > 0 ? "int8" : named(hint.get_type_name());
  report.threads = compiled.get_property("INFERENCE_NUM_THREADS").as<int>();
  report.streams = compiled.get_property("NUM_STREAMS").as<ov::streams::Num>().num;
  report.is_pinned = compiled.get_property("ENABLE_CPU_PINNING").as<bool>();
  return report;
}

std::string RuntimeReport::shortfall(const RuntimeOptions& asked) const {
  if (kernels.empty()) return "the engine lists no kernel that ran";
  if (asked.precision == "int8" && kernel_precisions.count("int8") == 0) return "INT8 was asked for, and no INT8 kernel runs";
  if (asked.precision == "bf16" && kernel_precisions.count("bf16") == 0)
    return "bf16 was asked for, and no bf16 kernel runs; the processor needs AVX-512 BF16 or AMX";
  if (asked.precision == "fp32") {
    for (const char* reduced : {"bf16", "fp16", "int8"})
      if (kernel_precisions.count(reduced) > 0) return std::string("fp32 was asked for, and ") + reduced + " kernels run";
  }
  if (asked.threads > 0 && threads != asked.threads)
    return std::to_string(asked.threads) + " threads were asked for, and the runtime has " + std::to_string(threads);
  return "";
}

int available_cores() {
  if (const char* given = std::getenv("OMP_NUM_THREADS")) {
    const int number = std::atoi(given);
    if (number > 0) return number;
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
  // A container's quota: microseconds of a period, "max" where there is none.
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0.0, period = 0.0;
  if (file >> quota >> period && period > 0.0) cores = std::max(1, std::min(cores, static_cast<int>(quota / period)));
  return cores;
}

}  // namespace paddleseg_ext
