#include "image_structure.hpp"

#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "failure.hpp"

namespace paddleseg_ext {
namespace {

const std::string kPng("\x89PNG\r\n\x1a\n", 8);
constexpr std::size_t kMostScans = 64, kMostSegments = 4096, kMostPadding = 64 * 1024;
constexpr std::size_t kMostChunks = 4096, kChunkBytes = 1024, kChunkFrame = 12, kHeaderBytes = 13;
constexpr std::size_t kInflateStep = 1 << 20;
constexpr std::int64_t kMostPixels = 1 << 30;
constexpr std::size_t kNetpbmHeader = 1 << 16;
constexpr int kOrientationTag = 0x0112;

std::uint32_t big(const std::string& text, std::size_t place, int bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8U | static_cast<unsigned char>(text.at(place + static_cast<std::size_t>(i)));
  return value;
}

std::uint32_t little(const std::string& text, std::size_t place, int bytes) {
  std::uint32_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) value = value << 8U | static_cast<unsigned char>(text.at(place + static_cast<std::size_t>(i)));
  return value;
}

// The orientation in a block of EXIF data, a small TIFF; 1 where there is none.
int orientation_in(std::string exif) {
  const std::string mark("Exif\0\0", 6);
  if (exif.compare(0, mark.size(), mark) == 0) exif.erase(0, mark.size());
  if (exif.size() < 8) return 1;
  const bool is_little = exif.compare(0, 2, "II") == 0;
  const auto number = [&](std::size_t place, int bytes) -> std::uint32_t {
    if (place + static_cast<std::size_t>(bytes) > exif.size()) return 0;
    return is_little ? little(exif, place, bytes) : big(exif, place, bytes);
  };
  const std::size_t start = number(4, 4);
  const std::size_t count = number(start, 2);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = start + 2 + 12 * i;
    if (entry + 12 > exif.size()) break;
    if (number(entry, 2) != kOrientationTag) continue;
    const std::uint32_t kind = number(entry + 2, 2);
    const std::uint32_t value = kind == 4 ? number(entry + 8, 4) : kind == 3 ? number(entry + 8, 2) : 0;
    if (number(entry + 4, 4) == 1 && value >= 1 && value <= 8) return static_cast<int>(value);
  }
  return 1;
}

// A JPEG from marker to marker; data that phones append after the image's end is not read.
Header check_jpeg(const std::string& content, const std::string& name) {
  Header header;
  header.format = Format::jpeg;
  std::size_t scans = 0, padding = 0, place = 2, behind = 2;
  for (std::size_t segment = 0; segment < kMostSegments; ++segment) {
    std::size_t found = place;
    const auto is_marker = [&](std::size_t at) {
      const auto kind = static_cast<unsigned char>(content[at + 1]);
      return static_cast<unsigned char>(content[at]) == 0xff && kind != 0x00 && kind != 0xff && (kind < 0xd0 || kind > 0xd7);
    };
    while (found + 1 < content.size() && !is_marker(found)) ++found;
    if (found + 1 >= content.size()) refuse_image(name + ": the JPEG is truncated");
    const auto kind = static_cast<unsigned char>(content[found + 1]);
    place = found + 2;
    const bool has_length = kind >= 0xc0 && kind != 0xd8 && kind != 0xd9;
    if (has_length && place + 2 <= content.size()) {
      const std::size_t length = std::max<std::size_t>(2, big(content, place, 2));
      const bool is_frame = kind >= 0xc0 && kind <= 0xcf && kind != 0xc4 && kind != 0xc8 && kind != 0xcc;
      if (is_frame && header.width == 0 && place + 7 <= content.size()) {
        header.height = static_cast<int>(big(content, place + 3, 2));
        header.width = static_cast<int>(big(content, place + 5, 2));
      }
      const bool is_exif = kind == 0xe1 && content.compare(place + 2, 4, "Exif") == 0;
      if (is_exif && header.orientation == 1) header.orientation = orientation_in(content.substr(place + 2, length - 2));
      place += length;
    }
    if (scans == 0) padding += found - behind;
    behind = place;
    if (padding > kMostPadding) refuse_image(name + ": a JPEG is expected, this one is mostly padding");
    if (kind == 0xda && ++scans > kMostScans)
      refuse_image(name + ": a JPEG of at most " + std::to_string(kMostScans) + " scans is expected");
    if (kind != 0xd9) continue;
    if (scans == 0) refuse_image(name + ": the JPEG is truncated: it ends before its pixels");
    return header;
  }
  refuse_image(name + ": a JPEG of at most " + std::to_string(kMostSegments) + " segments is expected");
}

