/* LD_PRELOAD: this process's wall clock runs ahead by the whole seconds in the file that SHIFTED_CLOCK names, looked at
   again each tenth of a second; the monotonic clock is left alone. No allocation and no dlsym: Envoy's allocator asks for
   the time before it can allocate. Build: cc -shared -fPIC -O2 -o clock.so clock.c */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *path;
static volatile int known;
static volatile long ahead, look_at_ms;

static long ahead_now(void) {
  struct timespec now;
  char text[24];
  int sign = 1;
  long seconds = 0, length, file;
  if (!known) {
    path = getenv("SHIFTED_CLOCK");
    known = 1;
  }
  if (!path) return 0;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &now);
  if (now.tv_sec * 1000 + now.tv_nsec / 1000000 < look_at_ms) return ahead;
  look_at_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000 + 100;
  file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return ahead;
  length = syscall(SYS_read, file, text, sizeof text);
  syscall(SYS_close, file);
  for (long at = 0; at < length; at++) {
    if (text[at] == '-') sign = -1;
    if (text[at] >= '0' && text[at] <= '9') seconds = seconds * 10 + text[at] - '0';
  }
  return ahead = sign * seconds;
}

int clock_gettime(clockid_t which, struct timespec *now) {
  long failed = syscall(SYS_clock_gettime, which, now);
  if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead_now();
  return failed ? -1 : 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec precise;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (now) *now = precise.tv_sec;
  return precise.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}
