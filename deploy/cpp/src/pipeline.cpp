#include "pipeline.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <opencv2/imgproc.hpp>

#include "failure.hpp"

namespace paddleseg_ext {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

const Protocol& protocol_named(const std::string& name, const std::string& where) {
  std::vector<std::string> known;
  for (const Protocol& each : kProtocols) {
    if (each.name == name) return each;
    known.push_back(each.name);
  }
  refuse(where + ": unknown " + shown(name) + nearest_name(name, known));
}

// One look at the whole image, as preprocessing gives it.
bool is_plain(const Protocol& protocol) {
  return protocol.scale == 1.0 && protocol.side_multiple == 1 && !protocol.align_corners && !protocol.bytes_first &&
         protocol.merge == "logits" && protocol.label_stride == 1 && protocol.is_whole;
}

cv::Size scaled(const Protocol& protocol, cv::Size size) {
  const auto side = [&](int length) {
    const int part = std::max(1, static_cast<int>(length * protocol.scale + (protocol.round_sides ? 0.5 : 0.0)));
    return (part + protocol.side_multiple - 1) / protocol.side_multiple * protocol.side_multiple;
  };
  return {side(size.width), side(size.height)};
}

// Planes, one below the other, each at another size.
cv::Mat resize_planes(const cv::Mat& planes, int count, cv::Size size, Alignment alignment) {
  const int height = planes.rows / count;
  if (cv::Size(planes.cols, height) == size) return planes;
  cv::Mat result(count * size.height, size.width, CV_32F);
  for (int c = 0; c < count; ++c)
    resize_scores(planes.rowRange(c * height, (c + 1) * height).clone(), size, alignment)
        .copyTo(result.rowRange(c * size.height, (c + 1) * size.height));
  return result;
}

void take_softmax(cv::Mat* planes, int classes) {
  const int height = planes->rows / classes;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < planes->cols; ++x) {
      float largest = planes->at<float>(y, x), sum = 0.0F;
      for (int c = 1; c < classes; ++c) largest = std::max(largest, planes->at<float>(c * height + y, x));
      for (int c = 0; c < classes; ++c) sum += planes->at<float>(c * height + y, x) = std::exp(planes->at<float>(c * height + y, x) - largest);
      for (int c = 0; c < classes; ++c) planes->at<float>(c * height + y, x) /= sum;
    }
}

}  // namespace

Pipeline::Pipeline(const std::string& path, const Options& options) {
  const std::vector<std::string> precisions = {"fp32", "bf16", "int8"};
  if (std::find(precisions.begin(), precisions.end(), options.precision) == precisions.end())
    refuse("--precision: unknown " + shown(options.precision) + nearest_name(options.precision, precisions));
  if (options.streams < 1 || options.threads < 0) refuse("--streams: at least 1 is expected, and --cpu_threads of at least 1");
  bundle_ = read_bundle(path, [this](const std::string& line) { warnings_.push_back(line); });
  preprocess_ = std::make_unique<Preprocess>(bundle_);  // refuses unknown transforms before a graph is loaded
  postprocess_ = std::make_unique<Postprocess>(bundle_.output_op, bundle_.upsampling, options.is_sparse, bundle_.native_stride);
  has_confidence_ = options.with_confidence;
  if (has_confidence_ && bundle_.output_op == "argmax") refuse(bundle_.deploy_file.string() + ": " + kNoScores);
  choose_protocol(options.protocol);
  const RuntimeOptions runtime{options.precision, options.threads, options.streams, options.is_pinned};
  engine_ = std::make_unique<Engine>(bundle_, runtime);
  const std::string file = bundle_.deploy_file.string();
  if (bundle_.class_table) {
    table_ = *bundle_.class_table;
    if (options.num_classes > 0 && options.num_classes != table_.size())
      refuse("--num_classes " + std::to_string(options.num_classes) + ": " + file + " says " + std::to_string(table_.size()) + "; leave the flag out");
  } else if (options.num_classes == 0 && bundle_.output_op == "argmax") {
    refuse(file + " has no Manifest and its graph ends in argmax: give --num_classes, or export it with export_model.py");
  } else {
    table_ = generic_table(options.num_classes > 0 ? options.num_classes : engine_->count_classes());
  }
  if (const std::string fallen = engine_->describe().shortfall(runtime); !fallen.empty()) warnings_.push_back(fallen);
}

