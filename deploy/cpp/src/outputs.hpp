// Files of a run, each written to a temporary name, synced and renamed.
#pragma once

#include <filesystem>
#include <opencv2/core.hpp>
#include <string>

#include "bundle.hpp"

namespace paddleseg_ext {

// Writes a file whole or not at all, and makes its folder.
// Throws Failure: the disk is full, or the folder cannot be written.
void write_file(const std::filesystem::path& path, const std::string& content);

// A palette PNG: the pixel's value is the class, its colour is for people.
std::string encode_label_map(const cv::Mat& labels, const ClassTable& table);

// A grey PNG of (H, W) float32 confidence, 255 for 1, with its meaning as a comment.
std::string encode_confidence(const cv::Mat& confidence);

// (H, W, 3) bytes RGB: the image under its classes' colours.
cv::Mat blended(const cv::Mat& rgb, const cv::Mat& labels, const ClassTable& table);

// The blend as a JPEG. Throws Failure: a side is too long for one.
std::string encode_overlay(const cv::Mat& rgb, const cv::Mat& labels, const ClassTable& table);

}  // namespace paddleseg_ext
