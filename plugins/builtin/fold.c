#include "fold.h"

#include "../sdk/c/geomq_plugin.h"

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

static bool has_some(Span text) {
    const uint8_t *at = text.at, *end = span_end(text);
    for (uint32_t length;; at += length) {
        while (at < end && *at < 0xC2) at++;
        if (at == end) return false;
        if (fold_at(at, end, &length) != AS_IT_IS) return true;
    }
}

Folded fold(Span text) {
    if (!has_some(text)) return (Folded){text, NULL};
    uint32_t *origins = geomq_take((text.length + 1) * sizeof *origins), count = 0, length;
    uint8_t *bytes = geomq_take(text.length);
    for (const uint8_t *at = text.at, *end = span_end(text); at < end; at += length) {
        uint8_t becomes = fold_at(at, end, &length);
        if (becomes == GONE) continue;
        for (uint32_t i = 0; i < (becomes == AS_IT_IS ? length : 1); i++) {
            origins[count] = (uint32_t)(at - text.at) + i;
            bytes[count++] = becomes == AS_IT_IS ? at[i] : becomes;
        }
    }
    origins[count] = text.length;
    return (Folded){{bytes, count}, origins};
}
