#include "sparse_upsampling.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "vectorised.hpp"

namespace paddleseg_ext {
namespace {

constexpr float kDoubt = 1.0F / (1 << 17);  // of the largest sample
constexpr float kSmallest = 1e-30F, kLargest = 1e30F;  // outside, float32 rounds in other ways
constexpr int kMostResizes = 2;
constexpr int kMostTaps = 4;  // in one direction
constexpr int kBlock = 16;    // pixels that are computed at once
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// One row, or column, of the picture as a combination of the output's.
struct Tap {
  int start = 0, count = 0;
  std::array<double, kMostTaps> weights{};
};

// The taps of one stage of resizing, put behind those of the stages before. Empty: too many taps.
std::vector<Tap> combined(const std::vector<Tap>& before, const Axis& axis) {
  std::vector<Tap> result;
  for (std::size_t i = 0; i < axis.low.size(); ++i) {
    const Tap& low = before[static_cast<std::size_t>(axis.low[i])];
    const Tap& high = before[static_cast<std::size_t>(axis.high[i])];
    const double weight = axis.weight[i];
    Tap tap = low;
    if (weight > 0.0) {
      const int end = std::max(low.start + low.count, high.start + high.count);
      tap = Tap{std::min(low.start, high.start), 0, {}};
      tap.count = end - tap.start;
      if (tap.count > kMostTaps) return {};
      for (int k = 0; k < low.count; ++k)
        tap.weights[static_cast<std::size_t>(low.start - tap.start + k)] += (1.0 - weight) * low.weights[static_cast<std::size_t>(k)];
      for (int k = 0; k < high.count; ++k)
        tap.weights[static_cast<std::size_t>(high.start - tap.start + k)] += weight * high.weights[static_cast<std::size_t>(k)];
    }
    result.push_back(tap);
  }
  return result;
}

// One stage with the axes that its dense way uses.
struct Mixing {
  bool is_crop;
  Alignment alignment;
  Axis rows, columns;
};

// Float32 rows of the picture at the columns of the output; beyond them is weight 0.
struct Lines {
  Lines(int classes, int width)
      : stride(width + kMostTaps), values(static_cast<std::size_t>(classes * (width + kMostTaps)), 0.0F) {}
  float* of(int c) { return values.data() + static_cast<std::ptrdiff_t>(c) * stride; }
  const float* of(int c) const { return values.data() + static_cast<std::ptrdiff_t>(c) * stride; }

  int stride;
  std::vector<float> values;
};

PADDLESEG_EXT_VECTORISED void add_scaled(const float* samples, float weight, bool is_first, int count, float* line) {
  if (is_first)
    for (int x = 0; x < count; ++x) line[x] = weight * samples[x];
  else
    for (int x = 0; x < count; ++x) line[x] += weight * samples[x];
}

PADDLESEG_EXT_VECTORISED void keep_two(const float* line, std::uint8_t index, int count, float* best, float* second,
                                       std::uint8_t* labels) {
  for (int x = 0; x < count; ++x) {
    const bool is_better = line[x] > best[x];
    const float less = is_better ? best[x] : line[x];
    best[x] = is_better ? line[x] : best[x];
    labels[x] = is_better ? index : labels[x];
    second[x] = less > second[x] ? less : second[x];
  }
}

PADDLESEG_EXT_VECTORISED float largest_of(const float* samples, int count) {
  float largest = 0.0F;
  for (int x = 0; x < count; ++x) {
    const float size = std::abs(samples[x]);
    largest = size <= largest ? largest : size;  // passes NaN on
  }
  return largest;
}

// The best candidate, its value and the next one's of `kBlock` pixels.
struct Best {
  std::array<float, kBlock> value, second;
  std::array<std::int32_t, kBlock> winner;
};

PADDLESEG_EXT_VECTORISED void compete(const float* samples, int index, const float* lanes, std::ptrdiff_t lane, Best* best) {
  for (std::size_t t = 0; t < kBlock; ++t) {
    const auto i = static_cast<std::ptrdiff_t>(t);
    float value = lanes[i] * samples[0] + lanes[lane + i] * samples[1];
    value += lanes[2 * lane + i] * samples[2] + lanes[3 * lane + i] * samples[3];
    const float top = best->value[t];
    const bool is_better = value > top;
    const float less = is_better ? top : value;
    best->value[t] = is_better ? value : top;
    best->winner[t] = is_better ? index : best->winner[t];
    best->second[t] = less > best->second[t] ? less : best->second[t];
  }
}

class Upsampling {
 public:
  Upsampling(const Output& output, const std::vector<Stage>& stages) : output_(output) { is_possible_ = prepare(stages); }

