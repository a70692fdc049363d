#include "scoring.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "failure.hpp"

namespace paddleseg_ext {
namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
using Values = std::vector<double>;
using Pixels = std::vector<std::int64_t>;

struct PerClass {
  Pixels hits, predicted, labelled;
};

PerClass per_class(const Counts& counts) {
  const std::size_t classes = counts.size();
  PerClass result{Pixels(classes), Pixels(classes), Pixels(classes)};
  for (std::size_t i = 0; i < classes; ++i) {
    result.hits[i] = counts[i][i];
    for (std::size_t j = 0; j < classes; ++j) {
      result.labelled[i] += counts[i][j];
      result.predicted[j] += counts[i][j];
    }
  }
  return result;
}

std::int64_t sum(const Pixels& pixels) { return std::accumulate(pixels.begin(), pixels.end(), std::int64_t{0}); }

double divide(double part, double whole) { return whole == 0.0 ? kNan : part / whole; }

double mean(const Values& values, const std::string& absent) {
  double total = 0.0;
  std::size_t number = 0;
  for (const double value : values) {
    const bool is_absent = std::isnan(value);
    if (is_absent && absent == "skip") continue;
    total += is_absent ? (absent == "one" ? 1.0 : 0.0) : value;
    ++number;
  }
  return number == 0 ? kNan : total / static_cast<double>(number);
}

std::vector<std::pair<std::string, Json>> counts_json(const PerClass& counts) {
  return {{"intersection", counts.hits}, {"prediction_pixels", counts.predicted}, {"label_pixels", counts.labelled}};
}

// Four decimals as NumPy prints them: `0.` for an absent class.
std::string array_text(const Values& values) {
  std::string text = "[";
  for (const double value : values) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.4f", std::isnan(value) ? 0.0 : value);
    text += (text.size() > 1 ? " " : "") + std::string(digits);
  }
  return text + "]";
}

}  // namespace

struct Evaluation::Scores {
  std::int64_t num_scored = 0;
  double mean_iou = kNan, mean_dice = kNan, mean_recall = kNan, accuracy = kNan, kappa = kNan, weighted_iou = kNan;
  Values iou, precision, recall, f1;
};

Counts count_pairs(const cv::Mat& label_map, const cv::Mat& label, const ClassTable& table, const std::string& name) {
  if (label_map.size() != label.size())
    refuse_image(name + ": a label of the image's size is expected, " + std::to_string(label_map.cols) + "x" +
                 std::to_string(label_map.rows) + " (width x height), got " + std::to_string(label.cols) + "x" +
                 std::to_string(label.rows));
  std::vector<std::array<std::int64_t, 256>> pairs(256);
  for (int y = 0; y < label.rows; ++y) {
    const auto* truth = label.ptr<std::uint8_t>(y);
    const auto* found = label_map.ptr<std::uint8_t>(y);
    for (int x = 0; x < label.cols; ++x) ++pairs[truth[x]][found[x]];
  }
  const auto classes = static_cast<std::size_t>(table.size());
  Counts counts(classes, Pixels(classes, 0));
  for (std::size_t i = 0; i < pairs.size(); ++i)
    for (std::size_t j = 0; j < pairs.size(); ++j) {
      if (pairs[i][j] == 0) continue;
      if (j >= classes)
        refuse_image(name + ": prediction: values 0 to " + std::to_string(classes - 1) + " are expected, found " + std::to_string(j));
      if (static_cast<int>(i) == table.ignore_index) continue;
      if (i >= classes)
        refuse_image(name + ": label: values 0 to " + std::to_string(classes - 1) + " are expected, found " + std::to_string(i));
      counts[i][j] = pairs[i][j];
    }
  return counts;
}

Evaluation::Evaluation(const ClassTable& table, const std::string& absent, const std::string& protocol,
                       const std::vector<ImageCounts>& images)
    : table_(table), absent_(absent), protocol_(protocol), images_(images) {
  const auto classes = static_cast<std::size_t>(table.size());
  total_.assign(classes, Pixels(classes, 0));
  for (const ImageCounts& image : images) {
    std::int64_t scored = 0;
    for (std::size_t i = 0; i < classes; ++i)
      for (std::size_t j = 0; j < classes; ++j) {
        total_[i][j] += image.counts[i][j];
        scored += image.counts[i][j];
      }
    ignored_ += image.label_pixels - scored;
    if (std::find(input_sizes_.begin(), input_sizes_.end(), image.input_size) == input_sizes_.end())
      input_sizes_.push_back(image.input_size);
  }
}

