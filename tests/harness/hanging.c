/* Lets a process that loads it wait at files below a directory, as a file system does that hangs.
 *
 * Preloaded by tests.harness.hanging. HANGING_UNDER says how their paths begin, and they hang as
 * long as there is the file HANGING_WHILE.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void wait_at(const char *path) {
  const char *under = getenv("HANGING_UNDER"), *hanging = getenv("HANGING_WHILE");
  if (path == NULL || under == NULL || hanging == NULL) return;
  if (strncmp(path, under, strlen(under)) != 0) return;
  while (access(hanging, F_OK) == 0) {
    struct timespec moment = {0, 10 * 1000 * 1000};
    nanosleep(&moment, NULL);
  }
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
    wait_at(path);                             \
    return real(path, flags, mode);            \
  }
OPEN(open)
OPEN(open64)

#define STAT(name, buffer)                       \
  int name(const char *path, struct buffer *to) { \
    REAL(name);                                  \
    wait_at(path);                               \
    return real(path, to);                       \
  }
STAT(stat, stat)
STAT(stat64, stat64)

#define STAT_AT(name, buffer)                                        \
  int name(int from, const char *path, struct buffer *to, int flags) { \
    REAL(name);                                                      \
    wait_at(path);                                                   \
    return real(from, path, to, flags);                              \
  }
STAT_AT(fstatat, stat)
STAT_AT(fstatat64, stat64)

int inotify_add_watch(int watcher, const char *path, uint32_t mask) {
  REAL(inotify_add_watch);
  wait_at(path);
  return real(watcher, path, mask);
}