// Refuses a PNG whose pixel data continues after its last row: decoders unpack all of it.
void require_bounded(const std::string& content, const Header& header, const std::string& name) {
  const std::size_t samples = header.colours == 2 ? 3 : header.colours == 4 ? 2 : header.colours == 6 ? 4 : 1;
  const std::size_t row = (static_cast<std::size_t>(header.width) * static_cast<std::size_t>(header.bits) * samples + 7) / 8;
  const std::size_t most = static_cast<std::size_t>(header.height) * (row + 4) + kInflateStep;
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return;
  std::vector<unsigned char> out(1 << 16);
  std::size_t unpacked = 0;
  int status = Z_OK;
  for (std::size_t place = kPng.size(); place + kChunkFrame <= content.size() && status == Z_OK;) {
    const std::size_t length = big(content, place, 4);
    if (content.compare(place + 4, 4, "IDAT") == 0) {
      stream.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(content.data())) + place + 8;
      stream.avail_in = static_cast<unsigned>(length);
      while (status == Z_OK && (stream.avail_in > 0 || stream.avail_out == 0) && unpacked <= most) {
        stream.next_out = out.data();
        stream.avail_out = static_cast<unsigned>(out.size());
        status = inflate(&stream, Z_NO_FLUSH);
        unpacked += out.size() - stream.avail_out;
      }
    }
    place += kChunkFrame + length;
  }
  inflateEnd(&stream);
  if (unpacked > most) refuse_image(name + ": the PNG holds more data than its pixels need");
}

