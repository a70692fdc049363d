#include "value.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "bundle_keys.hpp"
#include "failure.hpp"

namespace paddleseg_ext {
namespace {

const std::string kTag = "tag:yaml.org,2002:";
constexpr int kOctal = 8, kHexadecimal = 16, kBinary = 2, kDecimal = 10;

[[noreturn]] void refuse_at(const YAML::Mark& mark, const std::string& problem) {
  throw YAML::ParserException(mark, problem);
}

std::string without_underscores(const std::string& text) {
  std::string result = text;
  result.erase(std::remove(result.begin(), result.end(), '_'), result.end());
  return result;
}

bool matches(const std::string& text, const char* pattern) {
  return std::regex_match(text, std::regex(pattern, std::regex::optimize));
}

// Whole numbers of YAML 1.1. Beyond 64 bits the nearest that fits: no key has so large a value.
bool read_whole(const std::string& text, Value* value) {
  static const std::regex form(
      "[-+]?(0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*(:[0-5]?[0-9])+)");
  if (!std::regex_match(text, form)) return false;
  std::string digits = without_underscores(text);
  const bool is_negative = digits[0] == '-';
  if (is_negative || digits[0] == '+') digits.erase(0, 1);
  int base = kDecimal;
  if (digits.size() > 2 && (digits[1] == 'x' || digits[1] == 'b')) {
    base = digits[1] == 'x' ? kHexadecimal : kBinary;
    digits.erase(0, 2);
  } else if (digits.size() > 1 && digits[0] == '0') {
    base = kOctal;
  }
  std::int64_t total = 0;
  std::stringstream parts(digits);
  for (std::string part; std::getline(parts, part, ':');) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number, base);
    if (error != std::errc() || __builtin_mul_overflow(total, 60, &total) ||
        __builtin_add_overflow(total, number, &total)) {
      total = INT64_MAX;
      break;
    }
  }
  value->kind = Value::Kind::whole;
  value->whole = is_negative ? -total : total;
  value->real = static_cast<double>(value->whole);
  return true;
}

bool read_real(const std::string& text, Value* value) {
  static const std::regex form(
      "[-+]?([0-9][0-9_]*\\.[0-9_]*([eE][-+][0-9]+)?|\\.[0-9][0-9_]*([eE][-+][0-9]+)?|"
      "[0-9]+(\\.[0-9]*)?[eE][-+]?[0-9]+)");
  static const std::regex infinite("[-+]?\\.(inf|Inf|INF)");
  if (matches(text, "\\.(nan|NaN|NAN)")) {
    value->real = std::nan("");
  } else if (std::regex_match(text, infinite)) {
    value->real = text[0] == '-' ? -HUGE_VAL : HUGE_VAL;
  } else if (std::regex_match(text, form)) {
    value->real = std::strtod(without_underscores(text).c_str(), nullptr);
  } else {
    return false;
  }
  value->kind = Value::Kind::real;
  return true;
}

bool read_flag(const std::string& text, Value* value) {
  static const std::regex truth("yes|Yes|YES|true|True|TRUE|on|On|ON");
  static const std::regex lie("no|No|NO|false|False|FALSE|off|Off|OFF");
  const bool is_true = std::regex_match(text, truth);
  if (!is_true && !std::regex_match(text, lie)) return false;
  value->kind = Value::Kind::flag;
  value->flag = is_true;
  return true;
}

// What a scalar without a tag is, by YAML 1.1's rules, which Python's reader has.
void resolve(const std::string& text, Value* value) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") {
    value->kind = Value::Kind::null;
  } else if (text.size() > kLongestNumber || (!read_flag(text, value) && !read_whole(text, value) &&
                                              !read_real(text, value))) {
    value->kind = Value::Kind::text;
  }
}

