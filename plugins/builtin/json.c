#include "json.h"

#include "../sdk/c/geomq_plugin.h"

static const uint8_t *json_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

#define EVERY(byte) (0x0101010101010101u * (uint64_t)(byte))
#define TOP_BITS EVERY(0x80)

/* Marks, in the top bit of its byte, the first byte that does not stand for itself in a string: a quote, a
 * backslash, a control character, the beginning of a longer UTF-8 sequence. Bytes after it may be marked wrongly. */
static uint64_t special(uint64_t bytes) {
    uint64_t quote = bytes ^ EVERY('"'), backslash = bytes ^ EVERY('\\');
    uint64_t low = (bytes - EVERY(0x20)) | (quote - EVERY(1)) | (backslash - EVERY(1));
    return (low | bytes) & TOP_BITS;
}

static const uint8_t *plain(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 8) {
        uint64_t bytes;
        __builtin_memcpy(&bytes, at, 8);
        uint64_t found = special(bytes);
        if (found) return at + (__builtin_ctzll(found) >> 3);
        at += 8;
    }
    while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\') at++;
    return at;
}

static bool continues(const uint8_t *at, const uint8_t *end) { return at < end && (*at & 0xC0) == 0x80; }

/* The well-formed sequences of the Unicode standard (table 3-7): none overlong, no surrogate, none above U+10FFFF. */
const uint8_t *utf8_sequence(const uint8_t *at, const uint8_t *end) {
    uint8_t lead = *at++;
    if (lead < 0xC2 || lead > 0xF4 || !continues(at, end)) return NULL;
    if (lead < 0xE0) return at + 1;
    uint8_t second = *at++;
    if (!continues(at, end)) return NULL;
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second >= 0xA0)) return NULL;
    if (lead < 0xF0) return at + 1;
    at++;
    if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second >= 0x90)) return NULL;
    return continues(at, end) ? at + 1 : NULL;
}

static int hex(uint8_t digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static const uint8_t *escape(const uint8_t *at, const uint8_t *end) {
    if (++at >= end) return NULL;
    switch (*at++) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return at;
    case 'u':
        if (end - at < 4) return NULL;
        for (int i = 0; i < 4; i++) {
            if (hex(at[i]) < 0) return NULL;
        }
        return at + 4;
    default:
        return NULL;
    }
}

/* A string with its quotes; `escaped` tells whether it has escapes. NULL where there is none. */
static const uint8_t *string(const uint8_t *at, const uint8_t *end, bool *escaped) {
    *escaped = false;
    if (at >= end || *at != '"') return NULL;
    at++;
    while ((at = plain(at, end)) < end) {
        if (*at == '"') return at + 1;
        if (*at < 0x20) return NULL;
        if (*at == '\\') *escaped = true;
        at = *at == '\\' ? escape(at, end) : utf8_sequence(at, end);
        if (!at) return NULL;
    }
    return NULL;
}

static const uint8_t *digits(const uint8_t *at, const uint8_t *end) {
    const uint8_t *start = at;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at > start ? at : NULL;
}

static const uint8_t *number(const uint8_t *at, const uint8_t *end) {
    if (*at == '-') at++;
    if (at < end && *at == '0') at++;
    else at = digits(at, end);
    if (at && at < end && *at == '.') at = digits(at + 1, end);
    if (at && at < end && (*at | 0x20) == 'e') {
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        at = digits(at, end);
    }
    return at;
}

static const uint8_t *word(const uint8_t *at, const uint8_t *end, const char *expected, uint32_t length) {
    if ((uint32_t)(end - at) < length || !same((Span){at, length}, (Span){(const uint8_t *)expected, length}))
        return NULL;
    return at + length;
}

static uint32_t hex4(const uint8_t *at) {
    return (uint32_t)(hex(at[0]) << 12 | hex(at[1]) << 8 | hex(at[2]) << 4 | hex(at[3]));
}

static bool surrogate(uint32_t unit, uint32_t first) { return unit - first < 0x400; }

static bool escaped_low(const uint8_t *at, const uint8_t *end) {
    return end - at >= 6 && at[0] == '\\' && at[1] == 'u' && surrogate(hex4(at + 2), 0xDC00);
}

uint32_t utf8_encode(uint32_t point, uint8_t *out) {
    if (point < 0x80) {
        out[0] = (uint8_t)point;
        return 1;
    }
    uint32_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (uint32_t i = length - 1; i > 0; i--, point >>= 6) out[i] = (uint8_t)(0x80 | (point & 0x3F));
    out[0] = (uint8_t)(0xF00u >> length | point);
    return length;
}

