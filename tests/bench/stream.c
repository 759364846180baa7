#include "stream.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint8_t *reserve(Buffer *buffer, size_t size) {
    if (buffer->end + size > buffer->room) {
        buffer->room = (buffer->end + size) * 2;
        buffer->bytes = realloc(buffer->bytes, buffer->room);
        if (!buffer->bytes) fail("memory");
    }
    return buffer->bytes + buffer->end;
}

static SSL_CTX *context(void) {
    static SSL_CTX *made;
    if (!made) {
        made = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    }
    return made;
}

static ssize_t outcome(Stream *stream, int done) {
    if (done > 0) return done;
    int error = SSL_get_error(stream->tls, done);
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t raw_write(Stream *stream, const void *from, size_t size) {
    if (!stream->tls) return write(stream->socket, from, size);
    return outcome(stream, SSL_write(stream->tls, from, (int)(size > 1 << 30 ? 1 << 30 : size)));
}

static ssize_t raw_read(Stream *stream, uint8_t *to, size_t size) {
    if (!stream->tls) return read(stream->socket, to, size);
    /* What TLS has decrypted already no poll tells of: all of it has to be taken. */
    size_t got = 0;
    while (got < size) {
        ssize_t count = outcome(stream, SSL_read(stream->tls, to + got, (int)(size - got)));
        if (count <= 0) return got ? (ssize_t)got : count;
        got += (size_t)count;
    }
    return (ssize_t)got;
}

static void upgrade(Stream *stream, int port) {
    char text[1024];
    int length = snprintf(text, sizeof text,
                          "GET /mqtt HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n", port);
    raw_write(stream, text, (size_t)length);
    size_t got = 0;
    while (got < 4 || memcmp(text + got - 4, "\r\n\r\n", 4)) {
        ssize_t count = stream->tls ? SSL_read(stream->tls, text + got, 1) : read(stream->socket, text + got, 1);
        if (count <= 0 || ++got == sizeof text) fail("WebSocket handshake");
    }
    if (!strstr(text, " 101 ")) fail("WebSocket refused");
}

void stream_open(Stream *stream, int port, bool tls, bool websocket) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    stream->socket = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (connect(stream->socket, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(stream->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls) {
        stream->tls = SSL_new(context());
        SSL_set_fd(stream->tls, stream->socket);
        if (SSL_connect(stream->tls) != 1) errno = ECONNREFUSED, fail("TLS handshake");
    }
    if (websocket) upgrade(stream, port);
    stream->framed = websocket;
    fcntl(stream->socket, F_SETFL, O_NONBLOCK);
}

void stream_close(Stream *stream) {
    if (stream->tls) {
        SSL_shutdown(stream->tls);
        SSL_free(stream->tls);
    }
    close(stream->socket);
    free(stream->raw.bytes);
    free(stream->unsent.bytes);
    *stream = (Stream){0};
}

/* ---- frames ---- */

static bool send_unsent(Stream *stream) {
    Buffer *unsent = &stream->unsent;
    while (unsent->start < unsent->end) {
        ssize_t count = raw_write(stream, unsent->bytes + unsent->start, unsent->end - unsent->start);
        if (count < 0) return false;
        unsent->start += (size_t)count;
    }
    unsent->start = unsent->end = 0;
    return true;
}

ssize_t stream_write(Stream *stream, const void *from, size_t size) {
    if (!stream->framed) return raw_write(stream, from, size);
    if (!send_unsent(stream)) return -1;
    uint8_t *at = reserve(&stream->unsent, size + 14), *begin = at;
    *at++ = 0x82;
    if (size < 126) *at++ = (uint8_t)(0x80 | size);
    else if (size < 1 << 16) {
        *at++ = 0x80 | 126;
        *at++ = (uint8_t)(size >> 8);
        *at++ = (uint8_t)size;
    } else {
        *at++ = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) *at++ = (uint8_t)((uint64_t)size >> shift);
    }
    memset(at, 0, 4); /* a mask of zeros: the broker has to apply it, this program need not */
    memcpy(at + 4, from, size);
    stream->unsent.end += (size_t)(at - begin) + 4 + size;
    if (!send_unsent(stream) && errno != EAGAIN) return -1;
    return (ssize_t)size;
}

static bool begin_frame(Stream *stream) {
    Buffer *raw = &stream->raw;
    size_t there = raw->end - raw->start, head = 2;
    const uint8_t *at = raw->bytes + raw->start;
    if (there < 2) return false;
    uint64_t length = at[1] & 127;
    if (length > 125) {
        size_t bytes = length == 126 ? 2 : 8;
        head += bytes;
        if (there < head) return false;
        length = 0;
        for (size_t i = 0; i < bytes; i++) length = length << 8 | at[2 + i];
    }
    if ((at[0] & 15) > 2) errno = ECONNRESET, fail("a frame that carries no data");
    stream->frame_left = length;
    raw->start += head;
    return true;
}

ssize_t stream_read(Stream *stream, void *to, size_t size) {
    if (!stream->framed) return raw_read(stream, to, size);
    Buffer *raw = &stream->raw;
    memmove(raw->bytes, raw->bytes + raw->start, raw->end - raw->start);
    raw->end -= raw->start;
    raw->start = 0;
    ssize_t count = raw_read(stream, reserve(raw, size), size - raw->end);
    if (count <= 0 && !(count < 0 && errno == EAGAIN && raw->end)) return count;
    if (count > 0) raw->end += (size_t)count;
    size_t got = 0;
    while (got < size && (stream->frame_left || begin_frame(stream))) {
        size_t part = raw->end - raw->start;
        if (part > stream->frame_left) part = stream->frame_left;
        if (!part) break;
        memcpy((uint8_t *)to + got, raw->bytes + raw->start, part);
        raw->start += part;
        stream->frame_left -= part;
        got += part;
    }
    if (!got) errno = EAGAIN;
    return got ? (ssize_t)got : -1;
}
