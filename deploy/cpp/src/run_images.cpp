#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>

#include "failure.hpp"
#include "images.hpp"
#include "outputs.hpp"
#include "run.hpp"
#include "scoring.hpp"

namespace paddleseg_ext {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kWarmUpRuns = 3;
constexpr int kMoreWorkers = 2;  // beside those that run the network: reading and writing
constexpr double kSecondsBetweenLines = 5.0;
const std::string kRule(22, '-');

// What came of one sample.
struct Result {
  bool is_done = false;
  std::string error;
  double preprocess_ms = 0.0, inference_ms = 0.0, postprocess_ms = 0.0;
  int batch_size = 0;
  cv::Size input;
  ImageCounts counts;  // of a labelled one
  bool is_scored = false;
};

// One image of a chunk between the steps.
struct Loaded {
  std::size_t index = 0;
  cv::Mat image;
  Prepared prepared;
};

class ImageRun {
 public:
  ImageRun(const Pipeline& pipeline, const std::vector<Sample>& samples, const RunOptions& options)
      : pipeline_(pipeline), samples_(samples), options_(options), results_(samples.size()) {}

  int run();

 private:
  void work();
  void run_chunk(std::size_t first);
  std::vector<Loaded> load(std::size_t first);
  void run_group(std::vector<Loaded*> group);
  void finish(const Loaded& loaded, const Ran& ran);
  void record(std::size_t index, const Status& status);
  void show_progress();
  Json timings() const;
  std::vector<std::string> benchmark_lines() const;
  void write_result(const std::vector<std::string>& errors) const;

  const Pipeline& pipeline_;
  const std::vector<Sample>& samples_;
  const RunOptions& options_;
  std::vector<Result> results_;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> is_over_{false};
  std::mutex mutex_;
  Status wrong_use_;
  std::set<std::pair<int, int>> warm_;
  std::size_t done_ = 0;
  Clock::time_point started_ = Clock::now(), shown_ = Clock::now();
  std::vector<ImageCounts> scored_;
};

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

// An image that fails is reported alone; wrong use ends the run.
void ImageRun::record(std::size_t index, const Status& status) {
  const std::string& message = status.message;
  const std::string image = samples_[index].image.string();
  if (status.code == kUsage) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (wrong_use_) wrong_use_ = status;
    is_over_ = true;
  }
  results_[index].error = message.find(image) == std::string::npos ? image + ": " + message : message;
}

std::vector<Loaded> ImageRun::load(std::size_t first) {
  std::vector<Loaded> chunk;
  const std::size_t end = std::min(samples_.size(), first + static_cast<std::size_t>(options_.batch_size));
  for (std::size_t i = first; i < end; ++i) {
    Loaded loaded;
    loaded.index = i;
    const Status status = guarded([&] {
      loaded.image = read_image(samples_[i].image.string(), pipeline_.bundle().orientation);
      loaded.prepared = pipeline_.prepare(loaded.image);
    });
    if (status) chunk.push_back(std::move(loaded));
    else record(i, status);
  }
  return chunk;
}

// Images of one size together; where they cannot run together, each runs alone.
void ImageRun::run_group(std::vector<Loaded*> group) {
  std::vector<const Prepared*> batch;
  for (const Loaded* loaded : group) batch.push_back(&loaded->prepared);
  const Tensor& tensor = batch.front()->tensor;
  std::vector<Ran> ran;
  const Status status = guarded([&] {
    bool is_cold = false;
    if (options_.is_benchmark) is_cold = warm_.insert({tensor.planes.rows, tensor.planes.cols}).second;
    for (int i = 0; is_cold && i < kWarmUpRuns; ++i) pipeline_.finish(pipeline_.run(batch).front());
    ran = pipeline_.run(batch);
  });
  if (!status && group.size() > 1 && status.code == kFailed) {
    for (Loaded* loaded : group) run_group({loaded});
    return;
  }
  for (std::size_t i = 0; i < group.size(); ++i) {
    const Loaded& loaded = *group[i];
    if (!status) record(loaded.index, status);
    else if (const Status done = guarded([&] { finish(loaded, ran[i]); }); !done) record(loaded.index, done);
  }
}

void ImageRun::finish(const Loaded& loaded, const Ran& ran) {
  const Sample& sample = samples_[loaded.index];
  Result result;
  const Clock::time_point start = Clock::now();
  const Best found = pipeline_.finish_best(ran);
  const cv::Mat& labels = found.labels;
  result.postprocess_ms = ms_since(start);
  result.preprocess_ms = loaded.prepared.preprocess_ms;
  result.inference_ms = ran.inference_ms;
  result.batch_size = ran.batch_size;
  result.input = loaded.prepared.tensor.geometry.network;
  const fs::path folder = options_.save_dir;
  const ClassTable& table = pipeline_.table();
  const std::string overlay = encode_overlay(loaded.image, labels, table);
  write_file(folder / "label_maps" / (sample.name + ".png"), encode_label_map(labels, table));
  write_file(folder / "overlays" / (sample.name + ".jpg"), overlay);
  if (!found.confidence.empty()) write_file(folder / "confidence" / (sample.name + ".png"), encode_confidence(found.confidence));
  if (!sample.label.empty()) {
    const cv::Mat label = read_label(sample.label.string(), table);
    result.counts = {sample.name, count_pairs(labels, label, table, sample.label.string()),
                     static_cast<std::int64_t>(label.total()),
                     std::to_string(result.input.width) + "x" + std::to_string(result.input.height)};
    result.is_scored = true;
  }
  result.is_done = true;
  results_[loaded.index] = result;
}

