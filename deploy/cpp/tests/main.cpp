#include <cstdlib>
#include <fstream>

#include "check.hpp"

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "segmenter-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  path = name;
}

void write(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

int main(int count, char** words) {
  const std::string part = count > 1 ? words[1] : "";
  if (part == "bundles" || part.empty()) test_bundles();
  if (part == "images" || part.empty()) test_images();
  if (part == "arithmetic" || part.empty()) test_arithmetic();
  if (part == "runs" || part.empty()) test_runs();
  std::cerr << failures << " checks failed\n";
  return failures == 0 ? 0 : 1;
}
