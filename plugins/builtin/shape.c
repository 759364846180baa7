/* Steps that change how a message goes on, and what it says beside its values: topic, qos, retain, set. */
#include "hash.h"
#include "match.h"
#include "steps.h"
#include "template.h"

/* ---- topic ---- */

#define HASHED_MOST 16 /* levels */

typedef struct {
    Template to;        /* empty: as it is */
    bool reads_payload; /* `to` has places of values */
    uint32_t hashed[HASHED_MOST], hashed_count;
    Hash hash;
} Topic;

static void read_hashed(const Where *where, const Node *found, Topic *topic) {
    Where list = {where, "hash", 0}, here = {&list, NULL, 0};
    const Node *levels = member(found, "hash");
    if (levels->type != TYPE_ARRAY || !levels->first) {
        refuse(&list, levels, "is not a list of the topic's levels, from 0 on");
        return;
    }
    for (const Node *level = levels->first; level; level = level->next, here.index++) {
        if (topic->hashed_count == HASHED_MOST) fail(&here, NULL, "is one level too many: 16 at most");
        else topic->hashed[topic->hashed_count++] = whole_number(&here, level, 0, 65535);
    }
    topic->hash = hash_read(where, found);
}

static void read_topic(const Where *where, const Node *found, void *settings, Needs *needs) {
    Topic *topic = settings;
    bool hashes = member(found, "hash");
    (void)needs;
    topic->to = template_of_topic(where, found, "to", !hashes, &topic->reads_payload);
    if (hashes) read_hashed(where, found, topic);
    else if (member(found, "key") || member(found, "length")) fail(where, NULL, "key and length need hash");
}

static bool is_hashed(const Topic *topic, uint32_t level) {
    for (uint32_t i = 0; i < topic->hashed_count; i++) {
        if (topic->hashed[i] == level) return true;
    }
    return false;
}

static Span with_hashes(const Topic *topic, Span whole) {
    uint8_t *start = geomq_mark();
    const uint8_t *from = whole.at, *end = span_end(whole);
    for (uint32_t level = 0;; level++) {
        const uint8_t *stop = from;
        while (stop < end && *stop != '/') stop++;
        if (is_hashed(topic, level)) hash_append(&topic->hash, span(from, stop));
        else geomq_append(from, (uint32_t)(stop - from));
        if (stop == end) return span(start, geomq_mark());
        geomq_append(stop, 1);
        from = stop + 1;
    }
}

/* It is not skipped where the payload is empty, unlike other steps that need it: the topic that is to be hidden would
 * go on as it is. */
static Fate run_topic(void *settings, Message *message) {
    const Topic *step = settings;
    Span before = message->topic, topic = before;
    if (step->reads_payload && message->payload.length && !message_read(message)) return UNREADABLE;
    if (step->hashed_count) message->topic = topic = with_hashes(step, before);
    bool written = step->to.count ? template_topic(&step->to, message, &topic) : is_topic(topic);
    message->topic = written ? topic : before;
    if (!written) return UNREADABLE;
    if (!same(topic, before)) message->changed |= GEOMQ_CHANGED_TOPIC;
    return GO_ON;
}

const StepKind STEP_TOPIC = {"topic", "to hash key length", sizeof(Topic), read_topic, run_topic};

/* ---- qos ---- */

typedef struct {
    uint8_t to;
    bool at_most;
} Qos;

static void read_qos(const Where *where, const Node *found, void *settings, Needs *needs) {
    Qos *qos = settings;
    (void)needs;
    qos->to = (uint8_t)read_whole(where, found, "to", 0, 2, REQUIRED);
    qos->at_most = read_word(where, found, "mode", "set at_most", 0) == 1;
}

static Fate run_qos(void *settings, Message *message) {
    const Qos *qos = settings;
    if (message->qos == qos->to || (qos->at_most && message->qos < qos->to)) return GO_ON;
    message->qos = qos->to;
    message->changed |= GEOMQ_CHANGED_QOS;
    return GO_ON;
}

const StepKind STEP_QOS = {"qos", "to mode", sizeof(Qos), read_qos, run_qos};

/* ---- retain ---- */

typedef struct {
    bool to;
} Retain;

static void read_retain(const Where *where, const Node *found, void *settings, Needs *needs) {
    Where here = {where, "to", 0};
    (void)needs;
    if (!member(found, "to")) fail(&here, NULL, "is required");
    ((Retain *)settings)->to = read_bool(where, found, "to", false);
}

static Fate run_retain(void *settings, Message *message) {
    const Retain *retain = settings;
    if (message->retain == retain->to) return GO_ON;
    message->retain = retain->to;
    message->changed |= GEOMQ_CHANGED_RETAIN;
    return GO_ON;
}

const StepKind STEP_RETAIN = {"retain", "to", sizeof(Retain), read_retain, run_retain};

/* ---- set ---- */

typedef struct {
    Path path;
    Template to; /* of a text */
    Leaf value;  /* anything else */
    bool only_if_missing;
} Set;

static void read_set(const Where *where, const Node *found, void *settings, Needs *needs) {
    Set *set = settings;
    Where path = {where, "path", 0}, to = {where, "to", 0};
    const Node *value = member(found, "to");
    needs->needs_payload = true;
    set->path = path_read(&path, member(found, "path"));
    if (set->path.wild) refuse(&path, member(found, "path"), "has stars: one place is to be set");
    set->only_if_missing = read_bool(where, found, "only_if_missing", false);
    if (!value) fail(&to, NULL, "is required");
    else if (is_container(value)) refuse(&to, value, "is not a scalar");
    else if (value->type == TYPE_STRING)
        set->to = template_read(&to, value->text, value->raw, &needs->needs_payload);
    if (value) set->value = (Leaf){(Type)value->type, value->text};
}

/* Where a place has nothing to be put into it, or something else is in the way, the payload stays as it is. */
static Fate run_set(void *settings, Message *message) {
    const Set *set = settings;
    Leaf value = set->value;
    if (set->only_if_missing && path_first(&set->path, message->root)) return GO_ON;
    if (set->to.count && !template_value(&set->to, message, &value)) return GO_ON;
    Node *node = path_make(&set->path, message->root);
    if (node) node_replace(node, value);
    return GO_ON;
}

const StepKind STEP_SET = {"set", "path to only_if_missing", sizeof(Set), read_set, run_set};
