// A check that counts, and what several tests make.
#pragma once

#include <filesystem>
#include <functional>
#include <iostream>
#include <string>

#include "failure.hpp"

inline int failures = 0;

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      ++failures;                                                                     \
      std::cerr << __FILE__ << ":" << __LINE__ << ": " << #condition << "\n";         \
    }                                                                                 \
  } while (false)

// The message that `work` is refused with; empty where it is not refused.
inline std::string refusal(const std::function<void()>& work) {
  try {
    work();
    return "";
  } catch (const paddleseg_ext::Failure& error) {
    return error.what();
  }
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// An empty folder that goes with the object.
class Folder {
 public:
  Folder();
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path path;
};

void write(const std::filesystem::path& path, const std::string& content);

void test_bundles();
void test_images();
void test_arithmetic();
void test_runs();
