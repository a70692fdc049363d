// Checks of the parts of JPEG, PNG and Netpbm files, before a decoder reads them.
#pragma once

#include <cstdint>
#include <opencv2/core.hpp>
#include <string>
#include <vector>

namespace paddleseg_ext {

enum class Format { png, jpeg, bmp, tiff, webp, netpbm, none };

// By how a file begins.
Format format_of(const std::string& content);

struct Header {
  Format format = Format::none;
  int width = 0, height = 0, bits = 8;
  int colours = 0;      // of a PNG: its colour type
  int orientation = 1;  // of the camera's tag, 1 (upright) to 8
};

// The header of a whole file. A PNG's `content` becomes the chunks that pixels are decoded from.
// Throws Failure (of an image): truncated, damaged, an animation, or too large.
Header check_structure(std::string* content, const std::string& name);

struct Netpbm {
  int kind = 0, width = 0, height = 0, maxval = 1;
  std::size_t start = 0;

  int channels() const { return kind == 3 || kind == 6 ? 3 : 1; }
};

Netpbm netpbm_header(const std::string& content, const std::string& name);
// The values as stored, (H, W) or (H, W, 3), 8 or 16 bits; of a bitmap, white is 1.
cv::Mat netpbm_values(const std::string& content, const Netpbm& header, const std::string& name);

}  // namespace paddleseg_ext
