#include "images.hpp"

#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <map>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "failure.hpp"
#include "image_structure.hpp"

namespace paddleseg_ext {
namespace {

constexpr int kInvalid = 254;  // in a lookup: a value without a meaning
constexpr std::size_t kShown = 8;

// libjpeg's errors: the first ends the reading, and a scan that ends too soon counts as one.
struct JpegErrors {
  jpeg_error_mgr base;
  std::jmp_buf place;
  bool is_cut = false;
};

void on_jpeg_error(j_common_ptr info) { std::longjmp(reinterpret_cast<JpegErrors*>(info->err)->place, 1); }

void on_jpeg_message(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && (code == JWRN_HIT_MARKER || code == JWRN_JPEG_EOF)) reinterpret_cast<JpegErrors*>(info->err)->is_cut = true;
}

void on_jpeg_output(j_common_ptr) {}

// Whether a JPEG holds the data of all its blocks: libjpeg fills the rest with grey and only warns.
// Nothing in here has a destructor: an error jumps out of it.
bool is_whole_jpeg(const unsigned char* data, std::size_t size, unsigned char** row) {
  jpeg_decompress_struct info;
  JpegErrors errors;
  errors.is_cut = false;
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = on_jpeg_error;
  errors.base.emit_message = on_jpeg_message;
  errors.base.output_message = on_jpeg_output;
  if (setjmp(errors.place) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, data, size);
  jpeg_read_header(&info, TRUE);
  info.out_color_space = info.jpeg_color_space;
  info.do_fancy_upsampling = FALSE;
  info.dct_method = JDCT_IFAST;
  if (info.progressive_mode == 0) {  // an eighth of the size needs no more than the data itself
    info.scale_num = 1;
    info.scale_denom = 8;
  }
  jpeg_start_decompress(&info);
  *row = static_cast<unsigned char*>((*info.mem->alloc_small)(reinterpret_cast<j_common_ptr>(&info), JPOOL_IMAGE,
                                                               info.output_width * static_cast<JDIMENSION>(info.output_components)));
  while (info.output_scanline < info.output_height) jpeg_read_scanlines(&info, row, 1);
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return !errors.is_cut;
}

cv::Mat turned(const cv::Mat& image, int orientation) {
  cv::Mat result = image;
  if (orientation >= 5) cv::transpose(image, result);
  const std::map<int, int> flips = {{2, 1}, {3, -1}, {4, 0}, {6, 1}, {7, -1}, {8, 0}};
  const auto flip = flips.find(orientation);
  if (flip != flips.end()) cv::flip(result, result, flip->second);
  return result;
}

// Up to 8 bits rounded, above by their high byte.
cv::Mat netpbm_bytes(const std::string& content, const std::string& name) {
  const Netpbm header = netpbm_header(content, name);
  const cv::Mat values = netpbm_values(content, header, name);
  cv::Mat bytes(values.size(), CV_8UC(values.channels()));
  const auto* in = values.ptr<std::uint16_t>();
  auto* out = bytes.ptr<std::uint8_t>();
  const std::int64_t count = static_cast<std::int64_t>(values.total()) * values.channels();
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = static_cast<std::uint8_t>(header.maxval < 256 ? (in[i] * 255 + header.maxval / 2) / header.maxval
                                                           : in[i] * 256 / (header.maxval + 1));
  if (bytes.channels() == 1) cv::cvtColor(bytes, bytes, cv::COLOR_GRAY2RGB);
  return bytes;
}

cv::Mat by_opencv(const std::string& content, const Header& header, const std::string& name) {
  const cv::Mat bytes(1, static_cast<int>(content.size()), CV_8U, const_cast<char*>(content.data()));
  cv::Mat image;
  try {
    image = cv::imdecode(bytes, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
  } catch (const cv::Exception& error) {
    if (error.code == cv::Error::StsNoMem) refuse_image(name + ": its pixels need more memory than is left");
  }
  if (image.empty()) refuse_image(name + ": cannot be decoded: it is damaged, or of a kind that is not read");
  const bool is_size_known = header.width > 0;
  if (is_size_known && image.size() != cv::Size(header.width, header.height))
    refuse_image(name + ": damaged: its header and its pixels disagree in size");
  cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  if (header.format == Format::jpeg) {
    unsigned char* row = nullptr;
    if (!is_whole_jpeg(reinterpret_cast<const unsigned char*>(content.data()), content.size(), &row))
      refuse_image(name + ": the JPEG is damaged: its data ends before its last block");
  }
  return image;
}

// The source of libpng's reading: a content and how far it has come.
struct Source {
  const std::string* content;
  std::size_t place;
};

void read_png_bytes(png_structp png, png_bytep target, png_size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (source->place + count > source->content->size()) png_error(png, "truncated");
  std::memcpy(target, source->content->data() + source->place, count);
  source->place += count;
}

void on_png_warning(png_structp, png_const_charp) {}
void on_png_error(png_structp png, png_const_charp) { png_longjmp(png, 1); }

// Decodes into rows of memory that the caller owns. Nothing here has a destructor.
bool decode_png(Source* source, bool to_colours, png_bytep* rows, png_uint_32 height) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, on_png_error, on_png_warning);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  if (info == nullptr || setjmp(png_jmpbuf(png)) != 0) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  png_set_read_fn(png, source, read_png_bytes);
  png_read_info(png, info);
  png_set_packing(png);
  if (to_colours) {
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
  }
  png_read_update_info(png, info);
  if (png_get_image_height(png, info) != height) png_error(png, "size");
  png_read_image(png, rows);
  png_read_end(png, nullptr);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

// (H, W) or (H, W, channels), 8 or 16 bits: as stored, of a palette the index, or RGB colours.
cv::Mat png_values(const std::string& content, const Header& header, bool to_colours, const std::string& name) {
  const int channels = to_colours ? 3 : header.colours == 2 ? 3 : header.colours == 4 ? 2 : header.colours == 6 ? 4 : 1;
  const bool is_wide = header.bits == 16 && !to_colours;
  cv::Mat values(header.height, header.width, CV_MAKETYPE(is_wide ? CV_16U : CV_8U, channels));
  std::vector<png_bytep> rows(static_cast<std::size_t>(header.height));
  for (int y = 0; y < header.height; ++y) rows[static_cast<std::size_t>(y)] = values.ptr(y);
  Source source{&content, 0};
  if (!decode_png(&source, to_colours, rows.data(), static_cast<png_uint_32>(header.height)))
    refuse_image(name + ": cannot be decoded: the PNG is damaged");
  if (is_wide) {  // PNG has the high byte first
    auto* value = values.ptr<std::uint16_t>();
    const std::size_t count = values.total() * static_cast<std::size_t>(channels);
    for (std::size_t i = 0; i < count; ++i) value[i] = static_cast<std::uint16_t>(value[i] << 8 | value[i] >> 8);
  }
  return values;
}

// The label of one channel, or of grey stored as several.
cv::Mat one_channel(const cv::Mat& values, const std::string& name) {
  if (values.channels() == 1) return values;
  std::vector<cv::Mat> planes;
  cv::split(values, planes);
  const bool has_alpha = planes.size() % 2 == 0;
  const double full = 255.0;
  if (has_alpha && cv::countNonZero(planes.back() != full) > 0)
    refuse_image(name + ": a label has one channel whose value is the class; this one has an alpha channel that is not "
                 "full: which class its pixels have is not known; save it without");
  for (std::size_t c = 1; c < planes.size() - (has_alpha ? 1 : 0); ++c)
    if (cv::countNonZero(planes[c] != planes[0]) > 0)
      refuse_image(name + ": a label has one channel whose value is the class; this is a colour image");
  return planes[0];
}

cv::Mat stored_values(const std::string& content, const Header& header, const std::string& name) {
  if (header.format == Format::netpbm) {
    cv::Mat values = one_channel(netpbm_values(content, netpbm_header(content, name), name), name);
    return values;
  }
  if (header.bits == 16 && header.colours != 0)
    refuse_image(name + ": a label has one channel of 8 bits; this is a PNG of several with 16 bits");
  return one_channel(png_values(content, header, false, name), name);
}

cv::Mat classes_of_colours(const cv::Mat& image, const ClassTable& table, const std::string& name) {
  std::map<std::array<std::uint8_t, 3>, std::uint8_t> classes;
  for (const auto& row : table.label_colours) classes[{row[0], row[1], row[2]}] = row[3];
  cv::Mat label(image.size(), CV_8U);
  for (int y = 0; y < image.rows; ++y)
    for (int x = 0; x < image.cols; ++x) {
      const auto& pixel = image.at<cv::Vec3b>(y, x);
      const auto found = classes.find({pixel[0], pixel[1], pixel[2]});
      const int index = found == classes.end() ? table.other_colours : found->second;
      if (index == kInvalid)
        refuse_image(name + ": colour " + std::to_string(pixel[0]) + "," + std::to_string(pixel[1]) + "," +
                     std::to_string(pixel[2]) + " has no class");
      label.at<std::uint8_t>(y, x) = static_cast<std::uint8_t>(index);
    }
  return label;
}

void require_known(const cv::Mat& label, const ClassTable& table, const std::string& name) {
  std::array<bool, 256> seen{};
  for (int y = 0; y < label.rows; ++y)
    for (int x = 0; x < label.cols; ++x) seen[label.at<std::uint8_t>(y, x)] = true;
  std::vector<std::string> unknown;
  for (int value = table.size(); value < 256; ++value)
    if (seen[static_cast<std::size_t>(value)] && value != table.ignore_index && unknown.size() < kShown)
      unknown.push_back(std::to_string(value));
  if (!unknown.empty())
    refuse_image(name + ": value " + joined(unknown, ", ") + " is no class of " + table.name + " (" +
                 std::to_string(table.size()) + " classes) and not ignored (" + std::to_string(table.ignore_index) + ")");
}

}  // namespace

