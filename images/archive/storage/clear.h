// Images that Orthanc stored in clear, <folder>/<ab>/<cd>/<uuid>, until each is sealed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace pacs {

constexpr std::uint16_t DICOM = 1;  // Orthanc's content type; this archive's Orthanc stored no other in clear

class Clear {
 public:
  explicit Clear(std::filesystem::path folder) : folder_(std::move(folder)) {}

  std::filesystem::path path_of(const std::string& uuid) const;
  // As it lies there, for who asks while it is not yet sealed; throws Missing or Corrupt.
  void read(const std::string& uuid, std::uint16_t type, std::uint64_t start, std::uint8_t* out,
            std::uint64_t size) const;
  // Every object that lies here, and how many bytes it has.
  void each(const std::function<void(const std::string& uuid, std::uint64_t size)>& found) const;
  // Files that are neither such an object nor in a folder that holds nothing in clear.
  std::uint64_t foreign() const;
  // Takes away folders that are empty and makes certain that what was removed stays so.
  void settle() const;

 private:
  std::filesystem::path folder_;
};

}  // namespace pacs