// The chunks that pixels are decoded from, after a check of each one's checksum.
Header check_png(std::string* content, const std::string& name) {
  Header header;
  header.format = Format::png;
  std::string kept = kPng;
  std::size_t place = kPng.size();
  const std::size_t most = kMostChunks + content->size() / kChunkBytes;
  for (std::size_t number = 0; number < most; ++number) {
    if (place + kChunkFrame > content->size()) refuse_image(name + ": the PNG is truncated");
    const std::size_t length = big(*content, place, 4);
    const std::string kind = content->substr(place + 4, 4);
    if (place + kChunkFrame + length > content->size()) refuse_image(name + ": the PNG is truncated");
    if ((kind == "IHDR") != (number == 0) || (number == 0 && length != kHeaderBytes))
      refuse_image(name + ": the PNG is damaged: one header is expected, at the start");
    const bool is_word = std::all_of(kind.begin(), kind.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
    if (std::isupper(static_cast<unsigned char>(kind[0])) != 0 || !is_word || kind == "tRNS" || kind == "eXIf") {
      const auto* data = reinterpret_cast<const unsigned char*>(content->data()) + place + 4;
      if (crc32(0, data, static_cast<unsigned>(length + 4)) != big(*content, place + 8 + length, 4))
        refuse_image(name + ": the PNG is damaged: a checksum does not fit");
      if (kind != "eXIf") kept += content->substr(place, kChunkFrame + length);
      else if (header.orientation == 1) header.orientation = orientation_in(content->substr(place + 8, length));
    } else if (kind == "acTL" && length >= 4 && big(*content, place + 8, 4) > 1) {
      refuse_image(name + ": one still picture is expected, this is an animation");
    }
    place += kChunkFrame + length;
    if (kind != "IEND") continue;
    header.width = static_cast<int>(big(kept, 16, 4) & 0x7fffffffU);
    header.height = static_cast<int>(big(kept, 20, 4) & 0x7fffffffU);
    header.bits = static_cast<unsigned char>(kept[24]);
    header.colours = static_cast<unsigned char>(kept[25]);
    *content = kept;
    return header;
  }
  refuse_image(name + ": a PNG of at most " + std::to_string(most) + " chunks is expected");
}

Header check_webp(const std::string& content, const std::string& name) {
  Header header;
  header.format = Format::webp;
  for (std::size_t place = 12; place + 8 <= content.size();) {
    const std::string kind = content.substr(place, 4);
    const std::size_t length = little(content, place + 4, 4);
    if (place + 8 + length > content.size()) refuse_image(name + ": the WebP is truncated");
    if (kind == "ANIM" || kind == "ANMF") refuse_image(name + ": one still picture is expected, this is an animation");
    if (kind == "EXIF") header.orientation = orientation_in(content.substr(place + 8, length));
    place += 8 + length + length % 2;
  }
  return header;
}

// The tags of a TIFF's first image that decide whether OpenCV reads its samples as they are.
Header check_tiff(const std::string& content, const std::string& name) {
  Header header;
  header.format = Format::tiff;
  const bool is_little = content.compare(0, 2, "II") == 0;
  const auto number = [&](std::size_t place, int bytes) -> std::uint32_t {
    if (place + static_cast<std::size_t>(bytes) > content.size())
      refuse_image(name + ": cannot be decoded: the TIFF is damaged or truncated");
    return is_little ? little(content, place, bytes) : big(content, place, bytes);
  };
  const std::size_t start = number(4, 4);
  const std::size_t count = number(start, 2);
  bool is_plain = number(2, 2) == 42;
  for (std::size_t i = 0; is_plain && i < count; ++i) {
    const std::size_t entry = start + 2 + 12 * i;
    const std::uint32_t tag = number(entry, 2), kind = number(entry + 2, 2), length = number(entry + 4, 4);
    const int bytes = kind == 3 ? 2 : 4;
    const bool is_inside = length * static_cast<std::uint32_t>(bytes) <= 4;
    const std::uint32_t value = number(is_inside ? entry + 8 : number(entry + 8, 4), bytes);
    if (tag == 256) header.width = static_cast<int>(value);
    if (tag == 257) header.height = static_cast<int>(value);
    if (tag == 258) is_plain = value == 8;                                  // bits
    if (tag == 262) is_plain = value == 1 || value == 2;                    // grey, RGB
    if (tag == 274) is_plain = value == 1;                                  // orientation
    if (tag == 277) is_plain = value == 1 || value == 3;                    // samples
    if (tag == 338) is_plain = false;                                       // alpha
    if (tag == 339) is_plain = value == 1;                                  // unsigned
  }
  if (!is_plain)
    refuse_image(name + ": a TIFF of 8 bits, grey or RGB, without alpha and orientation is expected; save it as PNG");
  return header;
}

// Moves past white space and comments; false where there is none.
bool skip_gap(const std::string& text, std::size_t* place) {
  const std::size_t before = *place;
  while (*place < text.size()) {
    if (std::isspace(static_cast<unsigned char>(text[*place])) != 0) {
      ++*place;
    } else if (text[*place] == '#') {
      while (*place < text.size() && text[*place] != '\n' && text[*place] != '\r') ++*place;
    } else {
      break;
    }
  }
  return *place > before;
}

// A whole number of at most `digits` digits; -1 where there is none.
std::int64_t take_number(const std::string& text, std::size_t* place, int digits) {
  std::int64_t value = -1;
  for (int i = 0; i < digits && *place < text.size() && std::isdigit(static_cast<unsigned char>(text[*place])) != 0; ++i)
    value = std::max<std::int64_t>(value, 0) * 10 + (text[(*place)++] - '0');
  return value;
}

cv::Mat plain_values(const std::string& content, const Netpbm& header, int count, const std::string& name) {
  cv::Mat values(1, count, CV_16U);
  std::size_t place = header.start - 1;
  for (int i = 0; i < count; ++i) {
    skip_gap(content, &place);
    const std::int64_t value = take_number(content, &place, header.kind == 1 ? 1 : 5);
    if (value < 0 || value > 65535) refuse_image(name + ": truncated or damaged: whole numbers are expected");
    values.at<std::uint16_t>(i) = static_cast<std::uint16_t>(value);
  }
  return values;
}

}  // namespace

Format format_of(const std::string& content) {
  const auto begins = [&](const char* text, std::size_t size) { return content.compare(0, size, text, size) == 0; };
  if (begins(kPng.data(), kPng.size())) return Format::png;
  if (begins("\xff\xd8", 2)) return Format::jpeg;
  if (begins("BM", 2)) return Format::bmp;
  if (begins("II*\0", 4) || begins("MM\0*", 4)) return Format::tiff;
  if (begins("RIFF", 4) && content.size() > 12 && content.compare(8, 4, "WEBP") == 0) return Format::webp;
  const bool is_p = content.size() > 2 && content[0] == 'P' && content[1] >= '1' && content[1] <= '6';
  if (is_p && (std::isspace(static_cast<unsigned char>(content[2])) != 0 || content[2] == '#')) return Format::netpbm;
  return Format::none;
}