void ImageRun::run_chunk(std::size_t first) {
  std::vector<Loaded> chunk = load(first);
  std::vector<bool> is_taken(chunk.size(), false);
  for (std::size_t i = 0; i < chunk.size(); ++i) {
    if (is_taken[i]) continue;
    std::vector<Loaded*> group;
    const Geometry& geometry = chunk[i].prepared.tensor.geometry;
    for (std::size_t j = i; j < chunk.size(); ++j) {
      const Geometry& other = chunk[j].prepared.tensor.geometry;
      const bool is_alike = other.network == geometry.network && (!pipeline_.needs_one_geometry() || other.original == geometry.original);
      if (is_taken[j] || !is_alike) continue;
      is_taken[j] = true;
      group.push_back(&chunk[j]);
    }
    run_group(group);
  }
}

void ImageRun::show_progress() {
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ = std::min(samples_.size(), done_ + static_cast<std::size_t>(options_.batch_size));
  const bool is_due = ms_since(shown_) > kSecondsBetweenLines * 1000;
  if (!options_.shows_detail || !is_due) return;
  shown_ = Clock::now();
  const double left_s = ms_since(started_) / 1000 / static_cast<double>(done_) * static_cast<double>(samples_.size() - done_);
  say(std::to_string(done_) + "/" + std::to_string(samples_.size()) + " images, " + std::to_string(static_cast<int>(std::ceil(left_s))) + " s left");
}

void ImageRun::work() {
  while (!is_over_) {
    const std::size_t first = next_.fetch_add(static_cast<std::size_t>(options_.batch_size));
    if (first >= samples_.size()) return;
    run_chunk(first);
    show_progress();
  }
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
}

using Stages = std::vector<std::pair<std::string, std::vector<double>>>;

Stages stages_of(const std::vector<Result>& results) {
  Stages stages = {{"preprocess", {}}, {"inference", {}}, {"postprocess", {}}};
  for (const Result& result : results) {
    if (!result.is_done) continue;
    stages[0].second.push_back(result.preprocess_ms);
    stages[1].second.push_back(result.inference_ms);
    stages[2].second.push_back(result.postprocess_ms);
  }
  return stages;
}

