// The steps from an image to its label map, for the library and the program.
#pragma once

#include <memory>
#include <opencv2/core.hpp>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "engine.hpp"
#include "postprocess.hpp"
#include "preprocess.hpp"
#include "segmenter.hpp"

namespace paddleseg_ext {

// An image on its way to the network.
struct Prepared {
  Tensor tensor;
  double preprocess_ms = 0.0;
};

// One image after the network.
struct Ran {
  Output output;
  Geometry geometry;
  double inference_ms = 0.0;  // its share of the batch
  int batch_size = 1;
};

class Pipeline {
 public:
  // Throws Failure: the bundle, its graph or an option is wrong.
  Pipeline(const std::string& bundle, const Options& options);

  Prepared prepare(const cv::Mat& rgb) const;
  // The network's outputs of images whose tensors have one size.
  std::vector<Ran> run(const std::vector<const Prepared*>& batch) const;
  // The label map; the confidence too where the options ask for it, else that is empty.
  Best finish_best(const Ran& ran) const;
  cv::Mat finish(const Ran& ran) const { return postprocess_->label_map(ran.output, ran.geometry); }

  const Bundle& bundle() const { return bundle_; }
  const ClassTable& table() const { return table_; }
  Engine& engine() const { return *engine_; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  // The protocol in the words of the Python package's reports.
  std::string described_protocol() const;
  // Whether only images of one geometry may run together.
  bool needs_one_geometry() const { return !is_plain_; }

 private:
  void choose_protocol(const std::string& asked);
  bool is_coincheung() const { return protocol_.source == kCoincheung; }
  std::string why_not(const Protocol& protocol, const EvaluationRule& rule) const;
  std::vector<Output> by_protocol(const std::vector<cv::Mat>& tensors, const Geometry& geometry, cv::Size target) const;
  cv::Mat halved(const cv::Mat& planes) const;

  Bundle bundle_;
  ClassTable table_;
  std::unique_ptr<Preprocess> preprocess_, network_preprocess_;
  std::unique_ptr<Postprocess> postprocess_;
  std::unique_ptr<Engine> engine_;
  Protocol protocol_;
  bool is_plain_ = true, has_confidence_ = false;
  std::vector<std::string> warnings_;
};

// The status of the exception that is being handled.
Status status_of_exception() noexcept;

// Calls `work` and turns what it throws into a status.
template <typename Work>
Status guarded(const Work& work) noexcept {
  try {
    work();
    return {};
  } catch (...) {
    return status_of_exception();
  }
}

}  // namespace paddleseg_ext
