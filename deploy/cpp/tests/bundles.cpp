// Damaged and hostile deploy.yaml files: each is refused with a line, or read; none costs much.
#include <random>

#include "bundle.hpp"
#include "check.hpp"
#include "preprocess.hpp"

using namespace paddleseg_ext;

namespace {

std::string sound_text() { return read_file(std::string(TEST_BUNDLE) + "/deploy.yaml"); }

std::string refusal_of(const std::string& text) {
  const Folder folder;
  write(folder.path / "deploy.yaml", text);
  write(folder.path / "model.onnx", read_file(std::string(TEST_BUNDLE) + "/model.onnx"));
  return refusal([&] {
    const Bundle bundle = read_bundle(folder.path.string(), [](const std::string&) {});
    const Preprocess preprocess(bundle);
  });
}

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = sound_text();
  const std::size_t place = text.find(from);
  CHECK(place != std::string::npos);
  return text.replace(place, from.size(), to);
}

void test_rules() {
  CHECK(refusal_of(sound_text()).empty());
  CHECK(contains(refusal_of(replaced("output_op: none", "output_op: nine")), "unknown 'nine'"));
  CHECK(contains(refusal_of(replaced("output_op: none", "outptu_op: none")), "did you mean 'output_op'"));
  CHECK(contains(refusal_of(replaced("format: 1", "format: 2")), "a later release"));
  CHECK(contains(refusal_of(replaced("format: 1", "format: true")), "export the model again"));
  CHECK(contains(refusal_of(replaced("model: model.onnx", "model: ../model.onnx")), "plain name"));
  CHECK(contains(refusal_of(replaced("network: Tiny", "network: 5")), "a text is expected"));
  CHECK(contains(refusal_of(replaced("network: Tiny", "network: Tiny\n  network: Two")), "appears twice"));
  CHECK(contains(refusal_of(replaced("long_size: 96", "long_size: 0")), "'long_size' must be"));
  CHECK(contains(refusal_of(replaced("long_size: 96", "long_size: 1e99")), "'long_size' must be"));
  CHECK(contains(refusal_of(replaced("type: Normalize", "type: RandomBlur")), "cannot be used for inference"));
  CHECK(contains(refusal_of(replaced("class_names:", "class_name:")), "unknown key"));
  CHECK(contains(refusal_of(replaced("- class_1\n", "- class_0\n")), "different names"));
  CHECK(contains(refusal_of(replaced("- class_1\n", "- yes\n")), "class_names"));
  CHECK(contains(refusal_of(replaced("- class_1\n", "- \"a\\x07\"\n")), "the letter"));
  CHECK(contains(refusal_of(replaced("ignore_index: 255", "ignore_index: 256")), "out of range"));
  CHECK(contains(refusal_of(replaced("model.onnx: ", "model.onnx: 9")), ""));
}

void test_hostile_yaml() {
  const auto parse = [](const std::string& text) { return refusal([&] { parse_yaml(text, "x"); }); };
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char name = 'b'; name < 'k'; ++name) {
    const std::string before = std::string("*") + static_cast<char>(name - 1);
    bomb += std::string(1, name) + ": &" + name + " [";
    for (int i = 0; i < 10; ++i) bomb += (i == 0 ? "" : ", ") + before;
    bomb += "]\n";
  }
  CHECK(contains(parse(bomb), "aliases written out"));
  CHECK(contains(parse("a: &a [*a]"), "alias"));
  CHECK(contains(parse(std::string(200, '[')), "nested deeper"));
  CHECK(contains(parse("a: !!python/object:os.system [x]"), "tag"));
  CHECK(contains(parse("a: 1\na: 2"), "appears twice"));
  CHECK(contains(parse("<<: {a: 1}"), "merge"));
  CHECK(contains(parse("a: \xff"), "UTF-8"));
  CHECK(contains(parse("a: b\n---\nc: d"), "several"));
  CHECK(!parse("").empty());
  std::string many = "[";
  for (int i = 0; i < 60000; ++i) many += "1,";
  CHECK(contains(parse(many + "1]"), "more than"));
  CHECK(parse_yaml("a: 0x10", "x")->find("a")->whole == 16);
  CHECK(parse_yaml("a: 1e-4", "x")->find("a")->real == 1e-4);
  CHECK(parse_yaml("a: 'no'", "x")->find("a")->kind == Value::Kind::text);
  CHECK(parse_yaml("a: no", "x")->find("a")->kind == Value::Kind::flag);
}

// Cut off, and with bytes changed: whatever comes, it is a line or a bundle.
void test_damage() {
  const std::string text = sound_text();
  for (std::size_t length = 0; length < text.size(); length += 37) refusal_of(text.substr(0, length));
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string damaged = text;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    refusal_of(damaged);
  }
}

}  // namespace

void test_bundles() {
  test_rules();
  test_hostile_yaml();
  test_damage();
}
