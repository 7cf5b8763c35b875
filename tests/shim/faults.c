/* Faults of files, preloaded into the program (LD_PRELOAD).
 *
 * FAULTS_CONTROL names a file of two 64-bit numbers in the machine's order, which the test changes while the program runs:
 *   0  errno of every write and truncation, 0 for none      (28: no space is left)
 *   1  errno of every fsync and fdatasync, 0 for none       (5: an error of the device)
 * Files fail below the folder FAULTS_UNDER only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE_ERRNO, SYNC_ERRNO, NUMBERS };

static volatile int64_t *control;
static const char *under;

__attribute__((constructor)) static void open_control(void) {
  const char *path = getenv("FAULTS_CONTROL");
  under = getenv("FAULTS_UNDER");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *mapped = mmap(NULL, NUMBERS * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) control = mapped;
  close(fd);
}

static int64_t number(int which) { return control ? control[which] : 0; }

/* Whether a call on an open file fails now; sets errno. */
static int fails(int which, int fd) {
  int64_t error = number(which);
  if (error == 0 || under == NULL) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  if (strncmp(path, under, strlen(under)) != 0) return 0;
  errno = (int)error;
  return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t count) { return fails(WRITE_ERRNO, fd) ? -1 : NEXT(write)(fd, bytes, count); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return fails(WRITE_ERRNO, fd) ? -1 : NEXT(writev)(fd, parts, count); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  return fails(WRITE_ERRNO, fd) ? -1 : NEXT(pwrite64)(fd, bytes, count, at);
}
int ftruncate64(int fd, off64_t length) { return fails(WRITE_ERRNO, fd) ? -1 : NEXT(ftruncate64)(fd, length); }
int fsync(int fd) { return fails(SYNC_ERRNO, fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails(SYNC_ERRNO, fd) ? -1 : NEXT(fdatasync)(fd); }
