// The runs of the program `segment`: images, and videos.
#pragma once

#include <string>

#include "json.hpp"
#include "pipeline.hpp"
#include "samples.hpp"

namespace paddleseg_ext {

struct RunOptions {
  std::string config, image_path, save_dir = "output/segment";
  Options segmenter;
  int batch_size = 1;
  std::string absent_class;  // empty: as the bundle says
  bool is_benchmark = false;
  bool shows_detail = true;
  std::string video_codec = "auto";
  bool saves_label_maps = false;  // of a video, one per frame
  int most_frames = 0;  // 0: to the end
};

// Predicts every image, writes its pictures, scores it where it has a label, writes inference.json.
// Returns the exit status: 1 where an image failed; the others are done.
int run_images(const Pipeline& pipeline, const std::vector<Sample>& samples, const RunOptions& options);

bool is_video(const std::string& path);
// Writes the overlays of a video as a video and inference.json. Returns the exit status.
int run_video(const Pipeline& pipeline, const RunOptions& options);

// The engine's own report, as the Python package writes it.
Json describe_backend(const Pipeline& pipeline);
// A line of the run's log.
void say(const std::string& line);
void warn(const std::string& line);

}  // namespace paddleseg_ext
