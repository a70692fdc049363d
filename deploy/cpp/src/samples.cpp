#include "samples.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "failure.hpp"
#include "value.hpp"

namespace paddleseg_ext {
namespace {

namespace fs = std::filesystem;

std::string lowered(std::string text) {
  for (char& letter : text) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return text;
}

bool is_image_name(const fs::path& path) {
  const std::string suffix = lowered(path.extension().string());
  return std::find(kImageSuffixes.begin(), kImageSuffixes.end(), suffix) != kImageSuffixes.end();
}

std::string without_suffix(const fs::path& path) { return (path.parent_path() / path.stem()).generic_string(); }

// A repeated name gets the next number with which no other has its name.
void number_names(std::vector<std::string>* names) {
  std::set<std::string> taken;
  for (const std::string& name : *names) taken.insert(lowered(name));
  std::map<std::string, int> last;
  for (std::string& name : *names) {
    const std::string folded = lowered(name);
    if (++last[folded] == 1) continue;
    std::string numbered = name + "_" + std::to_string(last[folded]);
    while (taken.count(lowered(numbered)) > 0) numbered = name + "_" + std::to_string(++last[folded]);
    taken.insert(lowered(numbered));
    name = numbered;
  }
}

// One relative name per image, unique also on disks that ignore case.
std::vector<std::string> unique_names(const std::vector<fs::path>& images) {
  std::vector<fs::path> absolute;
  for (const fs::path& image : images) absolute.push_back(fs::absolute(image).lexically_normal());
  fs::path root = absolute.front().parent_path();
  for (const fs::path& image : absolute) {
    fs::path shared;
    const fs::path folder = image.parent_path();
    for (auto one = root.begin(), other = folder.begin(); one != root.end() && other != folder.end() && *one == *other; ++one, ++other)
      shared /= *one;
    root = shared;
  }
  std::vector<fs::path> relative;
  std::map<std::string, int> counts;
  for (const fs::path& image : absolute) {
    relative.push_back(image.lexically_relative(root));
    ++counts[lowered(without_suffix(relative.back()))];
  }
  std::vector<std::string> names;
  for (const fs::path& path : relative) {
    const std::string name = without_suffix(path);
    names.push_back(counts[lowered(name)] > 1 ? path.generic_string() : name);  // a.jpg beside a.png
  }
  number_names(&names);
  return names;
}

std::vector<Sample> folder_samples(const fs::path& folder, const Warn& warn) {
  std::vector<fs::path> images;
  std::size_t others = 0;
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied, error);
       entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (is_image_name(entry->path()) && entry->is_regular_file(ignored)) images.push_back(entry->path());
    else if (!entry->is_directory(ignored) && entry->path().filename().string()[0] != '.') ++others;
  }
  if (images.empty())
    refuse("folder '" + folder.string() + "' holds no image; suffixes known: " + joined(kImageSuffixes, ", "));
  if (others > 0) warn(folder.string() + ": " + std::to_string(others) + " other files left out");
  std::sort(images.begin(), images.end(), [](const fs::path& one, const fs::path& other) {
    return std::lexicographical_compare(one.begin(), one.end(), other.begin(), other.end());
  });
  const std::vector<std::string> names = unique_names(images);
  std::vector<Sample> samples;
  for (std::size_t i = 0; i < images.size(); ++i) samples.push_back({images[i], {}, names[i]});
  return samples;
}

void append_letter(std::uint32_t number, std::string* text) {
  const auto add = [&](std::uint32_t byte) { *text += static_cast<char>(byte); };
  if (number < 0x80) return add(number);
  if (number < 0x800) return add(0xc0U | number >> 6U), add(0x80U | (number & 0x3fU));
  if (number >= 0x10000) {
    add(0xf0U | number >> 18U);
    add(0x80U | (number >> 12U & 0x3fU));
  } else {
    add(0xe0U | number >> 12U);
  }
  add(0x80U | (number >> 6U & 0x3fU));
  add(0x80U | (number & 0x3fU));
}

