#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <future>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>
#include <fcntl.h>
#include <unistd.h>

#include "failure.hpp"
#include "outputs.hpp"
#include "run.hpp"

namespace paddleseg_ext {
namespace {

namespace fs = std::filesystem;

constexpr double kMostRate = 1000.0;
constexpr double kMostLate = 1.5;          // slots of the constant rate; containers round times
constexpr double kMostGapSeconds = 60.0;   // between two frames; above it the file's clock has jumped
constexpr int kMostFailures = 1000;        // in a row, of a file without a count: then it has ended

struct Frame {
  int number = 0;
  cv::Mat bgr;
  double seconds = 0.0;
};

// A chunk of frames with an overlay each, or why there is none.
struct Drawn {
  std::vector<Frame> frames;
  std::vector<cv::Mat> overlays;
  std::vector<std::string> errors;
};

struct Outcome {
  int num_predicted = 0, num_written = 0, num_repeated = 0, num_jumps = 0, num_failed = 0, num_resized = 0;
  int first_resized = -1;
  std::string codec, first_error;
  double seconds = 0.0;
};

// Drops what C code prints while it lives: OpenCV's line of a container that has no tag for its codecs.
class QuietErrors {
 public:
  QuietErrors() : kept_(::dup(STDERR_FILENO)) {
    const int nothing = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nothing < 0) return;
    ::dup2(nothing, STDERR_FILENO);
    ::close(nothing);
  }
  ~QuietErrors() {
    if (kept_ < 0) return;
    ::dup2(kept_, STDERR_FILENO);
    ::close(kept_);
  }
  QuietErrors(const QuietErrors&) = delete;
  QuietErrors& operator=(const QuietErrors&) = delete;

 private:
  int kept_;
};

// A frame's label map and confidence, where they are asked for.
void write_frame_files(const Pipeline& pipeline, const RunOptions& options, const Best& found, int number) {
  std::string name = std::to_string(number);
  name.insert(0, name.size() < 6 ? 6 - name.size() : 0, '0');
  const fs::path file = fs::path(options.image_path).stem() / (name + ".png");
  const fs::path folder = options.save_dir;
  if (options.saves_label_maps) write_file(folder / "label_maps" / file, encode_label_map(found.labels, pipeline.table()));
  if (!found.confidence.empty()) write_file(folder / "confidence" / file, encode_confidence(found.confidence));
}

Drawn draw(const Pipeline& pipeline, const RunOptions& options, std::vector<Frame> frames) {
  Drawn drawn;
  std::vector<Prepared> prepared(frames.size());
  std::vector<cv::Mat> images(frames.size());
  drawn.overlays.resize(frames.size());
  drawn.errors.resize(frames.size());
  const auto one = [&](const std::vector<std::size_t>& places) {
    return guarded([&] {
      std::vector<const Prepared*> batch;
      for (const std::size_t i : places) {
        cv::cvtColor(frames[i].bgr, images[i], cv::COLOR_BGR2RGB);
        prepared[i] = pipeline.prepare(images[i]);
        batch.push_back(&prepared[i]);
      }
      const std::vector<Ran> ran = pipeline.run(batch);
      for (std::size_t k = 0; k < places.size(); ++k) {
        const Best found = pipeline.finish_best(ran[k]);
        write_frame_files(pipeline, options, found, frames[places[k]].number);
        cv::cvtColor(blended(images[places[k]], found.labels, pipeline.table()), drawn.overlays[places[k]], cv::COLOR_RGB2BGR);
      }
    });
  };
  std::vector<std::size_t> all;
  bool is_alike = true;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    all.push_back(i);
    is_alike = is_alike && frames[i].bgr.size() == frames[0].bgr.size();
  }
  if (!is_alike || !one(all)) {
    for (const std::size_t i : all)
      if (const Status status = one({i}); !status) drawn.errors[i] = "frame " + std::to_string(frames[i].number) + ": " + status.message;
  }
  drawn.frames = std::move(frames);
  return drawn;
}

class VideoRun {
 public:
  VideoRun(const Pipeline& pipeline, const RunOptions& options) : pipeline_(pipeline), options_(options) {}
  int run();

 private:
  void open();
  bool read(Frame* frame);
  // Opens the writer of the first codec that opens; the file has `stem` and the codec's suffix.
  fs::path open_writer(const fs::path& stem);
  void write(const Drawn& drawn);
  void write_picture(cv::Mat picture, const Frame& frame);
  int slots_late(const Frame& frame, int between);
  int report(const fs::path& path, double seconds);

  const Pipeline& pipeline_;
  const RunOptions& options_;
  cv::VideoCapture capture_;
  cv::VideoWriter writer_;
  cv::Size size_;
  double rate_ = 0.0;
  int promised_ = 0, number_ = -1;
  bool is_counted_ = false, has_zero_ = false;
  double zero_ = 0.0, last_seconds_ = 0.0;
  int last_number_ = -1;
  cv::Mat last_picture_;
  Outcome outcome_;
};

