/* Addresses of networks and of mail. */
#include "recognise.h"

/* ---- IP ---- */

/* 0 to 255; zeros in front only where that makes three digits, 010.000.000.007: 01.02.03.04 is a date. */
static const uint8_t *octet(const uint8_t *at, const uint8_t *end) {
    uint32_t value = 0;
    const uint8_t *start = at;
    while (at < end && is_digit(*at) && at - start < 3) value = value * 10 + (uint32_t)(*at++ - '0');
    bool valid = at > start && value < 256 && (*start != '0' || at == start + 1 || at == start + 3);
    return valid ? at : NULL;
}

static const uint8_t *four_octets(const uint8_t *at, const uint8_t *end) {
    for (int i = 0; i < 4; i++) {
        if (i && (at == end || *at++ != '.')) return NULL;
        if (!(at = octet(at, end))) return NULL;
    }
    bool goes_on = word_after(at, end) || (end - at > 1 && *at == '.' && is_digit(at[1]));
    return goes_on ? NULL : at;
}

static const uint8_t *ip4(const uint8_t *at, Span text) {
    bool inside = at - text.at > 1 && at[-1] == '.' && is_digit(at[-2]);
    return inside || word_before(at, text) ? NULL : four_octets(at, text.at + text.length);
}

static const uint8_t *hex_digits(const uint8_t *at, const uint8_t *end, uint32_t most) {
    const uint8_t *start = at;
    while (at < end && is_hex(*at) && at - start < (int32_t)most) at++;
    return at;
}

/* Whether a group of up to `most` hexadecimal digits and the separator stand before: then the address, if it is one,
 * began earlier. The name before "mac:" is no such group. */
static bool group_before(const uint8_t *at, Span text, uint8_t separator, uint32_t most) {
    if (at == text.at || at[-1] != separator) return false;
    const uint8_t *from = at - 1;
    if (from > text.at && from[-1] == separator) return true;
    while (from > text.at && is_hex(from[-1]) && at - from <= (int32_t)most) from--;
    return from < at - 1 && !word_before(from, text);
}

static const uint8_t *ip6(const uint8_t *at, Span text) {
    const uint8_t *end = text.at + text.length;
    uint32_t groups = 0;
    bool gap = end - at > 1 && at[0] == ':' && at[1] == ':'; /* zeros that are left out */
    if ((!gap && !is_hex(*at)) || word_before(at, text) || group_before(at, text, ':', 4)) return NULL;
    if (gap) at += 2;
    while (at < end && is_hex(*at)) {
        const uint8_t *after = hex_digits(at, end, 4);
        if (after < end && *after == '.' && (gap || groups == 6) && four_octets(at, end)) {
            at = four_octets(at, end);
            groups += 2;
            break;
        }
        at = after;
        if (++groups > 8) return NULL;
        if (end - at < 2 || *at != ':') break;
        if (at[1] == ':') {
            if (gap) return NULL;
            gap = true;
            at += 2;
        } else if (is_hex(at[1])) {
            at++;
        } else {
            break;
        }
    }
    bool whole = gap ? groups > 0 && groups < 8 : groups == 8;
    return whole && !word_after(at, end) ? at : NULL;
}

const uint8_t *recognise_ip(const uint8_t *at, Span text) {
    const uint8_t *found = is_digit(*at) ? ip4(at, text) : NULL;
    return found ? found : ip6(at, text);
}

/* ---- MAC ---- */

const uint8_t *recognise_mac(const uint8_t *at, Span text) {
    const uint8_t *end = text.at + text.length, *after = hex_digits(at, end, 4);
    uint32_t size = (uint32_t)(after - at), groups = 1;
    if ((size != 2 && size != 4) || after == end || word_before(at, text)) return NULL;
    uint8_t separator = *after;
    if (group_before(at, text, separator, size)) return NULL;
    if (size == 2 ? separator != ':' && separator != '-' : separator != '.') return NULL;
    for (at = after; end - at > (int32_t)size && *at == separator; at += 1 + size, groups++) {
        if (hex_digits(at + 1, end, size) != at + 1 + size) break;
    }
    bool goes_on = word_after(at, end) || (end - at > 1 && *at == separator && is_word(at[1]));
    bool whole = groups * size == 12 || groups * size == 16;
    return whole && !goes_on ? at : NULL;
}

