/* Preloaded into an unchanged program: ends it, or fails one call, at the n-th change of a volume.
 *
 * PACS_FAULT_ROOT   folder whose changes count
 * PACS_FAULT_FILE   holds "<n> kill" or "<n> <errno>"; while it is absent or empty nothing counts
 * PACS_FAULT_LOG    where set, takes one line for each change that was made and each sync:
 *                   "write PATH INODE", "name PATH INODE", "unlink PATH", "sync PATH INODE", "sync everything"
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

static int path_of(int descriptor, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, size - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return 1;
}

static int ours_fd(int descriptor) {
  char path[4096];
  return path_of(descriptor, path, sizeof path) && ours(path);
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
static void tell(const char *format, const char *path, unsigned long inode) {
  const char *name = getenv("PACS_FAULT_LOG");
  FILE *file = name != NULL ? fopen(name, "ae") : NULL;
  if (file == NULL) return;
  fprintf(file, format, path, inode);
  fclose(file);
}

static unsigned long inode_of(const char *path) {
  struct stat found;
  return lstat(path, &found) == 0 ? (unsigned long)found.st_ino : 0;
}

static void told(int descriptor, const char *format) {
  char path[4096];
  struct stat found;
  if (path_of(descriptor, path, sizeof path) && ours(path) && fstat(descriptor, &found) == 0)
    tell(format, path, (unsigned long)found.st_ino);
}

/* What was just named lies there now; its folder holds the name in memory alone. */
static int named(int failed, const char *path) {
  if (failed == 0 && ours(path)) tell("name %s %lu\n", path, inode_of(path));
  return failed;
}

#define CHECK(is_ours)            \
  int error = (is_ours) ? due() : 0; \
  if (error < 0) end();           \
  if (error > 0) {                \
    errno = error;                \
    return -1;                    \
  }

int link(const char *from, const char *to) {
  CHECK(ours(to))
  return named(REAL(int (*)(const char *, const char *), "link")(from, to), to);
}

int rename(const char *from, const char *to) {
  CHECK(ours(to))
  return named(REAL(int (*)(const char *, const char *), "rename")(from, to), to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
  CHECK(ours(to))
  int failed = REAL(int (*)(int, const char *, int, const char *, unsigned int), "renameat2")(from_folder, from, to_folder, to, flags);
  return named(failed, to);
}

int unlink(const char *path) {
  CHECK(ours(path))
  int failed = REAL(int (*)(const char *), "unlink")(path);
  if (failed == 0 && ours(path)) tell("unlink %s\n", path, 0);
  return failed;
}

int mkdir(const char *path, mode_t mode) {
  CHECK(ours(path))
  return named(REAL(int (*)(const char *, mode_t), "mkdir")(path, mode), path);
}

int fsync(int descriptor) {
  CHECK(ours_fd(descriptor))
  int failed = REAL(int (*)(int), "fsync")(descriptor);
  if (failed == 0) told(descriptor, "sync %s %lu\n");
  return failed;
}

int syncfs(int descriptor) {
  int failed = REAL(int (*)(int), "syncfs")(descriptor);
  if (failed == 0 && ours_fd(descriptor)) tell("sync everything\n", "", 0);
  return failed;
}

ssize_t write(int descriptor, const void *data, size_t size) {
  told(descriptor, "write %s %lu\n");
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
