// JSON text, written value by value.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace paddleseg_ext {

class Json {
 public:
  Json() = default;  // null
  Json(const char* text) : Json(std::string(text)) {}
  Json(const std::string& text);
  Json(bool value) : text_(value ? "true" : "false") {}
  Json(double value);  // null where it is not a number
  template <typename Whole, typename = std::enable_if_t<std::is_integral_v<Whole>>>
  Json(Whole value) : text_(std::to_string(value)) {}
  template <typename Item>
  Json(const std::vector<Item>& items) : text_("[") {
    for (const auto& item : items) text_ += (text_.size() > 1 ? ", " : "") + Json(item).text_;
    text_ += "]";
  }

  // A section, of names and values in order.
  static Json section(const std::vector<std::pair<std::string, Json>>& entries);
  const std::string& text() const { return text_; }

 private:
  std::string text_ = "null";
};

}  // namespace paddleseg_ext
