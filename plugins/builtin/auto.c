#include "auto.h"

enum {
    PAYLOAD_FORMAT = 1, EXPIRY = 2, CONTENT_TYPE = 3, RESPONSE_TOPIC = 8, CORRELATION = 9, SUBSCRIPTION = 11,
    TOPIC_ALIAS = 35, USER_PROPERTY = 38
};

static const uint8_t *skip_string(const uint8_t *at, const uint8_t *end) {
    if (!at || end - at < 2) return NULL;
    uint32_t length = (uint32_t)at[0] << 8 | at[1];
    return (uint32_t)(end - at) - 2 < length ? NULL : at + 2 + length;
}

static const uint8_t *skip_variable(const uint8_t *at, const uint8_t *end) {
    while (at < end && *at & 0x80) at++;
    return at < end ? at + 1 : NULL;
}

/* The property's end; NULL where none of a PUBLISH begins (MQTT 5.0, 3.3.2.3). */
static const uint8_t *skip_property(const uint8_t *at, const uint8_t *end) {
    uint32_t size;
    switch (*at++) {
    case PAYLOAD_FORMAT: size = 1; break;
    case TOPIC_ALIAS: size = 2; break;
    case EXPIRY: size = 4; break;
    case SUBSCRIPTION: return skip_variable(at, end);
    case USER_PROPERTY: return skip_string(skip_string(at, end), end);
    case CONTENT_TYPE:
    case RESPONSE_TOPIC:
    case CORRELATION: return skip_string(at, end);
    default: return NULL;
    }
    return (uint32_t)(end - at) < size ? NULL : at + size;
}

static Span content_type(Span properties) {
    const uint8_t *at = properties.at, *end = span_end(properties);
    while (at && at < end) {
        const uint8_t *after = skip_property(at, end);
        if (after && *at == CONTENT_TYPE) return span(at + 3, after);
        at = after;
    }
    return (Span){0};
}

/* `word` is in lower case. */
static bool mentions(Span text, Span word) {
    for (uint32_t i = 0; i + word.length <= text.length; i++) {
        uint32_t j = 0;
        while (j < word.length && (text.at[i + j] | 0x20) == word.at[j]) j++;
        if (j == word.length) return true;
    }
    return false;
}

/* A first byte that begins an array or map in both, or either: what only one of them can read is of that. */
static Node *read_binary(Span payload) {
    Node *msgpack = tree_read(FORMAT_MSGPACK, payload), *cbor = tree_read(FORMAT_CBOR, payload);
    if (msgpack && cbor) return NULL;
    return msgpack ? msgpack : cbor;
}

/* A map of CBOR would be a string alone in MessagePack, and a map of 16 or more there, a tag here. */
static Node *read_by_first_byte(Span payload) {
    uint8_t first = payload.at[0];
    if (first >= 0x80 && first < 0xA0) return read_binary(payload);
    if (first >= 0xA0 && first < 0xC0) return tree_read(FORMAT_CBOR, payload);
    if (first >= 0xDC && first < 0xE0) return tree_read(FORMAT_MSGPACK, payload);
    if (first >= 0xC0) return read_binary(payload);
    return tree_read(FORMAT_JSON, payload);
}

Node *auto_read(Span payload, Span properties) {
    Span type = content_type(properties);
    if (mentions(type, SPAN("json"))) return tree_read(FORMAT_JSON, payload);
    if (mentions(type, SPAN("cbor"))) return tree_read(FORMAT_CBOR, payload);
    if (mentions(type, SPAN("msgpack"))) return tree_read(FORMAT_MSGPACK, payload);
    if (type.length >= 5 && mentions((Span){type.at, 5}, SPAN("text/"))) return tree_read(FORMAT_TEXT, payload);
    return read_by_first_byte(payload);
}
