// What is to be done with what already lies on the volume, as the agent lays it beside the list of keys
// (<list>.orders). Without the file, or when it is not understood, nothing is to be done and nothing in clear is read.
//
//   pacs-orders 1
//   rate <bytes a second>    at most so fast
//   clear <folder>           images that Orthanc stored there in clear may be read, and are to be sealed
//   reseal <64 hex>          everything is to be sealed with the active key, once for each such word
//   key <id>                 only in what the volume remembers of such a word: the active key when it began
//   end                      without it the file is not whole
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace pacs {

struct Orders {
  std::uint64_t rate = 0;
  std::filesystem::path clear;  // empty: nothing may lie in clear
  std::string reseal;           // empty: nothing asked
  std::uint32_t key = 0;        // 0: not begun

  static Orders parse(const std::string& text);  // what is not understood asks for nothing
  static Orders load(const std::filesystem::path& path);
  std::string text() const;  // what parse() understands
  bool operator==(const Orders&) const = default;
};

}  // namespace pacs
