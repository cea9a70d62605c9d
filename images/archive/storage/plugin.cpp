// Orthanc's storage area: every object encrypted before it reaches the volume.
//
// PACS_STORAGE_ROOT names the volume's folder, PACS_STORAGE_KEYS the list of data keys in the pod's memory. Without
// either, or without the keys of this volume, Orthanc does not start: nothing is ever stored in clear in its stead.
#include <orthanc/OrthancCPlugin.h>

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>

#include "area.h"
#include "worker.h"

namespace {

OrthancPluginContext* context = nullptr;
std::unique_ptr<pacs::KeyFile> keys;
std::unique_ptr<pacs::Area> area;
std::unique_ptr<pacs::Meter> meter;
std::unique_ptr<pacs::Worker> worker;
std::atomic<std::uint64_t> corrupt{0}, refused{0};

std::uint32_t today() { return static_cast<std::uint32_t>(std::time(nullptr) / 86400); }

void log(const char* uuid, const std::exception& error) {
  OrthancPluginLogError(context, ("pacs-storage: " + std::string(uuid) + ": " + error.what()).c_str());
}

// Does one thing and says in Orthanc's words how it went; no exception crosses into Orthanc.
template <typename Act>
OrthancPluginErrorCode answer(const char* uuid, OrthancPluginErrorCode otherwise, Act act) noexcept {
  try {
    act();
    return OrthancPluginErrorCode_Success;
  } catch (const pacs::Full& error) {
    log(uuid, error);
    return OrthancPluginErrorCode_FullStorage;
  } catch (const pacs::Missing& error) {
    log(uuid, error);
    return OrthancPluginErrorCode_InexistentFile;
  } catch (const pacs::Corrupt& error) {
    ++corrupt;
    log(uuid, error);
    return OrthancPluginErrorCode_CorruptedFile;
  } catch (const std::exception& error) {
    ++refused;
    log(uuid, error);
    return otherwise;
  }
}

OrthancPluginErrorCode create(OrthancPluginMemoryBuffer*, const char* uuid, const void* content, std::uint64_t size,
                              OrthancPluginContentType type, OrthancPluginCompressionType,
                              const OrthancPluginDicomInstance*) {
  return answer(uuid, OrthancPluginErrorCode_CannotWriteFile, [&] {
    area->create(uuid, static_cast<std::uint16_t>(type), static_cast<const std::uint8_t*>(content), size);
  });
}

OrthancPluginErrorCode read_range(OrthancPluginMemoryBuffer64* target, const char* uuid, OrthancPluginContentType type,
                                  std::uint64_t start, const void*, std::uint32_t) {
  return answer(uuid, OrthancPluginErrorCode_StorageAreaPlugin, [&] {
    worker->read(uuid, static_cast<std::uint16_t>(type), start, static_cast<std::uint8_t*>(target->data), target->size);
  });
}

OrthancPluginErrorCode remove(const char* uuid, OrthancPluginContentType, const void*, std::uint32_t) {
  return answer(uuid, OrthancPluginErrorCode_StorageAreaPlugin, [&] { worker->remove(uuid); });
}

// What the last self-test found, for a minute: whoever asks often costs no writes.
class SelfTest {
 public:
  std::string result() {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (result_.empty() || now - at_ >= VALID) {
      result_ = run();
      at_ = now;
    }
    return result_;
  }

 private:
  static constexpr std::chrono::seconds VALID{60};

  static std::string run() noexcept {
    try {
      area->self_test();
      return "Passed";
    } catch (const pacs::Full& error) {
      log("self-test", error);
      return "VolumeFull";
    } catch (const pacs::NoKey& error) {
      log("self-test", error);
      return "NoKey";
    } catch (const pacs::Corrupt& error) {
      log("self-test", error);
      return "Corrupt";
    } catch (const std::exception& error) {
      log("self-test", error);
      return "Failed";
    }
  }

