#include "worker.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace pacs {
namespace fs = std::filesystem;
namespace {

using namespace std::chrono_literals;
constexpr auto LOOK_AGAIN = 1s, TRY_AGAIN = 60s;
// Below the root: the last word that was done; the one that is being done, and the key that it began with.
constexpr const char *DONE_WORD = "resealed", *BEGUN_WORD = "resealing";

struct Stopped {};

// The least of processor and disk that a thread can ask for and still get on.
void step_back() {
  constexpr int WHO_PROCESS = 1, BEST_EFFORT_LAST = 2 << 13 | 7;
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 19);
  ::syscall(SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_LAST);
}

std::optional<std::uint64_t> outdated(Area& area, const std::string& uuid, std::uint32_t enough) {
  try {
    return area.outdated(uuid, enough);
  } catch (const Missing&) {  // removed meanwhile
    return std::nullopt;
  } catch (const std::runtime_error&) {  // not legible: the attempt will tell
    return 0;
  }
}

}  // namespace

std::string Progress::json() const {
  const auto number = [](const char* name, std::uint64_t value) {
    return ", \"" + std::string(name) + "\": " + std::to_string(value);
  };
  return "{\"kind\": \"" + std::string(kind) + "\", \"state\": \"" + state + "\", \"problem\": \"" + problem + "\"" +
         number("left", left) + number("leftBytes", left_bytes) + number("done", done) +
         number("doneBytes", done_bytes) + number("failed", failed) + number("foreign", foreign) +
         ", \"allSealed\": " + (all_sealed ? "true" : "false") + ", \"reseal\": \"" + reseal + "\"}";
}

Worker::Worker(Area& area, fs::path root, fs::path orders, Say say)
    : area_(area), root_(std::move(root)), orders_file_(std::move(orders)), say_(std::move(say)) {
  progress_.reseal = Orders::load(root_ / DONE_WORD).reseal;
  look();  // before the first read
}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  woken_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Worker::start() {
  thread_ = std::thread([this] { loop(); });
}

void Worker::loop() {
  step_back();
  for (;;) {
    bool done = false;
    try {
      done = run_once();
    } catch (const Stopped&) {
      return;
    } catch (const std::exception& error) {  // what it says may name files
      say_("the volume could not be walked; tried again");
      const std::lock_guard lock(mutex_);
      progress_.state = "Waiting";
      progress_.problem = dynamic_cast<const Full*>(&error) != nullptr ? "VolumeFull" : "Failed";
    }
    try {
      wait(done ? LOOK_AGAIN : TRY_AGAIN);
    } catch (const Stopped&) {
      return;
    }
  }
}

bool Worker::run_once() {
  look();
  if (const auto lying = clear(); lying && !seal_clear(*lying)) return false;
  std::string word;
  {
    const std::lock_guard lock(mutex_);
    word = orders_.reseal;
    if (word.empty() || word == progress_.reseal) return true;
  }
  return seal_anew(word);
}

void Worker::look() {
  auto orders = Orders::load(orders_file_);
  const std::lock_guard lock(mutex_);
  orders_ = std::move(orders);
}

// Nothing once all was seen sealed: what turns up in clear after that is nobody's image.
std::optional<Clear> Worker::clear() const {
  const std::lock_guard lock(mutex_);
  if (orders_.clear.empty() || progress_.all_sealed) return std::nullopt;
  return Clear(orders_.clear);
}

void Worker::read(const std::string& uuid, std::uint16_t type, std::uint64_t start, std::uint8_t* out,
                  std::uint64_t size) {
  try {
    area_.read(uuid, type, start, out, size);
    return;
  } catch (const Missing&) {
    const auto lying = clear();
    if (!lying) throw;
    try {
      lying->read(uuid, type, start, out, size);
      return;
    } catch (const Missing&) {
    }
  }
  area_.read(uuid, type, start, out, size);  // sealed between the two looks
}

void Worker::remove(const std::string& uuid) {
  const Area::Hold hold(area_, uuid);
  area_.remove(uuid);
  if (const auto lying = clear()) unlink_quietly(lying->path_of(uuid));
}

void Worker::begin(const char* kind) {
  const std::lock_guard lock(mutex_);
  progress_.kind = kind;
  progress_.state = "Working";
  progress_.failed = progress_.left = progress_.left_bytes = 0;
}

template <typename Act>
void Worker::one(Area& area, const std::string& uuid, std::uint64_t size, Act act) {
  const char* problem = nullptr;
  try {
    const Area::Hold hold(area, uuid);
    act();
  } catch (const Missing&) {  // removed meanwhile
  } catch (const Full&) {
    problem = "VolumeFull";
  } catch (const NoKey&) {
    problem = "NoKey";
  } catch (const Corrupt&) {
    problem = "Corrupt";
  } catch (const std::runtime_error&) {
    problem = "Failed";
  }
  const std::lock_guard lock(mutex_);
  if (problem != nullptr) {
    ++progress_.failed;
    progress_.problem = problem;
    return;
  }
  ++progress_.done;
  progress_.done_bytes += size;
  progress_.left -= std::min<std::uint64_t>(progress_.left, 1);
  progress_.left_bytes -= std::min(progress_.left_bytes, size);
}