// Builds values from events, and stops where the text is larger than any bundle's.
class Builder : public YAML::EventHandler {
 public:
  ValuePtr root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { OnScalar(mark, "?", anchor, ""); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    count(mark);
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) refuse_at(mark, "an alias inside the value that it refers to");
    add(mark, found->second);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    count(mark);
    if (const std::string letter = bad_letter(text, "\n\t"); !letter.empty())
      refuse_at(mark, "the letter " + letter + ", which no text holds");
    auto value = std::make_shared<Value>();
    value->text = text;
    value->letters = 1 + text.size();
    const std::string kind = tag.rfind(kTag, 0) == 0 ? tag.substr(kTag.size()) : tag;
    if (kind == "?") {
      resolve(text, value.get());
    } else if (kind == "!" || kind == "str") {
      value->kind = Value::Kind::text;
    } else {
      const bool is_short = text.size() <= kLongestNumber;
      const bool fits = is_short && ((kind == "int" && read_whole(text, value.get())) ||
                        (kind == "bool" && read_flag(text, value.get())) || (kind == "null" && text.empty()) ||
                        (kind == "float" && (read_real(text, value.get()) || read_whole(text, value.get()))));
      if (!fits) refuse_at(mark, "the tag " + shown(tag) + ", which is not read");
      if (kind == "float") value->kind = Value::Kind::real;
    }
    finish(mark, anchor, value);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, "seq", anchor, Value::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, "map", anchor, Value::Kind::section);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    std::shared_ptr<Value> value;
    YAML::anchor_t anchor;
    YAML::Mark mark;
    bool has_key = false;
    std::string key;
    std::set<std::string> keys;
  };

  void count(const YAML::Mark& mark) {
    if (open_.size() >= kDeepest) refuse_at(mark, "nested deeper than " + std::to_string(kDeepest) + " levels");
    if (++values_ > kMostValues) refuse_at(mark, "more than " + std::to_string(kMostValues) + " values");
  }

  void open(const YAML::Mark& mark, const std::string& tag, const std::string& kind, YAML::anchor_t anchor,
            Value::Kind as) {
    count(mark);
    if (tag != "?" && tag != "!" && !tag.empty() && tag != kTag + kind)
      refuse_at(mark, "the tag " + shown(tag) + ", which is not read");
    auto value = std::make_shared<Value>();
    value->kind = as;
    open_.push_back({value, anchor, mark, false, "", {}});
  }

  void close() {
    const Open done = open_.back();
    open_.pop_back();
    finish(done.mark, done.anchor, done.value);
  }

  void finish(const YAML::Mark& mark, YAML::anchor_t anchor, const ValuePtr& value) {
    if (value->letters > kMostLetters)
      refuse_at(mark, "more than " + std::to_string(kMostLetters) + " letters, its aliases written out");
    if (anchor != 0) anchors_[anchor] = value;
    add(mark, value);
  }

  void add(const YAML::Mark& mark, const ValuePtr& value) {
    if (open_.empty()) {
      root = value;
      return;
    }
    Open& into = open_.back();
    into.value->letters += value->letters;
    if (into.value->kind == Value::Kind::list) {
      into.value->items.push_back(value);
    } else if (!into.has_key) {
      take_key(mark, *value, &into);
    } else {
      into.value->entries.emplace_back(into.key, value);
      into.has_key = false;
    }
  }

  static void take_key(const YAML::Mark& mark, const Value& value, Open* into) {
    if (value.kind == Value::Kind::list || value.kind == Value::Kind::section)
      refuse_at(mark, "a key that is no word");
    if (value.text == "<<") refuse_at(mark, "a merge (<<), which is not read; write the keys out");
    if (!into->keys.insert(value.text).second) refuse_at(mark, "the key " + shown(value.text) + " appears twice");
    into->key = value.text;
    into->has_key = true;
  }

  std::vector<Open> open_;
  std::map<YAML::anchor_t, ValuePtr> anchors_;
  std::size_t values_ = 0;
};

