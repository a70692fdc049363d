// Resizing with the arithmetic of the Python package, to the last bit.
//
// The Python package resizes with OpenCV's wheels, which on x86-64 interpolate float32 with Intel's
// library; Debian's OpenCV has other roundings there. What the wheels do was measured: positions in
// double precision, the row first and the column then, each as fma(weight, b - a, a). That is written
// here once. Everything else (bytes, nearest, area, Lanczos) is equal in both and left to OpenCV.
#pragma once

#include <opencv2/core.hpp>
#include <string>
#include <vector>

namespace paddleseg_ext {

// Along one axis: result i is a mixture of the samples low[i] and high[i].
struct Axis {
  std::vector<int> low, high;
  std::vector<float> weight;  // of `high`
};

enum class Alignment { half_pixel, corners };

// The mixtures of an axis of `from` samples resized to `to`.
Axis axis_of(int from, int to, Alignment alignment);

// Two samples mixed: with half-pixel centres by one fused step, with aligned corners as NumPy does.
float mixed(float low, float high, float weight, Alignment alignment);

// Whether a float32 plane is resized by `axis_of`; planes of one row or column are left to OpenCV.
bool has_axes(cv::Size from);

// A float32 plane, (h, w), at another size.
cv::Mat resize_scores(const cv::Mat& plane, cv::Size size, Alignment alignment);

// An image, (H, W, 3) of bytes or float32, by an interpolation of Resize ("LINEAR").
cv::Mat resize_image(const cv::Mat& image, cv::Size size, const std::string& interpolation);

// A label map by nearest neighbour.
cv::Mat resize_labels(const cv::Mat& labels, cv::Size size);

}  // namespace paddleseg_ext
