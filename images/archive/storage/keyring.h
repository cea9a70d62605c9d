// The data keys of one archive, as the agent lays them into the pod's memory volume.
//
//   pacs-keys 1
//   lineage <32 hex>
//   active <id>          the key that new objects are sealed with
//   key <id> <64 hex>    one line a key
//   end                  without it the file is not whole
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "format.h"

namespace pacs {

// There is no such key, or no usable list of keys: nothing is written in clear instead.
struct NoKey : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Keyring {
 public:
  static Keyring parse(const std::string& text);  // throws NoKey
  ~Keyring();
  Keyring(Keyring&&) noexcept = default;
  Keyring(const Keyring&) = delete;
  Keyring& operator=(const Keyring&) = delete;

  const Key& key(std::uint32_t id) const;  // throws NoKey
  std::uint32_t active() const { return active_; }
  const std::string& lineage() const { return lineage_; }
  std::size_t size() const { return keys_.size(); }
  std::vector<std::uint32_t> ids() const;
  // Refuses a later list that is another archive's, or has another key under a known number; throws NoKey.
  void allow(const Keyring& later) const;

 private:
  Keyring() = default;
  std::uint32_t active_ = 0;
  std::string lineage_;
  std::map<std::uint32_t, Key> keys_;
};

// The file, read again when it was replaced. A replacement that is not whole or not this archive's changes nothing:
// what was readable stays so, and problem() says it.
class KeyFile {
 public:
  explicit KeyFile(std::filesystem::path path) : path_(std::move(path)) {}
  std::shared_ptr<const Keyring> current();  // throws NoKey
  std::string problem() const;               // empty when the file is what is used

 private:
  struct Seen {
    std::uint64_t inode = 0;
    std::int64_t seconds = 0, nanoseconds = 0;
    bool operator==(const Seen&) const = default;
  };
  Keyring load() const;

  std::filesystem::path path_;
  mutable std::mutex mutex_;
  Seen seen_;
  std::string problem_;
  std::shared_ptr<const Keyring> ring_;
};

}  // namespace pacs
