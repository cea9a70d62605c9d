#include "orders.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace pacs {
namespace {

constexpr std::streamsize MAX_FILE = 8192;

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
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), orders.rate);
      if (error != std::errc() || end != rest.data() + rest.size()) return {};
    } else if (word == "clear" && orders.clear.empty() && rest.starts_with('/')) {
      orders.clear = rest;
    } else if (word == "reseal" && orders.reseal.empty() && is_hex(rest)) {
      orders.reseal = rest;
    } else {
      const bool last = line == "end" && orders.rate > 0 && lines.peek() == std::istringstream::traits_type::eof();
      return last ? orders : Orders{};
    }
  }
  return {};
}

Orders Orders::load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(MAX_FILE), '\0');
  file.read(text.data(), MAX_FILE);
  text.resize(static_cast<std::size_t>(file.gcount()));
  return parse(text);
}

}  // namespace pacs
