#include "json.h"

#include "../sdk/c/geomq_plugin.h"

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
static const uint8_t *utf8(const uint8_t *at, const uint8_t *end) {
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

const uint8_t *json_string(const uint8_t *at, const uint8_t *end) {
    if (at >= end || *at != '"') return NULL;
    at++;
    while ((at = plain(at, end)) < end) {
        if (*at == '"') return at + 1;
        if (*at < 0x20) return NULL;
        at = *at == '\\' ? escape(at, end) : utf8(at, end);
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

const uint8_t *json_scalar(const uint8_t *at, const uint8_t *end, JsonType *type) {
    if (at >= end) return NULL;
    switch (*at) {
    case '"':
        *type = JSON_STRING;
        return json_string(at, end);
    case 't':
        *type = JSON_TRUE;
        return word(at, end, "true", 4);
    case 'f':
        *type = JSON_FALSE;
        return word(at, end, "false", 5);
    case 'n':
        *type = JSON_NULL;
        return word(at, end, "null", 4);
    default:
        *type = JSON_NUMBER;
        return number(at, end);
    }
}

bool json_escaped(Span body) {
    for (uint32_t i = 0; i < body.length; i++) {
        if (body.at[i] == '\\') return true;
    }
    return false;
}

static uint32_t hex4(const uint8_t *at) {
    return (uint32_t)(hex(at[0]) << 12 | hex(at[1]) << 8 | hex(at[2]) << 4 | hex(at[3]));
}

static bool surrogate(uint32_t unit, uint32_t first) { return unit - first < 0x400; }

static bool escaped_low(const uint8_t *at, const uint8_t *end) {
    return end - at >= 6 && at[0] == '\\' && at[1] == 'u' && surrogate(hex4(at + 2), 0xDC00);
}

static uint32_t utf8_encode(uint32_t point, uint8_t *out) {
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

uint32_t json_decode(Span body, uint8_t *out) {
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

const uint8_t *json_next_point(const uint8_t *at, const uint8_t *end) {
    if (*at != '\\') {
        at++;
        while (continues(at, end)) at++;
        return at;
    }
    if (at[1] != 'u') return at + 2;
    bool high = surrogate(hex4(at + 2), 0xD800);
    at += 6;
    return high && escaped_low(at, end) ? at + 6 : at;
}

/* ---- the tree ---- */

static Span decoded(Span string) {
    Span body = json_body(string);
    if (!json_escaped(body)) return body;
    uint8_t *text = geomq_take(body.length);
    return (Span){text, json_decode(body, text)};
}

static const uint8_t *tree(const uint8_t *at, const uint8_t *end, Json *into, int depth);

static const uint8_t *member(const uint8_t *at, const uint8_t *end, Json *into) {
    const uint8_t *after = json_string(at, end);
    if (!after) return NULL;
    into->raw_key = json_body(span(at, after));
    into->key = decoded(span(at, after));
    at = json_space(after, end);
    return at < end && *at == ':' ? json_space(at + 1, end) : NULL;
}

static const uint8_t *children(const uint8_t *at, const uint8_t *end, Json *into, int depth) {
    uint8_t close = into->type == JSON_OBJECT ? '}' : ']';
    Json **link = &into->first;
    at = json_space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    for (;;) {
        Json *child = geomq_take(sizeof(Json));
        *child = (Json){0};
        *link = child;
        link = &child->next;
        if (into->type == JSON_OBJECT && !(at = member(at, end, child))) return NULL;
        if (!(at = tree(at, end, child, depth))) return NULL;
        at = json_space(at, end);
        if (at >= end) return NULL;
        if (*at == close) return at + 1;
        if (*at != ',') return NULL;
        at = json_space(at + 1, end);
    }
}

static const uint8_t *tree(const uint8_t *at, const uint8_t *end, Json *into, int depth) {
    const uint8_t *start = at;
    if (at >= end) return NULL;
    if (*at == '{' || *at == '[') {
        if (depth == JSON_DEPTH) return NULL;
        into->type = *at == '{' ? JSON_OBJECT : JSON_ARRAY;
        at = children(at, end, into, depth + 1);
    } else {
        at = json_scalar(at, end, &into->type);
    }
    if (!at) return NULL;
    into->raw = span(start, at);
    if (into->type == JSON_STRING) into->text = decoded(into->raw);
    return at;
}

Json *json_tree(Span text) {
    const uint8_t *end = text.at + text.length;
    Json *root = geomq_take(sizeof(Json));
    *root = (Json){0};
    const uint8_t *at = tree(json_space(text.at, end), end, root, 0);
    return at && json_space(at, end) == end ? root : NULL;
}
