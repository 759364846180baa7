#include "cbor.h"

#include "../sdk/c/geomq_plugin.h"
#include "binary.h"
#include "json.h"

enum { UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE };
enum { HALF = 25, SINGLE = 26, DOUBLE = 27, ENDLESS = 31 };

#define BREAK 0xFF
#define MAJOR(major) ((uint8_t)((major) << 5))

typedef struct {
    uint8_t major, info;
    uint64_t argument;
} Head;

/* Where the head ends; NULL where there is none. */
static const uint8_t *read_head(const uint8_t *at, const uint8_t *end, Head *head) {
    if (at >= end) return NULL;
    *head = (Head){*at >> 5, *at & 31, *at & 31};
    at++;
    if (head->info < 24) return at;
    if (head->info == ENDLESS) return head->major >= BYTES && head->major <= MAP ? at : NULL;
    if (head->info > DOUBLE) return NULL;
    uint32_t size = 1u << (head->info - 24);
    if ((uint32_t)(end - at) < size) return NULL;
    head->argument = read_big_endian(at, size);
    return at + size;
}

static const uint8_t *skip_tags(const uint8_t *at, const uint8_t *end) {
    Head head;
    while (at && at < end && *at >> 5 == TAG) at = read_head(at, end, &head);
    return at;
}

/* A half-precision number as a single one (RFC 8949, appendix D). */
static float half_of(uint32_t half) {
    uint32_t exponent = half >> 10 & 31, mantissa = half & 0x3FF;
    float size = exponent == 0    ? (float)mantissa / 16777216.0f
                 : exponent == 31 ? (mantissa ? __builtin_nanf("") : __builtin_inff())
                                  : single_of((exponent + 112) << 23 | mantissa << 13);
    return half & 0x8000 ? -size : size;
}

/* ---- reading: each function returns where its part ends, NULL where that is no CBOR ---- */

static const uint8_t *read_item(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth);

static const uint8_t *read_bytes(const uint8_t *at, const uint8_t *end, const Head *head, Span *bytes) {
    if (head->argument > (uint64_t)(end - at)) return NULL;
    *bytes = (Span){at, (uint32_t)head->argument};
    return head->major == BYTES || is_utf8(*bytes) ? span_end(*bytes) : NULL;
}

/* A string of pieces, put together in the arena. */
static const uint8_t *read_pieces(const uint8_t *at, const uint8_t *end, const Head *head, Node *into) {
    uint8_t *start = geomq_mark();
    for (;;) {
        Head piece;
        Span bytes;
        if (at < end && *at == BREAK) break;
        at = read_head(at, end, &piece);
        if (!at || piece.major != head->major || piece.info == ENDLESS) return NULL;
        if (!(at = read_bytes(at, end, &piece, &bytes))) return NULL;
        geomq_append(bytes.at, bytes.length);
    }
    into->text = span(start, geomq_mark());
    return at + 1;
}

static const uint8_t *read_string(const uint8_t *at, const uint8_t *end, const Head *head, Node *into) {
    into->type = head->major == TEXT ? TYPE_STRING : TYPE_BYTES;
    if (head->info == ENDLESS) return read_pieces(at, end, head, into);
    return read_bytes(at, end, head, &into->text);
}

static const uint8_t *read_simple(const uint8_t *at, const Head *head, Node *into) {
    bool finite = (head->info == HALF && (head->argument >> 10 & 31) != 31) ||
                  (head->info == SINGLE && (head->argument >> 23 & 0xFF) != 0xFF) ||
                  (head->info == DOUBLE && (head->argument >> 52 & 0x7FF) != 0x7FF);
    if (head->info == 24 && head->argument < 32) return NULL;
    into->type = finite              ? TYPE_NUMBER
                 : head->info == 20 ? TYPE_FALSE
                 : head->info == 21 ? TYPE_TRUE
                 : head->info == 22 ? TYPE_NULL
                                    : TYPE_OTHER;
    return at;
}

/* A name that is a number is known by its digits, any other but a text by its bytes. */
static const uint8_t *read_key(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth) {
    Node *key = node_new();
    const uint8_t *after = read_item(at, end, key, depth);
    if (after) into->key = is_scalar(key) ? node_text(key) : key->raw;
    return after;
}

static const uint8_t *read_inside(const uint8_t *at, const uint8_t *end, const Head *head, Node *into, uint32_t depth) {
    bool endless = head->info == ENDLESS;
    Node **link = &into->first;
    for (uint64_t i = 0; endless || i < head->argument; i++) {
        if (endless && at < end && *at == BREAK) return at + 1;
        Node *child = node_new();
        child->start = at;
        child->parent = into;
        *link = child;
        link = &child->next;
        if (into->type == TYPE_OBJECT && !(at = read_key(at, end, child, depth))) return NULL;
        if (!(at = read_item(at, end, child, depth))) return NULL;
    }
    return at;
}

