/* Makes writes to databases (*.db, *.db-wal, *.new) fail as the file named by FAULTY_DISK says: eio, enospc, short, fsync, or room N. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum mode { FINE, EIO_WRITE, ENOSPC_WRITE, SHORT_WRITE, FSYNC, ROOM };

/* Where a file ends at the latest, in mode ROOM. */
static __thread off64_t room;

static enum mode mode_of(int fd) {
    char link[64], path[4096], mode[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return FINE;
    path[length] = 0;
    const char *end = strrchr(path, '.');
    if (!end || (strcmp(end, ".db") && strcmp(end, ".db-wal") && strcmp(end, ".new"))) return FINE;
    const char *control = getenv("FAULTY_DISK");
    int file = control ? (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return FINE;
    length = syscall(SYS_read, file, mode, sizeof mode - 1);
    syscall(SYS_close, file);
    mode[length > 0 ? length : 0] = 0;
    if (!strcmp(mode, "eio")) return EIO_WRITE;
    if (!strcmp(mode, "enospc")) return ENOSPC_WRITE;
    if (!strcmp(mode, "short")) return SHORT_WRITE;
    if (!strcmp(mode, "fsync")) return FSYNC;
    if (!strncmp(mode, "room ", 5)) { room = atoll(mode + 5); return ROOM; }
    return FINE;
}

/* How much of a write goes through; -1 with errno set: nothing. */
static ssize_t allowed(int fd, size_t count, off64_t at) {
    switch (mode_of(fd)) {
    case EIO_WRITE: errno = EIO; return -1;
    case ENOSPC_WRITE: errno = ENOSPC; return -1;
    case SHORT_WRITE:
        if (count < 2) { errno = ENOSPC; return -1; }
        return count / 2;
    case ROOM:
        if (at >= room) { errno = ENOSPC; return -1; }
        return (off64_t)count < room - at ? (ssize_t)count : (ssize_t)(room - at);
    default: return count;
    }
}

static ssize_t pwrite_at(int fd, const void *bytes, size_t count, off64_t at) {
    ssize_t goes = allowed(fd, count, at);
    return goes < 0 ? -1 : syscall(SYS_pwrite64, fd, bytes, (size_t)goes, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite_at(fd, bytes, count, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return pwrite_at(fd, bytes, count, at); }

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t goes = allowed(fd, count, lseek64(fd, 0, SEEK_CUR));
    return goes < 0 ? -1 : syscall(SYS_write, fd, bytes, (size_t)goes);
}

static int sync_with(int fd, long call) {
    if (mode_of(fd) == FSYNC) { errno = EIO; return -1; }
    return (int)syscall(call, fd);
}

int fsync(int fd) { return sync_with(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_with(fd, SYS_fdatasync); }
