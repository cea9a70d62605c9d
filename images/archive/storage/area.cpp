#include "area.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <vector>

#include "descriptor.h"

namespace pacs {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t BATCH = 16;  // chunks at a time: 1 MiB

// Kept by each thread: fresh large buffers cost more, in page faults, than the encryption.
std::vector<std::uint8_t>& buffer() {
  thread_local std::vector<std::uint8_t> kept(BATCH * (CHUNK + TAG));
  return kept;
}

void check(const std::string& uuid) {
  constexpr std::size_t DASHES[] = {8, 13, 18, 23};
  bool good = uuid.size() == 36;
  for (std::size_t i = 0; good && i < uuid.size(); ++i) {
    const bool dash = std::find(std::begin(DASHES), std::end(DASHES), i) != std::end(DASHES);
    const char c = uuid[i];
    good = dash ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  }
  // It becomes a path.
  if (!good) throw Failed("an object's name is not a UUID");
}

void sync_folder(const fs::path& folder) { Descriptor(folder, O_RDONLY | O_DIRECTORY).sync(); }

void unlink_quietly(const fs::path& path) { ::unlink(path.c_str()); }

void give_name(const fs::path& from, const fs::path& to) {
  if (::link(from.c_str(), to.c_str()) != 0) fail(errno, "link");
}

void move_name(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail(errno, "rename");
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

Header header_of(Descriptor& file) {
  std::uint8_t bytes[HEADER];
  const auto header = Header::decode(bytes, file.read_at(0, bytes, HEADER));
  if (file.size() != sealed_size(header.length)) throw Corrupt("the file is not as long as its header says");
  return header;
}

void open_range(Descriptor& file, Cipher& cipher, const Header& header, std::uint64_t start, std::uint8_t* out,
                std::uint64_t size) {
  auto& sealed = buffer();
  thread_local std::vector<std::uint8_t> partial(CHUNK);
  const std::uint64_t end = start + size, last = size == 0 ? start / CHUNK : (end - 1) / CHUNK;
  for (std::uint64_t first = start / CHUNK; first <= last; first += BATCH) {
    const auto count = std::min<std::uint64_t>(BATCH, last - first + 1);
    const auto got = file.read_at(HEADER + first * (CHUNK + TAG), sealed.data(), count * (CHUNK + TAG));
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto begins = (first + i) * CHUNK, ends = std::min(begins + CHUNK, header.length);
      const auto length = static_cast<std::size_t>(ends - begins);
      if (got < i * (CHUNK + TAG) + length + TAG) throw Corrupt("the file ends within a chunk");
      const bool whole = begins >= start && ends <= end;
      auto* const target = whole ? out + (begins - start) : partial.data();
      cipher.open(first + i, sealed.data() + i * (CHUNK + TAG), length + TAG, target);
      if (whole) continue;
      const auto from = std::max(begins, start), to = std::min(ends, end);
      std::copy(partial.data() + (from - begins), partial.data() + (to - begins), out + (from - start));
    }
  }
}

}  // namespace

struct Area::Names {
  fs::path temporary, day, id;
};

std::string date_of(std::uint32_t day) {
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{day}}};
  char text[16];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return text;
}

Area::Area(fs::path root, KeyFile& keys, Today today) : root_(std::move(root)), keys_(keys), today_(std::move(today)) {
  for (const char* folder : {"tmp", "day", "id"}) ensure_folder(root_ / folder);
}

Area::Names Area::names_of(const std::string& uuid, std::uint32_t day) const {
  check(uuid);
  return {root_ / "tmp" / uuid, root_ / "day" / date_of(day) / uuid,
          root_ / "id" / uuid.substr(0, 2) / uuid.substr(2, 2) / uuid};
}

void Area::ensure_folder(const fs::path& folder) {
  const std::lock_guard lock(mutex_);
  std::vector<fs::path> missing;
  for (auto at = folder; at != root_ && !folders_.contains(at.native()); at = at.parent_path()) missing.push_back(at);
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    if (::mkdir(at->c_str(), 0700) != 0 && errno != EEXIST) fail(errno, "make folder");
    sync_folder(at->parent_path());
    folders_.insert(at->native());
  }
}

