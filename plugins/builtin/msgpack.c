#include "msgpack.h"

#include "../sdk/c/geomq_plugin.h"
#include "binary.h"
#include "json.h"

enum {
    NIL = 0xC0, UNUSED = 0xC1, FALSE = 0xC2, TRUE = 0xC3, BIN8 = 0xC4, EXT8 = 0xC7, FLOAT32 = 0xCA, FLOAT64 = 0xCB,
    UINT8 = 0xCC, UINT64 = 0xCF, INT8 = 0xD0, INT64 = 0xD3, FIXEXT1 = 0xD4, FIXEXT16 = 0xD8, STR8 = 0xD9,
    ARRAY16 = 0xDC, MAP16 = 0xDE, NEGATIVE = 0xE0
};

/* What the first byte says: the type, how many bytes of a length or number follow it, and what they are if none do. */
typedef struct {
    Type type;
    uint32_t size;
    uint64_t value;
} Head;

/* The formats of one byte. */
static bool read_fixed(uint8_t byte, Head *head) {
    if (byte < 0x80 || byte >= NEGATIVE) *head = (Head){TYPE_NUMBER, 0, 0};
    else if (byte < 0x90) *head = (Head){TYPE_OBJECT, 0, byte & 15};
    else if (byte < 0xA0) *head = (Head){TYPE_ARRAY, 0, byte & 15};
    else if (byte < NIL) *head = (Head){TYPE_STRING, 0, byte & 31};
    else return false;
    return true;
}

static bool read_head(uint8_t byte, Head *head) {
    if (read_fixed(byte, head)) return true;
    if (byte >= MAP16) *head = (Head){TYPE_OBJECT, 2u << (byte - MAP16), 0};
    else if (byte >= ARRAY16) *head = (Head){TYPE_ARRAY, 2u << (byte - ARRAY16), 0};
    else if (byte >= STR8) *head = (Head){TYPE_STRING, 1u << (byte - STR8), 0};
    else if (byte >= FIXEXT1) *head = (Head){TYPE_OTHER, 0, 1 + (1u << (byte - FIXEXT1))};
    else if (byte >= INT8) *head = (Head){TYPE_NUMBER, 1u << (byte - INT8), 0};
    else if (byte >= UINT8) *head = (Head){TYPE_NUMBER, 1u << (byte - UINT8), 0};
    else if (byte >= FLOAT32) *head = (Head){TYPE_NUMBER, 4u << (byte - FLOAT32), 0};
    else if (byte >= EXT8) *head = (Head){TYPE_OTHER, 1u << (byte - EXT8), 1};
    else if (byte >= BIN8) *head = (Head){TYPE_BYTES, 1u << (byte - BIN8), 0};
    else *head = (Head){byte == TRUE ? TYPE_TRUE : byte == FALSE ? TYPE_FALSE : TYPE_NULL, 0, 0};
    return byte != UNUSED;
}

static bool is_finite(uint8_t byte, uint64_t bits) {
    if (byte == FLOAT32) return (bits >> 23 & 0xFF) != 0xFF;
    return byte != FLOAT64 || (bits >> 52 & 0x7FF) != 0x7FF;
}

/* ---- reading: each function returns where its part ends, NULL where that is no MessagePack ---- */

static const uint8_t *read_object(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth);

/* A name that is a number is known by its digits, any other but a string by its bytes. */
static const uint8_t *read_key(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth) {
    Node *key = node_new();
    const uint8_t *after = read_object(at, end, key, depth);
    if (after) into->key = is_scalar(key) ? node_text(key) : key->raw;
    return after;
}

static const uint8_t *read_inside(const uint8_t *at, const uint8_t *end, uint64_t count, Node *into, uint32_t depth) {
    Node **link = &into->first;
    for (; count > 0; count--) {
        Node *child = node_new();
        child->start = at;
        child->parent = into;
        *link = child;
        link = &child->next;
        if (into->type == TYPE_OBJECT && !(at = read_key(at, end, child, depth))) return NULL;
        if (!(at = read_object(at, end, child, depth))) return NULL;
    }
    return at;
}

static const uint8_t *read_bytes(const uint8_t *at, const uint8_t *end, uint64_t length, Node *into) {
    if (length > (uint64_t)(end - at)) return NULL;
    into->text = (Span){at, (uint32_t)length};
    return into->type != TYPE_STRING || is_utf8(into->text) ? span_end(into->text) : NULL;
}

