/* The built-in rules: filter, mask, shape, enrich and aggregate messages, as the configuration's steps say
 * (docs/rules.md). A payload is read once into a tree (tree.h); the steps change the tree; what they have not changed
 * is copied byte for byte. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "../sdk/c/geomq_plugin.h"

#include "output.h"
#include "state.h"
#include "steps.h"
#include "windows.h"

static Config config;

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *text, uint32_t length) {
    const char *mistake = config_read((Span){text, length}, &config);
    if (!mistake) geomq_keep();
    return mistake;
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    if (!config.first) return 0;
    output_begin(request->count, config.effects, table_count() + 1);
    uint32_t undecodable = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        Message message;
        output_message();
        message_begin(&message, request, i, config.format);
        Fate fate = steps_run(&config, &message);
        undecodable += fate == UNREADABLE;
        output_done(&message, fate != GO_ON);
    }
    if (undecodable) output_metric(SPAN("undecodable"), undecodable);
    return output_end();
}

GEOMQ_EXPORT(geomq_tick) int64_t geomq_tick(int64_t now_ns) {
    geomq_reset();
    if (!windows_effects()) return 0;
    output_begin(0, 0, windows_effects() + table_count());
    output_message();
    windows_close((uint64_t)now_ns / 1000000);
    output_settle();
    return output_end();
}
