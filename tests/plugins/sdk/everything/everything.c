/* Uses all of the SDK: see ../test_everything.py. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "geomq_plugin.h"

#include "geomq_json.h"

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *config, uint32_t length) {
    (void)config, (void)length;
    return NULL;
}

static GeomqText said(const char *from) {
    uint32_t length = 0;
    while (from[length]) length++;
    return (GeomqText){geomq_append(from, length), length};
}

static GeomqEffect *effect(GeomqBuilder *result, uint32_t kind, uint32_t message, const char *first, GeomqText second) {
    GeomqEffect *made = geomq_effect(result, kind, message);
    made->first = geomq_put(result, said(first));
    made->second = geomq_put(result, second);
    return made;
}

static void part(GeomqText text) {
    geomq_append_text(text);
    geomq_append("|", 1);
}

static void number(int64_t value) {
    if (value < 0) geomq_append("-", 1);
    geomq_append_whole((uint64_t)(value < 0 ? -value : value));
    geomq_append("|", 1);
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    GeomqBuilder result = geomq_begin(request->count, request->count + 20);
    uint8_t *start = geomq_mark();
    part(geomq_text_of(request, request->node));
    part(geomq_text_of(request, request->region));
    number(request->utc_offset);
    number((int64_t)request->now_ns);
    number((int64_t)request->batch);
    number(request->stage);
    number(request->count);
    effect(&result, GEOMQ_LOG, GEOMQ_NO_MESSAGE, "info", geomq_since(start));
    for (uint32_t i = 0; i < request->count; i++) {
        const GeomqEntry *entry = geomq_entry(request, i);
        start = geomq_mark();
        part(geomq_text_of(request, entry->topic));
        part(geomq_text_of(request, entry->payload));
        part(geomq_text_of(request, entry->properties));
        part(geomq_text_of(request, entry->client));
        part(geomq_text_of(request, entry->user));
        number(entry->qos);
        number(entry->retain);
        number(geomq_is_answer(entry));
        effect(&result, GEOMQ_LOG, i, "debug", geomq_since(start));
    }
    if (request->count < 5) return geomq_end(&result);
    geomq_drop(&result, 0);
    GeomqChange *change = geomq_replace(&result, 1);
    change->what = GEOMQ_CHANGED_TOPIC | GEOMQ_CHANGED_PAYLOAD | GEOMQ_CHANGED_PROPERTIES | GEOMQ_CHANGED_QOS |
                   GEOMQ_CHANGED_RETAIN;
    change->topic = geomq_put(&result, said("new/topic"));
    change->payload = geomq_put(&result, said("new payload"));
    change->properties = geomq_put(&result, (GeomqText){geomq_append("\x01\x01", 2), 2});
    change->qos = 2;
    change->retain = 1;
    change = geomq_replace(&result, 2);
    change->what = GEOMQ_CHANGED_QOS;
    change->qos = 1;
    effect(&result, GEOMQ_EMIT, 1, "emitted", said("e"))->number = 1 | 4;
    effect(&result, GEOMQ_STORE, GEOMQ_NO_MESSAGE, "stored", said("s"));
    geomq_state_put(&result, 2, said("key"), said("value"), 1500);
    geomq_metric(&result, GEOMQ_WORDS("metric"), -2.5);
    effect(&result, GEOMQ_LOG, 3, "warning", said("w"));
    effect(&result, GEOMQ_LOG, 3, "error", said("e"));
    effect(&result, GEOMQ_ALERT, 3, "alert/topic", said("a"));
    geomq_reject_because(&result, 4, GEOMQ_WORDS("why"));
    GeomqText none, key, value;
    if (geomq_state_find(&result, GEOMQ_WORDS("none"), &none)) __builtin_trap();
    if (!geomq_state_find(&result, GEOMQ_WORDS("key"), &key)) __builtin_trap();
    if (!geomq_state_find(&result, GEOMQ_WORDS("long"), &value)) __builtin_trap();
    start = geomq_mark();
    part(key);
    number(value.length);
    part((GeomqText){value.start + value.length - 3, 3});
    effect(&result, GEOMQ_LOG, GEOMQ_NO_MESSAGE, "info", geomq_since(start));
    return geomq_end(&result);
}

GEOMQ_EXPORT(geomq_tick) int64_t geomq_tick(uint64_t now_ns) {
    geomq_reset();
    GeomqBuilder result = geomq_begin(0, 1);
    uint8_t *start = geomq_mark();
    number((int64_t)now_ns);
    effect(&result, GEOMQ_LOG, GEOMQ_NO_MESSAGE, "info", geomq_since(start));
    return geomq_end(&result);
}
