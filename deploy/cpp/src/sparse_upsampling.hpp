// The best class at full size without interpolating everywhere: exact, and several times faster.
//
// Bilinear interpolation is a convex combination of the samples around a pixel, its taps, and so is an
// interpolation of an interpolation. Rows and columns of the picture each have one table of taps. With
// M the largest |sample|, what the dense way computes is off the exact combination by at most
// 11 * 2^-24 * M per resize, and what is computed here by 10 * 2^-24 * M, so that a lead of more than
// DOUBT * M = 2^-17 * M decides (the derivation: paddleseg_ext/inference/sparse_upsampling.py):
// 1. where one class leads by more at every tap of a cell, the whole cell has it;
// 2. elsewhere the classes that may win are interpolated, and whoever leads by more wins;
// 3. what is left, a handful of pixels, takes the dense way's own arithmetic at that pixel.
#pragma once

#include <opencv2/core.hpp>
#include <vector>

#include "postprocess.hpp"

namespace paddleseg_ext {

// The label map that the dense way gives; empty where only the dense way will do.
cv::Mat sparse_best_class(const Output& output, const std::vector<Stage>& stages);

}  // namespace paddleseg_ext
