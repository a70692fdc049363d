// From an image to the network's input, and the record of the way back.
#pragma once

#include <opencv2/core.hpp>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace paddleseg_ext {

// One change of size: what was done, and the size before it.
struct Step {
  bool is_resize;
  cv::Size before;
};

struct Geometry {
  cv::Size original, network;
  std::vector<Step> steps;

  // Whether a step resized; padding alone is cut off without interpolation.
  bool resizes() const;
};

struct Tensor {
  cv::Mat planes;  // (3 * h, w), float32 or bytes: the channels one below the other
  Geometry geometry;
};

class Preprocess {
 public:
  // Throws Failure: a transform that is random or unknown, or a wrong argument.
  explicit Preprocess(const Bundle& bundle);

  // Makes the network's input of an image, (H, W, 3) bytes in RGB order.
  // Throws Failure: the image does not fit the transforms.
  Tensor operator()(const cv::Mat& rgb) const;
  // Whether a transform may resize or pad.
  bool changes_size() const;
  // Whether all that changes the size is a side of the image that is given.
  bool keeps_ratio() const;

 private:
  struct Transform {
    std::string type, interpolation = "LINEAR";
    cv::Size target{512, 512};
    bool keeps_ratio = false;
    int divisor = 0, side = 0, least = 0;
    double most = 1e10;
    std::vector<double> padding{127.5}, mean{0.5}, deviation{0.5};
  };

  static Transform read(const Value& section);
  static void set(const std::string& name, const Value& value, Transform* transform);
  static cv::Size size_after(const Transform& transform, cv::Size size);
  static cv::Mat apply(const Transform& transform, const cv::Mat& pixels);

  std::vector<Transform> transforms_;
  bool is_bgr_, takes_bytes_;
};

}  // namespace paddleseg_ext
