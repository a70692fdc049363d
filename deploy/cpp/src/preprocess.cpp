#include "preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>
#include <set>

#include "failure.hpp"
#include "resize.hpp"

namespace paddleseg_ext {
namespace {

using Kind = Value::Kind;

bool is_side(const Value& value) {
  return value.kind == Kind::whole && value.whole >= 1 && value.whole <= static_cast<std::int64_t>(kLargestSide);
}

bool are_numbers(const Value& value) {
  const auto is_finite = [](const ValuePtr& item) { return item->is_number() && std::isfinite(item->real); };
  return value.kind == Kind::list && !value.items.empty() && std::all_of(value.items.begin(), value.items.end(), is_finite);
}

// The rules of the Python package, by its words for them.
bool fits(const Value& value, const std::string& expected, bool is_optional) {
  const bool is_number = value.is_number() && std::isfinite(value.real);
  if (expected.rfind("[width", 0) == 0)
    return value.kind == Kind::list && value.items.size() == 2 && is_side(*value.items[0]) && is_side(*value.items[1]);
  if (expected.rfind("a whole number from 1", 0) == 0) return is_side(value) || (is_optional && value.kind == Kind::null);
  if (expected == "a number above 0") return is_number && value.real > 0;
  if (expected == "a whole number from 0 to 255") return value.kind == Kind::whole && value.whole >= 0 && value.whole <= 255;
  if (expected == "a number, or one per channel") return is_number || are_numbers(value);
  if (expected == "a list of numbers, one per channel or one for all") return are_numbers(value);
  if (expected == "true or false") return value.kind == Kind::flag;
  return value.kind == Kind::text;  // a word
}

std::vector<double> numbers_of(const Value& value) {
  if (value.is_number()) return {value.real};
  std::vector<double> numbers;
  for (const ValuePtr& item : value.items) numbers.push_back(item->real);
  return numbers;
}

// Half to even, as Python rounds.
int rounded(double value) { return std::max(1, static_cast<int>(std::nearbyint(value))); }

cv::Size scaled(cv::Size size, double scale) { return {rounded(size.width * scale), rounded(size.height * scale)}; }

std::string spelled(cv::Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

cv::Mat normalized(const cv::Mat& pixels, const std::vector<double>& mean, const std::vector<double>& deviation) {
  cv::Mat result(pixels.size(), CV_32FC3);
  const cv::Mat image = [&] {
    cv::Mat floats;
    pixels.convertTo(floats, CV_32F);
    return floats;
  }();
  float less[3];
  float by[3];
  for (std::size_t c = 0; c < 3; ++c) {
    less[c] = static_cast<float>(mean[mean.size() == 1 ? 0 : c]);
    by[c] = static_cast<float>(deviation[deviation.size() == 1 ? 0 : c]);
  }
  for (int y = 0; y < image.rows; ++y) {
    const float* in = image.ptr<float>(y);
    float* out = result.ptr<float>(y);
    for (int x = 0; x < image.cols; ++x)
      for (int c = 0; c < 3; ++c) out[3 * x + c] = (in[3 * x + c] / 255.0F - less[c]) / by[c];
  }
  return result;
}

cv::Mat padded(const cv::Mat& pixels, cv::Size target, const std::vector<double>& value) {
  if (pixels.size() == target) return pixels;
  cv::Mat image = pixels;
  const auto is_fraction = [](double each) { return each != std::floor(each); };
  if (image.depth() == CV_8U && std::any_of(value.begin(), value.end(), is_fraction)) image.convertTo(image, CV_32F);
  const auto at = [&](std::size_t c) { return value[value.size() == 1 ? 0 : c]; };
  cv::Mat result;
  cv::copyMakeBorder(image, result, 0, target.height - image.rows, 0, target.width - image.cols, cv::BORDER_CONSTANT,
                     cv::Scalar(at(0), at(1), at(2)));
  return result;
}

// The channels one below the other; floats become bytes as NumPy casts them, without rounding.
template <typename From, typename To>
cv::Mat channels_first(const cv::Mat& pixels, int type) {
  cv::Mat planes(3 * pixels.rows, pixels.cols, type);
  for (int y = 0; y < pixels.rows; ++y) {
    const From* in = pixels.ptr<From>(y);
    for (int c = 0; c < 3; ++c) {
      To* out = planes.ptr<To>(c * pixels.rows + y);
      for (int x = 0; x < pixels.cols; ++x) {
        if constexpr (std::is_same_v<From, To>) out[x] = in[3 * x + c];
        else out[x] = static_cast<To>(static_cast<int>(std::clamp(in[3 * x + c], -32768.0F, 32767.0F)));
      }
    }
  }
  return planes;
}

}  // namespace

bool Geometry::resizes() const {
  return std::any_of(steps.begin(), steps.end(), [](const Step& step) { return step.is_resize; });
}

Preprocess::Preprocess(const Bundle& bundle)
    : is_bgr_(bundle.color_order == "BGR"), takes_bytes_(bundle.input_type == "uint8") {
  for (const ValuePtr& section : bundle.transforms) {
    try {
      transforms_.push_back(read(*section));
    } catch (const Failure& error) {
      refuse(bundle.deploy_file.string() + ": " + error.what());
    }
  }
}

void Preprocess::set(const std::string& name, const Value& value, Transform* transform) {
  if (name == "target_size")
    transform->target = {static_cast<int>(value.items[0]->whole), static_cast<int>(value.items[1]->whole)};
  else if (name == "keep_ratio") transform->keeps_ratio = value.flag;
  else if (name == "size_divisor") transform->divisor = static_cast<int>(value.whole);
  else if (name == "interp") transform->interpolation = value.text;
  else if (name == "short_size" || name == "long_size" || name == "max_long") transform->side = static_cast<int>(value.whole);
  else if (name == "min_long") transform->least = static_cast<int>(value.whole);
  else if (name == "max_size") transform->most = value.real;
  else if (name == "im_padding_value") transform->padding = numbers_of(value);
  else if (name == "mean") transform->mean = numbers_of(value);
  else if (name == "std") transform->deviation = numbers_of(value);
  else if (name != "label_padding_value")  // of labels, which are not padded here
    refuse("transforms: '" + name + "' is newer than this program: build it again, or use paddleseg-ext infer");
}

Preprocess::Transform Preprocess::read(const Value& section) {
  const Value* type = section.find("type");
  if (type == nullptr || type->kind != Kind::text) refuse("transforms: items with 'type: NAME' are expected");
  const std::string prefix = "paddleseg.";
  Transform transform;
  transform.type = type->text.rfind(prefix, 0) == 0 ? type->text.substr(prefix.size()) : type->text;
  std::vector<std::string> known;
  const std::vector<Argument>* arguments = nullptr;
  for (const auto& row : kTransforms) {
    known.push_back(row.name);
    if (row.name == transform.type) arguments = &row.arguments;
  }
  static const std::set<std::string> done = {"Resize", "ResizeByShort", "ResizeByLong", "LimitLong", "Padding", "Normalize"};
  if (arguments == nullptr || done.count(transform.type) == 0) {
    std::sort(known.begin(), known.end());
    refuse("transforms: " + shown(transform.type) + " cannot be used for inference; supported: " + joined(known, ", "));
  }
  const std::string where = "transforms: " + transform.type;
  for (const auto& [name, value] : section.entries) {
    if (name == "type") continue;
    std::vector<std::string> names;
    const Argument* argument = nullptr;
    for (const Argument& each : *arguments) {
      names.push_back(each.name);
      if (each.name == name) argument = &each;
    }
    if (argument == nullptr) refuse(where + " takes no " + shown(name) + nearest_name(name, names));
    const bool is_optional = name == "size_divisor" || name == "max_long" || name == "min_long";
    if (!fits(*value, argument->expected, is_optional))
      refuse(where + ": '" + name + "' must be " + argument->expected + ", got " + value->described());
    set(name, *value, &transform);
  }
  const bool needs_side = transform.type == "ResizeByShort" || transform.type == "ResizeByLong";
  if ((needs_side && transform.side == 0) || (transform.type == "Padding" && section.find("target_size") == nullptr))
    refuse(where + ": its size is missing");
  if (std::find(kInterpolations.begin(), kInterpolations.end(), transform.interpolation) == kInterpolations.end())
    refuse(where + ": interp: unknown " + shown(transform.interpolation) + nearest_name(transform.interpolation, kInterpolations));
  for (const auto* values : {&transform.padding, &transform.mean, &transform.deviation})
    if (values->size() != 1 && values->size() != 3) refuse(where + ": 1 or 3 numbers are expected, one per channel");
  if (std::count(transform.deviation.begin(), transform.deviation.end(), 0.0) > 0)
    refuse(where + ": std: numbers other than 0 are expected");
  if (transform.type == "LimitLong" && transform.side > 0 && transform.least > transform.side)
    refuse(where + ": min_long (" + std::to_string(transform.least) + ") is above max_long (" + std::to_string(transform.side) + ")");
  return transform;
}

cv::Size Preprocess::size_after(const Transform& transform, cv::Size size) {
  const double longer = std::max(size.width, size.height);
  const double shorter = std::min(size.width, size.height);
  if (transform.type == "Resize") {
    cv::Size target = transform.target;
    if (transform.keeps_ratio)
      target = scaled(size, std::min(std::max(target.width, target.height) / longer,
                                     std::min(target.width, target.height) / shorter));
    if (transform.divisor > 0) {
      target.width = (target.width + transform.divisor - 1) / transform.divisor * transform.divisor;
      target.height = (target.height + transform.divisor - 1) / transform.divisor * transform.divisor;
    }
    return target;
  }
  if (transform.type == "ResizeByLong") return scaled(size, transform.side / longer);
  if (transform.type == "ResizeByShort") {
    double side = transform.side;
    if (side / shorter * longer > transform.most) side = std::trunc(transform.most / longer * shorter);
    return scaled(size, side / shorter);
  }
  if (transform.type == "LimitLong") {
    if (transform.side > 0 && longer > transform.side) return scaled(size, transform.side / longer);
    if (transform.least > 0 && longer < transform.least) return scaled(size, transform.least / longer);
    return size;
  }
  if (transform.type == "Padding") {
    if (size.width > transform.target.width || size.height > transform.target.height)
      refuse_image("Padding: an image of at most " + spelled(transform.target) + " (width x height) is expected, got " +
                   spelled(size) + "; put a Resize before it");
    return transform.target;
  }
  return size;
}

cv::Mat Preprocess::apply(const Transform& transform, const cv::Mat& pixels) {
  if (transform.type == "Normalize") return normalized(pixels, transform.mean, transform.deviation);
  const cv::Size size = size_after(transform, pixels.size());
  if (transform.type == "Padding") return padded(pixels, size, transform.padding);
  return resize_image(pixels, size, transform.interpolation);
}

Tensor Preprocess::operator()(const cv::Mat& rgb) const {
  cv::Mat pixels = rgb;
  if (is_bgr_) cv::cvtColor(rgb, pixels, cv::COLOR_RGB2BGR);
  // PaddleSeg turns pixels into float32 before it resizes; on bytes the result is rounded.
  if (!takes_bytes_) pixels.convertTo(pixels, CV_32F);
  Tensor tensor;
  tensor.geometry.original = rgb.size();
  for (const Transform& transform : transforms_) {
    const cv::Size before = pixels.size();
    pixels = apply(transform, pixels);
    if (pixels.size() != before) tensor.geometry.steps.push_back({transform.type != "Padding", before});
  }
  tensor.geometry.network = pixels.size();
  if (!takes_bytes_) tensor.planes = channels_first<float, float>(pixels, CV_32F);
  else if (pixels.depth() == CV_8U) tensor.planes = channels_first<std::uint8_t, std::uint8_t>(pixels, CV_8U);
  else tensor.planes = channels_first<float, std::uint8_t>(pixels, CV_8U);
  return tensor;
}

bool Preprocess::changes_size() const {
  return std::any_of(transforms_.begin(), transforms_.end(), [](const Transform& each) { return each.type != "Normalize"; });
}

bool Preprocess::keeps_ratio() const {
  static const std::set<std::string> kept = {"ResizeByShort", "ResizeByLong", "LimitLong", "Normalize"};
  return std::all_of(transforms_.begin(), transforms_.end(), [](const Transform& each) { return kept.count(each.type) > 0; });
}

}  // namespace paddleseg_ext
