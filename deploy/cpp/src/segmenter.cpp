#include "segmenter.hpp"

#include <chrono>

#include "failure.hpp"
#include "images.hpp"
#include "pipeline.hpp"

namespace paddleseg_ext {
namespace {

cv::Mat pixels_of(const Image& image) {
  if (image.rgb == nullptr || image.width < 1 || image.height < 1) refuse("an image of at least one pixel is expected");
  const std::size_t least = 3 * static_cast<std::size_t>(image.width);
  if (image.row_bytes != 0 && image.row_bytes < least) refuse("row_bytes: at least 3 * width is expected");
  return {image.height, image.width, CV_8UC3, const_cast<std::uint8_t*>(image.rgb), image.row_bytes == 0 ? least : image.row_bytes};
}

Segmentation finished(const Pipeline& pipeline, const Prepared& prepared, const Ran& ran) {
  const auto start = std::chrono::steady_clock::now();
  const Best found = pipeline.finish_best(ran);
  const cv::Mat& labels = found.labels;
  Segmentation result;
  result.width = labels.cols;
  result.height = labels.rows;
  for (int y = 0; y < labels.rows; ++y)
    result.label_map.insert(result.label_map.end(), labels.ptr<std::uint8_t>(y), labels.ptr<std::uint8_t>(y) + labels.cols);
  for (int y = 0; y < found.confidence.rows; ++y)
    result.confidence.insert(result.confidence.end(), found.confidence.ptr<float>(y), found.confidence.ptr<float>(y) + found.confidence.cols);
  result.input_width = prepared.tensor.geometry.network.width;
  result.input_height = prepared.tensor.geometry.network.height;
  result.preprocess_ms = prepared.preprocess_ms;
  result.inference_ms = ran.inference_ms;
  result.postprocess_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return result;
}

Segmentation segmented(const Pipeline& pipeline, const cv::Mat& rgb) {
  const Prepared prepared = pipeline.prepare(rgb);
  return finished(pipeline, prepared, pipeline.run({&prepared}).front());
}

}  // namespace

struct Segmenter::Parts {
  explicit Parts(const std::string& bundle, const Options& options) : pipeline(bundle, options) {}
  Pipeline pipeline;
};

Segmenter::Segmenter() noexcept = default;
Segmenter::~Segmenter() = default;
Segmenter::Segmenter(Segmenter&&) noexcept = default;
Segmenter& Segmenter::operator=(Segmenter&&) noexcept = default;

Status Segmenter::open(const std::string& bundle, const Options& options, Segmenter* segmenter) noexcept {
  return guarded([&] { segmenter->parts_ = std::make_unique<Parts>(bundle, options); });
}

Status Segmenter::segment(const Image& image, Segmentation* result) const noexcept {
  return guarded([&] {
    if (!parts_) refuse("the segmenter is not open");
    *result = segmented(parts_->pipeline, pixels_of(image));
  });
}

Status Segmenter::segment(const std::vector<Image>& images, std::vector<Segmentation>* results) const noexcept {
  return guarded([&] {
    if (!parts_) refuse("the segmenter is not open");
    const Pipeline& pipeline = parts_->pipeline;
    std::vector<Prepared> prepared;
    for (const Image& image : images) prepared.push_back(pipeline.prepare(pixels_of(image)));
    std::vector<const Prepared*> batch;
    bool is_alike = !pipeline.needs_one_geometry();
    for (const Prepared& each : prepared) {
      batch.push_back(&each);
      is_alike = is_alike && each.tensor.geometry.network == prepared.front().tensor.geometry.network;
    }
    std::vector<Segmentation> found;
    if (is_alike && !batch.empty()) {
      const std::vector<Ran> ran = pipeline.run(batch);
      for (std::size_t i = 0; i < batch.size(); ++i) found.push_back(finished(pipeline, prepared[i], ran[i]));
    } else {
      for (const Prepared& each : prepared) found.push_back(finished(pipeline, each, pipeline.run({&each}).front()));
    }
    *results = std::move(found);
  });
}

Status Segmenter::segment_file(const std::string& path, Segmentation* result) const noexcept {
  return guarded([&] {
    if (!parts_) refuse("the segmenter is not open");
    *result = segmented(parts_->pipeline, read_image(path, parts_->pipeline.bundle().orientation));
  });
}

std::vector<Class> Segmenter::classes() const {
  std::vector<Class> result;
  if (!parts_) return result;
  const ClassTable& table = parts_->pipeline.table();
  for (std::size_t i = 0; i < table.class_names.size(); ++i)
    result.push_back({table.class_names[i], table.palette[i][0], table.palette[i][1], table.palette[i][2]});
  return result;
}

std::vector<std::string> Segmenter::warnings() const {
  return parts_ ? parts_->pipeline.warnings() : std::vector<std::string>();
}

}  // namespace paddleseg_ext
