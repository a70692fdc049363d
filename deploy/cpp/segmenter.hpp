// Runs a bundle of paddleseg_ext: an image in, its label map out, the same as from Python.
//
//   paddleseg_ext::Segmenter segmenter;
//   auto status = paddleseg_ext::Segmenter::open("output/bundle", {}, &segmenter);
//   paddleseg_ext::Segmentation result;
//   if (status) status = segmenter.segment({rgb.data(), width, height}, &result);
//   if (!status) std::cerr << status.message << "\n";
//
// This header is all that a program includes. No function throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace paddleseg_ext {

// Whether something was done, and why not: one line with the file and what to do.
struct [[nodiscard]] Status {
  int code = 0;  // 0 done, 1 this image cannot be used, 2 wrong use
  std::string message;

  explicit operator bool() const noexcept { return code == 0; }
};

struct Options {
  std::string precision = "fp32";  // or bf16 (of the same graph), int8 (of the bundle's INT8 graph)
  int threads = 0;                 // of all streams together; 0: OMP_NUM_THREADS, else every core
  int streams = 1;                 // images that are run at a time, by as many calling threads
  bool is_pinned = false;          // bind each thread to a core
  int num_classes = 0;             // of a bundle that does not say it: PaddleSeg's
  std::string protocol;            // whole, ss, scale_0.5, ...; empty: as the bundle says
  bool with_confidence = false;    // fill Segmentation::confidence; takes longer
  bool is_sparse = true;           // interpolate only where classes meet; the label maps are the same
};

// Pixels of the caller's: 8 bits, red, green, blue.
struct Image {
  const std::uint8_t* rgb = nullptr;
  int width = 0, height = 0;
  std::size_t row_bytes = 0;  // from one row to the next; 0: 3 * width
};

struct Segmentation {
  int width = 0, height = 0;
  std::vector<std::uint8_t> label_map;  // row by row, a class number per pixel
  std::vector<float> confidence;        // the same, 0 to 1: the largest softmax after all resizing; empty unless asked for
  int input_width = 0, input_height = 0;
  double preprocess_ms = 0.0, inference_ms = 0.0, postprocess_ms = 0.0;
};

struct Class {
  std::string name;
  std::uint8_t red = 0, green = 0, blue = 0;
};

// A bundle that is ready to run. Several threads may call `segment` of one.
class Segmenter {
 public:
  Segmenter() noexcept;
  ~Segmenter();
  Segmenter(Segmenter&&) noexcept;
  Segmenter& operator=(Segmenter&&) noexcept;

  // Reads and checks a bundle, its folder or deploy.yaml, and compiles its graph.
  static Status open(const std::string& bundle, const Options& options, Segmenter* segmenter) noexcept;

  Status segment(const Image& image, Segmentation* result) const noexcept;
  // Images that are run as one batch where the network sees them at one size.
  Status segment(const std::vector<Image>& images, std::vector<Segmentation>* results) const noexcept;
  // Reads an image file as the Python package does, by the bundle's orientation key.
  Status segment_file(const std::string& path, Segmentation* result) const noexcept;

  std::vector<Class> classes() const;
  // Warnings of `open`: changed files, a protocol that a graph cannot run.
  std::vector<std::string> warnings() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace paddleseg_ext
