// How many chunks each data key has sealed, so that the next key comes in time. Counted too high rather than too low:
// a block is written down before it is used, and what a restart leaves of it counts as used.
//
//   check/chunks-<id>    the number, in decimal
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>

namespace pacs {

class Meter {
 public:
  static constexpr std::uint64_t BLOCK = std::uint64_t{1} << 20;  // 64 GiB of images

  explicit Meter(std::filesystem::path root) : root_(std::move(root)) {}
  void add(std::uint32_t key, std::uint64_t chunks) noexcept;
  std::uint64_t used(std::uint32_t key);

 private:
  struct Count {
    std::uint64_t used = 0, written = 0;
  };
  Count& count_of(std::uint32_t key);
  void write(std::uint32_t key, std::uint64_t number) const;

  const std::filesystem::path root_;
  std::mutex mutex_;
  std::map<std::uint32_t, Count> counts_;
};

}  // namespace pacs
