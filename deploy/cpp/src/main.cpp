// Runs a bundle on images or a video, as `paddleseg-ext infer` does, without Python.

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <functional>
#include <map>

#include "failure.hpp"
#include "run.hpp"

namespace paddleseg_ext {
namespace {

const char* const kHelp = R"(Run an exported bundle: images in, label maps, overlays and scores out.

  segment --config output/export/deploy.yaml --image_path street.png
  segment --config output/export --image_path val.list --save_dir output/val --batch_size 2
  segment --config output/int8 --precision int8 --image_path images/ --benchmark
  segment --config output/export --image_path street.mp4

It writes SAVE_DIR/label_maps/NAME.png (the pixel's value is the class), SAVE_DIR/overlays/NAME.jpg
and SAVE_DIR/inference.json (integer counts, timings, what ran); of a video
SAVE_DIR/overlays/NAME.webm, or .mp4 where OpenCV can write H.264.

  --config PATH        the bundle: its folder or deploy.yaml, exported with --onnx True
  --image_path PATH    an image, a folder, a list with 'image' or 'image label' in each line, a video
  --save_dir DIR       folder of the results (default: output/segment)
  --precision WORD     fp32, bf16 (of the same graph) or int8 (of the INT8 graph) (default: fp32)
  --batch_size N       images per run; those of one size run together (default: 1)
  --cpu_threads N      threads of all streams (default: OMP_NUM_THREADS, else every core)
  --streams N          batches that run at a time (default: 1)
  --cpu_affinity       bind each thread to a core
  --protocol NAME      whole, ss, scale_0.5, scale_0.75, half_resize (default: as the bundle says)
  --absent_class RULE  how absent classes count: skip, zero, one, smooth (default: as the bundle says)
  --num_classes N      of a bundle that does not say it
  --benchmark          time the run, after 3 runs that do not count
  --print_detail BOOL  progress and scores on the terminal (default: True)
  --video_codec WORD   avc1, vp09, vp08, mp4v, or auto: the first that browsers play and that can be
                       written, so not mp4v (default: auto)
  --save_label_maps    of a video: also label_maps/NAME/000000.png and so on
  --most_frames N      of a video: then it ends
  --save_confidence    also confidence/NAME.png: the largest softmax after all resizing, 255 for 1;
                       of a video confidence/NAME/000000.png and so on
  --dense              interpolate at every pixel; slower, the label maps are the same

Exit status: 0 done, 1 an image failed, 2 wrong use.
)";

int number_of(const std::string& flag, const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1)
    refuse(flag + ": a whole number of at least 1 is expected, got " + shown(text));
  return number;
}

bool truth_of(const std::string& flag, std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  if (text.empty() || text == "true" || text == "1" || text == "yes") return true;
  if (text != "false" && text != "0" && text != "no") refuse(flag + ": True or False is expected, got " + shown(text));
  return false;
}

std::string choice_of(const std::string& flag, const std::string& text, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), text) == known.end()) refuse(flag + ": unknown " + shown(text) + nearest_name(text, known));
  return text;
}

using Setter = std::function<void(const std::string&)>;

std::map<std::string, Setter> setters(RunOptions* options) {
  const auto text = [](std::string* target) { return [target](const std::string& word) { *target = word; }; };
  const auto number = [](const std::string& flag, int* target) {
    return [flag, target](const std::string& word) { *target = number_of(flag, word); };
  };
  const auto truth = [](const std::string& flag, bool* target, bool is_inverted = false) {
    return [=](const std::string& word) { *target = truth_of(flag, word) != is_inverted; };
  };
  Options* own = &options->segmenter;
  return {{"--config", text(&options->config)},
          {"--image_path", text(&options->image_path)},
          {"--save_dir", text(&options->save_dir)},
          {"--precision", text(&own->precision)},
          {"--protocol", text(&own->protocol)},
          {"--video_codec", text(&options->video_codec)},
          {"--absent_class", [=](const std::string& word) { options->absent_class = choice_of("--absent_class", word, kAbsentRules); }},
          {"--batch_size", number("--batch_size", &options->batch_size)},
          {"--cpu_threads", number("--cpu_threads", &own->threads)},
          {"--streams", number("--streams", &own->streams)},
          {"--num_classes", number("--num_classes", &own->num_classes)},
          {"--most_frames", number("--most_frames", &options->most_frames)},
          {"--cpu_affinity", truth("--cpu_affinity", &own->is_pinned)},
          {"--benchmark", truth("--benchmark", &options->is_benchmark)},
          {"--print_detail", truth("--print_detail", &options->shows_detail)},
          {"--save_label_maps", truth("--save_label_maps", &options->saves_label_maps)},
          {"--save_confidence", truth("--save_confidence", &own->with_confidence)},
          {"--dense", truth("--dense", &own->is_sparse, true)}};
}

// Flags as `--name value` or `--name=value`; a switch may stand alone.
RunOptions parse(const std::vector<std::string>& words) {
  static const std::vector<std::string> switches = {"--cpu_affinity", "--benchmark", "--print_detail", "--dense", "--save_label_maps", "--save_confidence"};
  RunOptions options;
  const std::map<std::string, Setter> known = setters(&options);
  std::vector<std::string> names;
  for (const auto& [name, setter] : known) names.push_back(name);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::size_t equal = words[i].find('=');
    const std::string name = words[i].substr(0, equal);
    const auto found = known.find(name);
    if (found == known.end()) refuse("unknown flag " + shown(name) + nearest_name(name, names));
    const bool is_switch = std::find(switches.begin(), switches.end(), name) != switches.end();
    const bool has_next = i + 1 < words.size() && words[i + 1].rfind("--", 0) != 0;
    if (equal != std::string::npos) found->second(words[i].substr(equal + 1));
    else if (has_next) found->second(words[++i]);
    else if (is_switch) found->second("");
    else refuse(name + ": a value is expected");
  }
  if (options.config.empty() || options.image_path.empty()) refuse("--config and --image_path are needed; --help shows all flags");
  return options;
}

void require_writable(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!std::filesystem::is_directory(folder, error) || ::access(folder.c_str(), W_OK) != 0)
    refuse("--save_dir: '" + folder + "' cannot be written");
}

int run(const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), "--help") != words.end()) {
    std::fputs(kHelp, stdout);
    return kDone;
  }
  const RunOptions options = parse(words);
  std::vector<Sample> samples;
  const bool is_film = is_video(options.image_path);
  if (!is_film) samples = collect_samples(options.image_path, warn);
  const Pipeline pipeline(options.config, options.segmenter);
  for (const std::string& line : pipeline.warnings()) warn(line);
  require_writable(options.save_dir);
  say("protocol: " + pipeline.described_protocol());
  if (options.saves_label_maps && !is_film) refuse("--save_label_maps does nothing without a video: images have their label maps");
  return is_film ? run_video(pipeline, options) : run_images(pipeline, samples, options);
}

}  // namespace

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

void warn(const std::string& line) { std::fprintf(stderr, "warning: %s\n", line.c_str()); }

}  // namespace paddleseg_ext

int main(int count, char** words) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader of the output that goes away ends no work
  int status = paddleseg_ext::kDone;
  const paddleseg_ext::Status done = paddleseg_ext::guarded(
      [&] { status = paddleseg_ext::run(std::vector<std::string>(words + 1, words + count)); });
  if (done) return status;
  std::fprintf(stderr, "error: %s\n", done.message.c_str());
  return done.code;
}