void Area::seal(const fs::path& path, const std::string& uuid, const Header& header, const Keyring& ring,
                const std::uint8_t* data) {
  Cipher cipher(ring.key(header.key_id), header, ring.lineage(), uuid);
  unlink_quietly(path);  // of a write that was interrupted
  Descriptor file(path, O_WRONLY | O_CREAT | O_EXCL);
  const auto bytes = header.encode();
  file.write(bytes.data(), bytes.size());
  auto& sealed = buffer();
  std::size_t filled = 0;
  const auto chunks = chunks_of(header.length);
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
    const auto begins = chunk * CHUNK;
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(CHUNK, header.length - begins));
    cipher.seal(chunk, data + begins, length, sealed.data() + filled);
    filled += length + TAG;
    if (chunk + 1 == chunks || filled + CHUNK + TAG > sealed.size()) {
      file.write(sealed.data(), filled);
      filled = 0;
    }
  }
  file.sync();
}

void Area::create(const std::string& uuid, std::uint16_t type, const std::uint8_t* data, std::uint64_t size) {
  const auto ring = keys_.current();
  Header header;
  header.type = type;
  header.key_id = ring->active();
  header.day = today_();
  header.length = size;
  if (RAND_bytes(header.salt.data(), SALT) != 1) throw Failed("no randomness");
  const auto names = names_of(uuid, header.day);
  ensure_folder(names.day.parent_path());
  ensure_folder(names.id.parent_path());
  Undo undo;
  undo.later(names.temporary);
  seal(names.temporary, uuid, header, *ring, data);
  give_name(names.temporary, names.day);  // never over another object
  undo.later(names.day);
  give_name(names.temporary, names.id);
  undo.later(names.id);
  sync_folder(names.day.parent_path());
  sync_folder(names.id.parent_path());
  undo.forget();
  unlink_quietly(names.temporary);
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
  constexpr std::uint64_t PART = BATCH * CHUNK;
  std::vector<std::uint8_t> plain(static_cast<std::size_t>(std::min(PART, header.length)));
  std::uint64_t start = 0;
  do {
    const auto size = std::min(PART, header.length - start);
    open_range(file, cipher, header, start, plain.data(), size);
    start += size;
  } while (start < header.length);
}

void Area::remove(const std::string& uuid) {
  const auto id = names_of(uuid, 0).id;
  std::uint32_t day = 0;
  try {
    Descriptor file(id, O_RDONLY);
    day = header_of(file).day;
  } catch (const Missing&) {
    return;
  } catch (const Corrupt&) {
    // Its day is not known for certain; the other name stays for whoever looks into it.
    unlink_quietly(id);
    return;
  }
  if (::unlink(id.c_str()) != 0 && errno != ENOENT) fail(errno, "remove");
  unlink_quietly(names_of(uuid, day).day);
}

bool Area::reseal(const std::string& uuid) {
  Descriptor file(names_of(uuid, 0).id, O_RDONLY);
  auto header = header_of(file);
  const auto ring = keys_.current();
  const auto names = names_of(uuid, header.day);
  if (header.key_id == ring->active()) {
    // A crash between the two renames below leaves the day's name on the old file.
    if (fs::equivalent(names.day, names.id)) return false;
    unlink_quietly(names.temporary);
    give_name(names.id, names.temporary);
    move_name(names.temporary, names.day);
    sync_folder(names.day.parent_path());
    return true;
  }
  std::vector<std::uint8_t> plain(header.length);
  {
    Cipher cipher(ring->key(header.key_id), header, ring->lineage(), uuid);
    open_range(file, cipher, header, 0, plain.data(), header.length);
  }
  header.key_id = ring->active();
  if (RAND_bytes(header.salt.data(), SALT) != 1) throw Failed("no randomness");
  const auto second = root_ / "tmp" / (uuid + ".id");
  Undo undo;
  undo.later(names.temporary);
  undo.later(second);
  seal(names.temporary, uuid, header, *ring, plain.data());
  unlink_quietly(second);
  give_name(names.temporary, second);
  move_name(second, names.id);
  move_name(names.temporary, names.day);
  sync_folder(names.id.parent_path());
  sync_folder(names.day.parent_path());
  return true;
}

std::size_t Area::sweep() {
  std::size_t swept = 0;
  for (const auto& entry : fs::directory_iterator(root_ / "tmp")) swept += ::unlink(entry.path().c_str()) == 0;
  return swept;
}

}  // namespace pacs