/* ---- e-mail ---- */

/* RFC 5322 allows more before the @, but not what separates it from the text around it as a rule. */
static bool is_local(uint8_t byte) {
    if (is_word(byte)) return true;
    for (const char *allowed = "._%+-'!#$&*^~"; *allowed; allowed++) {
        if (byte == (uint8_t)*allowed) return true;
    }
    return false;
}

/* Code points from U+3000 on are of scripts without spaces between words. They belong to an address only where one of
 * them stands next to its @, punctuation excepted; so do other letters that are not ASCII, always. */
static bool is_letter_beyond(const uint8_t *at, bool dense) {
    if (*at < 0xC3) return false;
    if (*at < 0xE3) return *at != 0xE2 || (at[1] != 0x80 && at[1] != 0x81);
    if ((*at == 0xE3 && at[1] == 0x80) || (*at == 0xEF && at[1] >= 0xBC)) return false;
    return dense;
}

static uint32_t point_length(const uint8_t *at, const uint8_t *end) {
    const uint8_t *start = at++;
    while (at < end && (*at & 0xC0) == 0x80) at++;
    return (uint32_t)(at - start);
}

static const uint8_t *point_before(const uint8_t *at, const uint8_t *from) {
    at--;
    while (at > from && (*at & 0xC0) == 0x80) at--;
    return at;
}

static const uint8_t *local_start(const uint8_t *sign, const uint8_t *from) {
    const uint8_t *start = sign;
    bool dense = sign > from && *point_before(sign, from) >= 0xE3;
    while (start > from) {
        const uint8_t *before = point_before(start, from);
        if (*before < 0x80 ? !is_local(*before) : start - before < 2 || !is_letter_beyond(before, dense)) break;
        start = before;
    }
    while (start < sign && *start < 0x80 && !is_word(*start) && *start != '_') start++;
    return start;
}

static const uint8_t *label(const uint8_t *at, const uint8_t *end, bool dense) {
    while (at < end) {
        if (is_word(*at) || *at == '-' || *at == '_') at++;
        else if (*at >= 0x80 && end - at > 1 && is_letter_beyond(at, dense)) at += point_length(at, end);
        else break;
    }
    return at;
}

/* Where the host's name ends: at least two labels, the last of which is no number. NULL if it is none. */
static const uint8_t *host_end(const uint8_t *at, const uint8_t *end) {
    const uint8_t *found = NULL;
    bool dense = at < end && *at >= 0xE3;
    for (uint32_t labels = 1;; labels++) {
        const uint8_t *after = label(at, end, dense);
        if (after == at) return found;
        if (labels > 1 && after - at > 1 && !is_digit(*at)) found = after;
        if (after == end || *after != '.') return found;
        at = after + 1;
    }
}

#define EVERY(byte) (0x0101010101010101u * (uint64_t)(byte))

static const uint8_t *find_sign(const uint8_t *at, const uint8_t *end) {
    for (; end - at >= 8; at += 8) {
        uint64_t bytes;
        __builtin_memcpy(&bytes, at, 8);
        bytes ^= EVERY('@');
        uint64_t zeros = (bytes - EVERY(1)) & ~bytes & EVERY(0x80); /* the first one is right */
        if (zeros) return at + (__builtin_ctzll(zeros) >> 3);
    }
    while (at < end && *at != '@') at++;
    return at;
}

Span recognise_email(const uint8_t *from, Span text) {
    const uint8_t *end = text.at + text.length;
    for (const uint8_t *sign = find_sign(from, end); sign < end; sign = find_sign(sign + 1, end)) {
        const uint8_t *start = local_start(sign, from), *stop = start < sign ? host_end(sign + 1, end) : NULL;
        if (stop) return span(start, stop);
    }
    return span(end, end);
}
