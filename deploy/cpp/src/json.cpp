#include "json.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "value.hpp"

namespace paddleseg_ext {
namespace {

std::string escaped_byte(unsigned number) {
  char text[8];
  std::snprintf(text, sizeof text, "\\u%04x", number);
  return text;
}

}  // namespace

Json::Json(const std::string& text) : text_("\"") {
  // Names of files may hold bytes that are no UTF-8; Python writes these as halves of letters.
  const bool is_utf8 = bad_letter(text).size() != 4;
  for (const char letter : text) {
    const auto byte = static_cast<unsigned char>(letter);
    if (letter == '"' || letter == '\\') text_ += std::string("\\") + letter;
    else if (byte < 0x20 || byte == 0x7f) text_ += escaped_byte(byte);
    else if (byte >= 0x80 && !is_utf8) text_ += escaped_byte(0xdc00U + byte);
    else text_ += letter;
  }
  text_ += "\"";
}

Json::Json(double value) {
  if (!std::isfinite(value)) return;
  char digits[40];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  text_.assign(digits, end);
  if (text_.find_first_of(".e") == std::string::npos) text_ += ".0";
}

Json Json::section(const std::vector<std::pair<std::string, Json>>& entries) {
  Json json;
  json.text_ = "{";
  for (const auto& [name, value] : entries) json.text_ += (json.text_.size() > 1 ? ", " : "") + Json(name).text_ + ": " + value.text_;
  json.text_ += "}";
  return json;
}

}  // namespace paddleseg_ext
