/* A connection to a broker on this machine: TCP, TLS, WebSocket, or WebSocket over TLS. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ssl_st SSL;

typedef struct {
    uint8_t *bytes;
    size_t start, end, room;
} Buffer;

typedef struct {
    int socket;
    SSL *tls;
    bool framed;
    Buffer raw, unsent;
    uint64_t frame_left;
} Stream;

uint8_t *reserve(Buffer *buffer, size_t size);

/* Connects, shakes hands, and from then on does not block. Ends the program where that fails. */
void stream_open(Stream *stream, int port, bool tls, bool websocket);
void stream_close(Stream *stream);
/* As read() and write() on a socket that does not block: -1 with EAGAIN where there is nothing to do now. */
ssize_t stream_read(Stream *stream, void *to, size_t size);
ssize_t stream_write(Stream *stream, const void *from, size_t size);
void fail(const char *what);
