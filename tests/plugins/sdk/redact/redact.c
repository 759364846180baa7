/* A mask without state: see ../../../bench/rules.py. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "geomq_plugin.h"

#include "geomq_json.h"

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *config, uint32_t length) {
    (void)config, (void)length;
    return NULL;
}

static GeomqText spliced(GeomqText payload, GeomqText value) {
    GeomqText before = {payload.start, (uint32_t)(value.start - payload.start)};
    GeomqText behind = {value.start + value.length, payload.length - before.length - value.length};
    uint8_t *start = geomq_mark();
    geomq_append_text(before);
    geomq_append("\"***\"", 5);
    geomq_append_text(behind);
    return geomq_since(start);
}

/* False where the payload cannot be read. */
static bool redact(GeomqText *payload) {
    const GeomqText members[] = {GEOMQ_WORDS("vehicle"), GEOMQ_WORDS("driver"), GEOMQ_WORDS("phone")};
    for (uint32_t i = 0; i < sizeof members / sizeof *members; i++) {
        GeomqText value;
        GeomqFound found = geomq_member(*payload, members[i], &value);
        if (found == GEOMQ_FOUND) *payload = spliced(*payload, value);
        else if (found != GEOMQ_ABSENT) return false;
    }
    return true;
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    GeomqBuilder result = geomq_begin(request->count, request->count);
    for (uint32_t i = 0; i < request->count; i++) {
        GeomqText payload = geomq_text_of(request, geomq_entry(request, i)->payload);
        const uint8_t *whole = payload.start;
        if (!redact(&payload)) {
            geomq_reject_because(&result, i, GEOMQ_WORDS("the payload is no object that can be read"));
        } else if (payload.start != whole) {
            GeomqChange *change = geomq_replace(&result, i);
            change->what = GEOMQ_CHANGED_PAYLOAD;
            change->payload = geomq_put(&result, payload);
        }
    }
    return geomq_end(&result);
}