  cv::Mat run();
  bool is_possible() const { return is_possible_; }

 private:
  bool prepare(const std::vector<Stage>& stages);
  void mix_line(const Tap& tap);
  void fill_row(int y, std::uint8_t* line);
  void interpolate(int y, std::size_t cell, std::uint8_t* line);
  void find_candidates(const Tap& tap);
  float dense(std::size_t stage, int y, int x, int c) const;
  int decide(int y, int x) const;

  const Output& output_;
  bool is_possible_ = false;
  float doubt_ = 0.0F;
  std::vector<Mixing> mixings_;
  std::vector<Tap> rows_, columns_;
  std::vector<int> edges_;     // where the columns' taps change
  std::vector<float> lanes_;   // the columns' weights, one tap after the other
  std::ptrdiff_t lane_ = 0;    // from one tap's weights to the next one's
  Lines lines_{0, 0};
  std::vector<float> best_, second_;
  std::vector<std::uint8_t> labels_;
  std::vector<int> candidates_;
};

bool Upsampling::prepare(const std::vector<Stage>& stages) {
  const cv::Size size = output_.size();
  const auto identity = [](int count) {
    std::vector<Tap> taps(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) taps[static_cast<std::size_t>(i)] = Tap{i, 1, {1.0}};
    return taps;
  };
  rows_ = identity(size.height);
  columns_ = identity(size.width);
  cv::Size before = size;
  int resizes = 0;
  for (const Stage& stage : stages) {
    if (stage.is_crop) {
      rows_.resize(static_cast<std::size_t>(stage.size.height));
      columns_.resize(static_cast<std::size_t>(stage.size.width));
      mixings_.push_back({true, stage.alignment, {}, {}});
    } else {
      if (++resizes > kMostResizes || !has_axes(before)) return false;
      mixings_.push_back({false, stage.alignment, axis_of(before.height, stage.size.height, stage.alignment),
                          axis_of(before.width, stage.size.width, stage.alignment)});
      rows_ = combined(rows_, mixings_.back().rows);
      columns_ = combined(columns_, mixings_.back().columns);
      if (rows_.empty() || columns_.empty()) return false;
    }
    before = stage.size;
  }
  float largest = 0.0F;
  for (int y = 0; y < output_.planes.rows; ++y) {
    const float row = largest_of(output_.planes.ptr<float>(y), size.width);
    largest = row <= largest ? largest : row;
  }
  doubt_ = kDoubt * largest;
  return largest > kSmallest && largest < kLargest;
}

void Upsampling::mix_line(const Tap& tap) {
  const int width = output_.size().width;
  for (int c = 0; c < output_.classes; ++c) {
    const cv::Mat plane = output_.plane(c);
    for (int k = 0; k < tap.count; ++k)
      add_scaled(plane.ptr<float>(tap.start + k), static_cast<float>(tap.weights[static_cast<std::size_t>(k)]), k == 0,
                 width, lines_.of(c));
  }
  std::copy(lines_.of(0), lines_.of(0) + width, best_.begin());
  std::fill(second_.begin(), second_.end(), kNothing);
  std::fill(labels_.begin(), labels_.end(), std::uint8_t{0});
  for (int c = 1; c < output_.classes; ++c)
    keep_two(lines_.of(c), static_cast<std::uint8_t>(c), width, best_.data(), second_.data(), labels_.data());
}

void Upsampling::fill_row(int y, std::uint8_t* line) {
  for (std::size_t cell = 0; cell + 1 < edges_.size(); ++cell) {
    const Tap& tap = columns_[static_cast<std::size_t>(edges_[cell])];
    bool is_alike = true;
    const std::uint8_t label = labels_[static_cast<std::size_t>(tap.start)];
    for (int x = tap.start; x < tap.start + tap.count; ++x) {
      const auto i = static_cast<std::size_t>(x);
      is_alike = is_alike && labels_[i] == label && best_[i] - second_[i] > doubt_;
    }
    if (is_alike) std::fill(line + edges_[cell], line + edges_[cell + 1], label);
    else interpolate(y, cell, line);
  }
}

// The classes that may be best somewhere between these columns.
void Upsampling::find_candidates(const Tap& tap) {
  float floor = kNothing;
  for (int b = 0; b < tap.count; ++b) {
    const float* line = lines_.of(labels_[static_cast<std::size_t>(tap.start + b)]) + tap.start;
    floor = std::max(floor, *std::min_element(line, line + tap.count));
  }
  candidates_.clear();
  for (int c = 0; c < output_.classes; ++c) {
    const float* line = lines_.of(c) + tap.start;
    if (*std::max_element(line, line + tap.count) >= floor - doubt_) candidates_.push_back(c);
  }
}

void Upsampling::interpolate(int y, std::size_t cell, std::uint8_t* line) {
  const Tap& tap = columns_[static_cast<std::size_t>(edges_[cell])];
  find_candidates(tap);
  for (int start = edges_[cell]; start < edges_[cell + 1]; start += kBlock) {
    Best best{};
    best.value.fill(kNothing);
    best.second.fill(kNothing);
    for (const int c : candidates_) compete(lines_.of(c) + tap.start, c, lanes_.data() + start, lane_, &best);
    const int count = std::min(kBlock, edges_[cell + 1] - start);
    for (int t = 0; t < count; ++t) {
      const auto i = static_cast<std::size_t>(t);
      const bool is_sure = best.value[i] - best.second[i] > doubt_;
      line[start + t] = static_cast<std::uint8_t>(is_sure ? best.winner[i] : decide(y, start + t));
    }
  }
}

// What the dense way computes at one pixel after `stage` stages.
float Upsampling::dense(std::size_t stage, int y, int x, int c) const {
  if (stage == 0) return output_.planes.at<float>(c * output_.size().height + y, x);
  const Mixing& mixing = mixings_[stage - 1];
  if (mixing.is_crop) return dense(stage - 1, y, x, c);
  const auto i = static_cast<std::size_t>(y), j = static_cast<std::size_t>(x);
  const auto at = [&](int row, int column) { return dense(stage - 1, row, column, c); };
  const int top = mixing.rows.low[i], bottom = mixing.rows.high[i];
  const int left = mixing.columns.low[j], right = mixing.columns.high[j];
  const float down = mixing.rows.weight[i], across = mixing.columns.weight[j];
  const Alignment how = mixing.alignment;
  if (how == Alignment::corners)
    return mixed(mixed(at(top, left), at(bottom, left), down, how), mixed(at(top, right), at(bottom, right), down, how),
                 across, how);
  return mixed(mixed(at(top, left), at(top, right), across, how), mixed(at(bottom, left), at(bottom, right), across, how),
               down, how);
}

int Upsampling::decide(int y, int x) const {
  int winner = candidates_.front();
  float best = kNothing;
  for (const int c : candidates_) {
    const float value = dense(mixings_.size(), y, x, c);
    if (value > best) {  // the first of equals, as everywhere
      best = value;
      winner = c;
    }
  }
  return winner;
}

cv::Mat Upsampling::run() {
  const int width = output_.size().width;
  lane_ = static_cast<std::ptrdiff_t>(columns_.size()) + kBlock;
  lanes_.assign(static_cast<std::size_t>(kMostTaps * lane_), 0.0F);
  for (std::size_t x = 0; x < columns_.size(); ++x) {
    const bool is_same = x > 0 && columns_[x].start == columns_[x - 1].start && columns_[x].count == columns_[x - 1].count;
    if (!is_same) edges_.push_back(static_cast<int>(x));
    for (std::size_t k = 0; k < kMostTaps; ++k)
      lanes_[k * static_cast<std::size_t>(lane_) + x] = static_cast<float>(columns_[x].weights[k]);
  }
  edges_.push_back(static_cast<int>(columns_.size()));
  lines_ = Lines(output_.classes, width);
  best_.resize(static_cast<std::size_t>(width));
  second_.resize(best_.size());
  labels_.resize(best_.size());
  cv::Mat result(static_cast<int>(rows_.size()), static_cast<int>(columns_.size()), CV_8U);
  for (int y = 0; y < result.rows; ++y) {
    mix_line(rows_[static_cast<std::size_t>(y)]);
    fill_row(y, result.ptr<std::uint8_t>(y));
  }
  return result;
}

}  // namespace

cv::Mat sparse_best_class(const Output& output, const std::vector<Stage>& stages) {
  Upsampling upsampling(output, stages);
  return upsampling.is_possible() ? upsampling.run() : cv::Mat();
}

}  // namespace paddleseg_ext
