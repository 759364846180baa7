/* A filter: messages whose payload has no number `member`, or one below `at_least`, are dropped.
 *
 * Configuration: {"member": "speed", "at_least": 5} */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "geomq_plugin.h"

#include "geomq_json.h"

static GeomqText member;
static double at_least;

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *config, uint32_t length) {
    GeomqText settings = {config, length}, value;
    if (geomq_member(settings, GEOMQ_WORDS("member"), &value) != GEOMQ_FOUND || !geomq_string(value, &member))
        return "member: the name of a number in the payload is expected";
    if (geomq_member(settings, GEOMQ_WORDS("at_least"), &value) != GEOMQ_FOUND || !geomq_number(value, &at_least))
        return "at_least: a number is expected";
    geomq_keep(); /* the name stands in the configuration's text */
    return NULL;
}

static bool is_wanted(GeomqText payload) {
    GeomqText value;
    double number;
    return geomq_member(payload, member, &value) == GEOMQ_FOUND && geomq_number(value, &number) &&
           number >= at_least;
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    GeomqBuilder result = geomq_begin(request->count, 1);
    uint32_t dropped = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        if (is_wanted(geomq_text_of(request, geomq_entry(request, i)->payload))) continue;
        geomq_drop(&result, i);
        dropped++;
    }
    if (dropped) geomq_metric(&result, GEOMQ_WORDS("dropped"), dropped);
    return geomq_end(&result);
}
