#include "auto.h"

#include "paths.h"
#include "properties.h"

static Span content_type(Span properties) {
    const uint8_t *at = properties.at, *end = span_end(properties);
    while (at && at < end) {
        const uint8_t *after = property_end(at, end);
        if (after && *at == PROPERTY_CONTENT_TYPE) return span(at + 3, after);
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

static bool is_text(Span type) { return type.length >= 5 && mentions((Span){type.at, 5}, SPAN("text/")); }

Node *auto_read(Span payload, Span properties) {
    Span type = content_type(properties);
    if (mentions(type, SPAN("json"))) return tree_read(FORMAT_JSON, payload);
    if (mentions(type, SPAN("cbor"))) return tree_read(FORMAT_CBOR, payload);
    if (mentions(type, SPAN("msgpack"))) return tree_read(FORMAT_MSGPACK, payload);
    /* What paths are to hide would not be found in what its publisher calls a text. */
    if (is_text(type)) return paths_lead_inside() ? NULL : tree_read(FORMAT_TEXT, payload);
    return read_by_first_byte(payload);
}

Span auto_reason(Span properties) {
    Span type = content_type(properties);
    if (mentions(type, SPAN("json"))) return SPAN("the payload is not JSON, as its content type says");
    if (mentions(type, SPAN("cbor"))) return SPAN("the payload is not CBOR, as its content type says");
    if (mentions(type, SPAN("msgpack"))) return SPAN("the payload is not MessagePack, as its content type says");
    if (!is_text(type)) return SPAN("the payload is of no format, or of more than one");
    return paths_lead_inside() ? SPAN("the payload is a text by its content type, where paths lead nowhere")
                               : SPAN("the payload is not UTF-8");
}
