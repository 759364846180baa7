/* Telephone numbers: of a country by +, or by what stands between the digits. */
#include "recognise.h"

#define GROUPS 8
#define WORLD_MOST 15 /* digits (E.164) */
#define GAP_MOST 3    /* bytes between two groups: " (", ") ", " / " */

/* Groups of digits with gaps between them. */
typedef struct {
    uint32_t count;
    uint32_t sizes[GROUPS];
    const uint8_t *starts[GROUPS], *stops[GROUPS];
} Groups;

static bool is_gap(uint8_t byte) {
    return byte == ' ' || byte == '-' || byte == '.' || byte == '/' || byte == '(' || byte == ')';
}

static const uint8_t *after_gap(const uint8_t *at, const uint8_t *end) {
    const uint8_t *start = at;
    while (at < end && at - start < GAP_MOST && is_gap(*at)) at++;
    return at > start && at < end && is_digit(*at) ? at : NULL;
}

static uint32_t digit_run(const uint8_t *at, const uint8_t *end) {
    const uint8_t *start = at;
    while (at < end && is_digit(*at)) at++;
    return (uint32_t)(at - start);
}

/* The groups from a digit on, up to `count`, that have no more than `most` digits together. */
static Groups groups_from(const uint8_t *at, const uint8_t *end, uint32_t count, uint32_t most) {
    Groups groups = {0};
    uint32_t digits = 0;
    while (at && groups.count < count) {
        const uint8_t *start = at;
        while (at < end && is_digit(*at) && digits <= most) at++, digits++;
        if (digits > most || word_after(at, end)) break;
        groups.starts[groups.count] = start;
        groups.stops[groups.count] = at;
        groups.sizes[groups.count++] = (uint32_t)(at - start);
        at = after_gap(at, end);
    }
    return groups;
}

static uint32_t digits_in(const Groups *groups) {
    uint32_t digits = 0;
    for (uint32_t i = 0; i < groups->count; i++) digits += groups->sizes[i];
    return digits;
}

/* What goes on with a dash, dot or slash is something else: a date, a version, a UUID. */
static const uint8_t *stop_at(const Groups *groups, uint32_t last, const uint8_t *end) {
    const uint8_t *at = groups->stops[last];
    if (at < end && (*at == '@' || *at == '_')) return NULL;
    bool goes_on = end - at > 1 && (*at == '-' || *at == '.' || *at == '/' || *at == ':') && is_word(at[1]);
    return goes_on ? NULL : at;
}

static bool has_sizes(const Groups *groups, uint32_t from, uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t *sizes = groups->sizes + from;
    if (groups->count < from + 3 || sizes[0] != a || sizes[1] != b || sizes[2] != c) return false;
    const uint8_t *first = groups->stops[from], *second = groups->stops[from + 1];
    return groups->starts[from + 1] == first + 1 && groups->starts[from + 2] == second + 1 && *first == *second;
}

/* Two groups with a dot between them: a decimal number, unless it is as long as no such number. */
static bool is_decimal(const Groups *groups) {
    return groups->count == 2 && *groups->stops[0] == '.' && groups->sizes[1] < 9;
}

/* +49 30 123456: `at` is behind the +. With it nothing else can be meant, whatever stands around it. */
static const uint8_t *world(const uint8_t *at, const uint8_t *end) {
    Groups groups = groups_from(at, end, GROUPS, WORLD_MOST);
    if (digits_in(&groups) < 8 || *at == '0' || is_decimal(&groups)) return NULL;
    return groups.stops[groups.count - 1];
}

/* 0049 30 123456, 00 49 30 123456, 0049301234567. */
static const uint8_t *world_by_zeros(const uint8_t *at, const uint8_t *end) {
    Groups groups = groups_from(at, end, GROUPS, WORLD_MOST + 2);
    if (!groups.count || digits_in(&groups) < (groups.count == 1 ? 12 : 10)) return NULL;
    if (groups.count == 1 && groups.sizes[0] == 2) return NULL;
    uint8_t first = groups.sizes[0] == 2 ? *groups.starts[1] : at[2];
    return first == '0' ? NULL : stop_at(&groups, groups.count - 1, end);
}

