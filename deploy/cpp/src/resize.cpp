#include "resize.hpp"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "vectorised.hpp"

namespace paddleseg_ext {
namespace {

constexpr int kPillowBits = 22;  // of a weight of Pillow's, for bytes

// One row of samples at another width; `channels` values per sample.
PADDLESEG_EXT_VECTORISED void mix_row(const float* row, const int* low, const int* high, const float* weight,
                                      int count, int channels, float* out) {
  for (int x = 0; x < count; ++x)
    for (int c = 0; c < channels; ++c) {
      const float a = row[low[x] * channels + c];
      const float b = row[high[x] * channels + c];
      out[x * channels + c] = std::fma(weight[x], b - a, a);
    }
}

PADDLESEG_EXT_VECTORISED void mix_rows(const float* low, const float* high, float weight, int count, float* out) {
  for (int i = 0; i < count; ++i) out[i] = std::fma(weight, high[i] - low[i], low[i]);
}

PADDLESEG_EXT_VECTORISED void mix_rows_aligned(const float* low, const float* high, float weight, int count,
                                               float* out) {
  const float rest = 1.0F - weight;
  for (int i = 0; i < count; ++i) out[i] = low[i] * rest + high[i] * weight;
}

cv::Mat linear(const cv::Mat& image, cv::Size size) {
  const Axis rows = axis_of(image.rows, size.height, Alignment::half_pixel);
  const Axis columns = axis_of(image.cols, size.width, Alignment::half_pixel);
  cv::Mat result(size, image.type());
  const int channels = image.channels();
  const int count = size.width * channels;
  // The last two mixed rows: neighbouring rows of the result share them.
  std::vector<float> buffer[2] = {std::vector<float>(static_cast<std::size_t>(count)),
                                  std::vector<float>(static_cast<std::size_t>(count))};
  int held[2] = {-1, -1};
  const auto mixed_row = [&](int y, int other) -> int {
    for (int k = 0; k < 2; ++k)
      if (held[k] == y) return k;
    const int slot = held[0] == other ? 1 : 0;
    held[slot] = y;
    mix_row(image.ptr<float>(y), columns.low.data(), columns.high.data(), columns.weight.data(), size.width, channels,
            buffer[slot].data());
    return slot;
  };
  for (int y = 0; y < size.height; ++y) {
    const auto i = static_cast<std::size_t>(y);
    const int high = mixed_row(rows.high[i], rows.low[i]);
    const int low = mixed_row(rows.low[i], rows.high[i]);
    mix_rows(buffer[low].data(), buffer[high].data(), rows.weight[i], count, result.ptr<float>(y));
  }
  return result;
}

// As NumPy in the Python package: the rows first, then the columns, no fused steps.
cv::Mat aligned(const cv::Mat& plane, cv::Size size) {
  const Axis rows = axis_of(plane.rows, size.height, Alignment::corners);
  const Axis columns = axis_of(plane.cols, size.width, Alignment::corners);
  cv::Mat result(size, CV_32F);
  std::vector<float> row(static_cast<std::size_t>(plane.cols));
  for (int y = 0; y < size.height; ++y) {
    const auto i = static_cast<std::size_t>(y);
    mix_rows_aligned(plane.ptr<float>(rows.low[i]), plane.ptr<float>(rows.high[i]), rows.weight[i], plane.cols,
                     row.data());
    float* out = result.ptr<float>(y);
    for (std::size_t x = 0; x < columns.low.size(); ++x)
      out[x] = row[static_cast<std::size_t>(columns.low[x])] * (1.0F - columns.weight[x]) +
               row[static_cast<std::size_t>(columns.high[x])] * columns.weight[x];
  }
  return result;
}

// Pillow's bilinear filter along one axis: where each result's window begins, and its weights.
struct Filter {
  std::vector<int> start;
  std::vector<std::vector<double>> weights;
};

// Source: Pillow, src/libImaging/Resample.c, `precompute_coeffs`.
Filter pillow_filter(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double wide = std::max(scale, 1.0);
  const double support = wide;  // of the triangle, stretched where it shrinks
  Filter filter;
  for (int i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int end = std::min(from, static_cast<int>(center + support + 0.5));
    std::vector<double> weights;
    double sum = 0.0;
    for (int x = 0; x < end - first; ++x) {
      const double place = std::abs((x + first - center + 0.5) * (1.0 / wide));
      weights.push_back(place < 1.0 ? 1.0 - place : 0.0);
      sum += weights.back();
    }
    for (double& weight : weights)
      if (sum != 0.0) weight /= sum;
    filter.start.push_back(first);
    filter.weights.push_back(weights);
  }
  return filter;
}

// One pass of Pillow's over bytes: weights as whole numbers, the sum rounded and clipped.
cv::Mat filter_bytes(const cv::Mat& image, const Filter& filter, bool is_horizontal) {
  const int to = static_cast<int>(filter.start.size());
  cv::Mat result(is_horizontal ? cv::Size(to, image.rows) : cv::Size(image.cols, to), image.type());
  std::vector<std::vector<int>> weights;
  for (const std::vector<double>& row : filter.weights) {
    weights.emplace_back();
    for (double weight : row) weights.back().push_back(static_cast<int>(0.5 + weight * (1 << kPillowBits)));
  }
  const int channels = image.channels();
  for (int y = 0; y < result.rows; ++y)
    for (int x = 0; x < result.cols; ++x) {
      const auto i = static_cast<std::size_t>(is_horizontal ? x : y);
      for (int c = 0; c < channels; ++c) {
        int sum = 1 << (kPillowBits - 1);
        for (std::size_t k = 0; k < weights[i].size(); ++k) {
          const int place = filter.start[i] + static_cast<int>(k);
          const std::uint8_t* row = image.ptr<std::uint8_t>(is_horizontal ? y : place);
          sum += row[(is_horizontal ? place : x) * channels + c] * weights[i][k];
        }
        result.ptr<std::uint8_t>(y)[x * channels + c] = cv::saturate_cast<std::uint8_t>(sum >> kPillowBits);
      }
    }
  return result;
}

cv::Mat filter_floats(const cv::Mat& image, const Filter& filter, bool is_horizontal) {
  const int to = static_cast<int>(filter.start.size());
  cv::Mat result(is_horizontal ? cv::Size(to, image.rows) : cv::Size(image.cols, to), image.type());
  const int channels = image.channels();
  for (int y = 0; y < result.rows; ++y)
    for (int x = 0; x < result.cols; ++x) {
      const auto i = static_cast<std::size_t>(is_horizontal ? x : y);
      for (int c = 0; c < channels; ++c) {
        double sum = 0.0;
        for (std::size_t k = 0; k < filter.weights[i].size(); ++k) {
          const int place = filter.start[i] + static_cast<int>(k);
          const float* row = image.ptr<float>(is_horizontal ? y : place);
          sum += row[(is_horizontal ? place : x) * channels + c] * filter.weights[i][k];
        }
        result.ptr<float>(y)[x * channels + c] = static_cast<float>(sum);
      }
    }
  return result;
}

// Pixels of whole values are resized as bytes and stay whole.
cv::Mat pillow_linear(const cv::Mat& image, cv::Size size) {
  cv::Mat bytes = image;
  bool is_whole = image.depth() == CV_8U;
  if (!is_whole) {
    image.convertTo(bytes, CV_8U);
    cv::Mat back;
    bytes.convertTo(back, CV_32F);
    is_whole = std::equal(image.begin<cv::Vec3f>(), image.end<cv::Vec3f>(), back.begin<cv::Vec3f>());
  }
  const auto pass = is_whole ? filter_bytes : filter_floats;
  cv::Mat result = is_whole ? bytes : image;
  // The rows come first, except where the columns shrink and they grow.
  const bool is_down_first = size.height < image.rows && size.width > image.cols;
  if (is_down_first) result = pass(result, pillow_filter(result.rows, size.height), false);
  if (size.width != result.cols) result = pass(result, pillow_filter(result.cols, size.width), true);
  if (size.height != result.rows) result = pass(result, pillow_filter(result.rows, size.height), false);
  if (is_whole && image.depth() != CV_8U) result.convertTo(result, CV_32F);
  return result;
}

}  // namespace

Axis axis_of(int from, int to, Alignment alignment) {
  Axis axis;
  const int last = from - 1;
  const double step = alignment == Alignment::half_pixel ? static_cast<double>(from) / to
                      : to > 1                           ? static_cast<double>(last) / (to - 1)
                                                         : 0.0;
  for (int i = 0; i < to; ++i) {
    const double place = alignment == Alignment::half_pixel ? (i + 0.5) * step - 0.5 : i * step;
    int low = static_cast<int>(std::floor(place));
    auto weight = static_cast<float>(place - low);
    if (low < 0 || (low >= last && alignment == Alignment::half_pixel)) {
      low = low < 0 ? 0 : last;
      weight = 0.0F;
    }
    low = std::min(low, last);
    axis.low.push_back(low);
    axis.high.push_back(std::min(low + 1, last));
    axis.weight.push_back(weight);
  }
  return axis;
}

float mixed(float low, float high, float weight, Alignment alignment) {
  return alignment == Alignment::half_pixel ? std::fma(weight, high - low, low)
                                            : low * (1.0F - weight) + high * weight;
}

bool has_axes(cv::Size from) { return from.width > 1 && from.height > 1; }

cv::Mat resize_scores(const cv::Mat& plane, cv::Size size, Alignment alignment) {
  if (plane.size() == size) return plane;
  if (alignment == Alignment::corners) return aligned(plane, size);
  return resize_image(plane, size, "LINEAR");
}

cv::Mat resize_image(const cv::Mat& image, cv::Size size, const std::string& interpolation) {
  if (image.size() == size) return image;
  if (interpolation == "PILLOW_LINEAR") return pillow_linear(image, size);
  if (interpolation == "LINEAR" && image.depth() == CV_32F && has_axes(image.size())) return linear(image, size);
  const int flag = interpolation == "NEAREST"    ? cv::INTER_NEAREST
                   : interpolation == "CUBIC"    ? cv::INTER_CUBIC
                   : interpolation == "AREA"     ? cv::INTER_AREA
                   : interpolation == "LANCZOS4" ? cv::INTER_LANCZOS4
                                                 : cv::INTER_LINEAR;
  cv::Mat result;
  cv::resize(image, result, size, 0, 0, flag);
  return result;
}

cv::Mat resize_labels(const cv::Mat& labels, cv::Size size) {
  if (labels.size() == size) return labels;
  cv::Mat result;
  cv::resize(labels, result, size, 0, 0, cv::INTER_NEAREST);
  return result;
}

}  // namespace paddleseg_ext
