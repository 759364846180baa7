#include "conditions.h"

#include "comparisons.h"
#include "hours.h"
#include "match.h"
#include "paths.h"

typedef enum {
    CONDITION_PATH,
    CONDITION_TOPIC,
    CONDITION_LEVEL,
    CONDITION_CLIENT,
    CONDITION_USER,
    CONDITION_QOS,
    CONDITION_RETAIN,
    CONDITION_TIME,
    CONDITION_ALL,
    CONDITION_ANY,
    CONDITION_NOT
} ConditionKind;

/* The members that say what a condition is about, in the order of the kinds. */
static const char *const SUBJECTS[] = {"path", "topic",  "topic_level", "client", "user", "qos",
                                       "retain", "time", "all",         "any",    "not"};
#define SUBJECT_COUNT (sizeof SUBJECTS / sizeof *SUBJECTS)

struct Condition {
    ConditionKind kind;
    Comparison comparison; /* CONDITION_PATH, CONDITION_LEVEL */
    Path path;
    uint32_t level;
    Hours hours;
    const Node *operand; /* of the others: one value, or a list */
    Condition *first, *next;
};

/* ---- reading ---- */

static Condition *read_list(const Where *where, const Node *found, Condition *condition, bool *needs_payload) {
    Condition **link = &condition->first;
    if (found->type != TYPE_ARRAY || !found->first) {
        refuse(where, found, "is not a list of conditions");
        return condition;
    }
    Where here = {where, NULL, 0};
    for (const Node *child = found->first; child; child = child->next, here.index++) {
        *link = condition_read(&here, child, needs_payload);
        link = &(*link)->next;
    }
    return condition;
}

static bool is_qos(const Node *found) {
    return found->type == TYPE_NUMBER && found->text.length == 1 && found->text.at[0] <= '2';
}

static bool is_text(const Node *found) { return found->type == TYPE_STRING; }

static bool is_filter_text(const Node *found) { return found->type == TYPE_STRING && is_filter(found->text); }

/* One value or a list of them. */
static void check_each(const Where *where, const Node *found, bool (*is_right)(const Node *), const char *mistake) {
    bool list = found->type == TYPE_ARRAY && found->first;
    if (!list && !is_right(found)) refuse(where, found, mistake);
    Where here = {where, NULL, 0};
    for (const Node *child = list ? found->first : NULL; child; child = child->next, here.index++) {
        if (!is_right(child)) refuse(&here, child, mistake);
    }
}

static void read_subject(const Where *outer, const Node *object, const Node *found, Condition *condition,
                         bool *needs_payload) {
    Where where = {outer, SUBJECTS[condition->kind], 0};
    condition->operand = found;
    switch (condition->kind) {
    case CONDITION_PATH:
        *needs_payload = true;
        condition->path = path_read(&where, found);
        comparison_read(outer, object, &condition->comparison);
        break;
    case CONDITION_LEVEL:
        condition->level = read_whole(outer, object, "topic_level", 0, 65535, REQUIRED);
        comparison_read(outer, object, &condition->comparison);
        break;
    case CONDITION_TOPIC: check_each(&where, found, is_filter_text, "is not a topic filter"); break;
    case CONDITION_TIME: hours_read(&where, found, &condition->hours); break;
    case CONDITION_CLIENT:
    case CONDITION_USER: check_each(&where, found, is_text, "is not a text or a list of texts"); break;
    case CONDITION_QOS: check_each(&where, found, is_qos, "is not one of 0, 1, 2"); break;
    case CONDITION_RETAIN: read_bool(outer, object, "retain", false); break;
    case CONDITION_NOT: condition->first = condition_read(&where, found, needs_payload); break;
    default: read_list(&where, found, condition, needs_payload);
    }
}

Condition *condition_read(const Where *where, const Node *found, bool *needs_payload) {
    Condition *condition = geomq_take(sizeof(Condition));
    *condition = (Condition){.kind = CONDITION_ANY};
    const Node *subject = NULL;
    if (found->type != TYPE_OBJECT) {
        refuse(where, found, "is not an object");
        return condition;
    }
    for (uint32_t i = 0; i < SUBJECT_COUNT; i++) {
        const Node *value = member(found, SUBJECTS[i]);
        if (!value) continue;
        if (subject) fail(where, NULL, "is about more than one thing: put them into a list of all or any");
        subject = value;
        condition->kind = i;
    }
    if (!subject) {
        if (fail(where, NULL, "needs one of:"))
            for (uint32_t i = 0; i < SUBJECT_COUNT; i++) fail_more(" "), fail_more(SUBJECTS[i]);
        return condition;
    }
    bool compares = condition->kind == CONDITION_PATH || condition->kind == CONDITION_LEVEL;
    if (check_object(where, found, SUBJECTS[condition->kind], compares ? COMPARISONS : ""))
        read_subject(where, found, subject, condition, needs_payload);
    return condition;
}

/* ---- asking ---- */

static bool meets(Node *node, void *context) { return comparison_holds(context, node, false); }

static bool path_holds(const Condition *condition, const Message *message) {
    bool met = path_visit(&condition->path, message->root, meets, (void *)&condition->comparison);
    return comparison_is_absence(&condition->comparison) ? !met : met;
}

static bool level_holds(const Condition *condition, const Message *message) {
    Node level = {.type = TYPE_STRING, .text = topic_level(message->topic, condition->level)};
    bool met = level.text.at && comparison_holds(&condition->comparison, &level, true);
    return comparison_is_absence(&condition->comparison) ? !met : met;
}

static bool any_matches(const Node *operand, Span text, bool (*matches)(Span, Span)) {
    if (operand->type != TYPE_ARRAY) return matches(operand->text, text);
    for (const Node *item = operand->first; item; item = item->next) {
        if (matches(item->text, text)) return true;
    }
    return false;
}

Condition *condition_not(Condition *inner) {
    Condition *condition = geomq_take(sizeof(Condition));
    *condition = (Condition){.kind = CONDITION_NOT, .first = inner};
    return condition;
}

static bool all_hold(const Condition *inner, const Message *message) {
    for (; inner; inner = inner->next) {
        if (!condition_holds(inner, message)) return false;
    }
    return true;
}

static bool any_holds(const Condition *inner, const Message *message) {
    for (; inner; inner = inner->next) {
        if (condition_holds(inner, message)) return true;
    }
    return false;
}

bool condition_holds(const Condition *condition, const Message *message) {
    uint8_t qos = (uint8_t)('0' + message->qos);
    switch (condition->kind) {
    case CONDITION_PATH: return path_holds(condition, message);
    case CONDITION_TOPIC: return any_matches(condition->operand, message->topic, filter_matches);
    case CONDITION_LEVEL: return level_holds(condition, message);
    case CONDITION_CLIENT: return any_matches(condition->operand, message->client, glob_matches);
    case CONDITION_USER: return any_matches(condition->operand, message->user, glob_matches);
    case CONDITION_TIME: return hours_hold(&condition->hours, message->now_ms, message->utc_offset);
    case CONDITION_QOS: return any_matches(condition->operand, (Span){&qos, 1}, same);
    case CONDITION_RETAIN: return message->retain == (condition->operand->type == TYPE_TRUE);
    case CONDITION_ALL: return all_hold(condition->first, message);
    case CONDITION_ANY: return any_holds(condition->first, message);
    default: return !condition_holds(condition->first, message);
    }
}
