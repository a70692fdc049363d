// A yml as plain values. Nothing is executed, and the cost is bounded whatever the text holds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace paddleseg_ext {

struct Value;
using ValuePtr = std::shared_ptr<const Value>;

struct Value {
  enum class Kind { null, flag, whole, real, text, list, section };

  Kind kind = Kind::null;
  bool flag = false;
  std::int64_t whole = 0;
  double real = 0.0;  // also of a whole number
  std::string text;   // as written, of every scalar
  std::vector<ValuePtr> items;
  std::vector<std::pair<std::string, ValuePtr>> entries;
  std::size_t letters = 1;  // with every alias written out

  // The entry of a section; null where there is none.
  const Value* find(const std::string& key) const;
  bool is_number() const { return kind == Kind::whole || kind == Kind::real; }
  // For messages: "'abc'", "a list", "a section".
  std::string described() const;
};

// The content of a yml file, a section.
// Throws Failure with the line at fault: no such file, no yml, repeated keys, or too large.
ValuePtr read_yaml(const std::string& path, const std::string& expected);
ValuePtr parse_yaml(const std::string& text, const std::string& source);

// The first letter that no shown text may hold, escaped: control characters, line separators, bytes
// that are no UTF-8. Empty where there is none.
std::string bad_letter(const std::string& text, const std::string& allowed = "");

// The whole content of a regular file. Throws Failure (of an image) where it cannot be read.
std::string read_file(const std::string& path);

}  // namespace paddleseg_ext
