/* A plugin in one page: it drops empty messages, puts `prefix` (its configuration, taken as it stands)
 * before every other payload, and counts both. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "geomq_plugin.h"

static const uint8_t *prefix;
static uint32_t prefix_length;

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *config, uint32_t length) {
    if (length > 1000) return "the prefix is longer than 1000 bytes";
    prefix = config;
    prefix_length = length;
    geomq_keep();
    return NULL;
}

static void count(GeomqBuilder *result, const char *metric, uint32_t length, double number) {
    GeomqEffect *effect = geomq_effect(result, GEOMQ_METRIC, GEOMQ_NO_MESSAGE);
    effect->first = geomq_field(result, geomq_append(metric, length), length);
    __builtin_memcpy(&effect->number, &number, sizeof number);
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    GeomqBuilder result = geomq_begin(request->count, 2);
    double dropped = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        GeomqField payload = geomq_entry(request, i)->payload;
        if (payload.length == 0) {
            geomq_drop(&result, i);
            dropped++;
            continue;
        }
        GeomqChange *change = geomq_replace(&result, i);
        const uint8_t *start = geomq_append(prefix, prefix_length);
        geomq_append(geomq_bytes(request, payload), payload.length);
        change->what = GEOMQ_CHANGED_PAYLOAD;
        change->payload = geomq_field(&result, start, prefix_length + payload.length);
    }
    count(&result, "dropped", 7, dropped);
    count(&result, "prefixed", 8, request->count - dropped);
    return geomq_end(&result);
}
