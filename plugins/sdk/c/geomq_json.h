/* Helpers for plugins in C: members of JSON objects, numbers, text, and state that knows its own writes.
 *
 * Include it after geomq_plugin.h. Everything is static: what a plugin does not call is not in its module. */
#ifndef GEOMQ_JSON_H
#define GEOMQ_JSON_H

#include "geomq_plugin.h"

typedef struct {
    const uint8_t *start;
    uint32_t length;
} GeomqText;

static inline GeomqText geomq_text_of(const void *frame, GeomqField field) {
    return (GeomqText){geomq_bytes(frame, field), field.length};
}

/* A literal as a text. */
#define GEOMQ_WORDS(literal) ((GeomqText){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline bool geomq_same(GeomqText a, GeomqText b) {
    if (a.length != b.length) return false;
    for (uint32_t i = 0; i < a.length; i++) {
        if (a.start[i] != b.start[i]) return false;
    }
    return true;
}

/* Copy to the arena's end, right behind what was appended last. */
static inline void geomq_append_text(GeomqText text) { geomq_append(text.start, text.length); }

/* The text from `start` to the arena's end: what was appended since. */
static inline GeomqText geomq_since(const uint8_t *start) {
    return (GeomqText){start, (uint32_t)(geomq_mark() - start)};
}

/* A field of the result for a text that was appended behind its frame. */
static inline GeomqField geomq_put(const GeomqBuilder *result, GeomqText text) {
    return geomq_field(result, text.start, text.length);
}

/* ---- JSON ---- */

/* UNREADABLE: no JSON object, or one of which readers may think differently: the member stands there twice,
 * or a name is written with an escape. A mask must not let such a message through. */
typedef enum { GEOMQ_UNREADABLE, GEOMQ_ABSENT, GEOMQ_FOUND } GeomqFound;

static inline const uint8_t *geomq_skip_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

/* Behind the string that begins at `at`, NULL where it does not end. */
static inline const uint8_t *geomq_skip_string(const uint8_t *at, const uint8_t *end) {
    for (at++; at < end; at++) {
        if (*at == '"') return at + 1;
        if (*at < 0x20) return NULL;
        if (*at == '\\') at++;
    }
    return NULL;
}

/* Behind the value that begins at `at`, NULL where it does not end. */
static inline const uint8_t *geomq_skip_value(const uint8_t *at, const uint8_t *end) {
    const uint8_t *start = at;
    uint32_t depth = 0;
    while (at < end) {
        uint8_t byte = *at;
        if (byte == '"') {
            at = geomq_skip_string(at, end);
            if (!at || depth == 0) return at;
            continue;
        }
        if (byte == '{' || byte == '[') {
            depth++;
        } else if (byte == '}' || byte == ']') {
            if (depth == 0) break;
            if (--depth == 0) return at + 1;
        } else if (depth == 0 && (byte == ',' || byte <= ' ')) {
            break;
        }
        at++;
    }
    return depth == 0 && at > start ? at : NULL;
}

/* Find a member of a JSON object by its name. `value` becomes the value as it is written, quotes included. */
static inline GeomqFound geomq_member(GeomqText object, GeomqText name, GeomqText *value) {
    const uint8_t *end = object.start + object.length, *at = geomq_skip_space(object.start, end);
    GeomqFound found = GEOMQ_ABSENT;
    if (at == end || *at != '{') return GEOMQ_UNREADABLE;
    at = geomq_skip_space(at + 1, end);
    if (at < end && *at == '}') return geomq_skip_space(at + 1, end) == end ? found : GEOMQ_UNREADABLE;
    for (;;) {
        if (at == end || *at != '"') return GEOMQ_UNREADABLE;
        const uint8_t *behind = geomq_skip_string(at, end);
        if (!behind) return GEOMQ_UNREADABLE;
        GeomqText key = {at + 1, (uint32_t)(behind - at - 2)};
        for (uint32_t i = 0; i < key.length; i++) {
            if (key.start[i] == '\\') return GEOMQ_UNREADABLE;
        }
        at = geomq_skip_space(behind, end);
        if (at == end || *at != ':') return GEOMQ_UNREADABLE;
        at = geomq_skip_space(at + 1, end);
        behind = geomq_skip_value(at, end);
        if (!behind) return GEOMQ_UNREADABLE;
        if (geomq_same(key, name)) {
            if (found == GEOMQ_FOUND) return GEOMQ_UNREADABLE;
            found = GEOMQ_FOUND;
            *value = (GeomqText){at, (uint32_t)(behind - at)};
        }
        at = geomq_skip_space(behind, end);
        if (at == end) return GEOMQ_UNREADABLE;
        if (*at == '}') return geomq_skip_space(at + 1, end) == end ? found : GEOMQ_UNREADABLE;
        if (*at != ',') return GEOMQ_UNREADABLE;
        at = geomq_skip_space(at + 1, end);
    }
}

/* The text of a JSON string; false where the value is none, or is written with an escape. */
static inline bool geomq_string(GeomqText value, GeomqText *text) {
    if (value.length < 2 || value.start[0] != '"' || value.start[value.length - 1] != '"') return false;
    *text = (GeomqText){value.start + 1, value.length - 2};
    for (uint32_t i = 0; i < text->length; i++) {
        if (text->start[i] == '\\' || text->start[i] == '"') return false;
    }
    return true;
}

