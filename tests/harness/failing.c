/* Lets calls of the process that loads it fail with an I/O error, as a disk does that is broken.
 *
 * Preloaded by tests.harness.failing. FAILING_CALLS names the calls, FAILING_UNDER how the paths
 * begin at which they fail, and they fail as long as there is the file FAILING_WHILE. `create` is an open
 * that may make the file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* Whether one of the words of a list is this text, or its beginning. */
static int has(const char *list, const char *text, int as_beginning) {
  for (const char *word = list; word != NULL && *word != '\0';) {
    size_t length = strcspn(word, ",");
    if (strncmp(word, text, length) == 0 && (as_beginning || text[length] == '\0')) return 1;
    word += length + (word[length] == ',');
  }
  return 0;
}

static int fails(const char *call, const char *path) {
  const char *calls = getenv("FAILING_CALLS"), *until = getenv("FAILING_WHILE");
  if (!has(calls, call, 0) || !has(getenv("FAILING_UNDER"), path, 1)) return 0;
  if (until == NULL || access(until, F_OK) != 0) return 0;
  errno = EIO;
  return 1;
}

static int file_fails(const char *call, int file) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return fails(call, path);
}

#define REAL(name)                \
  static __typeof__(&name) real;  \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OF_FILE(result, name, parameters, arguments) \
  result name parameters {                           \
    REAL(name);                                      \
    return file_fails(#name, file) ? -1 : real arguments; \
  }

#define OF_PATH(name, parameters, arguments)    \
  int name parameters {                         \
    REAL(name);                                 \
    return fails(#name, path) ? -1 : real arguments; \
  }

OF_FILE(ssize_t, write, (int file, const void *bytes, size_t size), (file, bytes, size))
OF_FILE(ssize_t, pwrite, (int file, const void *bytes, size_t size, off_t at),
        (file, bytes, size, at))
OF_FILE(ssize_t, pwrite64, (int file, const void *bytes, size_t size, off64_t at),
        (file, bytes, size, at))
OF_FILE(ssize_t, read, (int file, void *bytes, size_t size), (file, bytes, size))
OF_FILE(ssize_t, pread, (int file, void *bytes, size_t size, off_t at), (file, bytes, size, at))
OF_FILE(ssize_t, pread64, (int file, void *bytes, size_t size, off64_t at),
        (file, bytes, size, at))
OF_FILE(ssize_t, sendfile, (int to, int file, off_t *at, size_t size), (to, file, at, size))
OF_FILE(ssize_t, sendfile64, (int to, int file, off64_t *at, size_t size), (to, file, at, size))
OF_FILE(int, fsync, (int file), (file))
OF_FILE(int, fdatasync, (int file), (file))
OF_FILE(int, ftruncate, (int file, off_t size), (file, size))
OF_FILE(int, ftruncate64, (int file, off64_t size), (file, size))
OF_PATH(rename, (const char *path, const char *to), (path, to))
OF_PATH(unlink, (const char *path), (path))
OF_PATH(inotify_add_watch, (int watcher, const char *path, uint32_t mask), (watcher, path, mask))
OF_PATH(mkdir, (const char *path, mode_t mode), (path, mode))

#define OPEN(name)                                             \
  int name(const char *path, int flags, ...) {                 \
    REAL(name);                                                \
    mode_t mode = 0;                                           \
    if (flags & (O_CREAT | O_TMPFILE)) {                       \
      va_list rest;                                            \
      va_start(rest, flags);                                   \
      mode = va_arg(rest, mode_t);                             \
      va_end(rest);                                            \
    }                                                          \
    if (fails("open", path)) return -1;                        \
    if ((flags & O_CREAT) && fails("create", path)) return -1; \
    return real(path, flags, mode);                            \
  }
OPEN(open)
OPEN(open64)
