/* What a program writes below one folder, recorded in order with every fsync, so that a power cut can be played.
 *
 * Loaded with LD_PRELOAD. POWERCUT_FOLDER is the folder, POWERCUT_LOG the record's file. Where POWERCUT_WHOLE is set the
 * program writes through stdio, whose writes cannot be seen: files are recorded whole when they are synced, and what
 * was not is lost.
 * Each record is
 * {kind, length of the name, 0, offset, length of the data} followed by name and data; see powercut.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNC = 3, UNLINK = 4, RENAME = 5 };

struct record {
    uint32_t kind;
    uint32_t name;
    int64_t offset;
    int64_t size;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static size_t folder_length;
static int record_file = -1;
static int is_whole;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("POWERCUT_LOG");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    folder = getenv("POWERCUT_FOLDER");
    if (folder == NULL || log == NULL)
        return;
    folder_length = strlen(folder);
    is_whole = getenv("POWERCUT_WHOLE") != NULL;
    record_file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_watched(const char *name)
{
    return record_file >= 0 && strncmp(name, folder, folder_length) == 0 && name[folder_length] == '/';
}

/* The name of a file descriptor's file where it is watched: its length, else 0. */
static size_t name_of(int fd, char *name)
{
    char link[64] = "/proc/self/fd/";
    char digits[16];
    int count = 0, at = 14;
    unsigned rest = (unsigned)fd;
    ssize_t length;
    if (record_file < 0 || fd < 3 || fd == record_file)
        return 0;
    do
        digits[count++] = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    while (count > 0)
        link[at++] = digits[--count];
    length = readlink(link, name, PATH_MAX - 1);
    if (length <= 0)
        return 0;
    name[length] = 0;
    return is_watched(name) ? (size_t)length : 0;
}

static void record(uint32_t kind, const char *name, size_t length, int64_t offset, const void *data, size_t size)
{
    struct record head = {kind, (uint32_t)length, offset, (int64_t)size};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)name, length}, {(void *)data, size}};
    (void)!writev(record_file, parts, size ? 3 : 2);
}

/* What is in a file now, as one write. */
static void record_whole(const char *name, size_t length)
{
    struct stat found;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
        record(TRUNCATE, name, length, 0, NULL, 0);
        if (found.st_size > 0) {
            void *data = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
            if (data != MAP_FAILED) {
                record(WRITE, name, length, 0, data, (size_t)found.st_size);
                munmap(data, (size_t)found.st_size);
            }
        }
    }
    close(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    char name[PATH_MAX];
    size_t length = name_of(fd, name);
    ssize_t done;
    if (length == 0)
        return real_pwrite(fd, data, size, offset);
    pthread_mutex_lock(&lock);
    done = real_pwrite(fd, data, size, offset);
    if (done > 0)
        record(WRITE, name, length, offset, data, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    char name[PATH_MAX];
    size_t length = name_of(fd, name);
    off_t offset;
    ssize_t done;
    if (length == 0)
        return real_write(fd, data, size);
    pthread_mutex_lock(&lock);
    offset = lseek(fd, 0, SEEK_CUR);
    done = real_write(fd, data, size);
    if (done > 0)
        record(WRITE, name, length, offset, data, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate64(int fd, off_t size)
{
    char name[PATH_MAX];
    size_t length = name_of(fd, name);
    int failed;
    if (length == 0)
        return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    failed = real_ftruncate(fd, size);
    if (!failed)
        record(TRUNCATE, name, length, size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

static int sync_file(int (*real)(int), int fd)
{
    char name[PATH_MAX];
    size_t length = name_of(fd, name);
    int failed;
    if (length == 0)
        return real(fd);
    pthread_mutex_lock(&lock);
    failed = real(fd);
    if (!failed && is_whole)
        record_whole(name, length);
    if (!failed)
        record(SYNC, name, length, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}

int fsync(int fd)
{
    return sync_file(real_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_file(real_fdatasync, fd);
}

int unlink(const char *name)
{
    int failed = real_unlink(name);
    if (!failed && is_watched(name))
        record(UNLINK, name, strlen(name), 0, NULL, 0);
    return failed;
}

int rename(const char *from, const char *to)
{
    int failed = real_rename(from, to);
    if (!failed && is_watched(from))
        record(RENAME, from, strlen(from), 0, to, strlen(to));
    return failed;
}
