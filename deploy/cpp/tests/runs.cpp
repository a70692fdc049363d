// The library and the program on a bundle of a single convolution.
#include <cstdlib>
#include <opencv2/imgcodecs.hpp>
#include <sys/wait.h>
#include <thread>

#include "check.hpp"
#include "segmenter.hpp"
#include "value.hpp"

using namespace paddleseg_ext;

namespace {

std::vector<std::uint8_t> pixels(int width, int height) {
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(3 * width * height));
  unsigned state = 1;
  for (std::uint8_t& value : rgb) value = static_cast<std::uint8_t>((state = state * 1103515245U + 12345U) >> 16U);
  return rgb;
}

void test_library() {
  Segmenter segmenter;
  Segmentation result;
  CHECK(segmenter.segment(Image{}, &result).code == 2);
  CHECK(Segmenter::open("/nowhere", {}, &segmenter).code == 2);
  Options options;
  options.precision = "int8";
  CHECK(contains(Segmenter::open(TEST_BUNDLE, options, &segmenter).message, "quantize"));
  CHECK(Segmenter::open(TEST_BUNDLE, {}, &segmenter).message.empty());
  CHECK(segmenter.classes().size() == 4);
  const std::vector<std::uint8_t> rgb = pixels(50, 70);
  CHECK(segmenter.segment({rgb.data(), 50, 70}, &result).message.empty());
  CHECK(result.width == 50 && result.height == 70 && result.label_map.size() == 3500 && result.input_width == 96);
  CHECK(segmenter.segment({rgb.data(), 50, 0}, &result).code == 2);
  std::vector<Segmentation> results;
  CHECK(segmenter.segment({{rgb.data(), 50, 70}, {rgb.data(), 70, 50}, {rgb.data(), 50, 70}}, &results).message.empty());
  CHECK(results.size() == 3 && results[0].label_map == result.label_map && results[2].label_map == result.label_map);
  CHECK(segmenter.segment_file("/nowhere.png", &result).code == 1);
  CHECK(result.confidence.empty());
  options = {};
  options.with_confidence = true;
  CHECK(Segmenter::open(TEST_BUNDLE, options, &segmenter).message.empty());
  CHECK(segmenter.segment({rgb.data(), 50, 70}, &result).message.empty());
  CHECK(result.label_map == results[0].label_map && result.confidence.size() == 3500);
  for (const float value : result.confidence) CHECK(value >= 0.25F && value <= 1.0F);
}

void test_threads() {
  Segmenter segmenter;
  Options options;
  options.streams = 2;
  CHECK(Segmenter::open(TEST_BUNDLE, options, &segmenter).message.empty());
  const std::vector<std::uint8_t> rgb = pixels(64, 48);
  Segmentation first;
  CHECK(segmenter.segment({rgb.data(), 64, 48}, &first).message.empty());
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t i = 0; i < wrong.size(); ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        Segmentation result;
        if (!segmenter.segment({rgb.data(), 64, 48}, &result) || result.label_map != first.label_map) ++wrong[i];
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const int number : wrong) CHECK(number == 0);
}

int status_of(const std::string& flags) {
  const int status = std::system((std::string(SEGMENT) + " " + flags + " > /dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void test_program() {
  const Folder folder;
  const std::string config = std::string("--config ") + TEST_BUNDLE + " --save_dir " + (folder.path / "out").string();
  cv::Mat image(40, 60, CV_8UC3);
  cv::randu(image, 0, 256);
  std::filesystem::create_directories(folder.path / "images");
  const std::string good = (folder.path / "images/good.png").string();
  cv::imwrite(good, image);
  CHECK(status_of("--help") == 0);
  CHECK(status_of("--config x") == 2);
  CHECK(status_of(config + " --image_path " + good + " --nothing 1") == 2);
  CHECK(status_of(config + " --image_path " + good + " --batch_size 0") == 2);
  CHECK(status_of(config + " --image_path /nowhere") == 2);
  CHECK(status_of(config + " --image_path " + good + " --benchmark") == 0);
  const ValuePtr result = read_yaml((folder.path / "out/inference.json").string(), "a result");
  CHECK(result->find("num_predicted")->whole == 1 && result->find("timings_ms")->kind == Value::Kind::section);
  CHECK(cv::imread((folder.path / "out/label_maps/good.png").string()).size() == image.size());
  CHECK(!std::filesystem::exists(folder.path / "out/confidence"));
  CHECK(status_of(config + " --image_path " + good + " --save_confidence") == 0);
  CHECK(cv::imread((folder.path / "out/confidence/good.png").string(), cv::IMREAD_UNCHANGED).type() == CV_8U);
  CHECK(status_of(config + " --image_path " + good + " --save_label_maps") == 2);
  write(folder.path / "images/bad.png", "no image");
  write(folder.path / "images/notes.txt", "left out");
  CHECK(status_of(config + " --image_path " + (folder.path / "images").string() + " --batch_size 2") == 1);
  const ValuePtr other = read_yaml((folder.path / "out/inference.json").string(), "a result");
  CHECK(other->find("num_predicted")->whole == 1 && other->find("errors")->items.size() == 1);
}

}  // namespace

void test_runs() {
  test_library();
  test_threads();
  test_program();
}
