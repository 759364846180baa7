/* Steps that make something else of a message: emit, alert. */
#include "document.h"
#include "json.h"
#include "keys.h"
#include "match.h"
#include "output.h"
#include "state.h"
#include "steps.h"
#include "template.h"
#include "times.h"

/* ---- emit ---- */

typedef struct {
    Template topic;
    Template text;      /* one of the three */
    Document *document; /* NULL: not this one */
    bool whole;         /* the message's payload */
    uint8_t qos;
    bool retain;
} Emit;

static void read_payload(const Where *where, const Node *found, Emit *emit, bool *needs_payload) {
    emit->whole = !found || (found->type == TYPE_STRING && named(found->text, "message"));
    if (emit->whole) return;
    if (found->type == TYPE_STRING) emit->text = template_read(where, found->text, found->raw, needs_payload);
    else emit->document = document_read(where, found, needs_payload);
}

static void read_emit(const Where *where, const Node *found, void *settings, Needs *needs) {
    Emit *emit = settings;
    Where payload = {where, "payload", 0};
    emit->topic = template_of_topic(where, found, "topic", true, &needs->needs_payload);
    read_payload(&payload, member(found, "payload"), emit, &needs->needs_payload);
    emit->qos = (uint8_t)read_whole(where, found, "qos", 0, 2, 0);
    emit->retain = read_bool(where, found, "retain", false);
    needs->effects++;
}

static Span payload_of(const Emit *emit, const Message *message) {
    bool complete;
    if (emit->whole) return message_payload(message);
    if (emit->document) return document_write(emit->document, message);
    return template_write(&emit->text, message, &complete);
}

static Fate run_emit(void *settings, Message *message) {
    const Emit *emit = settings;
    Span topic;
    if (!template_topic(&emit->topic, message, &topic)) return UNREADABLE;
    if (!message->is_answer) output_emit(message, topic, payload_of(emit, message), emit->qos, emit->retain);
    return GO_ON;
}

const StepKind STEP_EMIT = {"emit", "topic payload qos retain", sizeof(Emit), read_emit, run_emit};

/* ---- alert ---- */

typedef struct {
    Span name;
    Template text, topic; /* no topic: only the host is told */
    uint64_t every_ms;
    By by;
    Table table;
} Alert;

typedef struct {
    uint64_t last_ms; /* 0: never */
} Told;

static void read_alert(const Where *where, const Node *found, void *settings, Needs *needs) {
    Alert *alert = settings;
    Where here = {where, "name", 0};
    alert->name = read_text(where, found, "name", true);
    if (alert->name.at && !is_topic(alert->name)) refuse(&here, member(found, "name"), "must not have + and #");
    alert->text = template_member(where, found, "text", true, &needs->needs_payload);
    alert->topic = template_of_topic(where, found, "topic", false, &needs->needs_payload);
    alert->every_ms = read_duration(where, found, "at_most_every", false);
    if (!alert->every_ms) alert->every_ms = 60000;
    alert->by = by_read(where, found, &needs->needs_payload);
    needs->effects += 3;
    table_make(where, found, &alert->table, sizeof(Told), alert->every_ms, 4096);
}

static void put(Span text) { geomq_append(text.at, text.length); }

static Span alert_payload(const Alert *alert, const Message *message, Span text) {
    uint8_t *start = geomq_mark();
    put(SPAN("{\"alert\":"));
    json_write_string(alert->name);
    put(SPAN(",\"text\":"));
    json_write_string(text);
    put(SPAN(",\"topic\":"));
    json_write_string(message->topic);
    put(SPAN(",\"time\":\""));
    time_write(message->now_ms);
    put(SPAN("\"}"));
    return span(start, geomq_mark());
}

static Fate run_alert(void *settings, Message *message) {
    Alert *alert = settings;
    Span topic = {0};
    bool complete;
    if (alert->topic.count && !template_topic(&alert->topic, message, &topic)) return UNREADABLE;
    if (message->is_answer) return GO_ON;
    Told *told = table_value(&alert->table, by_key(&alert->by, message), message->now_ms);
    bool is_early = told->last_ms && message->now_ms >= told->last_ms && message->now_ms < told->last_ms + alert->every_ms;
    if (is_early) return GO_ON;
    told->last_ms = message->now_ms;
    table_changed(&alert->table, told);
    Span text = template_write(&alert->text, message, &complete);
    output_alert(message, alert->name, text);
    if (topic.length) output_emit(message, topic, alert_payload(alert, message, text), 1, false);
    return GO_ON;
}

const StepKind STEP_ALERT = {"alert", "name text topic at_most_every by keys", sizeof(Alert), read_alert, run_alert};
