#include "meter.h"

#include <fcntl.h>

#include <fstream>
#include <string>

#include "descriptor.h"

namespace pacs {

Meter::Count& Meter::count_of(std::uint32_t key) {
  const auto found = counts_.find(key);
  if (found != counts_.end()) return found->second;
  Count known;
  std::ifstream file(root_ / "check" / ("chunks-" + std::to_string(key)));
  if (!(file >> known.written)) known.written = 0;
  known.used = known.written;
  return counts_.emplace(key, known).first->second;
}

// A volume that takes no number keeps nobody from storing: the count goes on in memory.
void Meter::add(std::uint32_t key, std::uint64_t chunks) noexcept try {
  const std::lock_guard lock(mutex_);
  auto& count = count_of(key);
  count.used += chunks;
  if (count.used <= count.written) return;
  write(key, count.used + BLOCK);
  count.written = count.used + BLOCK;
} catch (...) {
}

std::uint64_t Meter::used(std::uint32_t key) {
  const std::lock_guard lock(mutex_);
  return count_of(key).used;
}

void Meter::write(std::uint32_t key, std::uint64_t number) const {
  const auto name = "chunks-" + std::to_string(key), text = std::to_string(number) + "\n";
  const auto temporary = root_ / "tmp" / name;
  unlink_quietly(temporary);
  {
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_EXCL);
    file.write(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    file.sync();
  }
  move_name(temporary, root_ / "check" / name);
  sync_folder(root_ / "check");
}

}  // namespace pacs