// Length of the letter at `place` in UTF-8 and its number; length 0 where it is none.
std::pair<std::size_t, std::uint32_t> letter_at(const std::string& text, std::size_t place) {
  const auto first = static_cast<unsigned char>(text[place]);
  const std::size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length == 0 || place + length > text.size()) return {0, first};
  std::uint32_t number = length == 1 ? first : first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[place + i]);
    if ((next & 0xc0U) != 0x80U) return {0, first};
    number = number << 6U | (next & 0x3fU);
  }
  const bool is_long = (length == 3 && number < 0x800) || (length == 4 && number < 0x10000);
  const bool is_half = number >= 0xd800 && number < 0xe000;
  return is_long || is_half || number > 0x10ffff ? std::make_pair(std::size_t{0}, std::uint32_t{first})
                                                 : std::make_pair(length, number);
}

}  // namespace

const Value* Value::find(const std::string& key) const {
  for (const auto& [name, value] : entries)
    if (name == key) return value.get();
  return nullptr;
}

std::string Value::described() const {
  switch (kind) {
    case Kind::null: return "nothing";
    case Kind::list: return "a list of " + std::to_string(items.size());
    case Kind::section: return "a section";
    case Kind::text: return shown(text);
    default: return shown(text).substr(1, shown(text).size() - 2);
  }
}

std::string bad_letter(const std::string& text, const std::string& allowed) {
  for (std::size_t place = 0; place < text.size();) {
    const auto [length, number] = letter_at(text, place);
    const bool is_control = number < 0x20 || (number >= 0x7f && number < 0xa0) || number == 0x2028 || number == 0x2029;
    const bool is_allowed = length == 1 && allowed.find(text[place]) != std::string::npos;
    if (length == 0 || (is_control && !is_allowed)) {
      char escaped[16];
      std::snprintf(escaped, sizeof escaped, number > 0xff ? "\\u%04x" : "\\x%02x", number);
      return escaped;
    }
    place += length;
  }
  return "";
}

std::string read_file(const std::string& path) {
  // Not blocking: a pipe would be waited for without end.
  const int file = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) refuse_image(path + ": cannot be read: " + std::strerror(errno));
  struct stat status {};
  std::string content;
  std::string problem;
  if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    problem = S_ISDIR(status.st_mode) ? "a regular file is expected, this is a folder" : "a regular file is expected";
  } else {
    try {
      content.resize(static_cast<std::size_t>(status.st_size));
    } catch (const std::bad_alloc&) {
      problem = "larger than the memory that is left";
    }
    std::size_t done = 0;
    while (problem.empty() && done < content.size()) {
      const ssize_t got = ::read(file, content.data() + done, content.size() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) problem = std::string("cannot be read: ") + std::strerror(errno);
      if (got <= 0) break;
      done += static_cast<std::size_t>(got);
    }
    content.resize(done);
    if (problem.empty() && content.empty()) problem = "the file is empty (0 bytes)";
  }
  ::close(file);
  if (!problem.empty()) refuse_image(path + ": " + problem);
  return content;
}

ValuePtr parse_yaml(const std::string& text, const std::string& source) {
  if (const std::string letter = bad_letter(text, "\n\t\r"); !letter.empty() && letter.size() < 5)
    refuse(source + ": a text in UTF-8 is expected, it holds " + letter);
  Builder builder;
  std::istringstream stream(text);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder) || !builder.root) refuse(source + ": it is empty");
    const ValuePtr first = builder.root;
    if (parser.HandleNextDocument(builder)) refuse(source + ": one document is expected, it holds several");
    return first;
  } catch (const YAML::Exception& error) {
    refuse(source + ", line " + std::to_string(error.mark.line + 1) + ": " + error.msg.substr(0, 300));
  }
}

ValuePtr read_yaml(const std::string& path, const std::string& expected) {
  std::string text;
  try {
    text = read_file(path);
  } catch (const Failure& error) {
    refuse(error.what());
  }
  if (text.size() > kMostYamlBytes)
    refuse(path + ": " + expected + " is expected, of at most " + std::to_string(kMostYamlBytes) + " bytes");
  if (text.find('\0') != std::string::npos)
    refuse(path + ": " + expected + " is expected, this is no text");
  ValuePtr value = parse_yaml(text, path);
  if (value->kind != Value::Kind::section) refuse(path + ": " + expected + " is expected");
  return value;
}

}  // namespace paddleseg_ext