Header check_structure(std::string* content, const std::string& name) {
  Header header;
  header.format = format_of(*content);
  switch (header.format) {
    case Format::png: header = check_png(content, name); break;
    case Format::jpeg: header = check_jpeg(*content, name); break;
    case Format::webp: header = check_webp(*content, name); break;
    case Format::tiff: header = check_tiff(*content, name); break;
    case Format::netpbm: {
      const Netpbm said = netpbm_header(*content, name);
      header.width = said.width;
      header.height = said.height;
      header.bits = said.maxval < 256 ? 8 : 16;
      break;
    }
    case Format::bmp: break;
    case Format::none: refuse_image(name + ": cannot be decoded: an image file is expected (PNG, JPEG, BMP, TIFF, WEBP, PPM)");
  }
  if (static_cast<std::int64_t>(header.width) * header.height > kMostPixels)
    refuse_image(name + ": " + std::to_string(header.width) + "x" + std::to_string(header.height) +
                 " are more pixels than the " + std::to_string(kMostPixels) + " that are read; cut it into tiles");
  if (header.format == Format::png) require_bounded(*content, header, name);
  return header;
}

Netpbm netpbm_header(const std::string& content, const std::string& name) {
  const std::string head = content.substr(0, kNetpbmHeader);
  Netpbm header;
  header.kind = head[1] - '0';
  std::size_t place = 2;
  const auto take = [&](int digits) { return skip_gap(head, &place) ? take_number(head, &place, digits) : -1; };
  const std::int64_t width = take(9), height = take(9);
  const std::int64_t maxval = header.kind == 1 || header.kind == 4 ? 1 : take(5);
  if (width < 1 || height < 1 || maxval < 1 || maxval > 65535)
    refuse_image(name + ": damaged: 'P6 WIDTH HEIGHT LARGEST_VALUE' is expected at its start");
  header.width = static_cast<int>(width);
  header.height = static_cast<int>(height);
  header.maxval = static_cast<int>(maxval);
  header.start = place + 1;
  return header;
}

cv::Mat netpbm_values(const std::string& content, const Netpbm& header, const std::string& name) {
  const std::int64_t count = static_cast<std::int64_t>(header.width) * header.height * header.channels();
  const bool is_plain = header.kind < 4;
  const bool is_wide = header.kind > 4 && header.maxval > 255;
  const std::int64_t row_bytes = (header.width + 7) / 8;
  const std::int64_t needed = header.kind == 4 ? row_bytes * header.height : is_plain ? count : count * (is_wide ? 2 : 1);
  if (static_cast<std::int64_t>(content.size()) < static_cast<std::int64_t>(header.start) + needed - (is_plain ? 1 : 0))
    refuse_image(name + ": truncated: " + std::to_string(needed) + " bytes of pixels are expected");
  const auto* data = reinterpret_cast<const std::uint8_t*>(content.data()) + header.start;
  cv::Mat values(1, static_cast<int>(count), CV_16U);
  if (is_plain) {
    values = plain_values(content, header, static_cast<int>(count), name);
  } else {
    for (int i = 0; i < values.cols; ++i) {
      const std::int64_t y = i / header.width, x = i % header.width;
      values.at<std::uint16_t>(i) = static_cast<std::uint16_t>(
          header.kind == 4 ? data[y * row_bytes + x / 8] >> (7 - x % 8) & 1
          : is_wide        ? data[2 * static_cast<std::int64_t>(i)] << 8 | data[2 * static_cast<std::int64_t>(i) + 1]
                           : data[i]);
    }
  }
  double largest = 0.0;
  cv::minMaxLoc(values, nullptr, &largest);
  if (largest > header.maxval)
    refuse_image(name + ": damaged: value " + std::to_string(static_cast<int>(largest)) + ", its header says " +
                 std::to_string(header.maxval) + " at most");
  if (header.kind == 1 || header.kind == 4) values = 1 - values;
  return values.reshape(header.channels(), header.height);
}

}  // namespace paddleseg_ext
