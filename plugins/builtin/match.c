#include "match.h"

#include "json.h"

static const uint8_t *next_point(const uint8_t *at, const uint8_t *end) {
    at++;
    while (at < end && (*at & 0xC0) == 0x80) at++;
    return at;
}

/* Goes back to the last `*` only: what an earlier one took can stay as it is. */
bool glob_matches(Span pattern, Span text) {
    const uint8_t *p = pattern.at, *p_end = span_end(pattern), *t = text.at, *t_end = span_end(text);
    const uint8_t *star = NULL, *taken = NULL;
    while (t < t_end) {
        if (p < p_end && *p == '*') {
            star = ++p;
            taken = t;
            continue;
        }
        bool any = p < p_end && *p == '?';
        if (p < p_end && *p == '\\' && p + 1 < p_end) p++;
        if (any || (p < p_end && *p == *t)) {
            p++;
            t = any ? next_point(t, t_end) : t + 1;
            continue;
        }
        if (!star) return false;
        p = star;
        t = ++taken;
    }
    while (p < p_end && *p == '*') p++;
    return p == p_end;
}

static const uint8_t *level_end(const uint8_t *at, const uint8_t *end) {
    while (at < end && *at != '/') at++;
    return at;
}

bool filter_matches(Span filter, Span topic) {
    const uint8_t *f = filter.at, *f_end = span_end(filter), *t = topic.at, *t_end = span_end(topic);
    if (topic.length && *t == '$' && filter.length && (*f == '+' || *f == '#')) return false;
    for (;;) {
        const uint8_t *f_next = level_end(f, f_end), *t_next = level_end(t, t_end);
        if (f_next - f == 1 && *f == '#') return true;
        bool one = f_next - f == 1 && *f == '+';
        if (!one && !same(span(f, f_next), span(t, t_next))) return false;
        bool parent = t_next == t_end && f_end - f_next == 2 && f_next[1] == '#';
        if (parent) return true;
        if (f_next == f_end || t_next == t_end) return f_next == f_end && t_next == t_end;
        f = f_next + 1;
        t = t_next + 1;
    }
}

static bool is_name(Span text) {
    if (text.length == 0 || text.length > 65535 || !is_utf8(text)) return false;
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.at[i] == 0) return false;
    }
    return true;
}

bool is_filter(Span filter) {
    if (!is_name(filter)) return false;
    const uint8_t *end = span_end(filter);
    for (const uint8_t *at = filter.at;; at++) {
        const uint8_t *after = level_end(at, end);
        for (const uint8_t *c = at; c < after; c++) {
            if ((*c == '+' || *c == '#') && after - at > 1) return false;
        }
        if (at < after && *at == '#' && after < end) return false;
        if (after == end) return true;
        at = after;
    }
}

bool is_topic(Span topic) {
    if (!is_name(topic)) return false;
    for (uint32_t i = 0; i < topic.length; i++) {
        if (topic.at[i] == '+' || topic.at[i] == '#') return false;
    }
    return true;
}

Span topic_level(Span topic, uint32_t index) {
    const uint8_t *at = topic.at, *end = span_end(topic);
    for (;; index--) {
        const uint8_t *after = level_end(at, end);
        if (index == 0) return span(at, after);
        if (after == end) return (Span){0};
        at = after + 1;
    }
}
