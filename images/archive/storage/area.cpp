#include "area.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <vector>

#include "sealed.h"

namespace pacs {
namespace fs = std::filesystem;
namespace {

constexpr const char* GONE = ".gone";

std::optional<std::uint32_t> day_of(const fs::path& path) {
  try {
    Descriptor file(path, O_RDONLY);
    return header_of(file).day;
  } catch (const std::runtime_error&) {
    return std::nullopt;
  }
}

// Takes back what was done, unless told that all went well.
class Undo {
 public:
  ~Undo() {
    for (const auto& path : paths_) unlink_quietly(path);
  }
  void later(fs::path path) { paths_.push_back(std::move(path)); }
  void forget() { paths_.clear(); }

 private:
  std::vector<fs::path> paths_;
};

}  // namespace

bool is_uuid(const std::string& uuid) {
  constexpr std::size_t DASHES[] = {8, 13, 18, 23};
  bool good = uuid.size() == 36;
  for (std::size_t i = 0; good && i < uuid.size(); ++i) {
    const bool dash = std::find(std::begin(DASHES), std::end(DASHES), i) != std::end(DASHES);
    const char c = uuid[i];
    good = dash ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  }
  return good;
}

std::string date_of(std::uint32_t day) {
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{day}}};
  char text[16];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return text;
}

Area::Area(fs::path root, KeyFile& keys, Today today) : root_(std::move(root)), keys_(keys), today_(std::move(today)) {
  // Not its parents: without the volume there is nothing to write to.
  if (::mkdir(root_.c_str(), 0700) != 0 && errno != EEXIST) fail(errno, "make folder");
  for (const char* folder : {"tmp", "check", "day", "id"}) ensure_folder(root_ / folder);
}

Area::Names Area::names_of(const std::string& uuid, std::uint32_t day) const {
  if (!is_uuid(uuid)) throw Failed("an object's name is not a UUID");  // it becomes a path
  return {root_ / "tmp" / uuid, root_ / "day" / date_of(day) / uuid,
          root_ / "id" / uuid.substr(0, 2) / uuid.substr(2, 2) / uuid};
}

// Returns those that are new; they are certain only once their parents are on disk.
std::vector<fs::path> Area::make_folders(std::initializer_list<fs::path> wanted) {
  std::vector<fs::path> unknown, fresh;
  const std::lock_guard lock(mutex_);
  for (const auto& folder : wanted)
    for (auto at = folder; at != root_ && !folders_.contains(at.native()); at = at.parent_path()) unknown.push_back(at);
  std::sort(unknown.begin(), unknown.end());  // parents first
  for (const auto& folder : unknown) {
    const bool made = ::mkdir(folder.c_str(), 0700) == 0;
    if (!made && errno != EEXIST) fail(errno, "make folder");
    if (made) making_.insert(folder.native());
    // Another thread may have made it a moment ago: then both wait. What was there before the first write was synced then.
    if (making_.contains(folder.native()))
      fresh.push_back(folder);
    else
      folders_.insert(folder.native());
  }
  return fresh;
}

void Area::remember(const std::vector<fs::path>& folders) {
  const std::lock_guard lock(mutex_);
  for (const auto& folder : folders) {
    making_.erase(folder.native());
    folders_.insert(folder.native());
  }
}

void Area::ensure_folder(const fs::path& folder) {
  const auto fresh = make_folders({folder});
  for (const auto& made : fresh) sync_folder(made.parent_path());
  remember(fresh);
}

Header Area::header_for(const Keyring& ring, std::uint16_t type, std::uint32_t day, std::uint64_t length) const {
  Header header;
  header.type = type;
  header.key_id = ring.active();
  header.day = day;
  header.length = length;
  if (RAND_bytes(header.salt.data(), SALT) != 1) throw Failed("no randomness");
  return header;
}

void Area::create(const std::string& uuid, std::uint16_t type, const std::uint8_t* data, std::uint64_t size) {
  const auto ring = keys_.current();
  put(uuid, header_for(*ring, type, today_(), size), *ring,
      [data](std::uint64_t begins, std::size_t) { return data + begins; });
}

void Area::put(const std::string& uuid, const Header& header, const Keyring& ring, const Source& source) {
  const auto names = names_of(uuid, header.day);
  prove(ring, header.key_id);
  if (meter_ != nullptr) meter_->add(header.key_id, chunks_of(header.length));
  std::call_once(first_, [this] { Descriptor(root_, O_RDONLY | O_DIRECTORY).sync_file_system(); });
  const auto fresh = make_folders({names.day.parent_path(), names.id.parent_path()});
  Undo undo;
  undo.later(names.temporary);
  auto file = seal_file(names.temporary, uuid, header, ring, source);
  give_name(names.temporary, names.day);
  undo.later(names.day);  // not before: a name that was taken is another object's
  move_to_free_name(names.temporary, names.id);
  undo.later(names.id);
  // Bytes are with the disk before a name says that they are. One wait for the journal makes all of it certain: the
  // first of these takes it, the others find nothing to do.
  file.sync();
  sync_folder(names.day.parent_path());
  sync_folder(names.id.parent_path());
  for (const auto& folder : fresh) sync_folder(folder.parent_path());
  undo.forget();
  remember(fresh);
}

