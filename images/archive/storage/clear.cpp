#include "clear.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "area.h"

namespace pacs {
namespace fs = std::filesystem;
namespace {

// Sealed images, wrapped keys, how far the nightly scrub is, and what a file system makes for itself.
constexpr std::array KNOWN{"sealed", "keys", "scrub", "lost+found"};
constexpr const char* QUARANTINE = "quarantine";
// What lies in these folders of the quarantine is sealed like the images.
constexpr std::array SEALED{"tmp", "check", "day", "id"};

bool is_pair(const std::string& name) {
  return name.size() == 2 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

template <typename Names>
bool among(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_folder(const fs::directory_entry& entry) { return entry.symlink_status().type() == fs::file_type::directory; }

std::uint64_t files_below(const fs::path& folder) {
  std::uint64_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) files += !is_folder(entry);
  return files;
}

// Below one folder of two letters: objects in folders of two letters, everything else is foreign.
template <typename Object, typename Foreign>
void look_into(const fs::path& outer, Object object, Foreign foreign) {
  for (const auto& inner : fs::directory_iterator(outer)) {
    if (!is_folder(inner)) {
      foreign();
      continue;
    }
    const auto pair = outer.filename().string() + inner.path().filename().string();
    for (const auto& entry : fs::directory_iterator(inner.path())) {
      const auto name = entry.path().filename().string();
      if (entry.symlink_status().type() == fs::file_type::regular && is_uuid(name) && name.starts_with(pair))
        object(name, entry);
      else if (is_folder(entry))
        for (auto left = files_below(entry.path()); left > 0; --left) foreign();
      else
        foreign();
    }
  }
}

}  // namespace

fs::path Clear::path_of(const std::string& uuid) const {
  if (!is_uuid(uuid)) throw Failed("an object's name is not a UUID");  // it becomes a path
  return folder_ / uuid.substr(0, 2) / uuid.substr(2, 2) / uuid;
}

void Clear::read(const std::string& uuid, std::uint16_t type, std::uint64_t start, std::uint8_t* out,
                 std::uint64_t size) const {
  if (type != DICOM) throw Corrupt("an object of another type");
  Descriptor file(path_of(uuid), O_RDONLY);
  const auto length = file.size();
  if (start > length || size > length - start) throw Corrupt("a range beyond the object");
  if (file.read_at(start, out, size) != size) throw Corrupt("the file became shorter");
}

void Clear::each(const std::function<void(const std::string&, std::uint64_t)>& found) const {
  for (const auto& outer : fs::directory_iterator(folder_))
    if (is_folder(outer) && is_pair(outer.path().filename().string()))
      look_into(
          outer.path(),
          [&found](const std::string& uuid, const fs::directory_entry& entry) {
            std::error_code gone;  // removed meanwhile
            const auto size = entry.file_size(gone);
            if (!gone) found(uuid, size);
          },
          [] {});
}

std::uint64_t Clear::foreign() const {
  std::uint64_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const auto name = entry.path().filename().string();
    if (!is_folder(entry)) {
      ++files;
    } else if (is_pair(name)) {
      look_into(entry.path(), [](const std::string&, const fs::directory_entry&) {}, [&files] { ++files; });
    } else if (name == QUARANTINE) {
      for (const auto& held : fs::directory_iterator(entry.path()))
        if (!is_folder(held) || !among(SEALED, held.path().filename().string()))
          files += is_folder(held) ? files_below(held.path()) : 1;
    } else if (!among(KNOWN, name)) {
      files += files_below(entry.path());
    }
  }
  return files;
}

void Clear::settle() const {
  for (const auto& outer : fs::directory_iterator(folder_)) {
    if (!is_folder(outer) || !is_pair(outer.path().filename().string())) continue;
    for (const auto& inner : fs::directory_iterator(outer.path())) ::rmdir(inner.path().c_str());
    ::rmdir(outer.path().c_str());
  }
  Descriptor(folder_, O_RDONLY | O_DIRECTORY).sync_file_system();
}

}  // namespace pacs
