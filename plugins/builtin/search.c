#include "search.h"

#include "fold.h"

#define ANY 0xFF /* in a piece: one character; no UTF-8 has this byte */

static uint8_t folded(bool fold, uint8_t byte) { return fold && (uint8_t)(byte - 'A') < 26 ? byte | 0x20 : byte; }

/* What no star and no question mark stands for. */
static bool is_border(const Search *search, uint8_t byte) {
    if (search->over_spaces) return byte == '\n' || byte == '\r';
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* ---- what is searched for ---- */

/* Read a piece up to a star or the end, and go behind it. */
static Span read_piece(const uint8_t **at, const uint8_t *end, bool is_glob, bool fold) {
    uint8_t *piece = geomq_take((uint32_t)(end - *at)), *out = piece;
    for (; *at < end && !(is_glob && **at == '*'); ++*at) {
        if (is_glob && **at == '?') {
            *out++ = ANY;
            continue;
        }
        if (is_glob && **at == '\\' && end - *at > 1) ++*at;
        *out++ = folded(fold, **at);
    }
    return span(piece, out);
}

/* A star at the beginning may stand for nothing: then anything may follow. */
static void add_beginning(Search *search, Span piece) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        if ((byte & 0xC0) == 0x80) continue; /* inside a character */
        bool may = !piece.length || piece.at[0] == ANY || folded(search->ignore_case, (uint8_t)byte) == piece.at[0];
        search->begins[byte] |= may;
    }
}

bool search_add(Search *search, Wanted *wanted, Span text, bool is_glob) {
    const uint8_t *at = text.at, *end = span_end(text);
    uint32_t length = 0;
    Span *pieces = geomq_take((text.length + 1) * sizeof(Span));
    for (uint32_t count = 0;;) {
        Span piece = read_piece(&at, end, is_glob, search->ignore_case);
        bool is_last = at == end;
        if (piece.length || count == 0 || is_last) pieces[count++] = piece; /* several stars are one */
        length += piece.length;
        wanted->count = count;
        if (is_last) break;
        at++;
    }
    wanted->pieces = pieces;
    if (length) add_beginning(search, pieces[0]);
    return length > 0;
}

/* ---- the search ---- */

static const uint8_t *run_end(const Search *search, const uint8_t *at, const uint8_t *end) {
    while (at < end && !is_border(search, *at)) at++;
    return at;
}

/* Where the piece that stands at `at` ends, NULL if it does not stand there. */
static const uint8_t *piece_end(const Search *search, Span piece, const uint8_t *at, const uint8_t *end) {
    for (uint32_t i = 0; i < piece.length; i++, at++) {
        if (at == end) return NULL;
        if (piece.at[i] == ANY) {
            if (is_border(search, *at)) return NULL;
            while (at + 1 < end && (at[1] & 0xC0) == 0x80) at++;
        } else if (folded(search->ignore_case, *at) != piece.at[i]) {
            return NULL;
        }
    }
    return at;
}

/* Where what is wanted ends, if it begins at `at`. `dead`: up to where it is known not to: what is not found behind a
 * star, in the rest of a run without spaces, is not found from a later place in that run either, as the pieces are taken
 * where they stand first. */
static const uint8_t *match(const Search *search, const Wanted *wanted, const uint8_t *at, const uint8_t *end,
                            const uint8_t **dead) {
    const uint8_t *star = at = piece_end(search, wanted->pieces[0], at, end);
    if (!at || (wanted->count > 1 && *dead && at <= *dead)) return NULL;
    for (uint32_t i = 1; i < wanted->count; i++) {
        Span piece = wanted->pieces[i];
        if (piece.length == 0) return run_end(search, at, end);
        const uint8_t *found;
        while (!(found = piece_end(search, piece, at, end))) {
            if (at == end || is_border(search, *at)) {
                *dead = run_end(search, star, end);
                return NULL;
            }
            at++;
        }
        at = found;
    }
    return at;
}

static bool is_part(Span text, const uint8_t *start, const uint8_t *stop) {
    return (start > text.at && is_word(start[-1])) || (stop < span_end(text) && is_word(*stop));
}

static const uint8_t *match_any(const Search *search, Span text, const uint8_t *at, const uint8_t **dead) {
    for (uint32_t i = 0; i < search->count; i++) {
        const uint8_t *stop = match(search, &search->wanted[i], at, span_end(text), &dead[i]);
        if (stop && stop > at && !(search->whole_words && is_part(text, at, stop))) return stop;
    }
    return NULL;
}

/* Have all that is found in `text`, which is the source or what has been folded from it, replaced in the source. */
static bool replace_all(const Search *search, Folded text, Span source, Span *out) {
    const uint8_t *dead[SEARCH_MOST];
    const uint8_t *at = text.text.at, *end = span_end(text.text), *mark = geomq_mark();
    uint32_t copied = 0;
    for (uint32_t i = 0; i < search->count; i++) dead[i] = NULL;
    for (;;) {
        while (at < end && !search->begins[*at]) at++;
        if (at == end) break;
        const uint8_t *stop = match_any(search, text.text, at, dead);
        if (!stop) {
            at++;
            continue;
        }
        geomq_append(source.at + copied, folded_origin(&text, at) - copied);
        geomq_append(search->with.at, search->with.length);
        copied = folded_origin(&text, stop);
        at = stop;
    }
    if (!copied) return false;
    geomq_append(source.at + copied, source.length - copied);
    *out = appended(mark);
    return true;
}

/* As it is written first, for what is searched for may have a backslash itself; then as it is meant. */
MaskResult search_mask(const Search *search, Span text, Span *out) {
    *out = text;
    bool found = replace_all(search, (Folded){text, NULL}, text, out);
    uint8_t *before = geomq_mark();
    Folded folded = fold(*out);
    if (folded.origins && replace_all(search, folded, *out, out)) found = true;
    else geomq_release(before);
    return found ? MASK_CHANGED : MASK_SAME;
}
