// A file descriptor that closes itself, and reads and writes that do not stop half-way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

namespace pacs {

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags);  // throws Missing, Full or Failed
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  void write(const std::uint8_t* data, std::size_t size);  // throws Full or Failed
  std::size_t read_at(std::uint64_t offset, std::uint8_t* out, std::size_t size);  // less only at the file's end
  // Hands what was written to the disk and waits, without its names and without emptying the disk's own cache.
  void flush();
  void sync() const;
  void sync_file_system();
  void lock() const;  // until it is closed, alone among those who lock it
  // Lets go of what the system remembers of it, so that the next read asks the disk.
  void forget() const;
  std::uint64_t size() const;
  std::uint32_t day() const;  // of its last change, days since 1970-01-01 UTC

 private:
  int number_;
};

[[noreturn]] void fail(int error, const char* what);  // throws Missing, Full or Failed

void sync_folder(const std::filesystem::path& folder);
void unlink_quietly(const std::filesystem::path& path);
void give_name(const std::filesystem::path& from, const std::filesystem::path& to);  // never over another file
void move_name(const std::filesystem::path& from, const std::filesystem::path& to);
void move_to_free_name(const std::filesystem::path& from, const std::filesystem::path& to);  // never over another file

}  // namespace pacs