std::string Pipeline::why_not(const Protocol& protocol, const EvaluationRule& rule) const {
  if (is_plain(protocol) && !rule.flip_horizontal && rule.scales.size() <= 1) return "";
  if (!protocol.is_whole || rule.flip_horizontal || rule.scales.size() > 1)
    return "a bundle is run on whole images once; val.py and predict.py run the checkpoint by it";
  if (bundle_.input_type == "uint8" && protocol.scale != 1 && !protocol.bytes_first)
    return "its graph takes bytes, and scaled pixels lie between them: export it without --fold_normalize";
  if (bundle_.output_op != "none") return "it needs logits, and the graph ends in " + bundle_.output_op + ": export --output_op none";
  if (bundle_.upsampling != "graph") return "it needs logits at the input's size: export with --upsample graph";
  if (bundle_.input_shape.size() == 4 && bundle_.input_shape[2] > 0 && bundle_.input_shape[3] > 0) {
    const cv::Size size(static_cast<int>(bundle_.input_shape[3]), static_cast<int>(bundle_.input_shape[2]));
    if (scaled(protocol, size) != size) return "it needs images of other sizes, and the graph's is fixed: export a free size";
  }
  return "";
}

void Pipeline::choose_protocol(const std::string& asked) {
  EvaluationRule rule = bundle_.rule;
  if (!asked.empty()) rule = {asked, {}, false, rule.absent_class};
  protocol_ = protocol_named(rule.protocol, "--protocol");
  if (rule.scales.size() == 1 && protocol_.takes_scale) protocol_.scale *= rule.scales[0];
  const std::string reason = why_not(protocol_, rule);
  if (!reason.empty() && !asked.empty()) refuse("--protocol " + asked + ": " + reason);
  if (!reason.empty()) {
    warnings_.push_back("protocol: this network was evaluated by " + rule.protocol + ", and is run by whole here: " + reason);
    protocol_ = protocol_named("whole", "");
  }
  is_plain_ = is_plain(protocol_);
  if (is_plain_) return;
  if (has_confidence_)  // what other protocols compare may be sums of probabilities
    refuse("protocol " + protocol_.name + ": confidence is the softmax of one run of the whole image; take --protocol whole");
  const bool may_resize = is_coincheung() && preprocess_->keeps_ratio();
  if (protocol_.needs_full_size && preprocess_->changes_size() && !may_resize)
    refuse("protocol " + protocol_.name + " starts from the image at its own size: take what resizes or pads out of the transforms");
  if (!protocol_.bytes_first) return;
  network_preprocess_ = std::move(preprocess_);
  Bundle without = bundle_;
  without.transforms.clear();
  without.color_order = "RGB";
  without.input_type = "float32";
  preprocess_ = std::make_unique<Preprocess>(without);
}

std::string Pipeline::described_protocol() const {
  char scale[32];
  std::snprintf(scale, sizeof scale, "%g", protocol_.scale);
  std::vector<std::string> looks = {std::string("scales ") + scale};
  if (protocol_.side_multiple > 1) looks.push_back("sides up to a multiple of " + std::to_string(protocol_.side_multiple));
  looks.push_back("sum of " + protocol_.merge);
  looks.push_back(std::string("align_corners=") + (protocol_.align_corners ? "True" : "False"));
  return protocol_.name + " (" + protocol_.source + ": " + joined(looks, "; ") + "; scored at label size)";
}

