/* The masks `patterns`, `search`, `pseudonymise`, `reveal` and `date`: their settings, and what they do with the scalars
 * they are given. */
#include "dates.h"
#include "hours.h"
#include "masks.h"
#include "patterns.h"
#include "pseudonym.h"
#include "search.h"

/* ---- patterns ---- */

#define KINDS "card iban phone email ip mac cn_id" /* in the order of PATTERN_... */

static Span read_with(const Where *where, const Node *found) {
    Where here = {where, "with", 0};
    const Node *with = member(found, "with");
    if (with && with->type != TYPE_STRING) refuse(&here, with, "is not a text");
    return with ? with->text : SPAN("***");
}

static void read_patterns(const Where *where, const Node *found, void *settings) {
    Patterns *patterns = settings;
    bool puts = member(found, "with"), keeps = member(found, "keep_last"), hashes = member(found, "key");
    patterns->kinds = member(found, "kinds") ? read_words(where, found, "kinds", KINDS, 1) : UINT32_MAX;
    patterns->with = read_with(where, found);
    if (puts + keeps + hashes > 1) fail(where, NULL, "with, keep_last and key exclude one another");
    if (member(found, "length") && !hashes) fail(where, NULL, "length needs a key");
    if (keeps) {
        patterns->put = PATTERN_KEEP_LAST;
        patterns->count = read_whole(where, found, "keep_last", 0, 100, 0);
    } else if (hashes) {
        patterns->put = PATTERN_HASH;
        patterns->hash = hash_read(where, found);
    }
}

static bool is_plain(Span number) {
    for (uint32_t i = 0; i < number.length; i++) {
        if (number.at[i] == '.' || (number.at[i] | 0x20) == 'e') return false;
    }
    return true;
}

/* A card's number may be a number of JSON, which some writers give a fraction of 0 or an exponent; what hides it is a
 * text. */
static MaskResult apply_patterns(const void *settings, Leaf leaf, Leaf *changed) {
    uint8_t digits[PLAIN_DIGITS + 1];
    if (leaf.type != TYPE_STRING && leaf.type != TYPE_NUMBER) return leaf.type < TYPE_BYTES ? MASK_SAME : MASK_HIDE;
    changed->type = TYPE_STRING;
    if (leaf.type == TYPE_NUMBER && !is_plain(leaf.text)) {
        Decimal number = decimal(leaf.text);
        uint32_t length = decimal_plain(&number, digits);
        if (length) return patterns_mask(settings, (Span){digits, length}, &changed->text);
    }
    return patterns_mask(settings, leaf.text, &changed->text);
}

const MaskKind MASK_PATTERNS = {
    "patterns", "kinds with keep_last key length", ON_INSIDE, sizeof(Patterns), read_patterns, apply_patterns};

/* ---- search ---- */

static void add_wanted(const Where *where, const Node *found, bool is_glob, Search *search, Wanted *wanted) {
    if (found->type != TYPE_STRING || found->text.length == 0) refuse(where, found, "is not a text");
    else if (search->count == SEARCH_MOST) fail(where, NULL, "is more than is allowed (256)");
    else if (search_add(search, &wanted[search->count], found->text, is_glob)) search->count++;
    else refuse(where, found, "stands for everything");
}

static void add_all(const Where *where, const Node *found, const char *one, const char *many, bool is_glob,
                    Search *search, Wanted *wanted) {
    const Node *single = member(found, one), *list = member(found, many);
    Where here = {where, one, 0}, all = {where, many, 0}, element = {&all, NULL, 0};
    if (single) add_wanted(&here, single, is_glob, search, wanted);
    if (!list) return;
    if (list->type != TYPE_ARRAY || !list->first) refuse(&all, list, "is not a list of texts");
    else for (const Node *child = list->first; child; child = child->next, element.index++)
        add_wanted(&element, child, is_glob, search, wanted);
}

