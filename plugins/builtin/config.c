#include "config.h"

#include "../sdk/c/geomq_plugin.h"

/* Where in the configuration a value stands: `mask[0].action`. */
typedef struct Where {
    const struct Where *parent;
    const char *name; /* NULL for an element of an array */
    uint32_t index;
} Where;

#define SHOWN 60 /* bytes of what stands in the configuration */

static char error_text[1000];
static uint32_t error_length;

static void add(const char *text) {
    while (*text && error_length < sizeof error_text - 1) error_text[error_length++] = *text++;
    error_text[error_length] = 0;
}

/* `raw` is as the configuration has it, escaped: it holds no NUL. It is never cut within a code point. */
static void add_span(Span raw) {
    uint32_t length = raw.length;
    if (length > SHOWN) {
        length = SHOWN;
        while ((raw.at[length] & 0xC0) == 0x80) length--;
    }
    for (uint32_t i = 0; i < length; i++) add((char[]){(char)raw.at[i], 0});
    if (length < raw.length) add("...");
}

static void add_number(uint32_t number) {
    if (number > 9) add_number(number / 10);
    add((char[]){(char)('0' + number % 10), 0});
}

static void add_where(const Where *where) {
    if (!where) return;
    add_where(where->parent);
    if (where->name) {
        if (error_length) add(".");
        add(where->name);
    } else {
        add("[");
        add_number(where->index);
        add("]");
    }
}

/* The first error is the one to tell: false where there has been one. */
static bool fail(const Where *where, const Span *found, const char *text) {
    if (error_length) return false;
    add_where(where);
    if (error_length) add(": ");
    if (found) {
        add_span(*found);
        add(" ");
    }
    add(text);
    return true;
}

/* What is wrong with a value; NULL where it is missing. */
static bool refuse(const Where *where, const Json *found, const char *text) {
    return fail(where, found ? &found->raw : NULL, text);
}

static bool named(Span span, const char *text) {
    for (uint32_t i = 0; i < span.length; i++) {
        if (text[i] == 0 || span.at[i] != (uint8_t)text[i]) return false;
    }
    return text[span.length] == 0;
}

static const Json *member(const Json *object, const char *name) {
    for (const Json *child = object->first; child; child = child->next) {
        if (named(child->key, name)) return child;
    }
    return NULL;
}

/* `allowed` has names with a space between them. */
static bool is_listed(Span name, const char *allowed) {
    for (;;) {
        uint32_t length = 0;
        while (allowed[length] && allowed[length] != ' ') length++;
        if (same(name, (Span){(const uint8_t *)allowed, length})) return true;
        if (!allowed[length]) return false;
        allowed += length + 1;
    }
}

static bool is_repeated(const Json *object, const Json *child) {
    const Json *first = object->first;
    while (!same(first->key, child->key)) first = first->next;
    return first != child;
}

static bool check_object(const Where *where, const Json *found, const char *allowed) {
    if (found->type != JSON_OBJECT) {
        refuse(where, found, "is not an object");
        return false;
    }
    for (const Json *child = found->first; child; child = child->next) {
        if (!is_listed(child->key, allowed)) {
            if (fail(where, &child->raw_key, "is not a key; allowed: ")) add(allowed);
            return false;
        }
        if (is_repeated(found, child)) {
            fail(where, &child->raw_key, "is there twice");
            return false;
        }
    }
    return true;
}

static uint32_t whole_number(const Where *where, const Json *found, uint32_t least, uint32_t most) {
    uint32_t value = 0;
    bool valid = found->type == JSON_NUMBER;
    for (uint32_t i = 0; valid && i < found->raw.length; i++) {
        uint8_t digit = found->raw.at[i];
        valid = digit >= '0' && digit <= '9' && value <= most;
        value = value * 10 + (uint32_t)(digit - '0');
    }
    if (!valid || value < least || value > most) {
        if (refuse(where, found, "is not a whole number from ")) {
            add_number(least);
            add(" to ");
            add_number(most);
        }
        return least;
    }
    return value;
}

/* ---- paths ---- */

static uint32_t as_index(Span name) {
    uint32_t index = 0;
    if (name.length == 0 || name.length > 9 || (name.length > 1 && name.at[0] == '0')) return NO_INDEX;
    for (uint32_t i = 0; i < name.length; i++) {
        if (name.at[i] < '0' || name.at[i] > '9') return NO_INDEX;
        index = index * 10 + (uint32_t)(name.at[i] - '0');
    }
    return index;
}

static Segment segment(Span raw) {
    if (named(raw, "*")) return (Segment){SEGMENT_ONE, raw, NO_INDEX};
    if (named(raw, "**")) return (Segment){SEGMENT_ANY, raw, NO_INDEX};
    uint8_t *name = geomq_take(raw.length);
    uint32_t length = 0;
    for (uint32_t i = 0; i < raw.length; i++) {
        if (raw.at[i] == '\\' && i + 1 < raw.length) i++;
        name[length++] = raw.at[i];
    }
    Span text = {name, length};
    return (Segment){SEGMENT_NAME, text, as_index(text)};
}