std::string Evaluation::fault() const {
  if (images_.empty()) return "";
  const PerClass counts = per_class(total_);
  std::size_t present = 0, first = 0;
  for (std::size_t i = 0; i < counts.labelled.size(); ++i)
    if (counts.labelled[i] > 0 && present++ == 0) first = i;
  const std::string found = " in " + (images_.size() == 1 ? std::string("its label") : "its " + std::to_string(images_.size()) + " labels");
  if (present == 0) return "no labelled pixel" + found + ": all are ignored, so there is nothing to score";
  if (present > 1 || !(first == 0 || table_.size() == 2) || ignored_ == 0) return "";
  return "only '" + table_.class_names[first] + "' and ignored pixels" + found + ": a network that gives '" +
         table_.class_names[first] + "' everywhere would have an mIoU of 1. Masks of 0 and 255? Write the classes as 0, 1, 2, ..";
}

Evaluation::Scores Evaluation::scores() const {
  const PerClass counts = per_class(total_);
  Scores scores;
  double hits = 0.0, expected = 0.0, weighted = 0.0;
  const auto all = static_cast<double>(sum(counts.labelled));
  for (std::size_t i = 0; i < counts.hits.size(); ++i) {
    const auto hit = static_cast<double>(counts.hits[i]), predicted = static_cast<double>(counts.predicted[i]);
    const auto labelled = static_cast<double>(counts.labelled[i]);
    const double all_of_class = predicted + labelled - hit;
    const auto ratio = [&](double part, double whole) { return all_of_class == 0.0 ? kNan : whole == 0.0 ? 0.0 : part / whole; };
    scores.iou.push_back(ratio(hit, all_of_class + (absent_ == "smooth" ? 1.0 : 0.0)));
    scores.precision.push_back(ratio(hit, predicted));
    scores.recall.push_back(ratio(hit, labelled));
    scores.f1.push_back(ratio(2 * hit, predicted + labelled));
    hits += hit;
    expected += predicted * labelled;
    weighted += labelled * (std::isnan(scores.iou.back()) ? 0.0 : scores.iou.back());
  }
  const std::string rule = all > 0 ? absent_ : "skip";
  scores.num_scored = sum(counts.labelled);
  scores.mean_iou = mean(scores.iou, rule);
  scores.mean_dice = mean(scores.f1, rule);
  scores.mean_recall = mean(scores.recall, rule);
  scores.accuracy = divide(hits, all);
  const double chance = divide(expected, all * all);
  scores.kappa = divide(scores.accuracy - chance, 1.0 - chance);
  scores.weighted_iou = divide(weighted, all);
  return scores;
}

Json Evaluation::json() const {
  const Scores found = scores();
  std::vector<std::string> names = table_.class_names;
  const Json scored = Json::section({{"absent", absent_}, {"num_scored", found.num_scored}, {"mean_iou", found.mean_iou},
                                     {"mean_dice", found.mean_dice}, {"mean_recall", found.mean_recall},
                                     {"accuracy", found.accuracy}, {"kappa", found.kappa},
                                     {"frequency_weighted_iou", found.weighted_iou}, {"class_iou", found.iou},
                                     {"class_precision", found.precision}, {"class_recall", found.recall},
                                     {"class_f1", found.f1}});
  std::vector<Json> images;
  for (const ImageCounts& image : images_) {
    auto entries = counts_json(per_class(image.counts));
    entries.insert(entries.begin(), {"name", image.name});
    images.push_back(Json::section(entries));
  }
  return Json::section({{"num_images", images_.size()}, {"absent", absent_}, {"protocol", protocol_},
                        {"input_sizes", input_sizes_}, {"class_names", names}, {"ignore_index", table_.ignore_index},
                        {"ignored_pixels", ignored_}, {"scores", scored},
                        {"counts", Json::section(counts_json(per_class(total_)))}, {"confusion_matrix", total_},
                        {"images", images}});
}

std::vector<std::string> Evaluation::lines() const {
  const Scores found = scores();
  char means[80];
  std::snprintf(means, sizeof means, "mIoU: %.4f Acc: %.4f images: ", found.mean_iou, found.accuracy);
  return {"#inference",
          means + std::to_string(images_.size()) + "; protocol: " + protocol_ + "; input: " + joined(input_sizes_, ", ") +
              "; absent classes: " + absent_,
          "Class IoU:", array_text(found.iou), "Class Acc:", array_text(found.precision)};
}

}  // namespace paddleseg_ext
