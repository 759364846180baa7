/* A module for the tests: one mask of a single value, called as its configuration says for every payload as it is.
 * A payload that the mask cannot work on is dropped. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "../../plugins/sdk/c/geomq_plugin.h"

#include "../../plugins/builtin/dates.h"
#include "../../plugins/builtin/patterns.h"
#include "../../plugins/builtin/grid.h"
#include "../../plugins/builtin/json.h"
#include "../../plugins/builtin/pseudonym.h"
#include "../../plugins/builtin/search.h"
#include "../../plugins/builtin/settings.h"

typedef MaskResult (*Function)(Span payload, Span *out);

static const Node *config;
static Pseudonym pseudonym;
static Patterns patterns;
static DateUnit date_unit;
static int32_t date_offset;
static Grid grid;
static Search search;
static Wanted wanted[1];

static Span text_of(const char *name) { return member(config, name) ? member(config, name)->text : (Span){0}; }

static uint32_t number_of(const char *name) { return read_whole(NULL, config, name, 0, 1000000000, 0); }

static bool flag(const char *name) { return read_bool(NULL, config, name, false); }

static MaskResult mask_pseudonym_text(Span payload, Span *out) { return pseudonym_text(&pseudonym, payload, out); }
static MaskResult mask_pseudonym_number(Span payload, Span *out) { return pseudonym_number(&pseudonym, payload, out); }

static void set_pseudonym(void) {
    pseudonym_key(&pseudonym, text_of("key"), text_of("tweak"));
    pseudonym.keep_first = number_of("keep_first");
    pseudonym.keep_last = number_of("keep_last");
    pseudonym.allow_short = flag("allow_short");
    pseudonym.reveal = flag("reveal");
}

static MaskResult mask_patterns(Span payload, Span *out) { return patterns_mask(&patterns, payload, out); }

static void set_patterns(void) {
    patterns.kinds = number_of("kinds");
    patterns.with = text_of("with");
    patterns.count = number_of("count");
    patterns.put = member(config, "key") ? PATTERN_HASH : member(config, "count") ? PATTERN_KEEP_LAST : PATTERN_WITH;
    hmac_key(&patterns.hash.hmac, text_of("key").at, text_of("key").length);
    patterns.hash.length = patterns.count;
}

static MaskResult mask_date_text(Span payload, Span *out) { return date_text(date_unit, payload, out); }
static MaskResult mask_date_number(Span payload, Span *out) { return date_number(date_unit, date_offset, payload, out); }

static void set_date(void) {
    date_unit = (DateUnit)number_of("unit");
    date_offset = flag("west") ? -(int32_t)number_of("offset") : (int32_t)number_of("offset");
}

/* The payload is both numbers with a space between them, as is what comes out. */
static MaskResult mask_grid(Span payload, Span *out) {
    const uint8_t *space = payload.at;
    while (*space != ' ') space++;
    Span latitude, longitude;
    MaskResult result = grid_move(&grid, span(payload.at, space), span(space + 1, span_end(payload)), &latitude, &longitude);
    if (result != MASK_CHANGED) return result;
    out->at = geomq_append(latitude.at, latitude.length);
    geomq_append(" ", 1);
    geomq_append(longitude.at, longitude.length);
    out->length = latitude.length + 1 + longitude.length;
    return MASK_CHANGED;
}

static void set_grid(void) {
    Decimal degrees = decimal(text_of("degrees")), metres = decimal(text_of("metres"));
    if (member(config, "degrees") ? !grid_by_degrees(&degrees, &grid) : !grid_by_metres(&metres, &grid)) __builtin_trap();
}

static MaskResult mask_search(Span payload, Span *out) { return search_mask(&search, payload, out); }

static void set_search(void) {
    search.ignore_case = flag("ignore_case");
    search.whole_words = flag("whole_words");
    search.over_spaces = flag("over_spaces");
    search.wanted = wanted;
    search.with = text_of("with");
    search.count = search_add(&search, wanted, text_of("text"), flag("glob"));
}

static const struct {
    const char *name;
    void (*set)(void);
    Function function;
} FUNCTIONS[] = {
    {"patterns", set_patterns, mask_patterns},
    {"grid", set_grid, mask_grid},
    {"search", set_search, mask_search},
    {"date_text", set_date, mask_date_text},
    {"date_number", set_date, mask_date_number},
    {"pseudonym_text", set_pseudonym, mask_pseudonym_text},
    {"pseudonym_number", set_pseudonym, mask_pseudonym_number},
};

static Function function;

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *text, uint32_t length) {
    config = json_read((Span){text, length});
    for (uint32_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++) {
        if (!member(config, FUNCTIONS[i].name)) continue;
        FUNCTIONS[i].set();
        function = FUNCTIONS[i].function;
        geomq_keep();
        return NULL;
    }
    return "no such mask";
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    GeomqBuilder result = geomq_begin(request->count, 0);
    for (uint32_t i = 0; i < request->count; i++) {
        Span out = {0};
        GeomqField payload = geomq_entry(request, i)->payload;
        MaskResult masked = function((Span){geomq_bytes(request, payload), payload.length}, &out);
        if (masked == MASK_HIDE) geomq_drop(&result, i);
        if (masked != MASK_CHANGED) continue;
        GeomqChange *change = geomq_replace(&result, i);
        change->what = GEOMQ_CHANGED_PAYLOAD;
        change->payload = geomq_field(&result, out.at, out.length);
    }
    return geomq_end(&result);
}