double mean(const std::vector<double>& values) {
  return values.empty() ? 0.0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

Json ImageRun::timings() const {
  if (!options_.is_benchmark) return {};
  std::vector<std::pair<std::string, Json>> entries;
  for (const auto& [name, values] : stages_of(results_))
    entries.emplace_back(name, Json::section({{"mean", mean(values)}, {"p50", percentile(values, 0.5)},
                                              {"p90", percentile(values, 0.9)}, {"p99", percentile(values, 0.99)}}));
  return Json::section(entries);
}

std::string three_decimals(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

// The sections that PaddleSeg's TIPC tools read, the line that they parse last.
std::vector<std::string> ImageRun::benchmark_lines() const {
  const RuntimeReport report = pipeline_.engine().describe();
  std::set<std::string> shapes;
  std::size_t number = 0;
  for (const Result& result : results_) {
    if (!result.is_done) continue;
    shapes.insert("3x" + std::to_string(result.input.height) + "x" + std::to_string(result.input.width));
    ++number;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const Stages stages = stages_of(results_);
  double total_ms = 0.0;
  for (const auto& [name, values] : stages) total_ms += std::accumulate(values.begin(), values.end(), 0.0);
  const auto title = [](const std::string& text) { return kRule + " " + text + " " + kRule; };
  std::vector<std::string> lines = {
      title("Conf info"), "backend: openvino", "runtime_device: cpu",
      "cpu_math_library_num_threads: " + std::to_string(report.threads), title("Model info"),
      "model_name: " + pipeline_.bundle().network, "precision: " + report.precision, title("Data info"),
      "batch_size: " + std::to_string(options_.batch_size),
      "input_shape: " + (shapes.size() == 1 ? *shapes.begin() : std::string("dynamic")),
      "data_num: " + std::to_string(number), title("Perf info"),
      "cpu_rss(MB): " + three_decimals(static_cast<double>(usage.ru_maxrss) / 1024),
      "warm_up_runs: " + std::to_string(kWarmUpRuns), "total time spent(s): " + three_decimals(total_ms / 1000)};
  std::vector<std::string> means;
  for (const auto& [name, values] : stages) {
    lines.push_back(name + "(ms): p50: " + three_decimals(percentile(values, 0.5)) + ", p90: " +
                    three_decimals(percentile(values, 0.9)) + ", p99: " + three_decimals(percentile(values, 0.99)));
    means.push_back(name + "_time(ms): " + three_decimals(mean(values)));
  }
  lines.push_back(joined(means, ", "));
  return lines;
}

void ImageRun::write_result(const std::vector<std::string>& errors) const {
  int fullest = 0;
  std::size_t number = 0;
  for (const Result& result : results_) {
    fullest = std::max(fullest, result.batch_size);
    number += result.is_done ? 1 : 0;
  }
  const std::string absent = options_.absent_class.empty() ? pipeline_.bundle().rule.absent_class : options_.absent_class;
  const Evaluation evaluation(pipeline_.table(), absent, pipeline_.described_protocol(), scored_);
  const std::string fault = evaluation.fault();
  if (!fault.empty()) warn("nothing is scored: " + fault);
  const bool is_scored = fault.empty() && !scored_.empty();
  const Json source = Json::section({{"bundle", pipeline_.bundle().deploy_file.string()}, {"output_op", pipeline_.bundle().output_op}});
  const Json result = Json::section(
      {{"title", "inference"}, {"source", source}, {"backend", describe_backend(pipeline_)},
       {"batch_size", options_.batch_size}, {"fullest_batch", fullest}, {"num_predicted", number}, {"errors", errors},
       {"timings_ms", timings()}, {"evaluation", is_scored ? evaluation.json() : Json()}});
  write_file(fs::path(options_.save_dir) / "inference.json", result.text() + "\n");
  say(std::to_string(number) + " predictions written to " + options_.save_dir);
  if (is_scored && options_.shows_detail)
    for (const std::string& line : evaluation.lines()) say(line);
  if (options_.is_benchmark && number > 0)
    for (const std::string& line : benchmark_lines()) say(line);
}

int ImageRun::run() {
  // Each part is timed alone in a benchmark.
  const int workers = options_.is_benchmark ? 1 : options_.segmenter.streams + kMoreWorkers;
  std::vector<std::thread> threads;
  for (int i = 1; i < workers; ++i) threads.emplace_back([this] { work(); });
  work();
  for (std::thread& thread : threads) thread.join();
  if (!wrong_use_) refuse(wrong_use_.message);
  std::vector<std::string> errors;
  for (const Result& result : results_) {
    if (!result.error.empty()) errors.push_back(result.error);
    if (result.is_scored) scored_.push_back(result.counts);
  }
  for (const std::string& error : errors) std::fprintf(stderr, "error: %s\n", error.c_str());
  write_result(errors);
  if (errors.empty()) return kDone;
  std::fprintf(stderr, "failed: %zu of %zu samples\n", errors.size(), samples_.size());
  return kFailed;
}

// Refuses a run that would write over what it reads; before anything is written.
void check_inputs_stay(const std::vector<Sample>& samples, const fs::path& folder) {
  std::set<fs::path> taken;
  std::error_code error;
  for (const Sample& sample : samples)
    for (const fs::path& path : {folder / "label_maps" / (sample.name + ".png"), folder / "overlays" / (sample.name + ".jpg"),
                                 folder / "confidence" / (sample.name + ".png")})
      if (fs::exists(path, error)) taken.insert(fs::canonical(path, error));
  for (const Sample& sample : samples)
    for (const fs::path& path : {sample.image, sample.label})
      if (!taken.empty() && !path.empty() && taken.count(fs::canonical(path, error)) > 0)
        refuse("--save_dir: '" + path.string() + "' is an input, and a result would replace it; give another folder");
}

}  // namespace

Json describe_backend(const Pipeline& pipeline) {
  const RuntimeReport report = pipeline.engine().describe();
  const auto counts = [](const std::map<std::string, int>& numbers) {
    std::vector<std::pair<std::string, Json>> entries;
    for (const auto& [name, number] : numbers) entries.emplace_back(name, number);
    return Json::section(entries);
  };
  const auto int8 = report.kernel_precisions.find("int8");
  return Json::section({{"name", "openvino"}, {"version", report.version}, {"device", report.device},
                        {"precision", report.precision}, {"cpu_threads", report.threads}, {"streams", report.streams},
                        {"pinned", report.is_pinned}, {"kernels", counts(report.kernels)},
                        {"kernel_precisions", counts(report.kernel_precisions)}, {"tensorrt_engines", 0},
                        {"onednn_visible", true}, {"int8_kernels", int8 == report.kernel_precisions.end() ? 0 : int8->second},
                        {"ir_optim", true}, {"program", "segment"}});
}

int run_images(const Pipeline& pipeline, const std::vector<Sample>& samples, const RunOptions& options) {
  check_inputs_stay(samples, options.save_dir);
  return ImageRun(pipeline, samples, options).run();
}

}  // namespace paddleseg_ext
