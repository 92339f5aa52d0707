/* Ends the process that loads it at the n-th call by which it changes anything outside of itself.
 *
 * Preloaded into the daemon by tests.harness.killer, which shares four words with it: at which call
 * (0 while nothing is counted), how many there were, whether the last one is done by half, and the
 * call's name. Children are left alone: it counts in the process that was started with it, or in a forked
 * one where that has called `killer_own`, and takes itself out of the environment.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct shared {
  volatile uint64_t at;
  volatile uint64_t count;
  volatile uint64_t by_half;
  char name[16];
};

static struct shared *shared;
static pid_t owner;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("KILLER_FILE");
  if (path == NULL) return;
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void *map = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  unsetenv("LD_PRELOAD");
  unsetenv("KILLER_FILE");
  if (map == MAP_FAILED) return;
  owner = getpid();
  shared = map;
}

/* Called by a process whose children are to be ended in its place (0), and by such a child (1). */
void killer_own(int mine) { owner = mine ? getpid() : 0; }

static void end(void) {
  kill(owner, SIGKILL);
  for (;;) pause();
}

/* Whether this is the call; it does not return where the call is not to be done by half. */
static int reached(const char *name, int has_halves) {
  if (shared == NULL || shared->at == 0 || getpid() != owner) return 0;
  if (__atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST) != shared->at) return 0;
  strncpy(shared->name, name, sizeof shared->name - 1);
  if (!has_halves || !shared->by_half) end();
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define SIMPLE(result, name, parameters, arguments) \
  result name parameters {                          \
    static __typeof__(&name) real;                  \
    if (real == NULL) real = REAL(name);            \
    reached(#name, 0);                              \
    return real arguments;                          \
  }

#define HALVES(result, name, parameters, whole, half) \
  result name parameters {                            \
    static __typeof__(&name) real;                    \
    if (real == NULL) real = REAL(name);              \
    if (reached(#name, 1)) {                          \
      (void)!real half;                               \
      end();                                          \
    }                                                 \
    return real whole;                                \
  }

HALVES(ssize_t, write, (int file, const void *bytes, size_t size), (file, bytes, size),
       (file, bytes, size / 2))
HALVES(ssize_t, pwrite, (int file, const void *bytes, size_t size, off_t at),
       (file, bytes, size, at), (file, bytes, size / 2, at))
HALVES(ssize_t, pwrite64, (int file, const void *bytes, size_t size, off64_t at),
       (file, bytes, size, at), (file, bytes, size / 2, at))
HALVES(ssize_t, send, (int file, const void *bytes, size_t size, int flags),
       (file, bytes, size, flags), (file, bytes, size / 2, flags))
HALVES(ssize_t, sendto,
       (int file, const void *bytes, size_t size, int flags, const struct sockaddr *to,
        socklen_t length),
       (file, bytes, size, flags, to, length), (file, bytes, size / 2, flags, to, length))
SIMPLE(ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count))
SIMPLE(ssize_t, sendmsg, (int file, const struct msghdr *message, int flags),
       (file, message, flags))
SIMPLE(int, fsync, (int file), (file))
SIMPLE(int, fdatasync, (int file), (file))
SIMPLE(int, rename, (const char *from, const char *to), (from, to))
SIMPLE(int, renameat, (int old, const char *from, int directory, const char *to),
       (old, from, directory, to))
SIMPLE(int, unlink, (const char *path), (path))
SIMPLE(int, unlinkat, (int directory, const char *path, int flags), (directory, path, flags))
SIMPLE(int, mkdir, (const char *path, mode_t mode), (path, mode))
SIMPLE(int, ftruncate, (int file, off_t size), (file, size))
SIMPLE(int, ftruncate64, (int file, off64_t size), (file, size))
