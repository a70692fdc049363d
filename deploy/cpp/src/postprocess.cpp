#include "postprocess.hpp"

#include <cmath>

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
  for (int y = 0; y < best.rows; ++y)
    for (int x = 0; x < best.cols; ++x)
      if (std::isnan(best.at<float>(y, x))) refuse_image("the network's output holds NaN");
  return labels;
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

cv::Mat Postprocess::label_map(const Output& output, const Geometry& geometry) const {
  if ((output.classes == 0) != (output_op_ == "argmax"))
    refuse("output_op is '" + output_op_ + "', but the network gave " + (output.classes == 0 ? "class ids" : "scores") +
           "; export the model again");
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
