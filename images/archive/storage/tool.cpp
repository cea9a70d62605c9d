// pacs-storage: looks at stored objects without Orthanc. It shows no byte of an image.
//
//   pacs-storage check KEYS ROOT         reads every object whole; one line each that is not what was written
//   pacs-storage selftest KEYS ROOT      writes, reads and removes an object of its own
//   pacs-storage reseal KEYS ROOT TYPE UUID          seals an object anew with the active key
//   pacs-storage work KEYS ROOT          does what KEYS.orders says (orders.h), as the plugin does beside Orthanc
//   pacs-storage sweep KEYS ROOT         removes what interrupted writes left; only while Orthanc does not run
//   pacs-storage put KEYS ROOT TYPE UUID <object     and
//   pacs-storage get KEYS ROOT TYPE UUID START SIZE  for restores and tests: the object passes standard output
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>
#include <vector>

#include "area.h"
#include "worker.h"

namespace {

std::uint32_t today() { return static_cast<std::uint32_t>(::time(nullptr) / 86400); }

int check(pacs::Area& area, const std::filesystem::path& root) {
  std::size_t seen = 0, bad = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / "id")) {
    if (!entry.is_regular_file()) continue;
    const auto uuid = entry.path().filename().string();
    ++seen;
    try {
      area.verify(uuid);
    } catch (const std::exception& error) {
      ++bad;
      std::printf("%s %s\n", uuid.c_str(), error.what());
    }
  }
  std::printf("%zu objects, %zu not as written\n", seen, bad);
  return bad == 0 ? 0 : 1;
}

int run(int count, char** words) {
  if (count < 4) {
    std::fputs("usage: pacs-storage check|selftest|sweep|work|put|get|reseal|remove KEYS ROOT [TYPE UUID [START SIZE]]\n",
               stderr);
    return 2;
  }
  const std::string act = words[1];
  pacs::KeyFile keys(words[2]);
  pacs::Area area(words[3], keys, today);
  area.check_keys();
  if (act == "check") return check(area, words[3]);
  if (act == "selftest") {
    area.self_test();
    return 0;
  }
  if (act == "sweep") {
    std::printf("%zu files removed\n", area.sweep());
    return 0;
  }
  if (act == "work") {
    pacs::Worker worker(area, words[3], std::string(words[2]) + ".orders", [](const std::string&) {});
    const bool done = worker.run_once();
    std::puts(worker.progress().json().c_str());
    return done ? 0 : 1;
  }
  const auto type = static_cast<std::uint16_t>(std::stoul(count > 4 ? words[4] : ""));
  if (act == "put" && count == 6) {
    const std::vector<std::uint8_t> data{std::istreambuf_iterator<char>(std::cin), {}};
    area.create(words[5], type, data.data(), data.size());
    return 0;
  }
  if (act == "get" && count == 8) {
    std::vector<std::uint8_t> data(std::stoull(words[7]));
    area.read(words[5], type, std::stoull(words[6]), data.data(), data.size());
    return data.empty() || std::fwrite(data.data(), data.size(), 1, stdout) == 1 ? 0 : 1;
  }
  if (act == "reseal" && count == 6) {
    const auto alone = area.lock();
    std::puts(area.reseal(words[5], area.active_key()) ? "sealed anew" : "already");
    return 0;
  }
  if (act == "remove" && count == 6) {
    const auto alone = area.lock();  // Orthanc may be sealing it anew
    area.remove(words[5]);
    return 0;
  }
  return 2;
}

}  // namespace

int main(int count, char** words) try {
  return run(count, words);
} catch (const std::exception& error) {
  std::fprintf(stderr, "pacs-storage: %s\n", error.what());
  return 1;
}
