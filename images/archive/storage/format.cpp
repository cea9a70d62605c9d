#include "format.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <cstring>
#include <limits>
#include <new>

namespace pacs {
namespace {

constexpr std::uint8_t MAGIC[4] = {'P', 'A', 'C', 'E'};
constexpr std::uint8_t VERSION = 1, SUITE = 1;
constexpr std::uint32_t LAST_DAY = 2932896;  // 9999-12-31

void put(std::uint8_t* at, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) at[i] = static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
}

std::uint64_t get(const std::uint8_t* at, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | at[i];
  return value;
}

void ensure(bool done) {
  if (!done) throw std::runtime_error("OpenSSL failed");
}

// Once: fetching an algorithm costs more than using it.
EVP_KDF* hkdf() {
  static EVP_KDF* const found = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  ensure(found != nullptr);
  return found;
}

EVP_CIPHER* aes() {
  static EVP_CIPHER* const found = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  ensure(found != nullptr);
  return found;
}

void derive(const Key& data_key, const Header& header, const std::string& lineage, const std::string& uuid, Key& out) {
  // Parts cannot run into each other: neither lineage nor UUID holds a NUL, and the type comes last.
  std::string info("pacs-operator storage 1");
  info.append(1, '\0').append(lineage).append(1, '\0').append(uuid).append(1, '\0').append(std::to_string(header.type));
  std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(EVP_KDF_CTX_new(hkdf()), EVP_KDF_CTX_free);
  ensure(context != nullptr);
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<std::uint8_t*>(data_key.data()), data_key.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, const_cast<std::uint8_t*>(header.salt.data()), SALT),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end(),
  };
  ensure(EVP_KDF_derive(context.get(), out.data(), out.size(), parameters) == 1);
}

}  // namespace

HeaderBytes Header::encode() const {
  HeaderBytes out{};
  std::memcpy(out.data(), MAGIC, sizeof MAGIC);
  out[4] = VERSION;
  out[5] = SUITE;
  put(&out[6], type, 2);
  put(&out[8], key_id, 4);
  put(&out[12], day, 4);
  put(&out[16], length, 8);
  std::memcpy(&out[24], salt.data(), SALT);
  return out;
}

Header Header::decode(const std::uint8_t* bytes, std::size_t size) {
  if (size < HEADER) throw Corrupt("shorter than a header");
  if (std::memcmp(bytes, MAGIC, sizeof MAGIC) != 0) throw Corrupt("not an encrypted object");
  if (bytes[4] != VERSION || bytes[5] != SUITE) throw Corrupt("version or suite unknown to this release");
  Header found;
  found.type = static_cast<std::uint16_t>(get(bytes + 6, 2));
  found.key_id = static_cast<std::uint32_t>(get(bytes + 8, 4));
  found.day = static_cast<std::uint32_t>(get(bytes + 12, 4));
  found.length = get(bytes + 16, 8);
  std::memcpy(found.salt.data(), bytes + 24, SALT);
  // The chunk number has four bytes.
  if (found.length > std::uint64_t{CHUNK} * std::numeric_limits<std::uint32_t>::max())
    throw Corrupt("length beyond the format's limit");
  if (found.day > LAST_DAY) throw Corrupt("day beyond the year 9999");
  return found;
}

std::uint64_t chunks_of(std::uint64_t length) { return length == 0 ? 1 : (length + CHUNK - 1) / CHUNK; }

std::uint64_t sealed_size(std::uint64_t length) { return HEADER + length + TAG * chunks_of(length); }

Cipher::Cipher(const Key& data_key, const Header& header, const std::string& lineage, const std::string& uuid)
    : header_(header.encode()), chunks_(chunks_of(header.length)), context_(EVP_CIPHER_CTX_new()) {
  if (context_ == nullptr) throw std::bad_alloc();
  try {
    derive(data_key, header, lineage, uuid, key_);
  } catch (...) {
    EVP_CIPHER_CTX_free(context_);
    throw;
  }
}

Cipher::~Cipher() {
  EVP_CIPHER_CTX_free(context_);  // clears its copy of the key
  OPENSSL_cleanse(key_.data(), key_.size());
}

void Cipher::begin(std::uint64_t chunk, bool sealing) {
  if (chunk >= chunks_) throw std::logic_error("chunk beyond the object");
  std::uint8_t nonce[12] = {};
  put(nonce + 7, chunk, 4);
  nonce[11] = chunk + 1 == chunks_;
  const bool again = keyed_ && sealing_ == sealing;  // the key schedule stays, the nonce changes
  ensure(EVP_CipherInit_ex2(context_, again ? nullptr : aes(), again ? nullptr : key_.data(), nonce, sealing, nullptr) == 1);
  keyed_ = true;
  sealing_ = sealing;
  int written = 0;
  ensure(EVP_CipherUpdate(context_, nullptr, &written, header_.data(), HEADER) == 1);
}

void Cipher::seal(std::uint64_t chunk, const std::uint8_t* plain, std::size_t size, std::uint8_t* out) {
  begin(chunk, true);
  int written = 0, rest = 0;
  ensure(EVP_CipherUpdate(context_, out, &written, plain, static_cast<int>(size)) == 1);
  ensure(EVP_CipherFinal_ex(context_, out + written, &rest) == 1);
  ensure(EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_GET_TAG, TAG, out + size) == 1);
}

void Cipher::open(std::uint64_t chunk, const std::uint8_t* sealed, std::size_t size, std::uint8_t* out) {
  if (size < TAG) throw Corrupt("a chunk is shorter than its tag");
  begin(chunk, false);
  int written = 0, rest = 0;
  const auto plain = size - TAG;
  std::uint8_t tag[TAG];
  std::memcpy(tag, sealed + plain, TAG);
  ensure(EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_SET_TAG, TAG, tag) == 1);
  ensure(EVP_CipherUpdate(context_, out, &written, sealed, static_cast<int>(plain)) == 1);
  if (EVP_CipherFinal_ex(context_, out + written, &rest) != 1) throw Corrupt("a chunk is not what was written");
}

}  // namespace pacs
