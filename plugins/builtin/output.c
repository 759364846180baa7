#include "output.h"

#include "state.h"

/* Bytes of the message at hand that belong into the result, in the order of their addresses. */
typedef struct {
    GeomqField *field;
    Span bytes;
} Kept;

static GeomqBuilder result;
static Kept *kept;
static uint32_t kept_count;
static uint32_t emits;
static uint8_t *mark; /* where the message's part of the arena begins */

void output_begin(uint32_t count, uint32_t for_message, uint32_t for_batch) {
    kept = geomq_take((2 * (for_message + for_batch) + 3) * sizeof(Kept));
    result = geomq_begin(count, count * for_message + for_batch);
    emits = 0;
}

uint32_t output_emits(void) { return emits; }

int64_t output_end(void) {
    tables_put(&result);
    return geomq_end(&result);
}

void output_metric(Span name, double number) {
    GeomqEffect *metric = geomq_effect(&result, GEOMQ_METRIC, GEOMQ_NO_MESSAGE);
    metric->first = geomq_field(&result, geomq_append(name.at, name.length), name.length);
    __builtin_memcpy(&metric->number, &number, sizeof number);
}

void output_message(void) {
    kept_count = 0;
    mark = geomq_mark();
}

static void keep(GeomqField *field, Span bytes) {
    bytes.at = geomq_append(bytes.at, bytes.length);
    kept[kept_count++] = (Kept){field, bytes};
}

static GeomqEffect *effect(uint32_t kind, const Message *message, Span first, Span second) {
    GeomqEffect *effect = geomq_effect(&result, kind, message->request ? message->index : GEOMQ_NO_MESSAGE);
    keep(&effect->first, first);
    keep(&effect->second, second);
    return effect;
}

void output_emit(const Message *message, Span topic, Span payload, uint8_t qos, bool retain) {
    effect(GEOMQ_EMIT, message, topic, payload)->number = qos + (retain ? 4 : 0);
    emits++;
}

void output_alert(const Message *message, Span name, Span text) { effect(GEOMQ_ALERT, message, name, text); }

/* The bytes move down to where the message's part of the arena began: behind those of the message before. */
void output_settle(void) {
    uint8_t *at = mark;
    for (uint32_t i = 0; i < kept_count; i++) {
        Span bytes = kept[i].bytes;
        __builtin_memmove(at, bytes.at, bytes.length);
        *kept[i].field = geomq_field(&result, at, bytes.length);
        at += bytes.length;
    }
    geomq_release(at);
}

static void change(const Message *message, Span payload) {
    bool changed = payload.at != message->payload.at;
    uint32_t what = message->changed | (changed ? GEOMQ_CHANGED_PAYLOAD : 0u);
    if (!what) return;
    GeomqChange *change = geomq_replace(&result, message->index);
    change->what = what;
    change->qos = message->qos;
    change->retain = message->retain;
    /* The payload has just been appended. */
    if (changed) kept[kept_count++] = (Kept){&change->payload, payload};
    if (what & GEOMQ_CHANGED_TOPIC) keep(&change->topic, message->topic);
    if (what & GEOMQ_CHANGED_PROPERTIES) keep(&change->properties, message->properties);
}

void output_done(const Message *message, bool dropped) {
    if (dropped) geomq_drop(&result, message->index);
    else change(message, message_payload(message));
    output_settle();
}

void output_reject(const Message *message, Span reason) {
    geomq_reject(&result, message->index);
    effect(GEOMQ_LOG, message, SPAN("warning"), reason);
    output_settle();
}
