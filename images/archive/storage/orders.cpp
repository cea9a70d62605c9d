#include "orders.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace pacs {
namespace {

constexpr std::streamsize MAX_FILE = 8192;

template <typename Number>
bool is_number(const std::string& word, Number& value) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size();
}

bool is_hex(const std::string& word) {
  return word.size() == 64 && std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

}  // namespace

Orders Orders::parse(const std::string& text) {
  Orders orders;
  std::istringstream lines(text);
  std::string line;
  if (!std::getline(lines, line) || line != "pacs-orders 1") return {};
  while (std::getline(lines, line)) {
    if (lines.eof()) return {};  // cut within a line
    const auto space = line.find(' ');
    const auto word = line.substr(0, space), rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (word == "rate" && orders.rate == 0) {
      if (!is_number(rest, orders.rate)) return {};
    } else if (word == "clear" && orders.clear.empty() && rest.starts_with('/')) {
      orders.clear = rest;
    } else if (word == "reseal" && orders.reseal.empty() && is_hex(rest)) {
      orders.reseal = rest;
    } else if (word == "key" && orders.key == 0) {
      if (!is_number(rest, orders.key)) return {};
    } else {
      const bool last = line == "end" && orders.rate > 0 && lines.peek() == std::istringstream::traits_type::eof();
      return last ? orders : Orders{};
    }
  }
  return {};
}

std::string Orders::text() const {
  std::string lines = "pacs-orders 1\nrate " + std::to_string(rate) + "\n";
  if (!clear.empty()) lines += "clear " + clear.string() + "\n";
  if (!reseal.empty()) lines += "reseal " + reseal + "\n";
  if (key > 0) lines += "key " + std::to_string(key) + "\n";
  return lines + "end\n";
}

Orders Orders::load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(MAX_FILE), '\0');
  file.read(text.data(), MAX_FILE);
  text.resize(static_cast<std::size_t>(file.gcount()));
  return parse(text);
}

}  // namespace pacs