void VideoRun::open() {
  ::setenv("OPENCV_FFMPEG_LOGLEVEL", "-8", 0);
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  const std::string where = "--image_path: '" + options_.image_path + "'";
  if (!capture_.open(options_.image_path, cv::CAP_FFMPEG)) refuse(where + " is no video that OpenCV can read");
  size_ = {static_cast<int>(capture_.get(cv::CAP_PROP_FRAME_WIDTH)), static_cast<int>(capture_.get(cv::CAP_PROP_FRAME_HEIGHT))};
  rate_ = capture_.get(cv::CAP_PROP_FPS);
  promised_ = std::max(0, static_cast<int>(capture_.get(cv::CAP_PROP_FRAME_COUNT)));
  if (size_.width < 1 || size_.height < 1) refuse(where + " is no video that OpenCV can read");
  if (!(rate_ > 0.0) || rate_ > kMostRate) refuse(where + ": a frame rate above 0 and up to 1000 is expected; convert it first");
  const std::string suffix = fs::path(options_.image_path).extension().string();
  is_counted_ = suffix == ".mp4" || suffix == ".m4v" || suffix == ".mov" || suffix == ".avi";
}

// The next frame that can be decoded; false at the end.
bool VideoRun::read(Frame* frame) {
  for (int failures = 0;;) {
    ++number_;
    if (capture_.read(frame->bgr) && !frame->bgr.empty()) {
      frame->bgr = frame->bgr.clone();
      frame->number = number_;
      frame->seconds = capture_.get(cv::CAP_PROP_POS_MSEC) / 1000.0;
      return true;
    }
    ++failures;
    if ((failures >= kMostFailures && !is_counted_) || number_ >= promised_) return false;
  }
}

fs::path VideoRun::open_writer(const fs::path& stem) {
  std::vector<std::string> codecs = kPlayedCodecs;
  if (options_.video_codec != "auto") {
    if (std::find(kVideoCodecs.begin(), kVideoCodecs.end(), options_.video_codec) == kVideoCodecs.end())
      refuse("--video_codec: unknown " + shown(options_.video_codec) + nearest_name(options_.video_codec, kVideoCodecs));
    codecs = {options_.video_codec};
  }
  const QuietErrors quiet;
  for (const std::string& codec : codecs) {
    outcome_.codec = codec;
    const auto place = std::find(kVideoCodecs.begin(), kVideoCodecs.end(), codec) - kVideoCodecs.begin();
    const fs::path path = stem.string() + kVideoSuffixes[static_cast<std::size_t>(place)];
    if (writer_.open(path.string(), cv::CAP_FFMPEG, cv::VideoWriter::fourcc(codec[0], codec[1], codec[2], codec[3]), rate_, size_)) return path;
    std::error_code error;
    fs::remove(path, error);
  }
  refuse_image(stem.parent_path().string() + ": OpenCV cannot write a video of " + std::to_string(size_.width) + "x" + std::to_string(size_.height) +
               (options_.video_codec == "auto" ? " that browsers play; try --video_codec mp4v" : " as " + options_.video_codec));
}

// Slots of the constant rate to fill before a frame, so that it is on time.
int VideoRun::slots_late(const Frame& frame, int between) {
  if (!std::isfinite(frame.seconds)) return 0;
  const double on_time = frame.seconds - (outcome_.num_written + between) / rate_;
  if (!has_zero_) {
    zero_ = on_time;
    has_zero_ = true;
  } else if (std::abs(frame.seconds - last_seconds_) > kMostGapSeconds) {
    ++outcome_.num_jumps;
    zero_ = on_time;
  }
  last_seconds_ = frame.seconds;
  const double late = (on_time - zero_) * rate_;
  return late > kMostLate ? static_cast<int>(std::nearbyint(late)) : 0;
}

void VideoRun::write_picture(cv::Mat picture, const Frame& frame) {
  const int between = frame.number - last_number_ - 1;
  if (between > 0) {
    outcome_.num_failed += between;
    if (outcome_.first_error.empty()) outcome_.first_error = "frame " + std::to_string(last_number_ + 1) + ": it cannot be decoded";
  }
  if (picture.size() != size_) {
    ++outcome_.num_resized;
    if (outcome_.first_resized < 0) outcome_.first_resized = frame.number;
    cv::resize(picture, picture, size_, 0, 0, cv::INTER_AREA);
  }
  const int late = slots_late(frame, between);
  outcome_.num_repeated += late;
  for (int i = 0; i < between + late; ++i) writer_.write(last_picture_.empty() ? picture : last_picture_);
  writer_.write(picture);
  outcome_.num_written += between + late + 1;
  last_number_ = frame.number;
  last_picture_ = picture;
}

void VideoRun::write(const Drawn& drawn) {
  for (std::size_t i = 0; i < drawn.frames.size(); ++i) {
    const bool is_good = drawn.errors[i].empty();
    if (is_good) ++outcome_.num_predicted;
    else ++outcome_.num_failed;
    if (!is_good && outcome_.first_error.empty()) outcome_.first_error = drawn.errors[i];
    write_picture(is_good ? drawn.overlays[i] : drawn.frames[i].bgr, drawn.frames[i]);
  }
}

