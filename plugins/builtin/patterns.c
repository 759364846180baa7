#include "patterns.h"

#include "recognise.h"

enum { DIGIT = 1, LETTER = 2, PHONE_SIGN = 4, COLON = 8 };

static const uint8_t CLASSES[256] = {
    ['0' ... '9'] = DIGIT, ['a' ... 'z'] = LETTER, ['A' ... 'Z'] = LETTER, ['+'] = PHONE_SIGN, ['('] = PHONE_SIGN,
    [':'] = COLON,
};

/* The classes of bytes that something can begin with. */
static uint32_t classes_of(uint32_t kinds) {
    uint32_t classes = kinds & ~(PATTERN_EMAIL | PATTERN_IBAN) ? DIGIT : 0;
    if (kinds & (PATTERN_IBAN | PATTERN_IP | PATTERN_MAC)) classes |= LETTER;
    if (kinds & PATTERN_PHONE) classes |= PHONE_SIGN;
    if (kinds & PATTERN_IP) classes |= COLON;
    return classes;
}

typedef const uint8_t *(*Recognise)(const uint8_t *at, Span text);

/* In this order: what is more certain comes first. */
static const struct {
    uint8_t kind, classes;
    Recognise recognise;
} KINDS[] = {
    {PATTERN_MAC, DIGIT | LETTER, recognise_mac},
    {PATTERN_IP, DIGIT | LETTER | COLON, recognise_ip},
    {PATTERN_IBAN, LETTER, recognise_iban},
    {PATTERN_CN_ID, DIGIT, recognise_cn_id},
    {PATTERN_CARD, DIGIT, recognise_card},
    {PATTERN_PHONE, DIGIT | PHONE_SIGN, recognise_phone},
};

static const uint8_t *recognise(uint32_t kinds, const uint8_t *at, Span text, uint32_t *kind) {
    uint8_t class = CLASSES[*at];
    for (uint32_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (!(KINDS[i].kind & kinds) || !(KINDS[i].classes & class)) continue;
        const uint8_t *stop = KINDS[i].recognise(at, text);
        *kind = KINDS[i].kind;
        if (stop) return stop;
    }
    return NULL;
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

static void put_hash(const Patterns *how, Span found, uint32_t kind) {
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t digest[SHA256_SIZE], text[2 * SHA256_SIZE], *meaning = geomq_scratch(found.length);
    uint32_t length = 0;
    bool all = kind == PATTERN_EMAIL || kind == PATTERN_IP;
    for (uint32_t i = 0; i < found.length; i++) {
        uint8_t byte = found.at[i];
        if (all || is_word(byte)) meaning[length++] = is_letter(byte) ? byte | 0x20 : byte;
    }
    hmac_digest(&how->hmac, meaning, length, digest);
    for (uint32_t i = 0; i < how->count; i++) text[i] = (uint8_t)DIGITS[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    geomq_append(text, how->count);
}

static void put(const Patterns *how, Span found, uint32_t kind) {
    switch (how->put) {
    case PATTERN_KEEP_LAST: put_stars(found, how->count); break;
    case PATTERN_HASH: put_hash(how, found, kind); break;
    default: geomq_append(how->with.at, how->with.length); break;
    }
}

/* ---- the search ---- */

typedef struct {
    const Patterns *how;
    Span text;
    const uint8_t *copied; /* up to where the output has it */
} Search;

static const uint8_t *replace(Search *search, Span found, uint32_t kind) {
    geomq_append(search->copied, (uint32_t)(found.at - search->copied));
    put(search->how, found, kind);
    return search->copied = found.at + found.length;
}

/* Everything but e-mail addresses that begins before `until`; returns where to go on. Inside a run of letters or of
 * digits nothing begins. */
static const uint8_t *search_until(Search *search, const uint8_t *at, const uint8_t *until) {
    uint32_t kinds = search->how->kinds, wanted = classes_of(kinds), kind = 0;
    uint8_t before = 0;
    while (at < until) {
        uint8_t class = CLASSES[*at];
        if (class & wanted && !(class & before)) {
            const uint8_t *stop = recognise(kinds, at, search->text, &kind);
            if (stop) {
                at = replace(search, span(at, stop), kind);
                before = 0;
                continue;
            }
        }
        before = class & (DIGIT | LETTER);
        at++;
    }
    return at;
}

Masked patterns_mask(const Patterns *how, Span text, Span *out) {
    const uint8_t *end = text.at + text.length, *at = text.at;
    const uint8_t *mark = geomq_mark();
    Search search = {how, text, at};
    while (at < end) {
        Span mail = how->kinds & PATTERN_EMAIL ? recognise_email(at, text) : span(end, end);
        at = search_until(&search, at, mail.at);
        if (at == mail.at && mail.length) at = replace(&search, mail, PATTERN_EMAIL);
    }
    if (search.copied == text.at) return MASK_SAME;
    geomq_append(search.copied, (uint32_t)(end - search.copied));
    *out = appended(mark);
    return MASK_CHANGED;
}
