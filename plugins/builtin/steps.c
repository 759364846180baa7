#include "steps.h"

#include "../sdk/c/geomq_plugin.h"
#include "hours.h"
#include "json.h"
#include "masks.h"

/* ---- drop, keep ---- */

static void read_nothing(const Where *where, const Node *found, void *settings, Needs *needs) {
    (void)where, (void)found, (void)settings, (void)needs;
}

static Fate drop(void *settings, Message *message) {
    (void)settings, (void)message;
    return DROPPED;
}

/* ---- remove ---- */

typedef struct {
    Paths paths;
} Remove;

static void read_remove(const Where *where, const Node *found, void *settings, Needs *needs) {
    Remove *step = settings;
    needs->needs_payload = true;
    step->paths = paths_read(where, found, false);
    for (uint32_t i = 0; i < step->paths.count; i++) {
        if (step->paths.first[i].count == 0) fail(where, NULL, "cannot remove the whole payload; use drop or redact");
    }
}

static bool remove_node(Node *node, void *context) {
    (void)context;
    node_remove(node);
    return false;
}

static Fate remove_all(void *settings, Message *message) {
    const Paths *paths = &((const Remove *)settings)->paths;
    for (uint32_t i = 0; i < paths->count; i++) path_visit(&paths->first[i], message->root, remove_node, NULL);
    return GO_ON;
}

static const StepKind DROP = {"drop", "", 0, read_nothing, drop};
static const StepKind KEEP = {"keep", "", 0, read_nothing, drop};
static const StepKind REMOVE = {"remove", "path paths", sizeof(Remove), read_remove, remove_all};

/* ---- all of them ---- */

static const StepKind *const KINDS[] = {
    &DROP,       &KEEP,        &STEP_SAMPLE, &STEP_DEADBAND, &STEP_LIMIT, &STEP_UNIQUE,
    &STEP_TOPIC, &STEP_QOS,    &STEP_RETAIN, &STEP_SET,      &STEP_EMIT,  &STEP_ALERT,
    &STEP_AGGREGATE, &STEP_PROPERTIES, &STEP_GRID, &REMOVE,
};

#define KIND_COUNT (sizeof KINDS / sizeof *KINDS)

static const StepKind *step_kind(Span name) {
    for (uint32_t i = 0; i < KIND_COUNT; i++) {
        if (named(name, KINDS[i]->name)) return KINDS[i];
    }
    return NULL;
}

/* ---- reading ---- */

static Step *read_steps(const Where *where, const Node *found, Config *config);

static void fail_names(const Where *where, const Node *action) {
    if (!refuse(where, action, action ? "is not one of:" : "is to be one of:")) return;
    for (uint32_t i = 0; i < KIND_COUNT; i++) {
        fail_more(" ");
        fail_more(KINDS[i]->name);
    }
    fail_mask_names();
}

static void read_kind(const StepKind *kind, const Where *where, const Node *found, Step *step, Needs *needs) {
    step->run = kind->run;
    step->settings = geomq_take(kind->size);
    __builtin_memset(step->settings, 0, kind->size);
    if (check_object(where, found, "when action", kind->keys)) kind->read(where, found, step->settings, needs);
}

/* A group's condition is asked once, before its steps, whatever they need. */
static void read_group(const Where *where, const Node *found, Step *step, Config *config) {
    Where here = {where, "steps", 0};
    if (!check_object(where, found, "when steps", "")) return;
    step->first = read_steps(&here, member(found, "steps"), config);
}

/* `keep` is `drop` with the condition turned around. */
static void read_when(const Where *where, const Node *found, Span action, Step *step, bool *needs_payload) {
    Where here = {where, "when", 0};
    const Node *when = member(found, "when");
    if (when) step->when = condition_read(&here, when, needs_payload);
    if (!named(action, "keep")) return;
    if (when) step->when = condition_not(step->when);
    else fail(&here, NULL, "is required");
}

static Step *read_step(const Where *where, const Node *found, Config *config) {
    Step *step = geomq_take(sizeof(Step));
    *step = (Step){0};
    if (found->type != TYPE_OBJECT) {
        refuse(where, found, "is not an object");
        return step;
    }
    Where here = {where, "action", 0};
    Needs needs = {.format = config->format};
    const Node *action = member(found, "action");
    Span name = action && action->type == TYPE_STRING ? action->text : (Span){0};
    const StepKind *kind = step_kind(name);
    const MaskKind *mask = mask_kind(name);
    if (!action && member(found, "steps")) read_group(where, found, step, config);
    else if (kind) read_kind(kind, where, found, step, &needs);
    else if (mask) mask_read(mask, where, found, step, &needs);
    else fail_names(&here, action);
    read_when(where, found, name, step, &needs.needs_payload);
    step->needs_payload = needs.needs_payload;
    config->effects += needs.effects;
    return step;
}

static Step *read_steps(const Where *where, const Node *found, Config *config) {
    Step *first = NULL, **link = &first;
    if (found->type != TYPE_ARRAY) {
        refuse(where, found, "is not a list of steps");
        return NULL;
    }
    Where here = {where, NULL, 0};
    for (const Node *child = found->first; child; child = child->next, here.index++) {
        *link = read_step(&here, child, config);
        link = &(*link)->next;
    }
    return first;
}

const char *config_read(Span text, Config *config) {
    Where where = {NULL, "steps", 0};
    const Node *root = json_read(text);
    if (!root) return "the configuration is not JSON";
    if (check_object(NULL, root, "format on_undecodable utc_offset steps", "")) {
        Where zone = {NULL, "utc_offset", 0};
        const Node *steps = member(root, "steps"), *offset = member(root, "utc_offset");
        if (offset) config->has_offset = offset_read(&zone, offset, &config->utc_offset);
        config->format = (Format)read_word(NULL, root, "format", "json cbor msgpack text auto", FORMAT_JSON);
        paths_whole_only(config->format == FORMAT_TEXT);
        config->pass_undecodable = read_word(NULL, root, "on_undecodable", "drop pass", 0) == 1;
        if (steps) config->first = read_steps(&where, steps, config);
    }
    return first_mistake();
}

/* ---- running ---- */

/* A step that needs the payload is skipped where it is empty (that deletes a retained message and has nothing to
 * hide), and where it cannot be read, if that is to pass. */
static Fate run(const Config *config, const Step *step, Message *message) {
    for (; step; step = step->next) {
        if (step->needs_payload) {
            if (message->payload.length == 0) continue;
            if (!message_read(message)) {
                if (config->pass_undecodable) continue;
                return UNREADABLE;
            }
        }
        if (step->when && !condition_holds(step->when, message)) continue;
        Fate fate = step->run ? step->run(step->settings, message) : run(config, step->first, message);
        if (fate == DROPPED || (fate == UNREADABLE && !config->pass_undecodable)) return fate;
    }
    return GO_ON;
}

Fate steps_run(const Config *config, Message *message) {
    message->utc_offset = config->has_offset ? config->utc_offset : message->request->utc_offset;
    return run(config, config->first, message);
}