static bool in_pairs(const Groups *groups) {
    for (uint32_t i = 0; i < 5; i++) {
        if (i >= groups->count || groups->sizes[i] != 2) return false;
        if (i && *groups->stops[i - 1] != *groups->stops[0]) return false;
    }
    return true;
}

/* With the 0 of long-distance calls: 030 1234567, 02 9374 4000, 01 23 45 67 89; but not 05.11.2024. */
static const uint8_t *trunk(const uint8_t *at, const uint8_t *end) {
    Groups groups = groups_from(at, end, GROUPS, 12);
    if (groups.count < 2) return NULL;
    if (in_pairs(&groups)) return stop_at(&groups, 4, end);
    uint32_t first = groups.sizes[0];
    if (digits_in(&groups) < 9 || first < 2 || first > 6 || is_decimal(&groups)) return NULL;
    return first == 2 && groups.sizes[1] < 3 ? NULL : stop_at(&groups, groups.count - 1, end);
}

/* 415-555-0100, 1 415 555 0100, 400-810-8888. */
static const uint8_t *north_american(const Groups *groups, const uint8_t *end) {
    uint32_t from = groups->count > 3 && groups->sizes[0] == 1 && *groups->starts[0] == '1';
    if (!has_sizes(groups, from, 3, 3, 4) || *groups->starts[from] < '2' || *groups->starts[from + 1] < '2') return NULL;
    return stop_at(groups, from + 2, end);
}

/* 13800138000, with 86 or the 0 of long-distance calls right before it or without: so many digits in one piece are
 * rarely anything else, so that any sign may stand around them (a line of CSV), but for a decimal point. */
static const uint8_t *chinese_mobile(const uint8_t *at, Span text) {
    const uint8_t *end = span_end(text), *stop = at + digit_run(at, end);
    if (word_before(at, text) || word_after(stop, end)) return NULL;
    if (at - text.at > 1 && at[-1] == '.' && is_digit(at[-2])) return NULL;
    if (end - stop > 1 && *stop == '.' && is_digit(stop[1])) return NULL;
    if (stop - at == 13 && at[0] == '8' && at[1] == '6') at += 2;
    else if (stop - at == 12 && at[0] == '0') at++;
    return stop - at == 11 && at[0] == '1' && at[1] >= '3' ? stop : NULL;
}

static const uint8_t *national(const uint8_t *at, const uint8_t *end) {
    uint32_t first = digit_run(at, end);
    if (first != 3 && (first != 1 || *at != '1')) return NULL;
    Groups groups = groups_from(at, end, 4, WORLD_MOST);
    if (!groups.count) return NULL;
    if (at[0] == '1' && at[1] >= '3' && has_sizes(&groups, 0, 3, 4, 4)) return stop_at(&groups, 2, end);
    return north_american(&groups, end);
}

/* (030) 1234567, (415) 555-0100. */
static const uint8_t *in_brackets(const uint8_t *at, const uint8_t *end) {
    uint32_t first = digit_run(at + 1, end);
    if (first < 2 || first > 5 || end - at < 9 || at[1 + first] != ')') return NULL;
    Groups groups = groups_from(at + 1, end, GROUPS, 13);
    return groups.count > 1 && digits_in(&groups) >= 9 ? stop_at(&groups, groups.count - 1, end) : NULL;
}

/* Whether it is the rest of something longer: 2024-0123-4567, 1.0123 456789, file_0123-456789. */
static bool is_rest(const uint8_t *at, Span text) {
    if (word_before(at, text)) return true;
    if (at - text.at < 2) return false;
    uint8_t before = at[-1];
    if (before == '-' || before == '_' || before == '.') return is_word(at[-2]);
    return (before == '/' || before == ':' || before == ',' || before == '+') && is_digit(at[-2]);
}

const uint8_t *recognise_phone(const uint8_t *at, Span text) {
    const uint8_t *end = text.at + text.length;
    if (*at == '+') return end - at > 8 && is_digit(at[1]) && !word_before(at, text) ? world(at + 1, end) : NULL;
    const uint8_t *mobile = chinese_mobile(at, text);
    if (mobile || is_rest(at, text)) return mobile;
    if (*at == '(') return in_brackets(at, end);
    if (*at != '0') return national(at, end);
    if (end - at < 9) return NULL;
    return at[1] == '0' ? world_by_zeros(at, end) : is_digit(at[1]) ? trunk(at, end) : NULL;
}