cv::Mat decode_image(const std::string& given, const std::string& name, const std::string& orientation) {
  std::string content = given;
  const Header header = check_structure(&content, name);
  const cv::Mat image = header.format == Format::netpbm ? netpbm_bytes(content, name) : by_opencv(content, header, name);
  return orientation == "upright" ? turned(image, header.orientation) : image;
}

cv::Mat read_image(const std::string& path, const std::string& orientation) {
  return decode_image(read_file(path), path, orientation);
}

cv::Mat read_label(const std::string& path, const ClassTable& table) {
  std::string content = read_file(path);
  if (format_of(content) == Format::jpeg)
    refuse_image(path + ": a JPEG is no label: it changes the values; save labels as PNG");
  if (format_of(content) != Format::png && format_of(content) != Format::netpbm)
    refuse_image(path + ": a label in PNG, PGM or PPM is expected; save labels as PNG");
  const Header header = check_structure(&content, path);
  if (header.orientation != 1)
    refuse_image(path + ": a label with an orientation tag: whether its pixels are meant as stored or turned is not "
                 "known; save it without the tag");
  if (!table.label_colours.empty()) {
    if (header.bits > 8) refuse_image(path + ": colours of 8 bits are expected; save labels as PNG");
    return classes_of_colours(header.format == Format::png ? png_values(content, header, true, path)
                                                           : netpbm_bytes(content, path), table, path);
  }
  const cv::Mat values = stored_values(content, header, path);
  double largest = 0.0;
  cv::minMaxLoc(values, nullptr, &largest);
  if (largest > 255)
    refuse_image(path + ": label values must be whole and 0..255, got " + std::to_string(static_cast<int>(largest)));
  cv::Mat label;
  values.convertTo(label, CV_8U);
  if (const std::optional<Lookup> lookup = table.lookup_for(path)) {
    std::array<bool, 256> present{};
    for (auto pixel = label.begin<std::uint8_t>(); pixel != label.end<std::uint8_t>(); ++pixel) present[*pixel] = true;
    for (std::size_t value = 0; value < present.size(); ++value)
      if (present[value] && (*lookup)[value] >= table.size() && (*lookup)[value] != table.ignore_index)
        refuse_image(path + ": value " + std::to_string(value) + " is no label id of " + table.name);
    cv::LUT(label, cv::Mat(1, 256, CV_8U, const_cast<std::uint8_t*>(lookup->data())), label);
    return label;
  }
  require_known(label, table, path);
  return label;
}

}  // namespace paddleseg_ext
