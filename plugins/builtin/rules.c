/* The built-in rules: filter, mask, shape, enrich and aggregate messages, as the configuration's steps say
 * (docs/rules.md). A payload is read once into a tree (tree.h); the steps change the tree; what they have not changed
 * is copied byte for byte. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "../sdk/c/geomq_plugin.h"

#include "steps.h"

static Config config;

/* Put the output, which stands behind what the steps took from the arena, where that began. */
static Span settle(uint8_t *mark, Span output) {
    __builtin_memmove(mark, output.at, output.length);
    geomq_release(mark + output.length);
    return (Span){mark, output.length};
}

static void process(GeomqBuilder *result, const GeomqRequest *request, uint32_t index) {
    uint8_t *mark = geomq_mark();
    Message message;
    message_begin(&message, request, index, config.format);
    if (steps_run(&config, &message) == DROPPED) {
        geomq_release(mark);
        geomq_drop(result, index);
        return;
    }
    Span payload = message_payload(&message);
    if (payload.at == message.payload.at) {
        geomq_release(mark);
        return;
    }
    payload = settle(mark, payload);
    GeomqChange *change = geomq_replace(result, index);
    change->what = GEOMQ_CHANGED_PAYLOAD;
    change->payload = geomq_field(result, payload.at, payload.length);
}

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *text, uint32_t length) {
    const char *mistake = config_read((Span){text, length}, &config);
    if (!mistake) geomq_keep();
    return mistake;
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    if (!config.first) return 0;
    GeomqBuilder result = geomq_begin(request->count, 0);
    for (uint32_t i = 0; i < request->count; i++) process(&result, request, i);
    return geomq_end(&result);
}
