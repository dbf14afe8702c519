/* A disk that fails: loaded in front of the C library, it makes calls on certain paths fail.
 *
 *   FAULT_CALL   write, pwrite64, fsync, fdatasync, rename or unlink; "any" of them
 *   FAULT_PATH   what the path ends in (rename: the new path)
 *   FAULT_UNDER  instead: what the path begins with, or that it is a relative one
 *   FAULT_FIRST  the first such call that is concerned, from 1
 *   FAULT_TIMES  how many are
 *   FAULT_HOW    EIO, ENOSPC; SHORT: half of the bytes are written; KILL: the process dies before the call
 *   FAULT_MARK   a file that is made when it happens
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

static int due(const char *call, const char *path) {
    const char *wanted = text("FAULT_CALL");
    if (strcmp(wanted, "any") != 0 && strcmp(wanted, call) != 0) return 0;
    if (!concerned(path)) return 0;
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

static int is_short(void) { return strcmp(text("FAULT_HOW"), "SHORT") == 0; }

static int fail(void) {
    errno = strcmp(text("FAULT_HOW"), "ENOSPC") == 0 ? ENOSPC : EIO;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t (*next)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (!due_fd("write", fd)) return next(fd, bytes, count);
    return is_short() ? next(fd, bytes, (count + 1) / 2) : fail();
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    if (!due_fd("pwrite64", fd)) return next(fd, bytes, count, offset);
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