static uint8_t single(uint8_t letter) {
    switch (letter) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return letter;
    }
}

/* A string's meaning; a surrogate without its other half becomes the three bytes that UTF-8 would give it. */
static uint32_t decode(Span body, uint8_t *out) {
    const uint8_t *at = body.at, *end = at + body.length;
    uint8_t *start = out;
    while (at < end) {
        if (*at != '\\') {
            *out++ = *at++;
        } else if (at[1] != 'u') {
            *out++ = single(at[1]);
            at += 2;
        } else {
            uint32_t point = hex4(at + 2);
            at += 6;
            if (surrogate(point, 0xD800) && escaped_low(at, end)) {
                point = 0x10000 + ((point - 0xD800) << 10) + (hex4(at + 2) - 0xDC00);
                at += 6;
            }
            out += utf8_encode(point, out);
        }
    }
    return (uint32_t)(out - start);
}

static Span meaning(const uint8_t *start, const uint8_t *after, bool escaped) {
    Span body = span(start + 1, after - 1);
    if (!escaped) return body;
    uint8_t *text = geomq_take(body.length);
    return (Span){text, decode(body, text)};
}

/* ---- the tree: each function returns where its part ends, NULL where that is no JSON ---- */

static const uint8_t *read_value(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth);

static const uint8_t *read_key(const uint8_t *at, const uint8_t *end, Node *into) {
    bool escaped;
    const uint8_t *after = string(at, end, &escaped);
    if (!after) return NULL;
    into->key = meaning(at, after, escaped);
    at = json_space(after, end);
    return at < end && *at == ':' ? json_space(at + 1, end) : NULL;
}

static const uint8_t *read_inside(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth) {
    uint8_t close = into->type == TYPE_OBJECT ? '}' : ']';
    Node **link = &into->first;
    at = json_space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    for (;;) {
        Node *child = node_new();
        child->start = at;
        child->parent = into;
        *link = child;
        link = &child->next;
        if (into->type == TYPE_OBJECT && !(at = read_key(at, end, child))) return NULL;
        if (!(at = read_value(at, end, child, depth))) return NULL;
        at = json_space(at, end);
        if (at >= end) return NULL;
        if (*at == close) return at + 1;
        if (*at != ',') return NULL;
        at = json_space(at + 1, end);
    }
}

static const uint8_t *read_string(const uint8_t *at, const uint8_t *end, Node *into) {
    bool escaped;
    const uint8_t *after = string(at, end, &escaped);
    if (after) into->text = meaning(at, after, escaped);
    into->type = TYPE_STRING;
    return after;
}

static const uint8_t *read_plain(const uint8_t *at, const uint8_t *end, Node *into) {
    const uint8_t *after;
    switch (*at) {
    case 't':
        into->type = TYPE_TRUE;
        after = word(at, end, "true", 4);
        break;
    case 'f':
        into->type = TYPE_FALSE;
        after = word(at, end, "false", 5);
        break;
    case 'n':
        into->type = TYPE_NULL;
        after = word(at, end, "null", 4);
        break;
    default:
        into->type = TYPE_NUMBER;
        after = number(at, end);
    }
    if (after) into->text = span(at, after);
    return after;
}

static const uint8_t *read_value(const uint8_t *at, const uint8_t *end, Node *into, uint32_t depth) {
    const uint8_t *start = at;
    if (at >= end) return NULL;
    if (*at == '"') {
        at = read_string(at, end, into);
    } else if (*at == '{' || *at == '[') {
        if (depth == MAX_DEPTH) return tree_too_deep();
        into->type = *at == '{' ? TYPE_OBJECT : TYPE_ARRAY;
        at = read_inside(at, end, into, depth + 1);
    } else {
        at = read_plain(at, end, into);
    }
    if (at) into->raw = span(start, at);
    return at;
}

Node *json_read(Span text) {
    const uint8_t *end = span_end(text);
    Node *root = node_new();
    const uint8_t *at = json_space(text.at, end);
    root->start = at;
    at = read_value(at, end, root, 0);
    return at && json_space(at, end) == end ? root : NULL;
}

bool json_is_number(Span text) {
    return text.length > 0 && number(text.at, span_end(text)) == span_end(text);
}

/* Eight bytes at a time where they are ASCII. */
bool is_utf8(Span text) {
    const uint8_t *at = text.at, *end = span_end(text);
    while (at && at < end) {
        uint64_t bytes = TOP_BITS;
        if (end - at >= 8) __builtin_memcpy(&bytes, at, 8);
        if (!(bytes & TOP_BITS)) at += 8;
        else at = *at < 0x80 ? at + 1 : utf8_sequence(at, end);
    }
    return at != NULL;
}
