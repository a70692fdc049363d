// OpenVINO on a CPU: the bundle's ONNX graph, compiled for this machine as the Python package does.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "postprocess.hpp"

namespace paddleseg_ext {

struct RuntimeOptions {
  std::string precision = "fp32";  // or bf16, int8
  int threads = 0;                 // of all streams together; 0: every core that is left
  int streams = 1;                 // runs at a time
  bool is_pinned = false;          // whether each thread is bound to a core
};

// What the engine says of itself.
struct RuntimeReport {
  std::string version, device, precision;
  int threads = 0, streams = 0;
  bool is_pinned = false;
  std::map<std::string, int> kernels, kernel_precisions;

  // Why it runs otherwise than asked for; empty where it runs as asked.
  std::string shortfall(const RuntimeOptions& asked) const;
};

class Engine {
 public:
  // Throws Failure: the bundle has no such graph, or it cannot be loaded.
  Engine(const Bundle& bundle, const RuntimeOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // The outputs of a batch, tensors of one size. Waits while as many runs as streams are under way.
  // Throws Failure: a size or a number that the graph does not take, or no memory.
  std::vector<Output> run(const std::vector<cv::Mat>& batch);
  // The number of classes that a graph of scores has, by running it once.
  int count_classes();
  RuntimeReport describe();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Cores that this process may use: OMP_NUM_THREADS, else the scheduler's.
int available_cores();

}  // namespace paddleseg_ext
