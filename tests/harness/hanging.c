/* Lets a process that loads it wait at files below a directory, as a file system does that hangs.
 *
 * Preloaded by tests.harness.hanging. HANGING_UNDER says how their paths begin, HANGING_CALLS which
 * calls wait (all, where it is not set), and they hang as long as there is the file HANGING_WHILE.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int is_meant(const char *call) {
  const char *calls = getenv("HANGING_CALLS");
  size_t length = strlen(call);
  for (const char *at = calls; at != NULL; at = strchr(at, ',')) {
    if (*at == ',') at++;
    if (strncmp(at, call, length) == 0 && (at[length] == ',' || at[length] == 0)) return 1;
  }
  return calls == NULL;
}

static void wait_at(const char *call, const char *path) {
  const char *under = getenv("HANGING_UNDER"), *hanging = getenv("HANGING_WHILE");
  if (path == NULL || under == NULL || hanging == NULL || !is_meant(call)) return;
  size_t length = strlen(under);
  /* The directory itself is a part of its file system. */
  if (strncmp(path, under, strlen(path) == length - 1 ? length - 1 : length) != 0) return;
  while (access(hanging, F_OK) == 0) {
    struct timespec moment = {0, 10 * 1000 * 1000};
    nanosleep(&moment, NULL);
  }
}

static void wait_for(const char *call, int file) {
  const char *hanging = getenv("HANGING_WHILE");
  char link[64], path[4096];
  if (hanging == NULL || access(hanging, F_OK) != 0) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return;
  path[length] = 0;
  wait_at(call, path);
}

#define REAL(name)                \
  static __typeof__(&name) real;  \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define MODE                                  \
  mode_t mode = 0;                            \
  if (flags & (O_CREAT | O_TMPFILE)) {        \
    va_list rest;                             \
    va_start(rest, flags);                    \
    mode = va_arg(rest, mode_t);              \
    va_end(rest);                             \
  }

#define OPEN(name)                             \
  int name(const char *path, int flags, ...) { \
    REAL(name);                                \
    MODE                                       \
    wait_at(#name, path);                      \
    return real(path, flags, mode);            \
  }
OPEN(open)
OPEN(open64)

#define STAT(name, buffer)                       \
  int name(const char *path, struct buffer *to) { \
    REAL(name);                                  \
    wait_at(#name, path);                        \
    return real(path, to);                       \
  }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)

#define STAT_AT(name, buffer)                                        \
  int name(int from, const char *path, struct buffer *to, int flags) { \
    REAL(name);                                                      \
    wait_at(#name, path);                                            \
    return real(from, path, to, flags);                              \
  }
STAT_AT(fstatat, stat)
STAT_AT(fstatat64, stat64)

int inotify_add_watch(int watcher, const char *path, uint32_t mask) {
  REAL(inotify_add_watch);
  wait_at("inotify_add_watch", path);
  return real(watcher, path, mask);
}

/* What is open already. */
#define ON_FILE(result, name, parameters, ...) \
  result name parameters {                     \
    REAL(name);                                \
    wait_for(#name, file);                     \
    return real(__VA_ARGS__);                  \
  }
ON_FILE(ssize_t, pread, (int file, void *to, size_t size, off_t at), file, to, size, at)
ON_FILE(ssize_t, pread64, (int file, void *to, size_t size, off64_t at), file, to, size, at)
ON_FILE(ssize_t, pwrite, (int file, const void *from, size_t size, off_t at), file, from, size, at)
ON_FILE(ssize_t, pwrite64, (int file, const void *from, size_t size, off64_t at), file, from, size, at)
ON_FILE(int, fsync, (int file), file)
ON_FILE(int, fdatasync, (int file), file)

#define ON_PATH(result, name, parameters, ...) \
  result name parameters {                     \
    REAL(name);                                \
    wait_at(#name, path);                      \
    return real(__VA_ARGS__);                  \
  }
ON_PATH(DIR *, opendir, (const char *path), path)
ON_PATH(int, unlink, (const char *path), path)
ON_PATH(int, mkdir, (const char *path, mode_t mode), path, mode)
ON_PATH(int, rename, (const char *path, const char *to), path, to)