Area::Hold::Hold(Area& area, const std::string& uuid) : area_(area), uuid_(uuid) {
  std::unique_lock lock(area_.holding_);
  area_.released_.wait(lock, [this] { return !area_.held_.contains(uuid_); });
  area_.held_.insert(uuid_);
}

Area::Hold::~Hold() {
  const std::lock_guard lock(area_.holding_);
  area_.held_.erase(uuid_);
  area_.released_.notify_all();
}

Descriptor Area::lock() const {
  Descriptor folder(root_, O_RDONLY | O_DIRECTORY);
  folder.lock();
  return folder;
}

std::uint64_t Area::length(const std::string& uuid) {
  Descriptor file(names_of(uuid, 0).id, O_RDONLY);
  return header_of(file).length;
}

void Area::read(const std::string& uuid, std::uint16_t type, std::uint64_t start, std::uint8_t* out,
                std::uint64_t size) {
  Descriptor file(names_of(uuid, 0).id, O_RDONLY);
  const auto header = header_of(file);
  if (header.type != type) throw Corrupt("an object of another type");
  if (start > header.length || size > header.length - start) throw Corrupt("a range beyond the object");
  if (size == 0 && header.length != 0) return;
  const auto ring = keys_.current();
  Cipher cipher(ring->key(header.key_id), header, ring->lineage(), uuid);
  open_range(file, cipher, header, start, out, size);
}

void Area::verify(const std::string& uuid) {
  Descriptor file(names_of(uuid, 0).id, O_RDONLY);
  const auto header = header_of(file);
  const auto ring = keys_.current();
  Cipher cipher(ring->key(header.key_id), header, ring->lineage(), uuid);
  constexpr std::uint64_t PART = 16 * CHUNK;
  std::vector<std::uint8_t> plain(static_cast<std::size_t>(std::min(PART, header.length)));
  std::uint64_t start = 0;
  do {
    const auto size = std::min(PART, header.length - start);
    open_range(file, cipher, header, start, plain.data(), size);
    start += size;
  } while (start < header.length);
}

void Area::remove(const std::string& uuid) {
  const auto names = names_of(uuid, 0);
  const auto gone = root_ / "tmp" / (uuid + GONE);
  try {
    // Under this name a crash half-way is found at the next start.
    move_name(names.id, gone);
  } catch (const Missing&) {
    return;
  } catch (const Full&) {
    const auto day = day_of(names.id);
    if (::unlink(names.id.c_str()) != 0 && errno != ENOENT) fail(errno, "remove");
    if (day) unlink_quietly(names_of(uuid, *day).day);
    return;
  }
  forget(uuid, gone);
}

// Takes away the day's name of what lies under a temporary one, and then that.
void Area::forget(const std::string& uuid, const fs::path& temporary) {
  // Without a legible header its day is not known; the other name stays for whoever looks into it.
  if (const auto day = day_of(temporary)) unlink_quietly(names_of(uuid, *day).day);
  unlink_quietly(temporary);
}

std::optional<std::uint64_t> Area::outdated(const std::string& uuid, std::uint32_t enough) {
  const auto id = names_of(uuid, 0).id;
  Descriptor file(id, O_RDONLY);
  const auto header = header_of(file);
  if (header.type == SELF_TYPE) return std::nullopt;
  std::error_code none;
  keys_.current()->key(header.key_id);  // one that nobody knows is not newer than any
  if (header.key_id >= enough && fs::equivalent(names_of(uuid, header.day).day, id, none))
    return std::nullopt;
  return header.length;
}

