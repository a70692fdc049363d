// Image and label files as arrays, by the reading rule of the Python package (docs/data.md).
//
// PNG, JPEG, WebP, BMP and Netpbm are read here as there. TIFF is read where it has 8 bits, one or
// three samples and no orientation; other TIFFs are refused with a line.
#pragma once

#include <opencv2/core.hpp>
#include <string>

#include "bundle.hpp"

namespace paddleseg_ext {

// (H, W, 3) bytes, RGB. `orientation`: `stored`, or `upright` which applies the camera's tag.
// Throws Failure (of an image): missing, truncated, damaged, or of a kind that is not read.
cv::Mat read_image(const std::string& path, const std::string& orientation);
cv::Mat decode_image(const std::string& content, const std::string& name, const std::string& orientation);

// (H, W) bytes of classes or ignored values, of a PNG or Netpbm label.
// Throws Failure (of an image): lossy, colours without a class, values without a class.
cv::Mat read_label(const std::string& path, const ClassTable& table);

}  // namespace paddleseg_ext
