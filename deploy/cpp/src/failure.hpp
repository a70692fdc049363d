// The two ways work ends badly, as in the Python package: wrong use, and one bad image of many.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace paddleseg_ext {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;

// One line for the user: what is expected, what came, what to do.
class Failure : public std::runtime_error {
 public:
  Failure(const std::string& message, int status) : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

// Throws: wrong flags or a wrong bundle.
[[noreturn]] void refuse(const std::string& message);
// Throws: one image or label cannot be used; others can.
[[noreturn]] void refuse_image(const std::string& message);

// The text in quotes, its middle left out where it is long, control characters escaped.
std::string shown(const std::string& text);
// " (did you mean 'x'?)", or the known names where nothing is close.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known);
std::string joined(const std::vector<std::string>& words, const std::string& separator);

}  // namespace paddleseg_ext
