// The files of one archive's storage.
// Below the root:
//
//   tmp/<uuid>                 being written; <uuid>.gone: being removed; swept at start
//   check/<id>                 an empty object sealed with this data key: tells whether a key is the right one
//   day/<YYYY-MM-DD>/<uuid>    by day of arrival: what a backup takes next, without a walk over everything
//   id/<ab>/<cd>/<uuid>        the same file (hard link), as Orthanc asks for it
//
// An object is there once its name stands under id/, and then it is whole and on disk.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "format.h"
#include "keyring.h"
#include "meter.h"
#include "sealed.h"

namespace pacs {

// The volume has no room; nothing of the object is left.
struct Full : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// There is no such object.
struct Missing : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The volume failed; nothing of the object is left.
struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Pace = std::function<void(std::size_t)>;  // told of bytes before they are read; waits, or throws to stop
constexpr std::uint16_t SELF_TYPE = 0xffff;  // of the self-test's objects, here for a moment
using Today = std::function<std::uint32_t()>;  // days since 1970-01-01 UTC

class Area {
 public:
  Area(std::filesystem::path root, KeyFile& keys, Today today);
  // Another folder for the same keys.
  Area(std::filesystem::path root, const Area& other) : Area(std::move(root), other.keys_, other.today_) {}
  ~Area();

  void create(const std::string& uuid, std::uint16_t type, const std::uint8_t* data, std::uint64_t size);
  std::uint64_t length(const std::string& uuid);
  // Fills out with size bytes from start on; every byte is authenticated before this returns.
  void read(const std::string& uuid, std::uint16_t type, std::uint64_t start, std::uint8_t* out, std::uint64_t size);
  // Reads an object whole and lets it go; throws what reading throws.
  void verify(const std::string& uuid);
  void remove(const std::string& uuid);
  // The data key that new objects are sealed with.
  std::uint32_t active_key() { return keys_.current()->active(); }
  // Seals an object anew with the active key, under the same names; false when it is under a key as new as `enough`
  // already. Compared before the old one goes.
  bool reseal(const std::string& uuid, std::uint32_t enough, const Pace& pace = [](std::size_t) {});
  // Seals a file that lies in clear, reads it back, compares, and only then removes the clear one. Its day of arrival
  // is that of its last change.
  void adopt(const std::string& uuid, std::uint16_t type, const std::filesystem::path& clear, const Pace& pace);
  // How long an object is that is not sealed with this key or a newer one under both its names; nothing when it is.
  std::optional<std::uint64_t> outdated(const std::string& uuid, std::uint32_t enough);
  // Keeps other processes that lock this folder waiting.
  Descriptor lock() const;
  // Keeps everybody else who holds this object waiting: between reading and naming it must not be removed.
  class Hold {
   public:
    Hold(Area& area, const std::string& uuid);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    Area& area_;
    std::string uuid_;
  };
  // Removes what an interrupted write or removal left; returns how many files. Only while nobody else writes.
  std::size_t sweep();
  // Refuses keys that this volume was not written with; throws NoKey.
  void check_keys();
  // Has all that is sealed from now on counted.
  void count_with(Meter& meter) { meter_ = &meter; }
  // Writes an object of its own, looks at the file, reads it back, removes it; throws what failed.
  void self_test();

 private:
  struct Names {
    std::filesystem::path temporary, day, id;
  };
  Names names_of(const std::string& uuid, std::uint32_t day) const;
  Header header_for(const Keyring& ring, std::uint16_t type, std::uint32_t day, std::uint64_t length) const;
  void put(const std::string& uuid, const Header& header, const Keyring& ring, const Source& source);
  bool holds(const std::filesystem::path& path, const Keyring& ring, const std::string& uuid, std::uint64_t length,
             const Source& source) const;
  bool sealed_before(const std::filesystem::path& id, const Keyring& ring, const std::string& uuid,
                     std::uint64_t length, const Source& source);
  void settle(const std::string& uuid);
  void forget(const std::string& uuid, const std::filesystem::path& temporary);
  bool key_fits(const Keyring& ring, std::uint32_t id) const;
  enum class Found { NONE, CLOSED, OPENS };
  Found look(const Keyring& ring, std::uint32_t id) const;
  void prove(const Keyring& ring, std::uint32_t id);
  std::vector<std::filesystem::path> make_folders(std::initializer_list<std::filesystem::path> wanted);
  void remember(const std::vector<std::filesystem::path>& folders);
  void ensure_folder(const std::filesystem::path& folder);

  std::filesystem::path root_;
  KeyFile& keys_;
  Today today_;
  Meter* meter_ = nullptr;
  std::mutex mutex_;
  std::set<std::string> folders_, making_;  // there and on disk; there, but perhaps not yet on disk
  std::once_flag first_;
  std::mutex holding_;
  std::condition_variable released_;
  std::set<std::string> held_;
  std::mutex proving_, testing_;
  std::map<std::uint32_t, Key> proven_;
};

std::string date_of(std::uint32_t day);  // YYYY-MM-DD
bool is_uuid(const std::string& name);   // as Orthanc writes them

}  // namespace pacs
