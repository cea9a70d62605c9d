#include "descriptor.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "area.h"

namespace pacs {

void fail(int error, const char* what) {
  // strerrordesc_np: constant text, safe with threads; paths and ids stay out of it.
  const char* const why = ::strerrordesc_np(error);
  const std::string text = std::string(what) + ": " + (why == nullptr ? "unknown error" : why);
  if (error == ENOSPC || error == EDQUOT) throw Full(text);
  if (error == ENOENT) throw Missing(text);
  throw Failed(text);
}

Descriptor::Descriptor(const std::filesystem::path& path, int flags)
    : number_(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600)) {
  if (number_ < 0) fail(errno, "open");
}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

void Descriptor::write(const std::uint8_t* data, std::size_t size) {
  while (size > 0) {
    const auto done = ::write(number_, data, size);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail(errno, "write");
    data += done;
    size -= static_cast<std::size_t>(done);
  }
}

std::size_t Descriptor::read_at(std::uint64_t offset, std::uint8_t* out, std::size_t size) {
  std::size_t have = 0;
  while (have < size) {
    const auto got = ::pread(number_, out + have, size - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(errno, "read");
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  return have;
}

void Descriptor::flush() {
  constexpr auto ALL = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  // Some file systems cannot; sync() follows in any case.
  if (::sync_file_range(number_, 0, 0, ALL) != 0 && (errno == ENOSPC || errno == EIO)) fail(errno, "flush");
}

void Descriptor::sync() const {
  if (::fsync(number_) != 0) fail(errno, "sync");
}

void Descriptor::sync_file_system() {
  if (::syncfs(number_) != 0) fail(errno, "sync");
}

void Descriptor::lock() const {
  while (::flock(number_, LOCK_EX) != 0)
    if (errno != EINTR) pacs::fail(errno, "lock");
}

void Descriptor::forget() const { ::posix_fadvise(number_, 0, 0, POSIX_FADV_DONTNEED); }

std::uint32_t Descriptor::day() const {
  struct stat found {};
  if (::fstat(number_, &found) != 0) fail(errno, "stat");
  return static_cast<std::uint32_t>(std::max<std::int64_t>(0, found.st_mtim.tv_sec) / 86400);
}

std::uint64_t Descriptor::size() const {
  struct stat found {};
  if (::fstat(number_, &found) != 0) fail(errno, "stat");
  return static_cast<std::uint64_t>(found.st_size);
}

void sync_folder(const std::filesystem::path& folder) { Descriptor(folder, O_RDONLY | O_DIRECTORY).sync(); }

void unlink_quietly(const std::filesystem::path& path) { ::unlink(path.c_str()); }

void give_name(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::link(from.c_str(), to.c_str()) != 0) fail(errno, "link");
}

void move_name(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail(errno, "rename");
}

void move_to_free_name(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) fail(errno, "rename");
  give_name(from, to);
  unlink_quietly(from);
}

}  // namespace pacs
