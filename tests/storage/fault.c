/* Preloaded into an unchanged program: ends it, or fails one call, at the n-th change of a volume.
 *
 * PACS_FAULT_ROOT   folder whose changes count
 * PACS_FAULT_FILE   holds "<n> kill" or "<n> <errno>"; while it is absent or empty nothing counts
 *
 * "kill" comes before the call does anything; a write has done its first half by then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int counted;

static int ours(const char *path) {
  const char *root = getenv("PACS_FAULT_ROOT");
  return root != NULL && path != NULL && strncmp(path, root, strlen(root)) == 0;
}

static int ours_fd(int descriptor) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return ours(path);
}

/* 0: go on; -1: end the program; otherwise the error to give. */
static int due(void) {
  const char *name = getenv("PACS_FAULT_FILE");
  FILE *file = name != NULL ? fopen(name, "re") : NULL;
  char what[32] = "";
  int at = 0, found = file != NULL ? fscanf(file, "%d %31s", &at, what) : 0;
  if (file != NULL) fclose(file);
  if (found != 2) {
    counted = 0;
    return 0;
  }
  if (++counted != at) return 0;
  return strcmp(what, "kill") == 0 ? -1 : atoi(what);
}

static void end(void) { kill(getpid(), SIGKILL); }

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))
#define CHECK(is_ours)            \
  int error = (is_ours) ? due() : 0; \
  if (error < 0) end();           \
  if (error > 0) {                \
    errno = error;                \
    return -1;                    \
  }

int link(const char *from, const char *to) {
  CHECK(ours(to))
  return REAL(int (*)(const char *, const char *), "link")(from, to);
}

int rename(const char *from, const char *to) {
  CHECK(ours(to))
  return REAL(int (*)(const char *, const char *), "rename")(from, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
  CHECK(ours(to))
  return REAL(int (*)(int, const char *, int, const char *, unsigned int), "renameat2")(from_folder, from, to_folder, to, flags);
}

int unlink(const char *path) {
  CHECK(ours(path))
  return REAL(int (*)(const char *), "unlink")(path);
}

int mkdir(const char *path, mode_t mode) {
  CHECK(ours(path))
  return REAL(int (*)(const char *, mode_t), "mkdir")(path, mode);
}

int fsync(int descriptor) {
  CHECK(ours_fd(descriptor))
  return REAL(int (*)(int), "fsync")(descriptor);
}

ssize_t write(int descriptor, const void *data, size_t size) {
  ssize_t (*real)(int, const void *, size_t) = REAL(ssize_t(*)(int, const void *, size_t), "write");
  int error = ours_fd(descriptor) ? due() : 0;
  if (error != 0) {
    ssize_t half = real(descriptor, data, size / 2);
    if (error < 0) end();
    if (half < 0) return half;
    errno = error;
    return -1;
  }
  return real(descriptor, data, size);
}