static void read_path(const Where *where, const Json *found, Path *path) {
    Segment *segments = geomq_take(MAX_SEGMENTS * sizeof(Segment));
    Where here = {where, "path", 0};
    if (!found || found->type != JSON_STRING || found->text.length == 0) {
        refuse(&here, found, "is not a path such as driver.name, items.*.id or **.phone");
        return;
    }
    const uint8_t *at = found->text.at, *end = at + found->text.length, *start = at;
    for (;; at++) {
        if (at < end && *at == '\\') {
            at++;
            continue;
        }
        if (at < end && *at != '.') continue;
        if (at > end) at = end;
        if (at == start || path->count == MAX_SEGMENTS) {
            refuse(&here, found, at == start ? "has an empty level" : "has too many levels");
            return;
        }
        segments[path->count++] = segment(span(start, at));
        if (at == end) break;
        start = at + 1;
    }
    if (segments[path->count - 1].kind == SEGMENT_ANY) refuse(&here, found, "must not end with **");
    path->segments = segments;
}

static Path *new_path(const Where *where, Config *config) {
    if (config->count == MAX_PATHS) {
        fail(where, NULL, "more paths than are allowed (256)");
        return NULL;
    }
    Path *path = &config->paths[config->count++];
    *path = (Path){0};
    return path;
}

/* ---- masks ---- */

static void read_key(const Where *where, const Json *found, Hmac *hmac) {
    Where here = {where, "key", 0};
    if (!found || found->type != JSON_STRING || found->text.length < 16 || found->text.length % 2) {
        fail(&here, NULL, "is to be at least 16 hexadecimal digits");
        return;
    }
    uint32_t length = found->text.length / 2;
    uint8_t *key = geomq_take(length);
    for (uint32_t i = 0; i < found->text.length; i++) {
        uint8_t digit = found->text.at[i], lower = digit | 0x20;
        uint8_t value = digit >= '0' && digit <= '9' ? digit - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 16;
        if (value == 16) {
            fail(&here, NULL, "is to be at least 16 hexadecimal digits");
            return;
        }
        key[i / 2] = (uint8_t)(i % 2 ? key[i / 2] | value : value << 4);
    }
    hmac_key(hmac, key, length);
}

static void read_with(const Where *where, const Json *found, Mask *mask) {
    Where here = {where, "with", 0};
    mask->with = found ? found->raw : (Span){(const uint8_t *)"\"***\"", 5};
    if (found && (found->type == JSON_OBJECT || found->type == JSON_ARRAY)) refuse(&here, found, "is not a scalar");
}

static void read_length(const Where *where, const Json *found, Mask *mask, uint32_t usual, uint32_t most) {
    Where here = {where, "length", 0};
    if (found) mask->length = whole_number(&here, found, usual ? 4 : 0, most);
    else if (usual) mask->length = usual;
    else fail(&here, NULL, "is required");
}

static void read_step(const Where *where, const Json *found, Mask *mask) {
    Where here = {where, "to", 0};
    Decimal number;
    if (found && found->type == JSON_NUMBER) {
        number = decimal(found->raw);
        if (step_from(&number, &mask->step)) return;
    }
    refuse(&here, found, "is not a step such as 0.01 or 10");
}

static void read_mask(const Where *where, const Json *found, Config *config) {
    static const char *const ALLOWED[] = {"path action", "path action with", "path action key length",
                                          "path action length", "path action to"};
    static const char *const NAMES = "remove redact hash truncate round";
    Where here = {where, "action", 0};
    Path *path = new_path(where, config);
    if (!path || !check_object(where, found, "path action with key length to")) return;
    read_path(where, member(found, "path"), path);
    Mask *mask = geomq_take(sizeof(Mask));
    const Json *action = member(found, "action");
    if (!action || action->type != JSON_STRING || !is_listed(action->text, NAMES)) {
        refuse(&here, action, "is not one of remove, redact, hash, truncate, round");
        return;
    }
    mask->action = named(action->text, "remove")     ? ACTION_REMOVE
                   : named(action->text, "redact")   ? ACTION_REDACT
                   : named(action->text, "hash")     ? ACTION_HASH
                   : named(action->text, "truncate") ? ACTION_TRUNCATE
                                                     : ACTION_ROUND;
    if (!check_object(where, found, ALLOWED[mask->action])) return;
    read_with(where, member(found, "with"), mask);
    if (mask->action == ACTION_HASH) {
        read_key(where, member(found, "key"), &mask->hmac);
        read_length(where, member(found, "length"), mask, 16, 64);
    }
    if (mask->action == ACTION_TRUNCATE) read_length(where, member(found, "length"), mask, 0, 1000000);
    if (mask->action == ACTION_ROUND) read_step(where, member(found, "to"), mask);
    path->mask = mask;
}

