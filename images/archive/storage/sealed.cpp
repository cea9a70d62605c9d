#include "sealed.h"

#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

namespace pacs {
namespace {

constexpr std::size_t BATCH = 16;  // chunks at a time: 1 MiB
constexpr std::size_t SEALED = BATCH * (CHUNK + TAG), KEPT = 8;

// Lent and kept: fresh large buffers cost more, in page faults, than the encryption. One for each of Orthanc's threads
// would be too many: they take turns.
class Buffer {
 public:
  Buffer() {
    const std::lock_guard lock(mutex());
    if (!kept().empty()) {
      bytes_ = std::move(kept().back());
      kept().pop_back();
    }
    if (bytes_ == nullptr) bytes_ = std::make_unique_for_overwrite<std::uint8_t[]>(SEALED + CHUNK);
  }
  ~Buffer() {
    const std::lock_guard lock(mutex());
    if (kept().size() < KEPT) kept().push_back(std::move(bytes_));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::uint8_t* sealed() const { return bytes_.get(); }
  std::uint8_t* plain() const { return bytes_.get() + SEALED; }

 private:
  using Bytes = std::unique_ptr<std::uint8_t[]>;
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static std::vector<Bytes>& kept() {
    static std::vector<Bytes> all = [] {
      std::vector<Bytes> empty;
      empty.reserve(KEPT);  // so that giving back cannot fail
      return empty;
    }();
    return all;
  }
  Bytes bytes_;
};

}  // namespace

Header header_of(Descriptor& file) {
  std::uint8_t bytes[HEADER];
  const auto header = Header::decode(bytes, file.read_at(0, bytes, HEADER));
  if (file.size() != sealed_size(header.length)) throw Corrupt("the file is not as long as its header says");
  return header;
}

void open_range(Descriptor& file, Cipher& cipher, const Header& header, std::uint64_t start, std::uint8_t* out,
                std::uint64_t size) {
  const Buffer lent;
  auto* const sealed = lent.sealed();
  auto* const partial = lent.plain();
  const std::uint64_t end = start + size, last = size == 0 ? start / CHUNK : (end - 1) / CHUNK;
  for (std::uint64_t first = start / CHUNK; first <= last; first += BATCH) {
    const auto count = std::min<std::uint64_t>(BATCH, last - first + 1);
    const auto got = file.read_at(HEADER + first * (CHUNK + TAG), sealed, count * (CHUNK + TAG));
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto begins = (first + i) * CHUNK, ends = std::min(begins + CHUNK, header.length);
      const auto length = static_cast<std::size_t>(ends - begins);
      if (got < i * (CHUNK + TAG) + length + TAG) throw Corrupt("the file ends within a chunk");
      const bool whole = begins >= start && ends <= end;
      auto* const target = whole ? out + (begins - start) : partial;
      cipher.open(first + i, sealed + i * (CHUNK + TAG), length + TAG, target);
      if (whole) continue;
      const auto from = std::max(begins, start), to = std::min(ends, end);
      std::copy(partial + (from - begins), partial + (to - begins), out + (from - start));
    }
  }
}

Descriptor seal_file(const std::filesystem::path& path, const std::string& name, const Header& header,
                     const Keyring& ring, const Source& source) {
  Cipher cipher(ring.key(header.key_id), header, ring.lineage(), name);
  unlink_quietly(path);
  Descriptor file(path, O_WRONLY | O_CREAT | O_EXCL);
  const auto bytes = header.encode();
  file.write(bytes.data(), bytes.size());
  const Buffer lent;
  std::size_t filled = 0;
  const auto chunks = chunks_of(header.length);
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
    const auto begins = chunk * CHUNK;
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(CHUNK, header.length - begins));
    cipher.seal(chunk, source(begins, length), length, lent.sealed() + filled);
    filled += length + TAG;
    if (chunk + 1 == chunks || filled + CHUNK + TAG > SEALED) {
      file.write(lent.sealed(), filled);
      filled = 0;
    }
  }
  file.flush();
  return file;
}

}  // namespace pacs
