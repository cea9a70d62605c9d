// How one object lies on the volume: a header, then chunks of AES-256-GCM in STREAM order
// (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015).
//
//   offset  size  field (integers big-endian)
//        0     4  magic "PACE"
//        4     1  version, 1
//        5     1  suite, 1: AES-256-GCM, chunks of 65,536 bytes
//        6     2  Orthanc's content type (1: DICOM)
//        8     4  id of the data key
//       12     4  day of arrival, days since 1970-01-01 UTC
//       16     8  length of the object, bytes
//       24    32  salt
//       56        chunks: ciphertext of at most 65,536 bytes, then a tag of 16; an empty object has one empty chunk
//
// Key of one object: HKDF-SHA256 (RFC 5869) of the data key, with the salt, and with archive's lineage, object's UUID
// and type as info. Nonce: 7 zero bytes, chunk number (4), 1 in the last chunk else 0. The header is every chunk's
// associated data, so a range of an object is verified with the header that it was found by.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

struct evp_cipher_ctx_st;

namespace pacs {

constexpr std::size_t CHUNK = 65536, TAG = 16, SALT = 32, KEY = 32, HEADER = 56;

using Key = std::array<std::uint8_t, KEY>;
using HeaderBytes = std::array<std::uint8_t, HEADER>;

// What is on the volume is not what was written, or the key is another archive's.
struct Corrupt : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Header {
  std::uint16_t type = 0;
  std::uint32_t key_id = 0;
  std::uint32_t day = 0;
  std::uint64_t length = 0;
  std::array<std::uint8_t, SALT> salt{};

  HeaderBytes encode() const;
  static Header decode(const std::uint8_t* bytes, std::size_t size);  // throws Corrupt
};

std::uint64_t chunks_of(std::uint64_t length);
std::uint64_t sealed_size(std::uint64_t length);

// Seals or opens the chunks of one object. Not for several threads at once.
class Cipher {
 public:
  Cipher(const Key& data_key, const Header& header, const std::string& lineage, const std::string& uuid);
  ~Cipher();
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;

  // Writes size + TAG bytes.
  void seal(std::uint64_t chunk, const std::uint8_t* plain, std::size_t size, std::uint8_t* out);
  // Writes size - TAG bytes; throws Corrupt, and then what was written must not be used.
  void open(std::uint64_t chunk, const std::uint8_t* sealed, std::size_t size, std::uint8_t* out);

 private:
  void begin(std::uint64_t chunk, bool sealing);

  HeaderBytes header_;
  std::uint64_t chunks_;
  Key key_{};
  evp_cipher_ctx_st* context_;
  bool sealing_ = false, keyed_ = false;
};

}  // namespace pacs
