// One sealed file: written whole and on disk, read by ranges.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "descriptor.h"
#include "format.h"
#include "keyring.h"

namespace pacs {

// The next bytes to seal: where they begin in the object, and how many.
using Source = std::function<const std::uint8_t*(std::uint64_t begins, std::size_t length)>;

Header header_of(Descriptor& file);  // throws Corrupt

// Every byte of the range is authenticated before this returns; throws Corrupt.
void open_range(Descriptor& file, Cipher& cipher, const Header& header, std::uint64_t start, std::uint8_t* out,
                std::uint64_t size);

// Replaces what an interrupted write left under this name. The file is with the disk, but its names are not yet
// certain: sync() makes them so, with those it has been given meanwhile.
Descriptor seal_file(const std::filesystem::path& path, const std::string& name, const Header& header,
                     const Keyring& ring, const Source& source);

}  // namespace pacs
