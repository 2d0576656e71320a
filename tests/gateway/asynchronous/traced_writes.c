/* Preloaded into a process: each change of a file below TRACED is appended to TRACE, in order, when it has been made.
 * A record: kind (1 byte), length of the path, offset, length of the data (8 bytes each), path, data.
 * Kinds: w written at an offset, s synced, t cut to a length (the offset), u removed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

static void put(const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    while (size) {
        ssize_t done = real(trace, data, size);
        if (done <= 0) abort();
        data = (const char *)data + done;
        size -= done;
    }
}

static void told(char kind, const char *path, uint64_t offset, const void *data, uint64_t size) {
    uint64_t head[3] = {strlen(path), offset, size};
    if (trace < 0) trace = open(getenv("TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    put(&kind, 1);
    put(head, sizeof head);
    put(path, head[0]);
    put(data, size);
}

/* Whether the descriptor is of a file or folder below TRACED; then the rest of its path. */
static int below(int fd, char *path) {
    const char *root = getenv("TRACED");
    char link[64], found[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = root ? readlink(link, found, sizeof found - 1) : -1;
    if (size < 0) return 0;
    found[size] = 0;
    if (strncmp(found, root, strlen(root))) return 0;
    strcpy(path, found + strlen(root));
    return 1;
}

#define TRACED_CALL(type, call, kind, offset, data, size) \
    char path[4096]; \
    pthread_mutex_lock(&turn); \
    type done = call; \
    if (done >= 0 && below(fd, path)) told(kind, path, offset, data, size); \
    pthread_mutex_unlock(&turn); \
    return done

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    TRACED_CALL(ssize_t, real(fd, data, size, offset), 'w', offset, data, done);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    TRACED_CALL(ssize_t, real(fd, data, size, offset), 'w', offset, data, done);
}
ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    TRACED_CALL(ssize_t, real(fd, data, size), 'w', lseek(fd, 0, SEEK_CUR) - done, data, done);
}
int fsync(int fd) {
    REAL(fsync);
    TRACED_CALL(int, real(fd), 's', 0, "", 0);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    TRACED_CALL(int, real(fd), 's', 0, "", 0);
}
int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    TRACED_CALL(int, real(fd, size), 't', size, "", 0);
}
int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    TRACED_CALL(int, real(fd, size), 't', size, "", 0);
}
int unlink(const char *name) {
    REAL(unlink);
    const char *root = getenv("TRACED");
    pthread_mutex_lock(&turn);
    int done = real(name);
    if (!done && root && !strncmp(name, root, strlen(root))) told('u', name + strlen(root), 0, "", 0);
    pthread_mutex_unlock(&turn);
    return done;
}
