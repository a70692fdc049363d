#include "postprocess.hpp"

#include <cmath>

#include "bundle_keys.hpp"
#include "failure.hpp"
#include "sparse_upsampling.hpp"
#include "vectorised.hpp"

namespace paddleseg_ext {
namespace {

// Where a plane's value is above the best one so far, it becomes the best; the first of equals stays.
PADDLESEG_EXT_VECTORISED void keep_best(const float* plane, std::uint8_t index, int count, float* best,
                                        std::uint8_t* labels) {
  for (int i = 0; i < count; ++i) {
    const bool is_better = plane[i] > best[i];
    labels[i] = is_better ? index : labels[i];
    best[i] = is_better || std::isnan(plane[i]) ? plane[i] : best[i];  // passes NaN on
  }
}

void refuse_nan(const cv::Mat& best) {
  for (int y = 0; y < best.rows; ++y)
    for (int x = 0; x < best.cols; ++x)
      if (std::isnan(best.at<float>(y, x))) refuse_image("the network's output holds NaN");
}

// The best class at each pixel of planes that `plane_of` gives, one at a time.
template <typename PlaneOf>
cv::Mat best_class(int classes, const PlaneOf& plane_of) {
  cv::Mat best = plane_of(0).clone();
  cv::Mat labels = cv::Mat::zeros(best.size(), CV_8U);
  for (int c = 1; c < classes; ++c) {
    const cv::Mat plane = plane_of(c);
    for (int y = 0; y < best.rows; ++y)
      keep_best(plane.ptr<float>(y), static_cast<std::uint8_t>(c), best.cols, best.ptr<float>(y),
                labels.ptr<std::uint8_t>(y));
  }
  refuse_nan(best);
  return labels;
}

// Adds a class to the sum of exponentials, of (score - best score so far) / temperature.
void add_class(const float* plane, std::uint8_t index, int count, float scale, float* best, std::uint8_t* labels, float* total) {
  for (int i = 0; i < count; ++i) {
    float share = std::exp(std::abs(plane[i] - best[i]) * scale);
    share = share < 1.0F ? share : 1.0F;  // NaN where both are infinite: they are equal
    const bool is_better = plane[i] > best[i];
    total[i] = is_better ? total[i] * share + 1.0F : total[i] + share;
    labels[i] = is_better ? index : labels[i];
    best[i] = is_better || std::isnan(plane[i]) ? plane[i] : best[i];  // passes NaN on
  }
}

// Best class and confidence with one temperature.
template <typename PlaneOf>
Best best_of_logits(int classes, double temperature, const PlaneOf& plane_of) {
  cv::Mat best = plane_of(0).clone();
  Best found{cv::Mat::zeros(best.size(), CV_8U), cv::Mat::ones(best.size(), CV_32F)};
  const auto scale = static_cast<float>(-1.0 / temperature);
  for (int c = 1; c < classes; ++c) {
    const cv::Mat plane = plane_of(c);
    for (int y = 0; y < best.rows; ++y)
      add_class(plane.ptr<float>(y), static_cast<std::uint8_t>(c), best.cols, scale, best.ptr<float>(y),
                found.labels.ptr<std::uint8_t>(y), found.confidence.ptr<float>(y));
  }
  refuse_nan(best);
  found.confidence = 1.0 / found.confidence;
  return found;
}

// The same with the temperature of the best class: the planes come twice.
template <typename PlaneOf>
Best best_by_class(int classes, const std::vector<double>& temperatures, const PlaneOf& plane_of) {
  Best found{best_class(classes, plane_of), cv::Mat()};
  cv::Mat best(found.labels.size(), CV_32F);
  for (int c = 0; c < classes; ++c) plane_of(c).copyTo(best, found.labels == c);
  found.confidence = cv::Mat::zeros(best.size(), CV_32F);
  for (int c = 0; c < classes; ++c) {
    const cv::Mat plane = plane_of(c);
    for (int y = 0; y < best.rows; ++y)
      for (int x = 0; x < best.cols; ++x) {
        const auto scale = -1.0F / static_cast<float>(temperatures.at(found.labels.at<std::uint8_t>(y, x)));
        const float share = std::exp((best.at<float>(y, x) - plane.at<float>(y, x)) * scale);
        found.confidence.at<float>(y, x) += share < 1.0F ? share : 1.0F;
      }
  }
  found.confidence = 1.0 / found.confidence;
  return found;
}

// Of a graph that ends in softmax: the largest probability.
template <typename PlaneOf>
Best best_of_probabilities(int classes, const PlaneOf& plane_of) {
  Best found{best_class(classes, plane_of), cv::Mat()};
  found.confidence.create(found.labels.size(), CV_32F);
  for (int c = 0; c < classes; ++c) plane_of(c).copyTo(found.confidence, found.labels == c);
  found.confidence = cv::min(cv::max(found.confidence, 0.0), 1.0);
  return found;
}

cv::Mat cropped(const cv::Mat& plane, cv::Size size) { return plane(cv::Rect(0, 0, size.width, size.height)); }

cv::Mat through(cv::Mat plane, const std::vector<Stage>& stages) {
  for (const Stage& stage : stages)
    plane = stage.is_crop ? cropped(plane, stage.size) : resize_scores(plane, stage.size, stage.alignment);
  return plane;
}

// Class ids come back by nearest neighbour.
cv::Mat labels_through(cv::Mat labels, const std::vector<Stage>& stages) {
  for (const Stage& stage : stages)
    labels = stage.is_crop ? cropped(labels, stage.size) : resize_labels(labels, stage.size);
  return labels.clone();
}

}  // namespace

std::vector<Stage> way_back(cv::Size size, const Geometry& geometry, Alignment first, int native_stride) {
  std::vector<Stage> stages;
  cv::Size padded = geometry.network;
  if (native_stride > 0 && size != geometry.network) {
    padded = size * native_stride;
    if (padded.width < geometry.network.width || padded.height < geometry.network.height)
      refuse("native_stride is " + std::to_string(native_stride) + ", and the network's output is too small for its input; export the model again");
  }
  if (size != padded) stages.push_back({padded, false, first});
  if (padded != geometry.network) stages.push_back({geometry.network, true, first});
  cv::Size reached = geometry.network;
  for (auto step = geometry.steps.rbegin(); step != geometry.steps.rend(); ++step) {
    if (step->before != reached) stages.push_back({step->before, !step->is_resize, Alignment::half_pixel});
    reached = step->before;
  }
  return stages;
}

Postprocess::Postprocess(const std::string& output_op, const std::string& upsampling, bool is_sparse, int native_stride)
    : output_op_(output_op),
      first_(upsampling == "aligned" ? Alignment::corners : Alignment::half_pixel),
      is_sparse_(is_sparse),
      native_stride_(native_stride) {}

void Postprocess::check(const Output& output) const {
  if ((output.classes == 0) != (output_op_ == "argmax"))
    refuse("output_op is '" + output_op_ + "', but the network gave " + (output.classes == 0 ? "class ids" : "scores") +
           "; export the model again");
}

Best Postprocess::best(const Output& output, const Geometry& geometry, const std::vector<double>& temperatures) const {
  check(output);
  if (output.classes == 0) refuse(kNoScores);
  const std::vector<Stage> stages = way_back(output.size(), geometry, first_, native_stride_);
  const bool is_whole = output.size() == geometry.network && !geometry.resizes();
  const auto plane_of = [&](int c) { return is_whole ? output.plane(c) : through(output.plane(c), stages); };
  Best found;
  if (output_op_ == "softmax") {
    found = best_of_probabilities(output.classes, plane_of);
  } else if (temperatures.size() > 1) {
    if (static_cast<int>(temperatures.size()) != output.classes) refuse("class_temperatures: one for each class is expected");
    found = best_by_class(output.classes, temperatures, plane_of);
  } else {
    found = best_of_logits(output.classes, temperatures.empty() ? 1.0 : temperatures[0], plane_of);
  }
  for (const Stage& stage : stages) {
    if (!is_whole) break;  // only padding is left to cut off
    found = {cropped(found.labels, stage.size), cropped(found.confidence, stage.size)};
  }
  return {found.labels.clone(), found.confidence.clone()};
}

cv::Mat Postprocess::label_map(const Output& output, const Geometry& geometry) const {
  check(output);
  const std::vector<Stage> stages = way_back(output.size(), geometry, first_, native_stride_);
  if (output.classes == 0) return labels_through(output.labels, stages);
  if (output.size() == geometry.network && !geometry.resizes())
    return labels_through(best_class(output.classes, [&](int c) { return output.plane(c); }), stages);
  if (is_sparse_) {
    cv::Mat labels = sparse_best_class(output, stages);
    if (!labels.empty()) return labels;
  }
  return best_class(output.classes, [&](int c) { return through(output.plane(c), stages); });
}

}  // namespace paddleseg_ext
