// From the network's output to a label map at the original image's size.
#pragma once

#include <memory>
#include <opencv2/core.hpp>
#include <string>
#include <vector>

#include "preprocess.hpp"
#include "resize.hpp"

namespace paddleseg_ext {

// The network's output for one image: scores, or class ids where the graph ends in arg-max.
struct Output {
  int classes = 0;               // 0 of class ids
  cv::Mat planes;                // (classes * h, w) float32: a plane below the other
  cv::Mat labels;                // (h, w) bytes
  std::shared_ptr<void> memory;  // what `planes` points into

  cv::Size size() const { return classes > 0 ? cv::Size(planes.cols, planes.rows / classes) : labels.size(); }
  cv::Mat plane(int index) const { return planes.rowRange(index * size().height, (index + 1) * size().height); }
};

// One step of the way to the original size; it crops where `is_crop`.
struct Stage {
  cv::Size size;
  bool is_crop;
  Alignment alignment;
};

// The steps from an output of `size` to the original image. `native_stride`: see Postprocess.
std::vector<Stage> way_back(cv::Size size, const Geometry& geometry, Alignment first, int native_stride = 0);

// The best class and its confidence.
struct Best {
  cv::Mat labels;      // (H, W) bytes
  cv::Mat confidence;  // (H, W) float32, 0 to 1
};

class Postprocess {
 public:
  // Args: what the graph ends in, and where its output is upsampled, as in the bundle.
  // `is_sparse`: interpolate only where classes meet; the label maps are the same.
  // `native_stride`: the output comes to so many times its size, and what is beyond the network's
  // input, right and below, is cut off: a network that pads its input. 0: it comes to that size.
  Postprocess(const std::string& output_op, const std::string& upsampling, bool is_sparse = true, int native_stride = 0);

  // (H, W) bytes at the original size. Throws Failure: the output holds NaN, or is not what the
  // bundle says.
  cv::Mat label_map(const Output& output, const Geometry& geometry) const;

  // The label map, equal to that of `label_map`, and the largest softmax of each pixel after all
  // resizing. All classes are interpolated everywhere. `temperatures`: of the logits, one for all or
  // one per class; none is 1. Throws Failure: as `label_map`, or the graph gives class ids.
  Best best(const Output& output, const Geometry& geometry, const std::vector<double>& temperatures) const;

 private:
  void check(const Output& output) const;

  std::string output_op_;
  Alignment first_;
  bool is_sparse_;
  int native_stride_;
};

}  // namespace paddleseg_ext