static inline const uint8_t *geomq_digits(const uint8_t *at, const uint8_t *end, double *number, int *count) {
    for (*count = 0; at < end && *at >= '0' && *at <= '9'; at++, (*count)++) *number = *number * 10 + (*at - '0');
    return at;
}

/* The value of a JSON number, exact up to 15 digits; false where the value is none. */
static inline bool geomq_number(GeomqText value, double *number) {
    const uint8_t *at = value.start, *end = at + value.length;
    bool negative = at < end && *at == '-';
    int whole, fraction = 0, exponent_digits;
    *number = 0;
    at += negative;
    bool zero = at < end && *at == '0';
    at = geomq_digits(at, end, number, &whole);
    if (whole == 0 || (zero && whole > 1)) return false;
    if (at < end && *at == '.') {
        at = geomq_digits(at + 1, end, number, &fraction);
        if (fraction == 0) return false;
    }
    double exponent = 0;
    if (at < end && (*at == 'e' || *at == 'E')) {
        bool down = ++at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        at = geomq_digits(at, end, &exponent, &exponent_digits);
        if (exponent_digits == 0) return false;
        if (exponent > 400) exponent = 400;
        if (down) exponent = -exponent;
    }
    if (at != end) return false;
    int power = (int)exponent - fraction;
    double scale = 1;
    for (int i = 0; i < (power < 0 ? -power : power); i++) scale *= 10;
    *number = power < 0 ? *number / scale : *number * scale;
    if (negative) *number = -*number;
    return true;
}

/* Append a whole number in decimal. */
static inline void geomq_append_whole(uint64_t number) {
    uint8_t digits[20];
    uint32_t at = sizeof digits;
    do digits[--at] = (uint8_t)('0' + number % 10); while (number /= 10);
    geomq_append(digits + at, (uint32_t)sizeof digits - at);
}

/* Append a number with three decimals, rounded half away from zero; `null` where that has no such form. */
static inline void geomq_append_decimal(double number) {
    bool negative = number < 0;
    double scaled = (negative ? -number : number) * 1000 + 0.5;
    if (!(scaled < 9007199254740992.0)) {
        geomq_append("null", 4);
        return;
    }
    uint64_t thousandths = (uint64_t)scaled;
    if (negative && thousandths) geomq_append("-", 1);
    geomq_append_whole(thousandths / 1000);
    uint8_t decimals[4] = {'.', (uint8_t)('0' + thousandths / 100 % 10), (uint8_t)('0' + thousandths / 10 % 10),
        (uint8_t)('0' + thousandths % 10)};
    geomq_append(decimals, 4);
}

/* ---- effects and state ---- */

static inline void geomq_metric(GeomqBuilder *result, GeomqText name, double number) {
    GeomqEffect *effect = geomq_effect(result, GEOMQ_METRIC, GEOMQ_NO_MESSAGE);
    effect->first = geomq_field(result, geomq_append(name.start, name.length), name.length);
    __builtin_memcpy(&effect->number, &number, sizeof number);
}

/* Drop a message that the plugin cannot work on, and say why: the entry's dead letters get both. One effect. */
static inline void geomq_reject_because(GeomqBuilder *result, uint32_t message, GeomqText reason) {
    geomq_reject(result, message);
    GeomqEffect *effect = geomq_effect(result, GEOMQ_LOG, message);
    effect->first = geomq_field(result, geomq_append("warning", 7), 7);
    effect->second = geomq_field(result, geomq_append(reason.start, reason.length), reason.length);
}

/* Have the host remember a value. Key and value stand behind the result's frame. `lifetime` is in
 * milliseconds, 0 for ever. */
static inline void geomq_state_put(
    GeomqBuilder *result, uint32_t message, GeomqText key, GeomqText value, uint64_t lifetime) {
    GeomqEffect *effect = geomq_effect(result, GEOMQ_STATE_PUT, message);
    effect->first = geomq_put(result, key);
    effect->second = geomq_put(result, value);
    effect->number = lifetime;
}

/* What was remembered under a key, in this batch or before; false where there is nothing. The host knows
 * only what earlier batches wrote, so this batch's own effects are looked at first. */
static inline bool geomq_state_find(const GeomqBuilder *result, GeomqText key, GeomqText *value) {
    for (uint32_t i = result->frame->effect_count; i-- > 0;) {
        const GeomqEffect *effect = &result->effects[i];
        if (effect->kind == GEOMQ_STATE_PUT && geomq_same(geomq_text_of(result->frame, effect->first), key)) {
            *value = geomq_text_of(result->frame, effect->second);
            return true;
        }
    }
    uint32_t room = 256;
    for (;;) {
        uint8_t *out = geomq_scratch(room);
        int32_t length = geomq_state_get(key.start, key.length, out, room);
        if (length < 0) return false;
        if ((uint32_t)length <= room) {
            *value = (GeomqText){out, (uint32_t)length};
            geomq_release(out + length); /* what is appended next stands behind it */
            return true;
        }
        room = (uint32_t)length;
    }
}

#endif
