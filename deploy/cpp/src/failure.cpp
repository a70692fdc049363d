#include "failure.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace paddleseg_ext {
namespace {

constexpr std::size_t kLongest = 200;  // letters of a value that a message quotes

std::string lowered(const std::string& text) {
  std::string result = text;
  for (char& letter : result) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return result;
}

// How many letters must be changed, added or removed.
std::size_t distance(const std::string& one, const std::string& other) {
  std::vector<std::size_t> row(other.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= one.size(); ++i) {
    std::size_t corner = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= other.size(); ++j) {
      const std::size_t changed = corner + (one[i - 1] == other[j - 1] ? 0 : 1);
      corner = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row.back();
}

}  // namespace

void refuse(const std::string& message) { throw Failure(message, kUsage); }

void refuse_image(const std::string& message) { throw Failure(message, kFailed); }

std::string shown(const std::string& text) {
  std::string cut = text;
  if (text.size() > kLongest) cut = text.substr(0, kLongest / 2) + "..." + text.substr(text.size() - kLongest / 2);
  std::string result = "'";
  for (char letter : cut) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte >= 0x20 && byte != 0x7f) {
      result += letter;
      continue;
    }
    char escaped[8];
    std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
    result += escaped;
  }
  return result + "'";
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& known) {
  const std::string folded = lowered(name.substr(0, kLongest));
  std::string best;
  std::size_t least = folded.size() / 3 + 2;
  for (const std::string& each : known) {
    const std::size_t steps = distance(folded, lowered(each));
    if (steps < least && steps < each.size()) {
      least = steps;
      best = each;
    }
  }
  return best.empty() ? " (known: " + joined(known, ", ") + ")" : " (did you mean '" + best + "'?)";
}

std::string joined(const std::vector<std::string>& words, const std::string& separator) {
  std::string result;
  for (const std::string& word : words) result += (result.empty() ? "" : separator) + word;
  return result;
}

}  // namespace paddleseg_ext
