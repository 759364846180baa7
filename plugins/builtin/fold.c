#include "fold.h"

#include "../sdk/c/geomq_plugin.h"
#include "leaf.h"

enum { AS_IT_IS = 0xFF, GONE = 0 };

typedef struct {
    uint16_t first, last;
    uint8_t becomes; /* that for all of them; a digit or '!': that and those behind it */
} Range;

static const Range RANGES[] = {
    {0x00A0, 0x00A0, ' '},  {0x00AD, 0x00AD, GONE}, {0x0660, 0x0669, '0'},  {0x06F0, 0x06F9, '0'},
    {0x0966, 0x096F, '0'},  {0x09E6, 0x09EF, '0'},  {0x2000, 0x200A, ' '},  {0x200B, 0x200F, GONE},
    {0x2010, 0x2015, '-'},  {0x202A, 0x202E, GONE}, {0x202F, 0x202F, ' '},  {0x205F, 0x205F, ' '},
    {0x2060, 0x2064, GONE}, {0x2066, 0x2069, GONE}, {0x2212, 0x2212, '-'},  {0x3000, 0x3000, ' '},
    {0xFEFF, 0xFEFF, GONE}, {0xFF01, 0xFF5E, '!'},
};

static uint8_t fold_code(uint32_t code) {
    for (uint32_t i = 0; i < sizeof RANGES / sizeof *RANGES && code >= RANGES[i].first; i++) {
        const Range *range = &RANGES[i];
        if (code > range->last) continue;
        bool steps = range->becomes == '0' || range->becomes == '!';
        return (uint8_t)(range->becomes + (steps ? code - range->first : 0));
    }
    return AS_IT_IS;
}

/* What the code point at `at` becomes, and its bytes. The text is UTF-8, but for surrogates. */
static uint8_t fold_at(const uint8_t *at, const uint8_t *end, uint32_t *length) {
    if (*at < 0xC2 || *at >= 0xF0 || end - at < 2) return *length = 1, AS_IT_IS;
    if (*at < 0xE0) return *length = 2, fold_code((*at & 0x1Fu) << 6 | (at[1] & 0x3Fu));
    if (end - at < 3) return *length = 1, AS_IT_IS;
    return *length = 3, fold_code((*at & 0xFu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu));
}

/* ---- escapes ---- */

static bool hex_value(const uint8_t *at, uint32_t count, uint32_t *value) {
    *value = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t small = at[i] | 0x20;
        if (is_digit(at[i])) *value = *value << 4 | (uint32_t)(at[i] - '0');
        else if (small >= 'a' && small <= 'f') *value = *value << 4 | (uint32_t)(small - 'a' + 10);
        else return false;
    }
    return true;
}

/* The length of the escape at `at` and the code that it stands for: %2B of a URL, \n or \u002b of JSON inside a text.
 * 0 where there is none. */
static uint32_t escape_at(const uint8_t *at, const uint8_t *end, uint32_t *code) {
    if (*at == '%' && end - at > 2 && hex_value(at + 1, 2, code)) return 3;
    if (*at != '\\' || end - at < 2) return 0;
    if (at[1] == 'u' && end - at > 5 && hex_value(at + 2, 4, code)) return 6;
    *code = at[1];
    switch (at[1]) {
    case 'b': case 'f': case 'n': case 'r': case 't': return *code = '\n', 2;
    case '"': case '\\': case '/': return 2;
    default: return 0;
    }
}

static uint32_t write_code(uint32_t code, uint8_t *out) {
    if (code < 0x80) return out[0] = (uint8_t)code, 1;
    if (code < 0x800) return out[0] = (uint8_t)(0xC0 | code >> 6), out[1] = (uint8_t)(0x80 | (code & 0x3F)), 2;
    out[0] = (uint8_t)(0xE0 | code >> 12);
    out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code & 0x3F));
    return 3;
}

/* ---- all of it ---- */

/* How many bytes at `at` become the `count` bytes of `out`, which has room for 4 and never needs more of them. */
static uint32_t fold_next(const uint8_t *at, const uint8_t *end, uint8_t *out, uint32_t *count) {
    uint32_t length, code, escaped = *at < 0x80 ? escape_at(at, end, &code) : 0;
    bool is_byte = escaped && *at == '%'; /* of UTF-8 */
    uint8_t becomes = is_byte ? AS_IT_IS : escaped ? fold_code(code) : fold_at(at, end, &length);
    if (escaped) length = escaped;
    *count = 1;
    if (becomes == GONE) *count = 0;
    else if (becomes != AS_IT_IS) out[0] = becomes;
    else if (is_byte) out[0] = (uint8_t)code;
    else if (escaped) *count = write_code(code, out);
    else __builtin_memcpy(out, at, *count = length);
    return length;
}

static bool has_some(Span text) {
    const uint8_t *at = text.at, *end = span_end(text);
    for (uint32_t length, code;; at += length) {
        while (at < end && *at < 0xC2 && *at != '%' && *at != '\\') at++;
        if (at == end) return false;
        if (*at < 0x80 ? escape_at(at, end, &code) : fold_at(at, end, &length) != AS_IT_IS) return true;
        if (*at < 0x80) length = 1;
    }
}

Folded fold(Span text) {
    if (!has_some(text)) return (Folded){text, NULL};
    uint32_t *origins = geomq_take((text.length + 1) * sizeof *origins), made = 0, count;
    uint8_t *bytes = geomq_take(text.length), out[4];
    for (const uint8_t *at = text.at, *end = span_end(text); at < end;) {
        uint32_t offset = (uint32_t)(at - text.at), length = fold_next(at, end, out, &count);
        for (uint32_t i = 0; i < count; i++) {
            origins[made] = offset + (count == length ? i : 0);
            bytes[made++] = out[i];
        }
        at += length;
    }
    origins[made] = text.length;
    return (Folded){{bytes, made}, origins};
}
