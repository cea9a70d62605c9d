// What the storage area asks itself: are these the keys of this volume, and does it do what it is there for?
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "area.h"
#include "sealed.h"

namespace pacs {
namespace fs = std::filesystem;
namespace {

constexpr const char* CHECK = "check";                                 // in place of an object's UUID
constexpr const char* SELF = "00000000-0000-4000-8000-000000000000";  // no random UUID is this one
constexpr std::string_view CANARY = "DICM^PACS^STORAGE^SELF^TEST ";
constexpr int LOOKED_AT = 16, WALKED = 100'000;

std::vector<std::uint8_t> canaries() {
  std::vector<std::uint8_t> data(CHUNK + 4096);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(CANARY[i % CANARY.size()]);
  return data;
}

}  // namespace

Area::~Area() {
  for (auto& [id, key] : proven_) OPENSSL_cleanse(key.data(), key.size());
}

// False when there is nothing yet to hold the key against.
bool Area::key_fits(const Keyring& ring, std::uint32_t id) const {
  try {
    Descriptor file(root_ / "check" / std::to_string(id), O_RDONLY);
    const auto header = header_of(file);
    if (header.key_id != id) throw Corrupt("of another key");
    Cipher cipher(ring.key(id), header, ring.lineage(), CHECK);
    open_range(file, cipher, header, 0, nullptr, 0);
    return true;
  } catch (const Missing&) {
    return false;
  } catch (const Corrupt&) {
    throw NoKey("data key " + std::to_string(id) +
                " is not the one that this volume was written with: another key, or another archive's");
  }
}

// Once a key: what is sealed with it later can be told from what another key of this number sealed.
void Area::prove(const Keyring& ring, std::uint32_t id) {
  const std::lock_guard lock(proving_);
  const auto known = proven_.find(id);
  if (known != proven_.end() && known->second == ring.key(id)) return;
  if (!key_fits(ring, id)) {
    Header header;
    header.key_id = id;
    header.day = today_();
    if (RAND_bytes(header.salt.data(), SALT) != 1) throw Failed("no randomness");
    const auto number = std::to_string(id);
    const auto temporary = root_ / "tmp" / ("check." + number);
    try {
      seal_file(temporary, CHECK, header, ring, [](std::uint64_t, std::size_t) { return nullptr; }).sync();
      move_name(temporary, root_ / "check" / number);
    } catch (...) {
      unlink_quietly(temporary);
      throw;
    }
    sync_folder(root_ / "check");
  }
  proven_.insert_or_assign(id, ring.key(id));
}

// Looks for objects, sealed with one key or (0) with any, and opens the first few. Single ones may be damaged.
Area::Found Area::look(const Keyring& ring, std::uint32_t id) const {
  int looked = 0, walked = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root_ / "id")) {
    if (!entry.is_regular_file()) continue;
    if (++walked > WALKED || looked == LOOKED_AT) break;
    try {
      Descriptor file(entry.path(), O_RDONLY);
      const auto header = header_of(file);
      if (id != 0 && header.key_id != id) continue;
      ++looked;
      Cipher cipher(ring.key(header.key_id), header, ring.lineage(), entry.path().filename().string());
      std::uint8_t first = 0;
      open_range(file, cipher, header, 0, &first, header.length == 0 ? 0 : 1);
      return Found::OPENS;
    } catch (const std::runtime_error&) {
      ++looked;
    }
  }
  return looked == 0 ? Found::NONE : Found::CLOSED;
}

void Area::check_keys() {
  const auto ring = keys_.current();
  bool held = false;
  for (const auto id : ring->ids()) {
    try {
      held = key_fits(*ring, id) || held;
    } catch (const NoKey&) {
      // The check file itself may be damaged: an object that opens is worth more.
      if (look(*ring, id) != Found::OPENS) throw;
      unlink_quietly(root_ / "check" / std::to_string(id));
      held = true;
    }
  }
  // No check file, as after a restore of the objects alone.
  if (!held && look(*ring, 0) == Found::CLOSED)
    throw NoKey("no data key opens the objects on this volume: other keys, or another archive's");
}

void Area::self_test() {
  const std::lock_guard lock(testing_);
  const auto data = canaries();
  remove(SELF);  // of a test that was interrupted
  // Where a loss of power left it no legible header, its day's name is left, and would be in the way until midnight.
  unlink_quietly(names_of(SELF, today_()).day);
  create(SELF, SELF_TYPE, data.data(), data.size());
  try {
    Descriptor file(names_of(SELF, 0).id, O_RDONLY);
    std::vector<std::uint8_t> raw(static_cast<std::size_t>(file.size()));
    file.read_at(0, raw.data(), raw.size());
    if (std::search(raw.begin(), raw.end(), CANARY.begin(), CANARY.end()) != raw.end())
      throw Failed("the file holds the object in clear");
    std::vector<std::uint8_t> back(data.size());
    read(SELF, SELF_TYPE, 0, back.data(), back.size());
    std::vector<std::uint8_t> part(100);
    read(SELF, SELF_TYPE, CHUNK - 50, part.data(), part.size());
    if (back != data || !std::equal(part.begin(), part.end(), data.begin() + (CHUNK - 50)))
      throw Failed("what is read is not what was written");
  } catch (...) {
    remove(SELF);
    throw;
  }
  remove(SELF);
}

}  // namespace pacs
