// Scores as functions of integer counts, as the Python package prints and writes them.
#pragma once

#include <opencv2/core.hpp>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "json.hpp"

namespace paddleseg_ext {

using Counts = std::vector<std::vector<std::int64_t>>;  // (C, C): row = label, column = prediction

// The counts of one image. Throws Failure: the sizes differ, or a value is no class.
Counts count_pairs(const cv::Mat& label_map, const cv::Mat& label, const ClassTable& table, const std::string& name);

// One scored image.
struct ImageCounts {
  std::string name;
  Counts counts;
  std::int64_t label_pixels = 0;  // with ignored ones
  std::string input_size;         // "512x256", width x height
};

// The scores of a run.
class Evaluation {
 public:
  Evaluation(const ClassTable& table, const std::string& absent, const std::string& protocol,
             const std::vector<ImageCounts>& images);

  // Why the labels cannot be meant; empty where they can.
  std::string fault() const;
  Json json() const;
  // PaddleSeg's section of an inference.
  std::vector<std::string> lines() const;

 private:
  struct Scores;
  Scores scores() const;

  const ClassTable& table_;
  std::string absent_, protocol_;
  const std::vector<ImageCounts>& images_;
  Counts total_;
  std::vector<std::string> input_sizes_;
  std::int64_t ignored_ = 0;
};

}  // namespace paddleseg_ext
