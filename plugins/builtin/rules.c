/* The built-in rules: filter, mask, shape, enrich and aggregate messages, as the configuration's steps say
 * (docs/rules.md). A payload is read once into a tree (tree.h); the steps change the tree; what they have not changed
 * is copied byte for byte. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "../sdk/c/geomq_plugin.h"

#include "auto.h"
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

/* Names the place that it is about: {path:site}. */
static Span no_topic(Span place) {
    if (!place.length) return SPAN("no topic comes of it");
    uint8_t *start = geomq_mark();
    Span parts[] = {SPAN("it has no {"), place, SPAN("} that a topic can be made of")};
    for (uint32_t i = 0; i < 3; i++) geomq_append(parts[i].at, parts[i].length);
    return span(start, geomq_mark());
}

static bool has_mark(Span payload) {
    return payload.length >= 3 && same((Span){payload.at, 3}, SPAN("\xEF\xBB\xBF"));
}

static Span reason_of(const Message *message) {
    if (message->content != CONTENT_UNREADABLE) return no_topic(message->lacking);
    if (tree_was_too_deep()) return SPAN("the payload is nested deeper than 64 levels");
    bool may_be_json = message->format == FORMAT_JSON || message->format == FORMAT_AUTO;
    if (may_be_json && has_mark(message->payload)) return SPAN("the payload begins with a byte order mark");
    switch (message->format) {
    case FORMAT_JSON: return SPAN("the payload is not JSON");
    case FORMAT_CBOR: return SPAN("the payload is not CBOR");
    case FORMAT_MSGPACK: return SPAN("the payload is not MessagePack");
    case FORMAT_TEXT: return SPAN("the payload is not UTF-8");
    default: return auto_reason(message_sent_properties(message));
    }
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    if (!config.first) return 0;
    output_begin(request->count, config.effects + 1, table_count() + 2);
    uint32_t undecodable = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        Message message;
        output_message();
        message_begin(&message, request, i, config.format);
        Fate fate = steps_run(&config, &message);
        if (fate != UNREADABLE) {
            output_done(&message, fate == DROPPED);
            continue;
        }
        undecodable++;
        output_reject(&message, reason_of(&message));
    }
    uint32_t early = windows_early();
    if (undecodable) output_metric(SPAN("undecodable"), undecodable);
    if (early) output_metric(SPAN("windows_early"), early);
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