static const uint8_t *read_body(const uint8_t *at, const uint8_t *end, const Head *head, Node *into, uint32_t depth) {
    switch (head->major) {
    case UNSIGNED:
    case NEGATIVE: into->type = TYPE_NUMBER; return at;
    case BYTES:
    case TEXT: return read_string(at, end, head, into);
    case SIMPLE: return read_simple(at, head, into);
    default: break;
    }
    into->type = head->major == MAP ? TYPE_OBJECT : TYPE_ARRAY;
    return depth == MAX_DEPTH ? tree_too_deep() : read_inside(at, end, head, into, depth + 1);
}

static const uint8_t *read_item(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth) {
    const uint8_t *start = at;
    Head head;
    into->format = FORMAT_CBOR;
    if (!(at = skip_tags(at, end)) || !(at = read_head(at, end, &head))) return NULL;
    if (!(at = read_body(at, end, &head, into, depth))) return NULL;
    into->raw = span(start, at);
    return at;
}

Node *cbor_read(Span payload) {
    Node *root = node_new();
    root->start = payload.at;
    return read_item(payload.at, span_end(payload), root, 0) == span_end(payload) ? root : NULL;
}

Span cbor_number(const Node *node) {
    const uint8_t *end = span_end(node->raw);
    Head head;
    read_head(skip_tags(node->raw.at, end), end, &head);
    if (head.major == UNSIGNED) return whole_text(head.argument);
    if (head.major == NEGATIVE) return negative_text(head.argument);
    if (head.info == DOUBLE) return double_text(double_of(head.argument));
    return single_text(head.info == HALF ? half_of((uint32_t)head.argument) : single_of((uint32_t)head.argument));
}

/* ---- writing ---- */

static void append_head(uint32_t major, uint64_t argument) {
    uint32_t size = argument < 24           ? 0
                    : argument <= 0xFF       ? 1
                    : argument <= 0xFFFF     ? 2
                    : argument <= 0xFFFFFFFF ? 4
                                             : 8;
    if (size == 0) {
        append_byte(MAJOR(major) | (uint8_t)argument);
        return;
    }
    append_byte(MAJOR(major) | (uint8_t)(24 + (31 - __builtin_clz(size))));
    append_big_endian(argument, size);
}

/* The head that a node had in the payload; of none that was added. */
static bool had_head(const Node *node, const uint8_t **at, Head *head) {
    if (!node || !node->raw.at) return false;
    *at = skip_tags(node->raw.at, span_end(node->raw));
    read_head(*at, span_end(node->raw), head);
    return true;
}

static void begin(const Node *node, uint32_t count) {
    const uint8_t *at;
    Head head = {0};
    bool had = had_head(node, &at, &head);
    if (had) geomq_append(node->raw.at, (uint32_t)(at - node->raw.at));
    if (had && head.info == ENDLESS) append_byte(*at);
    else append_head(node->type == TYPE_OBJECT ? MAP : ARRAY, count);
}

static void end(const Node *node) {
    const uint8_t *at;
    Head head = {0};
    if (had_head(node, &at, &head) && head.info == ENDLESS) append_byte(BREAK);
}

/* A number that was floating-point stays it. */
static void append_number(Span text, const Node *was) {
    const uint8_t *at;
    Head head = {0};
    bool negative;
    uint64_t size;
    bool floating = had_head(was, &at, &head) && head.major == SIMPLE && head.info >= HALF;
    if (!floating && is_whole(text, &negative, &size)) append_head(negative ? NEGATIVE : UNSIGNED, size);
    else if (floating && head.info != DOUBLE) append_single(MAJOR(SIMPLE) | SINGLE, text);
    else append_double(MAJOR(SIMPLE) | DOUBLE, text);
}

static void append_leaf(Leaf leaf, const Node *was) {
    switch (leaf.type) {
    case TYPE_NUMBER: append_number(leaf.text, was); break;
    case TYPE_STRING:
    case TYPE_BYTES:
        append_head(leaf.type == TYPE_STRING ? TEXT : BYTES, leaf.text.length);
        geomq_append(leaf.text.at, leaf.text.length);
        break;
    case TYPE_FALSE: append_byte(MAJOR(SIMPLE) | 20); break;
    case TYPE_TRUE: append_byte(MAJOR(SIMPLE) | 21); break;
    default: append_byte(MAJOR(SIMPLE) | 22);
    }
}

void cbor_write(const Node *root) {
    static const Encoding ENCODING = {begin, end, append_leaf};
    binary_write(root, &ENCODING);
}
