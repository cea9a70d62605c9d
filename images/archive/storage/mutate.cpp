// Feeds the fuzzer's side for a time without libFuzzer, which g++ has not: valid files, mutated.
//
//   fuzz SECONDS SEED
//
// The seed decides every input; one that ends the program can be made again.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
std::vector<std::uint8_t> fuzz_seed(std::size_t length);  // a range's four bytes and a file that opens

namespace {

using Input = std::vector<std::uint8_t>;

std::size_t below(std::mt19937_64& random, std::size_t end) { return end == 0 ? 0 : random() % end; }

const char* const KEY_LINES[] = {"pacs-keys 1\n", "lineage 00112233445566778899aabbccddeeff\n", "active 1\n",
                                 "key 1 0011223344556677889900112233445566778899001122334455667788990011\n",
                                 "key 4294967295 00\n", "key 99999999999 aa\n", "active 0\n", "end\n", "\n", " "};

Input key_list(std::mt19937_64& random) {
  Input text;
  for (auto lines = below(random, 9); lines > 0; --lines)
    for (const char* c = KEY_LINES[below(random, std::size(KEY_LINES))]; *c != 0; ++c)
      text.push_back(static_cast<std::uint8_t>(*c));
  return text;
}

void mutate(Input& input, std::mt19937_64& random) {
  const auto at = below(random, input.size());
  switch (random() % 6) {
    case 0:
      if (!input.empty()) input[at] = static_cast<std::uint8_t>(input[at] ^ (1U << (random() % 8)));
      break;
    case 1:  // the header, more often than its size deserves
      if (input.size() > 4 + pacs::HEADER) input[4 + below(random, pacs::HEADER)] = static_cast<std::uint8_t>(random());
      break;
    case 2: input.resize(at); break;
    case 3: input.insert(input.end(), below(random, 300), static_cast<std::uint8_t>(random())); break;
    case 4:
      if (!input.empty()) input.erase(input.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    default:  // a range elsewhere
      for (std::size_t i = 0; i < 4 && i < input.size(); ++i) input[i] = static_cast<std::uint8_t>(random());
  }
}

}  // namespace

int main(int count, char** words) {
  const auto seconds = std::chrono::seconds(count > 1 ? std::atoi(words[1]) : 10);
  std::mt19937_64 random(count > 2 ? std::strtoull(words[2], nullptr, 10) : 1);
  const auto end = std::chrono::steady_clock::now() + seconds;
  const std::size_t lengths[] = {0, 1, 1000, pacs::CHUNK - 1, pacs::CHUNK, pacs::CHUNK + 1, 3 * pacs::CHUNK + 77};
  std::uint64_t inputs = 0;
  for (; std::chrono::steady_clock::now() < end; ++inputs) {
    auto input = random() % 4 == 0 ? key_list(random) : fuzz_seed(lengths[below(random, std::size(lengths))]);
    for (auto times = below(random, 4); times > 0; --times) mutate(input, random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%llu inputs\n", static_cast<unsigned long long>(inputs));
  return 0;
}
