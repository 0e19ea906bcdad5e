/* A clock of day that can be set for one program: preloaded, it adds to the kernel's as many seconds as stand in the first eight
 * bytes of the file that WEIR_CLOCK names. Other clocks go on as they are. The next eight bytes are a thread's number: when it looks at
 * any clock it makes a system call, once, that no director needs (chroot, to where it is). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *step, *stray;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WEIR_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, 2 * sizeof *step, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0)
        close(file);
    if (place != MAP_FAILED) {
        step = place;
        stray = step + 1;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (stray && *stray && *stray == syscall(SYS_gettid)) {
        syscall(SYS_chroot, "/");
        *stray = 0;
    }
    int status = syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && step && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *step;
    return status;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place)
        *place = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict place, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    place->tv_sec = now.tv_sec;
    place->tv_usec = now.tv_nsec / 1000;
    return 0;
}
