// Resizing, the way back, and the sparse upsampling against the dense one.
#include <cmath>
#include <random>

#include "check.hpp"
#include "json.hpp"
#include "postprocess.hpp"
#include "scoring.hpp"

using namespace paddleseg_ext;

namespace {

cv::Mat random_planes(int rows, int columns, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 4.0F);
  cv::Mat planes(rows, columns, CV_32F);
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x) planes.at<float>(y, x) = normal(random);
  return planes;
}

bool is_equal(const cv::Mat& one, const cv::Mat& other) {
  return one.size() == other.size() && cv::norm(one, other, cv::NORM_INF) == 0;
}

void test_linear() {
  const cv::Mat row = (cv::Mat_<float>(2, 2) << 0, 8, 0, 8);
  const cv::Mat wide = resize_image(row, {4, 2}, "LINEAR");
  CHECK(wide.at<float>(0, 0) == 0 && wide.at<float>(0, 1) == 2 && wide.at<float>(0, 2) == 6 && wide.at<float>(0, 3) == 8);
  const cv::Mat corners = resize_scores(row, {3, 2}, Alignment::corners);
  CHECK(corners.at<float>(0, 0) == 0 && corners.at<float>(0, 1) == 4 && corners.at<float>(0, 2) == 8);
  const cv::Mat bytes(4, 4, CV_8UC3, cv::Scalar(10, 20, 30));
  CHECK(is_equal(resize_image(bytes, {2, 2}, "PILLOW_LINEAR"), cv::Mat(2, 2, CV_8UC3, cv::Scalar(10, 20, 30))));
}

// Scores with near ties, equal classes and constant areas, through one and two resizes and a crop.
void test_sparse() {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    const int classes = 1 + static_cast<int>(random() % 7);
    const int height = 2 + static_cast<int>(random() % 12), width = 2 + static_cast<int>(random() % 12);
    Output output;
    output.classes = classes;
    output.planes = random_planes(classes * height, width, static_cast<unsigned>(round));
    if (round % 3 == 0)
      for (int y = 0; y < output.planes.rows; ++y)
        for (int x = 0; x < width; ++x) output.planes.at<float>(y, x) = std::round(output.planes.at<float>(y, x) / 3);
    const int factor = 2 + static_cast<int>(random() % 7);
    Geometry geometry;
    geometry.network = {width * factor, height * factor};
    geometry.original = geometry.network;
    if (round % 2 == 0) {
      geometry.original = {width * factor * 2 + 3, height * factor + 5};
      geometry.steps = {{true, geometry.original}, {false, {width * factor - 1, height * factor}}};
    }
    const std::string upsampling = round % 4 < 2 ? "half_pixel" : "aligned";
    const cv::Mat sparse = Postprocess("none", upsampling, true).label_map(output, geometry);
    const cv::Mat dense = Postprocess("none", upsampling, false).label_map(output, geometry);
    CHECK(sparse.size() == geometry.original);
    CHECK(is_equal(sparse, dense));
    // A network that pads its input: as upsampled by the factor, then cut.
    Geometry cut;
    cut.network = cut.original = {width * factor - factor / 2, height * factor - 1};
    Geometry whole;
    whole.network = whole.original = {width * factor, height * factor};
    const cv::Mat expected = Postprocess("none", upsampling, false).label_map(output, whole)(cv::Rect({0, 0}, cut.network)).clone();
    CHECK(is_equal(Postprocess("none", upsampling, false, factor).label_map(output, cut), expected));
    CHECK(is_equal(Postprocess("none", upsampling, true, factor).label_map(output, cut), expected));
  }
}

void test_refusals() {
  Output output;
  output.classes = 2;
  output.planes = cv::Mat::zeros(8, 4, CV_32F);
  output.planes.at<float>(1, 1) = NAN;
  Geometry geometry;
  geometry.network = geometry.original = {8, 8};
  CHECK(contains(refusal([&] { Postprocess("none", "half_pixel").label_map(output, geometry); }), "NaN"));
  output.planes.at<float>(1, 1) = 0;
  CHECK(contains(refusal([&] { Postprocess("none", "half_pixel", true, 1).label_map(output, geometry); }), "native_stride"));
  CHECK(contains(refusal([&] { Postprocess("argmax", "graph").label_map(output, geometry); }), "export the model again"));
}

void test_scores() {
  const ClassTable table = generic_table(2);
  const cv::Mat label = (cv::Mat_<std::uint8_t>(1, 4) << 0, 0, 1, 255);
  const cv::Mat found = (cv::Mat_<std::uint8_t>(1, 4) << 0, 1, 1, 0);
  const Counts counts = count_pairs(found, label, table, "x");
  CHECK(counts[0][0] == 1 && counts[0][1] == 1 && counts[1][0] == 0 && counts[1][1] == 1);
  const std::vector<ImageCounts> images = {{"x", counts, 4, "4x1"}};
  const std::string text = Evaluation(table, "skip", "whole", images).json().text();
  CHECK(contains(text, "\"mean_iou\": 0.5,"));
  CHECK(contains(text, "\"ignored_pixels\": 1"));
  CHECK(Json("a\"\n\xff").text() == "\"a\\\"\\u000a\\udcff\"");
}

}  // namespace

void test_arithmetic() {
  test_linear();
  test_sparse();
  test_refusals();
  test_scores();
}