bool Worker::seal_clear(const Clear& clear) {
  begin("Clear");
  clear.each([this](const std::string&, std::uint64_t size) {
    const std::lock_guard lock(mutex_);
    ++progress_.left;
    progress_.left_bytes += size;
  });
  clear.each([&](const std::string& uuid, std::uint64_t size) {
    const auto step = [this](std::size_t bytes) { pace(bytes); };
    pace(0);
    one(area_, uuid, size, [&] { area_.adopt(uuid, DICOM, clear.path_of(uuid), step); });
  });
  clear.settle();
  const auto foreign = clear.foreign();
  std::uint64_t left = 0;
  clear.each([&left](const std::string&, std::uint64_t) { ++left; });
  {
    const std::lock_guard lock(mutex_);
    progress_.foreign = foreign;
    progress_.failed = std::max(progress_.failed, left);
    if (progress_.failed == 0 && foreign == 0) progress_.all_sealed = true;
  }
  return finish("Clear");
}

// What is under an older key than is enough, or whose names differ: images, then what is quarantined beside them.
void Worker::each_outdated(std::uint32_t enough,
                           const std::function<void(Area&, const std::string&, std::uint64_t)>& found) {
  const auto walk = [&](Area& area, const fs::path& root) {
    for (const auto& entry : fs::recursive_directory_iterator(root / "id")) {
      const auto uuid = entry.path().filename().string();
      if (!is_uuid(uuid)) continue;
      if (const auto length = outdated(area, uuid, enough)) found(area, uuid, *length);
      pace(0);
    }
  };
  walk(area_, root_);
  const auto quarantine = root_.parent_path() / "quarantine";
  if (!fs::exists(quarantine / "id")) return;
  Area beside(quarantine, area_);
  walk(beside, quarantine);
}

bool Worker::seal_anew(const std::string& word) {
  begin("Keys");
  const auto enough = key_for(word);
  each_outdated(enough, [this](Area&, const std::string&, std::uint64_t size) {
    const std::lock_guard lock(mutex_);
    ++progress_.left;
    progress_.left_bytes += size;
  });
  each_outdated(enough, [&](Area& area, const std::string& uuid, std::uint64_t size) {
    one(area, uuid, size, [&] {
      std::optional<Descriptor> alone;
      if (&area != &area_) alone.emplace(area.lock());  // others remove there by the tool
      area.reseal(uuid, enough, [this](std::size_t bytes) { pace(bytes); });
    });
  });
  std::uint64_t left = 0;
  each_outdated(enough, [&left](Area&, const std::string&, std::uint64_t) { ++left; });
  {
    const std::lock_guard lock(mutex_);
    progress_.foreign = 0;
    progress_.failed = std::max(progress_.failed, left);
  }
  if (!finish("Keys")) return false;
  done(word);
  return true;
}

// The key that was active when this word was first seen: were it the newest of each moment, a key that comes during
// the walk, or because of it, would begin it anew, and it might never end.
std::uint32_t Worker::key_for(const std::string& word) {
  const auto active = area_.active_key();
  const auto begun = Orders::load(root_ / BEGUN_WORD);
  const bool goes_on = begun.reseal == word && begun.key > 0;
  if (!goes_on) {
    const auto text = Orders{.rate = 1, .clear = {}, .reseal = word, .key = active}.text();
    const auto temporary = root_ / "tmp" / BEGUN_WORD;
    unlink_quietly(temporary);
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_EXCL);
    file.write(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    file.sync();
    move_name(temporary, root_ / BEGUN_WORD);
  }
  sync_folder(root_);
  return goes_on ? std::min(begun.key, active) : active;
}

bool Worker::finish(const char* kind) {
  const std::lock_guard lock(mutex_);
  const bool done = progress_.failed == 0 && progress_.foreign == 0;
  progress_.state = done ? "Done" : "Waiting";
  if (progress_.failed == 0) progress_.problem = progress_.foreign == 0 ? "" : "Foreign";
  if (done) progress_.left = progress_.left_bytes = 0;
  const std::string what = std::string(kind) == "Clear" ? "images in clear sealed: " : "images sealed anew: ";
  if (progress_.done > 0 || !done)
    say_(what + std::to_string(progress_.done) + ", failed " + std::to_string(progress_.failed) +
         ", files of others " + std::to_string(progress_.foreign));
  return done;
}

// Bytes are let through at the ordered rate; what waits here keeps at most one object's removal waiting.
void Worker::pace(std::size_t bytes) {
  std::unique_lock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  const auto rate = orders_.rate;
  free_at_ = std::max(free_at_, now);
  if (rate > 0)
    free_at_ += std::chrono::nanoseconds(static_cast<std::int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate)));
  woken_.wait_until(lock, free_at_, [this] { return stopping_; });
  if (stopping_) throw Stopped();
}

void Worker::wait(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  woken_.wait_for(lock, at_most, [this] { return stopping_; });
  if (stopping_) throw Stopped();
}

Progress Worker::progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

// Told only when nothing of it is in memory alone.
void Worker::done(const std::string& word) {
  Descriptor(root_, O_RDONLY | O_DIRECTORY).sync_file_system();
  move_name(root_ / BEGUN_WORD, root_ / DONE_WORD);
  sync_folder(root_);
  const std::lock_guard lock(mutex_);
  progress_.reseal = word;
}

}  // namespace pacs