bool Area::reseal(const std::string& uuid, std::uint32_t enough, const Pace& pace) {
  Descriptor file(names_of(uuid, 0).id, O_RDONLY);
  const auto before = header_of(file);
  const auto ring = keys_.current();
  const auto names = names_of(uuid, before.day);
  Cipher cipher(ring->key(before.key_id), before, ring->lineage(), uuid);
  std::vector<std::uint8_t> plain(CHUNK);
  // Before anything is named by what the header says.
  open_range(file, cipher, before, 0, plain.data(), before.length == 0 ? 0 : 1);
  ensure_folder(names.day.parent_path());
  if (before.key_id >= enough) {
    // A crash between the two renames below leaves the day's name on the old file.
    if (fs::exists(names.day) && fs::equivalent(names.day, names.id)) return false;
    unlink_quietly(names.temporary);
    give_name(names.id, names.temporary);
    move_name(names.temporary, names.day);
    sync_folder(names.day.parent_path());
    return true;
  }
  const Source opened = [&](std::uint64_t begins, std::size_t length) {
    pace(length);
    open_range(file, cipher, before, begins, plain.data(), length);
    return plain.data();
  };
  const auto header = header_for(*ring, before.type, before.day, before.length);
  prove(*ring, header.key_id);
  if (meter_ != nullptr) meter_->add(header.key_id, chunks_of(header.length));
  const auto second = root_ / "tmp" / (uuid + ".id");
  Undo undo;
  undo.later(names.temporary);
  undo.later(second);
  {
    const auto written = seal_file(names.temporary, uuid, header, *ring, opened);
    written.sync();
    written.forget();
  }
  file.forget();
  if (!holds(names.temporary, *ring, uuid, header.length, opened)) throw Failed("what was sealed anew is not what was read");
  unlink_quietly(second);
  give_name(names.temporary, second);
  move_name(second, names.id);
  move_name(names.temporary, names.day);
  sync_folder(names.id.parent_path());
  sync_folder(names.day.parent_path());
  return true;
}

// Whether a sealed file holds exactly these bytes; throws Corrupt when it does not open.
bool Area::holds(const fs::path& path, const Keyring& ring, const std::string& uuid, std::uint64_t length,
                 const Source& source) const {
  Descriptor file(path, O_RDONLY);
  const auto header = header_of(file);
  if (header.length != length) return false;
  Cipher cipher(ring.key(header.key_id), header, ring.lineage(), uuid);
  std::vector<std::uint8_t> plain(CHUNK);
  std::uint64_t begins = 0;
  do {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(CHUNK, length - begins));
    open_range(file, cipher, header, begins, plain.data(), size);
    if (size > 0 && !std::equal(plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(size), source(begins, size))) return false;
    begins += size;
  } while (begins < length);
  return true;
}

void Area::adopt(const std::string& uuid, std::uint16_t type, const fs::path& clear, const Pace& pace) {
  Descriptor file(clear, O_RDONLY);
  const auto size = file.size();
  std::vector<std::uint8_t> plain(CHUNK);
  const Source source = [&](std::uint64_t begins, std::size_t length) {
    pace(length);
    if (file.read_at(begins, plain.data(), length) != length) throw Failed("a file in clear became shorter");
    return plain.data();
  };
  const auto ring = keys_.current();
  const auto names = names_of(uuid, file.day());
  const auto& id = names.id;
  if (!sealed_before(id, *ring, uuid, size, source)) {
    unlink_quietly(names.day);  // of an earlier try, and perhaps without a legible header
    put(uuid, header_for(*ring, type, file.day(), size), *ring, source);
    Descriptor(id, O_RDONLY).forget();
    file.forget();
    if (!holds(id, *ring, uuid, size, source)) throw Failed("what was sealed is not what was read");
  }
  unlink_quietly(clear);
}

// Makes certain what an earlier try, killed before it could, left in memory alone: bytes, names and new folders. What
// is read after this comes from the disk.
void Area::settle(const std::string& uuid) {
  const Descriptor file(names_of(uuid, 0).id, O_RDONLY);
  file.sync();
  Descriptor(root_, O_RDONLY | O_DIRECTORY).sync_file_system();
  file.forget();
}

// Whether an earlier try got as far as the object's name. What lost its bytes in a loss of power is taken away.
bool Area::sealed_before(const fs::path& id, const Keyring& ring, const std::string& uuid, std::uint64_t length,
                         const Source& source) {
  if (!fs::exists(id)) return false;
  settle(uuid);
  try {
    if (holds(id, ring, uuid, length, source)) return true;
  } catch (const Corrupt&) {
    remove(uuid);
    return false;
  }
  throw Failed("a sealed object and one in clear differ under one name");
}

std::size_t Area::sweep() {
  std::size_t swept = 0;
  for (const auto& entry : fs::directory_iterator(root_ / "tmp")) {
    const auto& path = entry.path();
    const auto uuid = path.stem().string();
    // Gone, or never named under id/: at most the day's name is left. A write that got that name stays: whether
    // Orthanc's index knows it cannot be seen from here.
    const bool object = is_uuid(uuid) && (path.extension() == GONE || !path.has_extension());
    if (object && !fs::exists(names_of(uuid, 0).id)) forget(uuid, path);
    swept += ::unlink(path.c_str()) == 0 || !fs::exists(path);
  }
  return swept;
}

}  // namespace pacs
