#include "keyring.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <sstream>

namespace pacs {
namespace {

constexpr std::size_t MAX_FILE = 1 << 20;

std::uint32_t number(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0) throw NoKey("a key id is not a number");
  return value;
}

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  throw NoKey("a key is not lower-case hex");
}

Key key_of(const std::string& hex) {
  if (hex.size() != 2 * KEY) throw NoKey("a key has another length than 32 bytes");
  Key key;
  for (std::size_t i = 0; i < KEY; ++i)
    key[i] = static_cast<std::uint8_t>(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
  return key;
}

// Text that held keys leaves none behind.
struct Wiped : std::string {
  ~Wiped() { OPENSSL_cleanse(data(), size()); }
};

void read_whole(int descriptor, Wiped& text) {
  text.resize(MAX_FILE);
  std::size_t have = 0;
  while (have < text.size()) {
    const auto got = ::read(descriptor, text.data() + have, text.size() - have);
    if (got < 0) throw NoKey("the list of keys cannot be read");
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  if (have == MAX_FILE) throw NoKey("the list of keys is too long");
  text.resize(have);
}

}  // namespace

Keyring Keyring::parse(const std::string& text) {
  Keyring ring;
  bool whole = false;
  std::size_t begin = 0, line_number = 0;
  while (begin < text.size()) {
    const auto end = text.find('\n', begin);
    if (whole || end == std::string::npos) throw NoKey("the list of keys is not whole");
    const auto space = text.find(' ', begin);
    const auto word_end = space < end ? space : end;
    const std::string word = text.substr(begin, word_end - begin);
    Wiped rest;
    if (word_end != end) rest.assign(text, word_end + 1, end - word_end - 1);
    begin = end + 1;
    if (line_number++ == 0) {
      if (word != "pacs-keys" || rest != "1") throw NoKey("not a list of keys of this version");
    } else if (word == "lineage" && ring.lineage_.empty() && rest.size() == 32) {
      for (const char c : rest) digit(c);
      ring.lineage_ = rest;
    } else if (word == "active" && ring.active_ == 0) {
      ring.active_ = number(rest);
    } else if (word == "key" && rest.find(' ') != std::string::npos) {
      const auto gap = rest.find(' ');
      Wiped hex;
      hex.assign(rest, gap + 1);
      if (!ring.keys_.emplace(number(rest.substr(0, gap)), key_of(hex)).second) throw NoKey("a key id occurs twice");
    } else if (word == "end" && rest.empty()) {
      whole = true;
    } else {
      throw NoKey("a line in the list of keys is not understood");
    }
  }
  if (!whole || ring.lineage_.empty()) throw NoKey("the list of keys is not whole");
  ring.key(ring.active_);
  return ring;
}

Keyring::~Keyring() {
  for (auto& [id, key] : keys_) OPENSSL_cleanse(key.data(), key.size());
}

const Key& Keyring::key(std::uint32_t id) const {
  const auto found = keys_.find(id);
  if (found == keys_.end()) throw NoKey("no data key " + std::to_string(id));
  return found->second;
}

std::vector<std::uint32_t> Keyring::ids() const {
  std::vector<std::uint32_t> all;
  for (const auto& [id, key] : keys_) all.push_back(id);
  return all;
}

void Keyring::allow(const Keyring& later) const {
  if (later.lineage_ != lineage_) throw NoKey("the list of keys is now another archive's");
  for (const auto& [id, key] : later.keys_) {
    const auto mine = keys_.find(id);
    if (mine != keys_.end() && mine->second != key) throw NoKey("data key " + std::to_string(id) + " is now another");
  }
}

Keyring KeyFile::load() const {
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw NoKey("the list of keys is not there");
  Wiped text;
  try {
    read_whole(descriptor, text);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
  return Keyring::parse(text);
}

std::shared_ptr<const Keyring> KeyFile::current() {
  const std::lock_guard lock(mutex_);
  struct stat now {};
  const bool there = ::stat(path_.c_str(), &now) == 0;
  const Seen seen{now.st_ino, now.st_mtim.tv_sec, now.st_mtim.tv_nsec};
  // The agent replaces the file whole. One that is gone takes no key away that is in memory: images stay readable.
  if (ring_ != nullptr && (!there || seen == seen_)) return ring_;
  try {
    auto later = std::make_shared<const Keyring>(load());
    if (ring_ != nullptr) ring_->allow(*later);
    ring_ = std::move(later);
    problem_.clear();
  } catch (const NoKey& refused) {
    if (ring_ == nullptr) throw;
    problem_ = refused.what();
  }
  seen_ = seen;
  return ring_;
}

std::string KeyFile::problem() const {
  const std::lock_guard lock(mutex_);
  return problem_;
}

}  // namespace pacs