// A list in UTF-16 or UTF-32 with a byte order mark as UTF-8; PowerShell's `>` writes UTF-16.
std::string as_utf8(const std::string& content) {
  if (content.compare(0, 3, "\xef\xbb\xbf") == 0) return content.substr(3);
  const bool is_little = content.compare(0, 2, "\xff\xfe") == 0;
  const bool is_wide = content.compare(0, 4, std::string("\xff\xfe\0\0", 4)) == 0 || content.compare(0, 4, std::string("\0\0\xfe\xff", 4)) == 0;
  if (!is_little && !is_wide && content.compare(0, 2, "\xfe\xff") != 0) return content;
  const std::size_t bytes = is_wide ? 4 : 2;
  std::string text;
  std::uint32_t high = 0;
  for (std::size_t place = bytes; place + bytes <= content.size(); place += bytes) {
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      number = number << 8U | static_cast<unsigned char>(content[place + (is_little ? bytes - 1 - i : i)]);
    if (number >= 0xd800 && number < 0xdc00) {
      high = number;
      continue;
    }
    if (high != 0) number = 0x10000U + ((high - 0xd800U) << 10U) + (number - 0xdc00U);
    high = 0;
    append_letter(number, &text);
  }
  return text;
}

std::vector<std::string> fields_of(const std::string& line) {
  const char separator = line.find('\t') != std::string::npos ? '\t' : line.find(',') != std::string::npos ? ',' : ' ';
  std::vector<std::string> fields(1);
  for (const char letter : line) {
    if (letter == separator) fields.emplace_back();
    else fields.back() += letter;
  }
  std::vector<std::string> kept;
  for (const std::string& field : fields) {
    const std::size_t first = field.find_first_not_of(" \t");
    if (first != std::string::npos) kept.push_back(field.substr(first, field.find_last_not_of(" \t") - first + 1));
  }
  return kept;
}

// In the list's folder or the working directory, whichever has the file; `/` in place of `\` where
// only that is there.
fs::path resolved(const std::string& name, const fs::path& folder) {
  std::string other = name;
  std::replace(other.begin(), other.end(), '\\', '/');
  std::error_code error;
  for (const std::string& spelt : {name, other})
    for (const fs::path& root : {folder, fs::path()})
      if (fs::exists(root / spelt, error)) return root / spelt;
  return folder / name;
}

std::vector<Sample> list_samples(const fs::path& path) {
  std::string content;
  try {
    content = as_utf8(read_file(path.string()));
  } catch (const Failure& error) {
    refuse(std::string("image list ") + error.what());
  }
  const std::string where = "image list '" + path.string() + "'";
  std::vector<Sample> samples;
  std::vector<fs::path> images;
  std::size_t number = 0;
  for (std::size_t start = 0; start <= content.size(); ++number) {
    std::size_t end = content.find_first_of("\r\n", start);
    end = end == std::string::npos ? content.size() : end;
    const std::string line = content.substr(start, end - start);
    start = end + (content.compare(end, 2, "\r\n") == 0 ? 2 : 1);
    if (line.find('\0') != std::string::npos)
      refuse(where + ", line " + std::to_string(number + 1) + ": a NUL byte; a text in UTF-8 is expected");
    const std::vector<std::string> fields = fields_of(line);
    if (fields.size() > 2)
      refuse(where + ", line " + std::to_string(number + 1) + ": expected 'image label', got " +
             std::to_string(fields.size()) + " names (where names hold spaces or commas, a tab follows each)");
    if (fields.empty()) continue;
    images.push_back(resolved(fields[0], path.parent_path()));
    samples.push_back({images.back(), fields.size() == 2 ? resolved(fields[1], path.parent_path()) : fs::path(), ""});
  }
  if (samples.empty()) refuse(where + " names no image");
  const std::vector<std::string> names = unique_names(images);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].name = names[i];
  return samples;
}

}  // namespace

std::vector<Sample> collect_samples(const std::string& path, const Warn& warn) {
  std::error_code error;
  if (fs::is_directory(path, error)) return folder_samples(path, warn);
  if (!fs::exists(path, error)) refuse("--image_path: '" + path + "' does not exist");
  if (is_image_name(path)) return {{path, {}, fs::path(path).stem().string()}};
  return list_samples(path);
}

}  // namespace paddleseg_ext
