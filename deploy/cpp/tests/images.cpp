// Images and labels, sound and damaged, of every format that is read.
#include "images.hpp"

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <random>

#include "check.hpp"
#include "image_structure.hpp"

using namespace paddleseg_ext;

namespace {

cv::Mat picture(int height, int width) {
  cv::Mat image(height, width, CV_8UC3);
  cv::theRNG().state = 7;
  cv::randu(image, 0, 256);
  cv::GaussianBlur(image, image, {5, 5}, 0);
  return image;
}

std::string encoded(const std::string& suffix, const cv::Mat& image, const std::vector<int>& settings = {}) {
  std::vector<std::uint8_t> bytes;
  cv::imencode(suffix, image, bytes, settings);
  return {bytes.begin(), bytes.end()};
}

std::string refusal_of(const std::string& content) {
  return refusal([&] { decode_image(content, "x", "upright"); });
}

bool is_equal(const cv::Mat& one, const cv::Mat& other) {
  return one.size() == other.size() && one.type() == other.type() && cv::norm(one, other, cv::NORM_INF) == 0;
}

void test_formats() {
  const cv::Mat bgr = picture(30, 41);
  cv::Mat rgb;
  cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
  for (const char* suffix : {".png", ".bmp", ".ppm", ".tiff"})
    CHECK(is_equal(decode_image(encoded(suffix, bgr), "x", "stored"), rgb));
  CHECK(is_equal(decode_image(encoded(".webp", bgr, {cv::IMWRITE_WEBP_QUALITY, 101}), "x", "stored"), rgb));
  CHECK(decode_image(encoded(".jpg", bgr), "x", "stored").size() == bgr.size());
  const cv::Mat small = decode_image("P2 2 1 4\n0 4", "x", "stored");
  CHECK(small.at<cv::Vec3b>(0, 0)[0] == 0 && small.at<cv::Vec3b>(0, 1)[0] == 255);
  CHECK(contains(refusal_of("P5 2 2 9\n\1\2\3\xff"), "its header says 9"));
  CHECK(contains(refusal_of("P6 900000000 900000000 255\n"), "more pixels"));
  CHECK(contains(refusal_of("GIF89a"), "an image file is expected"));
  CHECK(contains(refusal_of("P5 9 9 255\nabc"), "truncated"));
}

// A JPEG with an EXIF block that holds an orientation.
std::string with_orientation(const std::string& jpeg, char orientation) {
  const std::string tiff = std::string("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", 18) + orientation + std::string("\0\0\0\0\0\0\0", 7);
  const std::string body = std::string("Exif\0\0", 6) + tiff;
  const auto length = static_cast<char>(body.size() + 2);
  return jpeg.substr(0, 2) + "\xff\xe1" + std::string(1, '\0') + length + body + jpeg.substr(2);
}

void test_orientation() {
  const std::string jpeg = encoded(".jpg", picture(16, 24));
  const cv::Mat stored = decode_image(with_orientation(jpeg, 6), "x", "stored");
  const cv::Mat upright = decode_image(with_orientation(jpeg, 6), "x", "upright");
  cv::Mat turned;
  cv::rotate(stored, turned, cv::ROTATE_90_CLOCKWISE);
  CHECK(stored.size() == cv::Size(24, 16));
  CHECK(is_equal(upright, turned));
}

void test_damage() {
  std::mt19937 random(2);
  for (const char* suffix : {".png", ".jpg", ".webp", ".bmp", ".tiff", ".ppm"}) {
    const std::string sound = encoded(suffix, picture(40, 33));
    for (std::size_t length = 0; length < sound.size(); length += 1 + sound.size() / 60) refusal_of(sound.substr(0, length));
    for (int round = 0; round < 150; ++round) {
      std::string damaged = sound;
      for (int i = 0; i < 4; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
      refusal_of(damaged);
    }
    const std::string half = refusal_of(sound.substr(0, sound.size() / 2));
    CHECK(!half.empty() || std::string(suffix) == ".bmp" || std::string(suffix) == ".tiff");
  }
  std::string flipped = encoded(".png", picture(40, 33));
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 1);
  CHECK(contains(refusal_of(flipped), "checksum"));
}

// Cut in the middle of its data and closed with an end marker: libjpeg would fill it with grey.
void test_premature_end() {
  for (const int progressive : {0, 1}) {
    const std::string sound = encoded(".jpg", picture(64, 64), {cv::IMWRITE_JPEG_PROGRESSIVE, progressive});
    CHECK(refusal_of(sound).empty());
    CHECK(contains(refusal_of(sound.substr(0, sound.size() * 3 / 4) + "\xff\xd9"), "damaged"));
  }
}

void test_labels() {
  const Folder folder;
  ClassTable table = generic_table(3);
  const cv::Mat label = (cv::Mat_<std::uint8_t>(2, 2) << 0, 1, 2, 255);
  const std::string path = (folder.path / "label.png").string();
  write(path, encoded(".png", label));
  CHECK(is_equal(read_label(path, table), label));
  table.ignore_index = 7;
  CHECK(contains(refusal([&] { read_label(path, table); }), "value 255 is no class"));
  cv::Mat wide;
  label.convertTo(wide, CV_16U, 2);
  write(path, encoded(".png", wide));
  CHECK(contains(refusal([&] { read_label(path, generic_table(3)); }), "0..255, got 510"));
  cv::Mat colours;
  cv::merge(std::vector<cv::Mat>{label, label, 255 - label}, colours);
  write(path, encoded(".png", colours));
  CHECK(contains(refusal([&] { read_label(path, generic_table(3)); }), "colour image"));
  write(path, encoded(".jpg", label));
  CHECK(contains(refusal([&] { read_label(path, generic_table(3)); }), "no label"));
}

}  // namespace

void test_images() {
  test_formats();
  test_orientation();
  test_damage();
  test_premature_end();
  test_labels();
}