  std::mutex mutex_;
  std::string result_;
  std::chrono::steady_clock::time_point at_;
};

SelfTest self_test;

OrthancPluginErrorCode state(OrthancPluginRestOutput* output, const char*, const OrthancPluginHttpRequest* request) {
  if (request->method != OrthancPluginHttpMethod_Get) {
    OrthancPluginSendMethodNotAllowed(context, output, "GET");
    return OrthancPluginErrorCode_Success;
  }
  return answer("state", OrthancPluginErrorCode_Plugin, [&] {
    const auto tested = self_test.result();
    const auto ring = keys->current();
    // problem() is our own text without quotes.
    const std::string text = "{\"mode\": \"Transit\", \"format\": 1, \"activeKey\": " + std::to_string(ring->active()) +
                             ", \"keys\": " + std::to_string(ring->size()) +
                             ", \"chunks\": " + std::to_string(meter->used(ring->active())) +
                             ", \"keysRefused\": \"" + keys->problem() + "\"" +
                             ", \"selfTest\": \"" + tested + "\"" +
                             ", \"corrupt\": " + std::to_string(corrupt) +
                             ", \"failed\": " + std::to_string(refused) +
                             ", \"work\": " + worker->progress().json() + "}";
    OrthancPluginAnswerBuffer(context, output, text.data(), static_cast<std::uint32_t>(text.size()), "application/json");
  });
}

constexpr const char* KEYS_VARIABLE = "PACS_STORAGE_KEYS";
constexpr const char* ROOT_VARIABLE = "PACS_STORAGE_ROOT";

std::string need(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0')
    throw std::runtime_error(std::string(name) + " is not set: this plugin needs both " + KEYS_VARIABLE + " and " +
                             ROOT_VARIABLE + "; an archive without encryption does not list it under Plugins");
  if (*value != '/') throw std::runtime_error(std::string(name) + " is not an absolute path");
  return value;
}

// Data keys and images are in this memory: none of it goes to a file when the process crashes.
void no_core_dumps() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) throw std::runtime_error("core dumps cannot be switched off");
}

void start() {
  const auto list = need(KEYS_VARIABLE), root = need(ROOT_VARIABLE);
  no_core_dumps();
  keys = std::make_unique<pacs::KeyFile>(list);
  keys->current();
  area = std::make_unique<pacs::Area>(root, *keys, today);
  area->check_keys();
  const auto swept = area->sweep();
  if (swept > 0)
    OrthancPluginLogWarning(context, ("pacs-storage: " + std::to_string(swept) + " files of interrupted writes removed").c_str());
  meter = std::make_unique<pacs::Meter>(root);
  area->count_with(*meter);
  worker = std::make_unique<pacs::Worker>(*area, root, list + ".orders", [](const std::string& text) {
    OrthancPluginLogWarning(context, ("pacs-storage: " + text).c_str());
  });
  worker->start();
}

}  // namespace

extern "C" {

ORTHANC_PLUGINS_API int32_t OrthancPluginInitialize(OrthancPluginContext* given) {
  context = given;
  if (OrthancPluginCheckVersion(context) == 0) {
    OrthancPluginLogError(context, "pacs-storage: Orthanc does not start: it is older than this plugin was built for");
    return -1;
  }
  try {
    start();
  } catch (const std::exception& error) {
    OrthancPluginLogError(context, ("pacs-storage: Orthanc does not start: " + std::string(error.what())).c_str());
    return -1;
  }
  OrthancPluginRegisterStorageArea3(context, create, read_range, remove);
  OrthancPluginRegisterRestCallbackNoLock(context, "/pacs/storage", state);
  return 0;
}

ORTHANC_PLUGINS_API void OrthancPluginFinalize() {
  worker.reset();
  area.reset();
  meter.reset();
  keys.reset();
}

ORTHANC_PLUGINS_API const char* OrthancPluginGetName() { return "pacs-storage"; }

ORTHANC_PLUGINS_API const char* OrthancPluginGetVersion() { return "1"; }

}