static void read_search(const Where *where, const Node *found, void *settings) {
    Search *search = settings;
    Wanted *wanted = geomq_take(SEARCH_MOST * sizeof(Wanted));
    search->wanted = wanted;
    search->with = read_with(where, found);
    search->ignore_case = read_bool(where, found, "ignore_case", false);
    search->whole_words = read_bool(where, found, "whole_words", false);
    search->over_spaces = read_bool(where, found, "over_spaces", false);
    add_all(where, found, "text", "texts", false, search, wanted);
    if (search->whole_words && (member(found, "glob") || member(found, "globs")))
        fail(where, NULL, "whole_words goes with text or texts only");
    if (search->over_spaces && !member(found, "glob") && !member(found, "globs"))
        fail(where, NULL, "over_spaces goes with glob or globs only");
    add_all(where, found, "glob", "globs", true, search, wanted);
    if (!search->count) fail(where, NULL, "needs one of text, texts, glob, globs");
}

static MaskResult apply_search(const void *settings, Leaf leaf, Leaf *changed) {
    if (leaf.type != TYPE_STRING && leaf.type != TYPE_NUMBER) return leaf.type < TYPE_BYTES ? MASK_SAME : MASK_HIDE;
    changed->type = TYPE_STRING;
    return search_mask(settings, leaf.text, &changed->text);
}

const MaskKind MASK_SEARCH = {
    "search", "text texts glob globs with ignore_case whole_words over_spaces", ON_INSIDE, sizeof(Search), read_search, apply_search};

/* ---- pseudonymise, reveal ---- */

#define LEAST_KEY 16 /* bytes: who finds it out by trying gets all values back */

static void read_pseudonymise(const Where *where, const Node *found, void *settings) {
    Pseudonym *pseudonym = settings;
    Span key = read_key(where, found, LEAST_KEY), tweak = read_text(where, found, "tweak", false);
    pseudonym_key(pseudonym, key, tweak);
    pseudonym->keep_first = read_whole(where, found, "keep_first", 0, PSEUDONYM_MOST, 0);
    pseudonym->keep_last = read_whole(where, found, "keep_last", 0, PSEUDONYM_MOST, 0);
    pseudonym->allow_short = read_bool(where, found, "allow_short", false);
}

static void read_reveal(const Where *where, const Node *found, void *settings) {
    read_pseudonymise(where, found, settings);
    ((Pseudonym *)settings)->reveal = true;
}

static MaskResult apply_pseudonym(const void *settings, Leaf leaf, Leaf *changed) {
    changed->type = leaf.type;
    if (leaf.type == TYPE_STRING) return pseudonym_text(settings, leaf.text, &changed->text);
    return leaf.type == TYPE_NUMBER ? pseudonym_number(settings, leaf.text, &changed->text) : MASK_HIDE;
}

#define PSEUDONYM_KEYS "key tweak keep_first keep_last allow_short"

const MaskKind MASK_PSEUDONYMISE = {
    "pseudonymise", PSEUDONYM_KEYS, ON_SCALARS, sizeof(Pseudonym), read_pseudonymise, apply_pseudonym};
const MaskKind MASK_REVEAL = {"reveal", PSEUDONYM_KEYS, ON_SCALARS, sizeof(Pseudonym), read_reveal, apply_pseudonym};

/* ---- date ---- */

typedef struct {
    DateUnit to;
    int32_t utc_offset; /* for numbers; seconds */
} Date;

static void read_date(const Where *where, const Node *found, void *settings) {
    Date *date = settings;
    Where here = {where, "utc_offset", 0};
    const Node *offset = member(found, "utc_offset");
    date->to = (DateUnit)read_word(where, found, "to", "hour day month year", REQUIRED);
    if (offset && !offset_read(&here, offset, &date->utc_offset)) refuse(&here, offset, "is no offset such as +08:00");
}

static MaskResult apply_date(const void *settings, Leaf leaf, Leaf *changed) {
    const Date *date = settings;
    changed->type = leaf.type;
    if (leaf.type == TYPE_STRING) return date_text(date->to, leaf.text, &changed->text);
    return leaf.type == TYPE_NUMBER ? date_number(date->to, date->utc_offset, leaf.text, &changed->text) : MASK_HIDE;
}

const MaskKind MASK_DATE = {"date", "to utc_offset", ON_SCALARS, sizeof(Date), read_date, apply_date};
