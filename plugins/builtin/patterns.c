#include "patterns.h"

#include "fold.h"
#include "recognise.h"

enum { DIGIT = 1, HEX_LETTER = 2, OTHER_LETTER = 4, PHONE_SIGN = 8, COLON = 16, LETTER = HEX_LETTER | OTHER_LETTER };

static const uint8_t CLASSES[256] = {
    ['0' ... '9'] = DIGIT,        ['a' ... 'f'] = HEX_LETTER, ['A' ... 'F'] = HEX_LETTER, ['g' ... 'z'] = OTHER_LETTER,
    ['G' ... 'Z'] = OTHER_LETTER, ['+'] = PHONE_SIGN,         ['('] = PHONE_SIGN,         [':'] = COLON,
};

/* The classes of bytes that something can begin with. */
static uint32_t classes_of(uint32_t kinds) {
    uint32_t classes = kinds & ~(PATTERN_EMAIL | PATTERN_IBAN) ? DIGIT : 0;
    if (kinds & PATTERN_IBAN) classes |= LETTER;
    if (kinds & (PATTERN_IP | PATTERN_MAC)) classes |= HEX_LETTER;
    if (kinds & PATTERN_PHONE) classes |= PHONE_SIGN;
    if (kinds & PATTERN_IP) classes |= COLON;
    return classes;
}

static const uint8_t *try(const uint8_t *found, Pattern *kind, Pattern found_kind) {
    if (found) *kind = found_kind;
    return found;
}

/* What begins at a byte of that class; what is more certain comes first. */
static const uint8_t *recognise(uint32_t kinds, uint8_t class, const uint8_t *at, Span text, Pattern *kind) {
    const uint8_t *found = NULL;
    if (class & (DIGIT | HEX_LETTER) && kinds & PATTERN_MAC) found = try(recognise_mac(at, text), kind, PATTERN_MAC);
    if (!found && class & (DIGIT | HEX_LETTER | COLON) && kinds & PATTERN_IP)
        found = try(recognise_ip(at, text), kind, PATTERN_IP);
    if (!found && class & LETTER && kinds & PATTERN_IBAN) found = try(recognise_iban(at, text), kind, PATTERN_IBAN);
    if (found || !(class & (DIGIT | PHONE_SIGN))) return found;
    if (class == DIGIT && kinds & PATTERN_CN_ID) found = try(recognise_cn_id(at, text), kind, PATTERN_CN_ID);
    if (!found && class == DIGIT && kinds & PATTERN_CARD) found = try(recognise_card(at, text), kind, PATTERN_CARD);
    if (!found && kinds & PATTERN_PHONE) found = try(recognise_phone(at, text), kind, PATTERN_PHONE);
    return found;
}

/* ---- what is put in place ---- */

static bool is_symbol(uint8_t byte) { return is_word(byte) || byte >= 0xC0; }

static void put_stars(Span found, uint32_t keep) {
    uint32_t symbols = 0, seen = 0;
    for (uint32_t i = 0; i < found.length; i++) symbols += is_symbol(found.at[i]);
    if (keep > symbols / 2) keep = symbols / 2;
    for (uint32_t i = 0; i < found.length; i++) {
        uint8_t byte = found.at[i];
        bool hidden = seen + keep < symbols;
        if (is_symbol(byte)) {
            seen++;
            geomq_append(hidden ? (const uint8_t *)"*" : &byte, 1);
        } else if (byte < 0x80 || seen + keep > symbols) {
            geomq_append(&byte, 1);
        }
    }
}

static void put_hash(const Patterns *how, Span found, Pattern kind) {
    uint8_t *meaning = geomq_scratch(found.length);
    uint32_t length = 0;
    bool all = kind == PATTERN_EMAIL || kind == PATTERN_IP;
    for (uint32_t i = 0; i < found.length; i++) {
        uint8_t byte = found.at[i];
        if (all || is_word(byte)) meaning[length++] = is_letter(byte) ? byte | 0x20 : byte;
    }
    hash_append(&how->hash, (Span){meaning, length});
}

static void put(const Patterns *how, Span found, Pattern kind) {
    switch (how->put) {
    case PATTERN_KEEP_LAST: put_stars(found, how->count); break;
    case PATTERN_HASH: put_hash(how, found, kind); break;
    default: geomq_append(how->with.at, how->with.length); break;
    }
}

/* ---- the search ---- */

typedef struct {
    const Patterns *how;
    Folded folded;
    Span source;
    uint32_t copied; /* bytes of the source that the output has */
} Search;

static void copy_until(Search *search, uint32_t offset) {
    geomq_append(search->source.at + search->copied, offset - search->copied);
    search->copied = offset;
}

static const uint8_t *replace(Search *search, Span found, Pattern kind) {
    copy_until(search, folded_origin(&search->folded, found.at));
    put(search->how, found, kind);
    search->copied = folded_origin(&search->folded, span_end(found));
    return span_end(found);
}

static const uint8_t *skip_run(const uint8_t *at, const uint8_t *until, uint8_t classes) {
    while (at < until && CLASSES[*at] & classes) at++;
    return at;
}

/* The end of an IBAN whose country is the end of a word, as in IBANDE89...: then `at` becomes its beginning. */
static const uint8_t *glued_iban(const Search *search, const uint8_t **at, const uint8_t *until) {
    const uint8_t *country = skip_run(*at, until, LETTER) - 2;
    const uint8_t *stop = country > *at ? recognise_iban(country, search->folded.text) : NULL;
    if (stop) *at = country;
    return stop;
}

/* Everything but e-mail addresses that begins before `until`; returns where to go on. Inside a run of letters or of
 * digits nothing begins. */
static const uint8_t *search_until(Search *search, const uint8_t *at, const uint8_t *until) {
    uint32_t kinds = search->how->kinds, wanted = classes_of(kinds);
    Pattern kind = 0;
    if (!wanted) return until;
    for (;;) {
        while (at < until && !(CLASSES[*at] & wanted)) at++;
        if (at >= until) return at;
        uint8_t class = CLASSES[*at];
        const uint8_t *stop = recognise(kinds, class, at, search->folded.text, &kind);
        if (!stop && class & LETTER && kinds & PATTERN_IBAN && (stop = glued_iban(search, &at, until))) kind = PATTERN_IBAN;
        if (stop) at = replace(search, span(at, stop), kind);
        else at = skip_run(at + 1, until, class & LETTER ? LETTER : class & DIGIT);
    }
}

MaskResult patterns_mask(const Patterns *how, Span text, Span *out) {
    uint8_t *before = geomq_mark();
    Folded folded = fold(text);
    const uint8_t *mark = geomq_mark(), *at = folded.text.at, *end = span_end(folded.text);
    Search search = {how, folded, text, 0};
    while (at < end) {
        Span mail = how->kinds & PATTERN_EMAIL ? recognise_email(at, folded.text) : span(end, end);
        at = search_until(&search, at, mail.at);
        if (at == mail.at && mail.length) at = replace(&search, mail, PATTERN_EMAIL);
    }
    if (!search.copied) return geomq_release(before), MASK_SAME;
    copy_until(&search, text.length);
    *out = appended(mark);
    return MASK_CHANGED;
}
