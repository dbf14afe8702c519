/* A disk that fails: loaded in front of the C library, it makes calls on certain paths fail.
 *
 *   FAULT_CALL   write, pwrite64, fsync, fdatasync, rename or unlink; "any" of them; read or pread64
 *   FAULT_PATH   what the path ends in (rename: the new path)
 *   FAULT_UNDER  instead: what the path begins with, or that it is a relative one
 *   FAULT_FIRST  the first such call that is concerned, from 1
 *   FAULT_TIMES  how many are
 *   FAULT_HOW    EIO, ENOSPC, EDQUOT, EINTR; SHORT: half of the bytes are written or read; FLIP: one bit of
 *                them is another one, and nobody is told; KILL: the process dies before the call
 *   FAULT_MARK   a file that is made when it happens
 *   FAULT_LOG    a file that gets a line for each call that is concerned, before it is made
 *   FAULT_CLOCK  seconds by which the clock is wrong; every second look at it is wrong the other way
 *
 * Calls that do not go through the C library (fallocate, renameat2) cannot be reached here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int seen;

static const char *text(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int ends_in(const char *path, const char *end) {
    size_t length = strlen(path), tail = strlen(end);
    return tail > 0 && length >= tail && strcmp(path + length - tail, end) == 0;
}

static int concerned(const char *path) {
    const char *under = text("FAULT_UNDER");
    if (*under == 0) return ends_in(path, text("FAULT_PATH"));
    int special = strchr(path, ':') != NULL; /* pipe:[1234], anon_inode:[eventfd] */
    return !special && (path[0] != '/' || strncmp(path, under, strlen(under)) == 0);
}

static void note(const char *call, const char *path) {
    const char *log = text("FAULT_LOG");
    if (*log == 0) return;
    char line[4200];
    int length = snprintf(line, sizeof line, "%s %s\n", call, path);
    /* Not by the calls that are watched here. */
    long fd = syscall(SYS_openat, AT_FDCWD, log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

static int reads(const char *call) { return strcmp(call, "read") == 0 || strcmp(call, "pread64") == 0; }

static int due(const char *call, const char *path) {
    const char *wanted = text("FAULT_CALL");
    int any = strcmp(wanted, "any") == 0 && !reads(call);
    if (!any && strcmp(wanted, call) != 0) return 0;
    if (!concerned(path)) return 0;
    note(call, path);
    int number = atomic_fetch_add(&seen, 1) + 1, first = atoi(text("FAULT_FIRST"));
    if (number < first || number - first >= atoi(text("FAULT_TIMES"))) return 0;
    int mark = open(text("FAULT_MARK"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (mark >= 0) close(mark);
    if (strcmp(text("FAULT_HOW"), "KILL") == 0) kill(getpid(), SIGKILL);
    return 1;
}

static int due_fd(const char *call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return due(call, path);
}

static int is(const char *how) { return strcmp(text("FAULT_HOW"), how) == 0; }

static int is_short(void) { return is("SHORT"); }

static int fail(void) {
    errno = is("ENOSPC") ? ENOSPC : is("EDQUOT") ? EDQUOT : is("EINTR") ? EINTR : EIO;
    return -1;
}

/* The same bytes, but for one bit in the middle. */
static void *flipped(const void *bytes, size_t count) {
    unsigned char *copy = malloc(count);
    memcpy(copy, bytes, count);
    copy[count / 2] ^= 1;
    return copy;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t (*next)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (!due_fd("write", fd)) return next(fd, bytes, count);
    if (is("FLIP") && count > 0) {
        void *other = flipped(bytes, count);
        ssize_t written = next(fd, other, count);
        free(other);
        return written;
    }
    return is_short() ? next(fd, bytes, (count + 1) / 2) : fail();
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    if (!due_fd("pwrite64", fd)) return next(fd, bytes, count, offset);
    if (is("FLIP") && count > 0) {
        void *other = flipped(bytes, count);
        ssize_t written = next(fd, other, count, offset);
        free(other);
        return written;
    }
    return is_short() ? next(fd, bytes, (count + 1) / 2, offset) : fail();
}

int fsync(int fd) {
    int (*next)(int) = dlsym(RTLD_NEXT, "fsync");
    return due_fd("fsync", fd) ? fail() : next(fd);
}

int fdatasync(int fd) {
    int (*next)(int) = dlsym(RTLD_NEXT, "fdatasync");
    return due_fd("fdatasync", fd) ? fail() : next(fd);
}

int rename(const char *from, const char *to) {
    int (*next)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    return due("rename", to) ? fail() : next(from, to);
}

int unlink(const char *path) {
    int (*next)(const char *) = dlsym(RTLD_NEXT, "unlink");
    return due("unlink", path) ? fail() : next(path);
}

ssize_t read(int fd, void *bytes, size_t count) {
    ssize_t (*next)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    if (!due_fd("read", fd)) return next(fd, bytes, count);
    return is_short() ? next(fd, bytes, (count + 1) / 2) : fail();
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
    ssize_t (*next)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
    if (!due_fd("pread64", fd)) return next(fd, bytes, count, offset);
    return is_short() ? next(fd, bytes, (count + 1) / 2, offset) : fail();
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static atomic_int looks;
    int (*next)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = next(clock, now);
    if (clock == CLOCK_REALTIME) {
        long wrong = atol(text("FAULT_CLOCK"));
        now->tv_sec += atomic_fetch_add(&looks, 1) % 2 ? -wrong : wrong;
    }
    return outcome;
}
