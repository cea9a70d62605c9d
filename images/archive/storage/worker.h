// Seals what lies in clear and what is sealed with an older key, beside Orthanc's own reads and writes.
//
// In Orthanc's process, since Orthanc may remove an object at any moment: only here can that wait until the object's
// new file has its names, so that nothing that was removed comes back.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "area.h"
#include "clear.h"
#include "orders.h"

namespace pacs {

struct Progress {
  const char* kind = "None";  // Clear: images in clear are sealed; Keys: sealed ones anew
  const char* state = "Idle";  // Working; Waiting: what failed is tried again later; Done
  const char* problem = "";   // VolumeFull, NoKey, Corrupt, Failed, Foreign
  std::uint64_t left = 0, left_bytes = 0, done = 0, done_bytes = 0, failed = 0, foreign = 0;
  bool all_sealed = false;  // nothing lies in clear any more
  std::string reseal;       // the last word that was done

  std::string json() const;
};

class Worker {
 public:
  // Says what happened; never a name of an object.
  using Say = std::function<void(const std::string&)>;

  Worker(Area& area, std::filesystem::path root, std::filesystem::path orders, Say say);
  ~Worker();

  // In a thread of its own with the lowest priority, until this object goes.
  void start();
  // Until nothing is left to do; false when something is that cannot be done now.
  bool run_once();
  // Orthanc's read and removal while images may still lie in clear.
  void read(const std::string& uuid, std::uint16_t type, std::uint64_t start, std::uint8_t* out, std::uint64_t size);
  void remove(const std::string& uuid);
  Progress progress() const;

 private:
  void loop();
  void look();
  bool seal_clear(const Clear& clear);
  bool seal_anew(const std::string& word);
  void each_outdated(std::uint32_t enough,
                     const std::function<void(Area& area, const std::string& uuid, std::uint64_t size)>& found);
  template <typename Act>
  void one(Area& area, const std::string& uuid, std::uint64_t size, Act act);
  bool finish(const char* kind);
  void begin(const char* kind);
  void pace(std::size_t bytes);
  void wait(std::chrono::milliseconds at_most);
  std::optional<Clear> clear() const;
  std::uint32_t key_for(const std::string& word);
  void done(const std::string& word);

  Area& area_;
  const std::filesystem::path root_, orders_file_;
  const Say say_;
  mutable std::mutex mutex_;
  std::condition_variable woken_;
  bool stopping_ = false;
  Orders orders_;
  Progress progress_;
  std::chrono::steady_clock::time_point free_at_{};
  std::thread thread_;
};

}  // namespace pacs