static const uint8_t *read_object(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth) {
    const uint8_t *start = at;
    Head head;
    into->format = FORMAT_MSGPACK;
    if (at >= end || !read_head(*at++, &head) || (uint32_t)(end - at) < head.size) return NULL;
    uint64_t value = head.value + read_big_endian(at, head.size);
    at += head.size;
    into->type = head.type;
    if (head.type == TYPE_ARRAY || head.type == TYPE_OBJECT)
        at = depth == MAX_DEPTH ? tree_too_deep() : read_inside(at, end, value, into, depth + 1);
    else if (head.type == TYPE_STRING || head.type == TYPE_BYTES || head.type == TYPE_OTHER)
        at = read_bytes(at, end, value, into);
    else if (!is_finite(*start, value)) into->type = TYPE_OTHER;
    if (at) into->raw = span(start, at);
    return at;
}

Node *msgpack_read(Span payload) {
    Node *root = node_new();
    root->start = payload.at;
    return read_object(payload.at, span_end(payload), root, 0) == span_end(payload) ? root : NULL;
}

static Span signed_text(int64_t value) {
    return value < 0 ? negative_text((uint64_t)(-1 - value)) : whole_text((uint64_t)value);
}

Span msgpack_number(const Node *node) {
    const uint8_t *at = node->raw.at;
    uint32_t size = node->raw.length - 1;
    uint64_t value = read_big_endian(at + 1, size);
    if (size == 0) return signed_text((int8_t)*at);
    if (*at == FLOAT32) return single_text(single_of((uint32_t)value));
    if (*at == FLOAT64) return double_text(double_of(value));
    if (*at <= UINT64) return whole_text(value);
    return signed_text((int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size));
}

/* ---- writing ---- */

/* A head with a length: the format's own byte up to `fixed`, else the smallest of those that begin at `first`. */
static void append_length(uint64_t length, uint8_t fixed, uint32_t fixed_room, uint8_t first, uint32_t least) {
    if (length < fixed_room) {
        append_byte(fixed | (uint8_t)length);
        return;
    }
    uint32_t size = least;
    for (; size < 8 && length >> (8 * size); size *= 2) first++;
    append_byte(first);
    append_big_endian(length, size);
}

static void append_whole(bool negative, uint64_t size) {
    if (!negative) {
        append_length(size, 0, 128, UINT8, 1);
        return;
    }
    if (size < 32) {
        append_byte((uint8_t)(0xFF - size));
        return;
    }
    uint32_t bytes = size < 0x80 ? 1 : size < 0x8000 ? 2 : size < 0x80000000 ? 4 : 8;
    append_byte((uint8_t)(INT8 + 31 - __builtin_clz(bytes)));
    append_big_endian(~size, bytes);
}

/* A number that was floating-point stays it. */
static void append_number(Span text, const Node *was) {
    uint8_t byte = was && was->raw.at ? was->raw.at[0] : 0;
    bool negative;
    uint64_t size;
    if (byte == FLOAT32) append_single(FLOAT32, text);
    else if (byte == FLOAT64 || !is_whole(text, &negative, &size) || (negative && size > INT64_MAX))
        append_double(FLOAT64, text);
    else append_whole(negative, size);
}

static void append_leaf(Leaf leaf, const Node *was) {
    uint32_t length = leaf.text.length;
    switch (leaf.type) {
    case TYPE_NUMBER: append_number(leaf.text, was); return;
    case TYPE_FALSE: append_byte(FALSE); return;
    case TYPE_TRUE: append_byte(TRUE); return;
    case TYPE_STRING: append_length(length, 0xA0, 32, STR8, 1); break;
    case TYPE_BYTES: append_length(length, 0, 0, BIN8, 1); break;
    default: append_byte(NIL); return;
    }
    geomq_append(leaf.text.at, length);
}

static void begin(const Node *node, uint32_t count) {
    if (node->type == TYPE_OBJECT) append_length(count, 0x80, 16, MAP16, 2);
    else append_length(count, 0x90, 16, ARRAY16, 2);
}

static void end(const Node *node) { (void)node; }

void msgpack_write(const Node *root) {
    static const Encoding ENCODING = {begin, end, append_leaf};
    binary_write(root, &ENCODING);
}