Prepared Pipeline::prepare(const cv::Mat& rgb) const {
  const Clock::time_point start = Clock::now();
  Prepared prepared;
  prepared.tensor = (*preprocess_)(rgb);
  prepared.preprocess_ms = ms_since(start);
  return prepared;
}

// The image at half its size, resized as bytes and then made into the network's input.
cv::Mat Pipeline::halved(const cv::Mat& planes) const {
  const int height = planes.rows / 3;
  cv::Mat image, small;
  std::vector<cv::Mat> channels;
  for (int c = 0; c < 3; ++c) channels.push_back(planes.rowRange(c * height, (c + 1) * height));
  cv::merge(channels, image);
  image.convertTo(image, CV_8U);
  const double least = std::min(image.rows, image.cols) * protocol_.scale;
  if (std::nearbyint(least) < 1) refuse_image("protocol " + protocol_.name + ": the image leaves nothing at its scale");
  cv::resize(image, small, cv::Size(), protocol_.scale, protocol_.scale, cv::INTER_LINEAR);
  return (*network_preprocess_)(small).planes;
}

std::vector<Output> Pipeline::by_protocol(const std::vector<cv::Mat>& tensors, const Geometry& geometry, cv::Size target) const {
  const Alignment alignment = protocol_.align_corners ? Alignment::corners : Alignment::half_pixel;
  std::vector<cv::Mat> looks;
  for (const cv::Mat& planes : tensors)
    looks.push_back(protocol_.bytes_first ? halved(planes)
                                          : resize_planes(planes, 3, scaled(protocol_, geometry.network), alignment));
  const cv::Size look(looks.front().cols, looks.front().rows / 3);
  std::vector<Output> outputs = engine_->run(looks);
  for (Output& output : outputs) {
    if (protocol_.bytes_first) {
      output.planes = resize_planes(output.planes, output.classes, look, alignment).clone();
      take_softmax(&output.planes, output.classes);
    }
    output.planes = resize_planes(output.planes, output.classes, target, alignment);
  }
  return outputs;
}

std::vector<Ran> Pipeline::run(const std::vector<const Prepared*>& batch) const {
  const Clock::time_point start = Clock::now();
  std::vector<cv::Mat> tensors;
  for (const Prepared* prepared : batch) tensors.push_back(prepared->tensor.planes);
  std::vector<Geometry> geometries;
  for (const Prepared* prepared : batch) geometries.push_back(prepared->tensor.geometry);
  std::vector<Output> outputs;
  if (is_plain_) {
    outputs = engine_->run(tensors);
  } else {
    const Geometry& first = batch.front()->tensor.geometry;
    const cv::Size target = is_coincheung() ? first.original : first.network;
    outputs = by_protocol(tensors, first, target);
    // Whatever side the images begin with, scores are compared at the label's size.
    if (is_coincheung()) geometries.assign(batch.size(), Geometry{target, target, {}});
  }
  std::vector<Ran> results;
  for (std::size_t i = 0; i < batch.size(); ++i)
    results.push_back({outputs[i], geometries[i], ms_since(start) / static_cast<double>(batch.size()), static_cast<int>(batch.size())});
  return results;
}

Best Pipeline::finish_best(const Ran& ran) const {
  if (!has_confidence_) return {finish(ran), cv::Mat()};
  return postprocess_->best(ran.output, ran.geometry, bundle_.temperatures);
}

Status status_of_exception() noexcept {
  try {
    throw;
  } catch (const Failure& error) {
    return {error.status(), error.what()};
  } catch (const std::bad_alloc&) {
    return {kFailed, "there is not enough memory for it; make it smaller"};
  } catch (const cv::Exception& error) {
    return {kFailed, error.code == cv::Error::StsNoMem ? "there is not enough memory for it; make it smaller" : "OpenCV: " + error.err};
  } catch (const std::exception& error) {
    return {kFailed, error.what()};
  } catch (...) {
    return {kFailed, "unknown failure"};
  }
}

}  // namespace paddleseg_ext
