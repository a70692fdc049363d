// The images of a run: one, a folder with those below, or a list with 'image' or 'image label' lines.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace paddleseg_ext {

struct Sample {
  std::filesystem::path image, label;  // `label` is empty where there is none
  std::string name;                    // unique in the run; names the files written for the image
};

// Throws Failure: it does not exist, holds no image, or is no list.
std::vector<Sample> collect_samples(const std::string& path, const Warn& warn);

}  // namespace paddleseg_ext