/* ---- conditions ---- */

static Condition *read_condition(const Where *where, const Json *found, Config *config);

static Condition *new_condition(ConditionKind kind) {
    Condition *condition = geomq_take(sizeof(Condition));
    *condition = (Condition){.kind = kind};
    return condition;
}

static Condition *read_list(const Where *where, const Json *found, ConditionKind kind, Config *config) {
    Condition *condition = new_condition(kind), **link = &condition->first;
    if (found->type != JSON_ARRAY || !found->first) {
        refuse(where, found, "is not a list of conditions");
        return condition;
    }
    Where here = {where, NULL, 0};
    for (const Json *child = found->first; child; child = child->next, here.index++) {
        *link = read_condition(&here, child, config);
        if (!*link) break;
        link = &(*link)->next;
    }
    return condition;
}

static bool is_scalar(const Json *found) { return found->type != JSON_ARRAY && found->type != JSON_OBJECT; }

static void check_operand(const Where *where, const Json *found, Test test) {
    switch (test) {
    case TEST_EXISTS:
        if (found->type != JSON_TRUE && found->type != JSON_FALSE) refuse(where, found, "is neither true nor false");
        break;
    case TEST_ABOVE:
    case TEST_BELOW:
        if (found->type != JSON_NUMBER) refuse(where, found, "is not a number");
        break;
    case TEST_IN:
        if (found->type != JSON_ARRAY || !found->first) refuse(where, found, "is not a list of scalars");
        for (const Json *child = found->first; child; child = child->next) {
            if (!is_scalar(child)) refuse(where, child, "is not a scalar");
        }
        break;
    default:
        if (!is_scalar(found)) refuse(where, found, "is not a scalar");
    }
}

static Condition *read_test(const Where *where, const Json *found, Config *config) {
    static const char *const NAMES[] = {"exists", "equals", "not_equals", "above", "below", "in"};
    Condition *condition = new_condition(CONDITION_TEST);
    Path *path = new_path(where, config);
    if (!path) return condition;
    read_path(where, member(found, "path"), path);
    path->condition = condition;
    for (Test test = TEST_EXISTS; test <= TEST_IN; test++) {
        const Json *operand = member(found, NAMES[test]);
        if (!operand) continue;
        if (condition->operand) fail(where, NULL, "has more than one comparison");
        Where here = {where, NAMES[test], 0};
        check_operand(&here, operand, test);
        condition->test = test;
        condition->operand = operand;
    }
    if (!condition->operand) fail(where, NULL, "needs one of exists, equals, not_equals, above, below, in");
    return condition;
}

static Condition *read_condition(const Where *where, const Json *found, Config *config) {
    static const char *const KEYS = "path exists equals not_equals above below in all any not";
    if (!check_object(where, found, KEYS)) return NULL;
    const Json *all = member(found, "all"), *any = member(found, "any"), *not = member(found, "not");
    if (!all && !any && !not ) return read_test(where, found, config);
    if (found->first->next) {
        fail(where, NULL, "all, any and not stand alone");
        return NULL;
    }
    Where here = {where, all ? "all" : any ? "any" : "not", 0};
    if (all) return read_list(&here, all, CONDITION_ALL, config);
    if (any) return read_list(&here, any, CONDITION_ANY, config);
    Condition *condition = new_condition(CONDITION_NOT);
    condition->first = read_condition(&here, not, config);
    return condition;
}

/* ---- the whole ---- */

static void read_masks(const Json *found, Config *config) {
    Where where = {NULL, "mask", 0}, here = {&where, NULL, 0};
    if (found->type != JSON_ARRAY) {
        refuse(&where, found, "is not a list");
        return;
    }
    for (const Json *child = found->first; child; child = child->next, here.index++) read_mask(&here, child, config);
}

static void read_undecodable(const Json *found, Config *config) {
    Where where = {NULL, "on_undecodable", 0};
    config->pass_undecodable = found->type == JSON_STRING && named(found->text, "pass");
    if (!config->pass_undecodable && !(found->type == JSON_STRING && named(found->text, "drop")))
        refuse(&where, found, "is neither drop nor pass");
}

const char *config_read(Span text, Config *config) {
    const Json *root = json_tree(text);
    if (!root) return "the configuration is not JSON";
    if (check_object(NULL, root, "drop_if keep_if mask on_undecodable")) {
        Where drop = {NULL, "drop_if", 0}, keep = {NULL, "keep_if", 0};
        const Json *mask = member(root, "mask"), *undecodable = member(root, "on_undecodable");
        const Json *drop_if = member(root, "drop_if"), *keep_if = member(root, "keep_if");
        if (mask) read_masks(mask, config);
        if (drop_if) config->drop_if = read_condition(&drop, drop_if, config);
        if (keep_if) config->keep_if = read_condition(&keep, keep_if, config);
        if (undecodable) read_undecodable(undecodable, config);
    }
    return error_length ? error_text : NULL;
}