int VideoRun::report(const fs::path& path, double seconds) {
  const int wanted = options_.most_frames > 0 ? std::min(promised_, options_.most_frames) : promised_;
  const int missing = std::max(0, wanted - (outcome_.num_written - outcome_.num_repeated));
  const double rate = seconds > 0.0 ? outcome_.num_predicted / seconds : 0.0;
  const Json source = Json::section({{"bundle", pipeline_.bundle().deploy_file.string()}, {"output_op", pipeline_.bundle().output_op},
                                     {"backend", describe_backend(pipeline_)}, {"video", options_.image_path}});
  const Json result = Json::section(
      {{"title", "video"}, {"source", source}, {"frames_per_second", rate_},
       {"size_hw", std::vector<int>{size_.height, size_.width}}, {"batch_size", options_.batch_size},
       {"predicted_per_second", rate}, {"num_missing", missing}, {"num_predicted", outcome_.num_predicted},
       {"num_written", outcome_.num_written}, {"num_repeated", outcome_.num_repeated}, {"num_jumps", outcome_.num_jumps},
       {"codec", outcome_.codec}, {"num_dropped", 0}, {"num_failed", outcome_.num_failed},
       {"first_error", outcome_.first_error.empty() ? Json() : Json(outcome_.first_error)},
       {"num_resized", outcome_.num_resized}, {"first_resized", outcome_.first_resized < 0 ? Json() : Json(outcome_.first_resized)},
       {"seconds", seconds}});
  write_file(fs::path(options_.save_dir) / "inference.json", result.text() + "\n");
  say(std::to_string(outcome_.num_written) + " frames written to " + path.string() + " (" + outcome_.codec + "); " +
      std::to_string(outcome_.num_predicted) + " predicted, " + std::to_string(rate).substr(0, 5) + " a second");
  if (outcome_.num_failed > 0) warn(std::to_string(outcome_.num_failed) + " frames failed, the first: " + outcome_.first_error);
  if (missing > 0) warn(options_.image_path + ": " + std::to_string(missing) + " frames that its header promises cannot be decoded");
  return outcome_.num_failed > 0 || (missing > 0 && is_counted_) ? kFailed : kDone;
}

int VideoRun::run() {
  open();
  const fs::path folder = fs::path(options_.save_dir) / "overlays";
  const std::string name = fs::path(options_.image_path).stem().string();
  std::error_code error;
  for (const std::string& suffix : kVideoSuffixes)
    if (const fs::path path = folder / (name + suffix); fs::exists(path, error) && fs::equivalent(path, options_.image_path, error))
      refuse("--save_dir: " + path.string() + " is the video itself; give another folder");
  fs::create_directories(folder, error);
  fs::path temporary = folder;
  const std::shared_ptr<void> remove(nullptr, [&](void*) {
    if (temporary != folder) fs::remove(temporary, error);
  });
  temporary = open_writer(folder / ("." + std::to_string(::getpid())));
  const fs::path path = folder / (name + temporary.extension().string());
  const auto started = std::chrono::steady_clock::now();
  std::deque<std::future<Drawn>> under_way;
  const auto most = static_cast<std::size_t>(options_.segmenter.streams + 1);
  int taken = 0;
  for (bool has_more = true; has_more || !under_way.empty();) {
    std::vector<Frame> frames;
    while (has_more && static_cast<int>(frames.size()) < options_.batch_size) {
      Frame frame;
      has_more = (options_.most_frames == 0 || taken < options_.most_frames) && read(&frame);
      if (!has_more) break;
      frames.push_back(frame);
      ++taken;
    }
    if (!frames.empty()) under_way.push_back(std::async(std::launch::async, draw, std::cref(pipeline_), std::cref(options_), std::move(frames)));
    if (under_way.size() < most && has_more) continue;
    if (under_way.empty()) break;
    write(under_way.front().get());
    under_way.pop_front();
  }
  writer_.release();
  if (outcome_.num_written == 0) refuse(options_.image_path + ": not one frame of it can be decoded");
  cv::VideoCapture written(temporary.string(), cv::CAP_FFMPEG);
  if (static_cast<int>(written.get(cv::CAP_PROP_FRAME_COUNT)) != outcome_.num_written)
    refuse_image(path.string() + ": fewer frames are there than were written; is the disk full?");
  fs::rename(temporary, path);
  return report(path, std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
}

}  // namespace

bool is_video(const std::string& path) {
  static const std::vector<std::string> suffixes = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"};
  std::string suffix = fs::path(path).extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
  std::error_code error;
  return std::find(suffixes.begin(), suffixes.end(), suffix) != suffixes.end() && fs::is_regular_file(path, error);
}

int run_video(const Pipeline& pipeline, const RunOptions& options) {
  if (options.is_benchmark) refuse("--benchmark: images are expected, not a video");
  return VideoRun(pipeline, options).run();
}

}  // namespace paddleseg_ext
