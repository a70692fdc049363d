#include "outputs.hpp"

#include <fcntl.h>
#include <png.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "failure.hpp"

namespace paddleseg_ext {
namespace {

namespace fs = std::filesystem;

void append_png(png_structp png, png_bytep data, png_size_t size) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<char*>(data), size);
}

void flush_png(png_structp) {}

// Grey without a palette; `note` is its description. Nothing in here has a destructor: an error jumps
// out of it.
bool write_png(std::string* content, png_bytep* rows, cv::Size size, const png_color* palette, png_text* note) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  if (info == nullptr || setjmp(png_jmpbuf(png)) != 0) {
    png_destroy_write_struct(&png, &info);
    return false;
  }
  png_set_write_fn(png, content, append_png, flush_png);
  png_set_IHDR(png, info, static_cast<png_uint_32>(size.width), static_cast<png_uint_32>(size.height), 8,
               palette == nullptr ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (palette != nullptr) png_set_PLTE(png, info, palette, 256);
  if (note != nullptr) png_set_text(png, info, note, 1);
  png_write_info(png, info);
  png_write_image(png, rows);
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return true;
}

[[noreturn]] void cannot_write(const fs::path& path) {
  refuse_image("'" + path.string() + "' cannot be written: " + std::strerror(errno));
}

}  // namespace

void write_file(const fs::path& path, const std::string& content) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const fs::path temporary = path.parent_path() / ("." + std::to_string(::getpid()) + "." + path.filename().string().substr(0, 200));
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) cannot_write(path);
  std::size_t done = 0;
  bool is_good = true;
  while (is_good && done < content.size()) {
    const ssize_t written = ::write(file, content.data() + done, content.size() - done);
    is_good = written >= 0 || errno == EINTR;
    if (written > 0) done += static_cast<std::size_t>(written);
  }
  is_good = is_good && ::fsync(file) == 0;
  is_good = ::close(file) == 0 && is_good;
  is_good = is_good && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (is_good) return;
  const int reason = errno;
  ::unlink(temporary.c_str());
  errno = reason;
  cannot_write(path);
}

std::string encode_label_map(const cv::Mat& labels, const ClassTable& table) {
  std::vector<png_bytep> rows;
  for (int y = 0; y < labels.rows; ++y) rows.push_back(const_cast<png_bytep>(labels.ptr(y)));
  std::array<png_color, 256> palette{};
  for (std::size_t i = 0; i < palette.size(); ++i) palette[i] = {table.palette[i][0], table.palette[i][1], table.palette[i][2]};
  std::string content;
  if (!write_png(&content, rows.data(), labels.size(), palette.data(), nullptr)) refuse_image("libpng could not encode a label map");
  return content;
}

std::string encode_confidence(const cv::Mat& confidence) {
  cv::Mat grey(confidence.size(), CV_8U);
  for (int y = 0; y < grey.rows; ++y)
    for (int x = 0; x < grey.cols; ++x)
      grey.at<std::uint8_t>(y, x) = static_cast<std::uint8_t>(std::nearbyint(confidence.at<float>(y, x) * 255.0F));
  std::vector<png_bytep> rows;
  for (int y = 0; y < grey.rows; ++y) rows.push_back(grey.ptr(y));
  std::string key = "Description", meaning = kConfidenceMeans, content;
  png_text note{};
  note.compression = PNG_TEXT_COMPRESSION_NONE;
  note.key = key.data();
  note.text = meaning.data();
  note.text_length = meaning.size();
  if (!write_png(&content, rows.data(), grey.size(), nullptr, &note)) refuse_image("libpng could not encode a confidence");
  return content;
}

cv::Mat blended(const cv::Mat& rgb, const cv::Mat& labels, const ClassTable& table) {
  cv::Mat colours(labels.size(), CV_8UC3);
  for (int y = 0; y < labels.rows; ++y)
    for (int x = 0; x < labels.cols; ++x) {
      const Colour& colour = table.palette[labels.at<std::uint8_t>(y, x)];
      colours.at<cv::Vec3b>(y, x) = {colour[0], colour[1], colour[2]};
    }
  cv::Mat result;
  cv::addWeighted(rgb, 1.0 - kOverlayWeight, colours, kOverlayWeight, 0.0, result);
  return result;
}

std::string encode_overlay(const cv::Mat& rgb, const cv::Mat& labels, const ClassTable& table) {
  if (std::max(rgb.rows, rgb.cols) > static_cast<int>(kLongestJpegSide))
    refuse_image("its overlay is a JPEG, which holds at most " + std::to_string(kLongestJpegSide) + " pixels a side; cut the image into parts");
  cv::Mat bgr;
  cv::cvtColor(blended(rgb, labels, table), bgr, cv::COLOR_RGB2BGR);
  std::vector<std::uint8_t> bytes;
  if (!cv::imencode(".jpg", bgr, bytes, {cv::IMWRITE_JPEG_QUALITY, static_cast<int>(kJpegQuality)}))
    refuse_image("OpenCV could not encode an overlay");
  return {bytes.begin(), bytes.end()};
}

}  // namespace paddleseg_ext
