// Whatever lies in a file or in the list of keys: reading it ends in an answer or an exception of ours, and what is
// read is what was written. libFuzzer's interface; `mutate.cpp` drives it where there is no libFuzzer.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "area.h"

namespace {

const std::string UUID = "01234567-89ab-4cde-8f01-23456789abcd";
const std::string KEYS = "pacs-keys 1\nlineage 00112233445566778899aabbccddeeff\nactive 1\nkey 1 " +
                         std::string(64, 'a') + "\nend\n";

struct Place {
  std::filesystem::path root;
  std::unique_ptr<pacs::KeyFile> keys;
  std::unique_ptr<pacs::Area> area;
  std::filesystem::path object;

  Place() {
    char name[] = "/dev/shm/pacs-fuzz-XXXXXX";
    if (::mkdtemp(name) == nullptr) std::abort();
    root = name;
    std::ofstream(root / "keys") << KEYS;
    keys = std::make_unique<pacs::KeyFile>(root / "keys");
    area = std::make_unique<pacs::Area>(root, *keys, [] { return 20000U; });
    object = root / "id" / "01" / "23";
    std::filesystem::create_directories(object);
    object /= UUID;
  }
  ~Place() { std::filesystem::remove_all(root); }
};

Place& place() {
  static Place one;
  return one;
}

std::uint8_t byte_at(std::uint64_t at) { return static_cast<std::uint8_t>(at * 7 + at / 251); }

template <typename Act>
void allowed_to_refuse(Act act) {
  try {
    act();
  } catch (const pacs::Corrupt&) {
  } catch (const pacs::NoKey&) {
  }
}

}  // namespace

std::vector<std::uint8_t> fuzz_seed(std::size_t length) {
  std::vector<std::uint8_t> object(length);
  for (std::size_t i = 0; i < length; ++i) object[i] = byte_at(i);
  place().area->create(UUID, 1, object.data(), object.size());
  std::ifstream file(place().object, std::ios::binary);
  std::vector<std::uint8_t> seed(4);
  const auto half = length / 2;  // its low nine bits are lost below
  for (int i = 0; i < 2; ++i) {
    seed[static_cast<std::size_t>(2 * i)] = static_cast<std::uint8_t>(half / 2 >> 9);
    seed[static_cast<std::size_t>(2 * i + 1)] = static_cast<std::uint8_t>(half / 2);
  }
  seed.insert(seed.end(), std::istreambuf_iterator<char>(file), {});
  place().area->remove(UUID);
  return seed;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  allowed_to_refuse([&] { pacs::Keyring::parse(std::string(reinterpret_cast<const char*>(data), size)); });
  {
    std::ofstream file(place().object, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(data + 4), static_cast<std::streamsize>(size - 4));
  }
  const std::uint64_t start = std::uint64_t{data[0]} << 9 | data[1], length = std::uint64_t{data[2]} << 9 | data[3];
  std::vector<std::uint8_t> out(length);
  allowed_to_refuse([&] {
    place().area->read(UUID, 1, start, out.data(), length);
    // Never other bytes than those that were written.
    for (std::uint64_t i = 0; i < length; ++i)
      if (out[i] != byte_at(start + i)) std::abort();
  });
  allowed_to_refuse([&] { place().area->verify(UUID); });
  allowed_to_refuse([&] { place().area->reseal(UUID, place().area->active_key()); });
  place().area->remove(UUID);
  place().area->sweep();
  return 0;
}
