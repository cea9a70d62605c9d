// Orthanc's storage area: every object encrypted before it reaches the volume.
//
// PACS_STORAGE_ROOT names the volume's folder, PACS_STORAGE_KEYS the list of data keys in the pod's memory. Without
// either, or without a usable key, Orthanc does not start: nothing is ever stored in clear in its stead.
#include <orthanc/OrthancCPlugin.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>

#include "area.h"

namespace {

OrthancPluginContext* context = nullptr;
std::unique_ptr<pacs::KeyFile> keys;
std::unique_ptr<pacs::Area> area;
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
    area->read(uuid, static_cast<std::uint16_t>(type), start, static_cast<std::uint8_t*>(target->data), target->size);
  });
}

OrthancPluginErrorCode remove(const char* uuid, OrthancPluginContentType, const void*, std::uint32_t) {
  return answer(uuid, OrthancPluginErrorCode_StorageAreaPlugin, [&] { area->remove(uuid); });
}

OrthancPluginErrorCode state(OrthancPluginRestOutput* output, const char*, const OrthancPluginHttpRequest* request) {
  if (request->method != OrthancPluginHttpMethod_Get) {
    OrthancPluginSendMethodNotAllowed(context, output, "GET");
    return OrthancPluginErrorCode_Success;
  }
  return answer("state", OrthancPluginErrorCode_Plugin, [&] {
    const auto ring = keys->current();
    const std::string text = "{\"format\": 1, \"activeKey\": " + std::to_string(ring->active()) +
                             ", \"keys\": " + std::to_string(ring->size()) +
                             ", \"corrupt\": " + std::to_string(corrupt) +
                             ", \"refused\": " + std::to_string(refused) + "}";
    OrthancPluginAnswerBuffer(context, output, text.data(), static_cast<std::uint32_t>(text.size()), "application/json");
  });
}

std::string need(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value != '/') throw std::runtime_error(std::string(name) + " is not an absolute path");
  return value;
}

}  // namespace

extern "C" {

int32_t OrthancPluginInitialize(OrthancPluginContext* given) {
  context = given;
  if (OrthancPluginCheckVersion(context) == 0) return -1;
  try {
    keys = std::make_unique<pacs::KeyFile>(need("PACS_STORAGE_KEYS"));
    keys->current();
    area = std::make_unique<pacs::Area>(need("PACS_STORAGE_ROOT"), *keys, today);
    area->sweep();
  } catch (const std::exception& error) {
    log("start", error);
    return -1;
  }
  OrthancPluginRegisterStorageArea3(context, create, read_range, remove);
  OrthancPluginRegisterRestCallbackNoLock(context, "/pacs/storage", state);
  return 0;
}

void OrthancPluginFinalize() {
  area.reset();
  keys.reset();
}

const char* OrthancPluginGetName() { return "pacs-storage"; }

const char* OrthancPluginGetVersion() { return "1"; }

}
