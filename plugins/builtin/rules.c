/* The built-in rules: drop JSON messages by their values, mask what must not be seen. Configured by JSON:
 *
 *   drop_if, keep_if   a condition: {path, exists|equals|not_equals|above|below|in}, {all: [...]}, {any: [...]}, {not: ...}
 *   mask               a list of {path, action: remove|redact|hash|truncate|round, with, key, length, to}
 *   on_undecodable     what happens to a payload that is no JSON: drop or pass
 *
 * A payload is walked once. Each path is a small automaton: a bit for each number of its levels that lead to
 * the value at hand. What is not masked stays as it was, byte for byte. */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "../sdk/c/geomq_plugin.h"

#include "config.h"

static Config config;
static uint32_t *states; /* a row of config.count for each depth */

/* The payload being walked. */
static const uint8_t *end;    /* where it ends */
static const uint8_t *copied; /* up to where the output has it */
static uint32_t quiet;        /* above 0 inside a value that is masked as a whole */

/* ---- paths ---- */

/* `**` leads on without taking a level, too. */
static uint32_t closed(const Path *path, uint32_t state) {
    for (uint32_t i = 0; i < path->count; i++) {
        if (state >> i & 1 && path->segments[i].kind == SEGMENT_ANY) state |= 1u << (i + 1);
    }
    return state;
}

static bool leads(const Segment *segment, const Span *key, uint32_t index) {
    if (segment->kind == SEGMENT_ONE) return true;
    return key ? same(segment->name, *key) : segment->index == index;
}

static uint32_t follow(const Path *path, uint32_t state, const Span *key, uint32_t index) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < path->count; i++) {
        if (!(state >> i & 1)) continue;
        const Segment *segment = &path->segments[i];
        if (segment->kind == SEGMENT_ANY) next |= 1u << i;
        else if (leads(segment, key, index)) next |= 1u << (i + 1);
    }
    return closed(path, next);
}

static bool arrived(uint32_t path, uint32_t depth) {
    return states[depth * config.count + path] >> config.paths[path].count & 1;
}

/* Fill the row of a member or element one level down. Tells the first mask that is meant for it, and whether
 * any path leads further. */
static bool step(uint32_t depth, const Span *raw_key, uint32_t index, const Mask **mask, bool *tested) {
    const uint32_t *from = states + depth * config.count;
    uint32_t *to = states + (depth + 1) * config.count;
    Span decoded;
    const Span *key = raw_key;
    if (raw_key && json_escaped(*raw_key)) {
        uint8_t *text = geomq_scratch(raw_key->length);
        decoded = (Span){text, json_decode(*raw_key, text)};
        key = &decoded;
    }
    bool further = false;
    for (uint32_t i = 0; i < config.count; i++) {
        const Path *path = &config.paths[i];
        to[i] = from[i] ? follow(path, from[i], key, index) : 0;
        if (to[i] & ((1u << path->count) - 1)) further = true;
        if (!arrived(i, depth + 1)) continue;
        if (!path->mask) *tested = true;
        else if (!*mask) *mask = path->mask;
    }
    return further;
}

/* ---- conditions ---- */

static bool equals(const Json *operand, Span value, JsonType type) {
    if (type != operand->type) return false;
    if (type == JSON_NUMBER) {
        Decimal a = decimal(value), b = decimal(operand->raw);
        return decimal_compare(&a, &b) == 0;
    }
    if (type != JSON_STRING) return true;
    Span body = json_body(value);
    if (!json_escaped(body)) return same(body, operand->text);
    uint8_t *text = geomq_scratch(body.length);
    return same((Span){text, json_decode(body, text)}, operand->text);
}

static bool equals_any(const Json *list, Span value, JsonType type) {
    for (const Json *item = list->first; item; item = item->next) {
        if (equals(item, value, type)) return true;
    }
    return false;
}

static bool satisfies(const Condition *condition, Span value, JsonType type) {
    const Json *operand = condition->operand;
    switch (condition->test) {
    case TEST_EXISTS: return true;
    case TEST_EQUALS: return equals(operand, value, type);
    case TEST_NOT_EQUALS: return !equals(operand, value, type);
    case TEST_IN: return equals_any(operand, value, type);
    default: break;
    }
    if (type != JSON_NUMBER) return false;
    Decimal a = decimal(value), b = decimal(operand->raw);
    int order = decimal_compare(&a, &b);
    return condition->test == TEST_ABOVE ? order > 0 : order < 0;
}

static void test_value(uint32_t depth, Span value, JsonType type) {
    for (uint32_t i = 0; i < config.count; i++) {
        Condition *condition = config.paths[i].condition;
        if (condition && !condition->met && arrived(i, depth)) condition->met = satisfies(condition, value, type);
    }
}

static bool holds(const Condition *condition) {
    const Condition *inner = condition->first;
    switch (condition->kind) {
    case CONDITION_NOT: return !holds(inner);
    case CONDITION_ALL:
        for (; inner; inner = inner->next) {
            if (!holds(inner)) return false;
        }
        return true;
    case CONDITION_ANY:
        for (; inner; inner = inner->next) {
            if (holds(inner)) return true;
        }
        return false;
    default:
        return condition->test == TEST_EXISTS ? condition->met == (condition->operand->type == JSON_TRUE)
                                              : condition->met;
    }
}

/* ---- masks ---- */

/* Leave out what stands between two places. */
static void cut(const uint8_t *from, const uint8_t *to) {
    if (from > copied) geomq_append(copied, (uint32_t)(from - copied));
    copied = to;
}

static void put(Span value, Span replacement) {
    cut(value.at, value.at + value.length);
    geomq_append(replacement.at, replacement.length);
}

static const Span HIDDEN = {(const uint8_t *)"\"***\"", 5};

static void hash(const Mask *mask, Span value, JsonType type) {
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t digest[SHA256_SIZE], text[2 * SHA256_SIZE + 2];
    Span meaning = value;
    if (type == JSON_STRING) {
        meaning = json_body(value);
        if (json_escaped(meaning)) {
            uint8_t *decoded = geomq_scratch(meaning.length);
            meaning = (Span){decoded, json_decode(meaning, decoded)};
        }
    }
    hmac_digest(&mask->hmac, meaning.at, meaning.length, digest);
    text[0] = '"';
    for (uint32_t i = 0; i < mask->length; i++) text[i + 1] = (uint8_t)DIGITS[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    text[mask->length + 1] = '"';
    put(value, (Span){text, mask->length + 2});
}

static void truncate(const Mask *mask, Span value, JsonType type) {
    if (type != JSON_STRING) {
        put(value, HIDDEN);
        return;
    }
    const uint8_t *last = value.at + value.length - 1, *at = value.at + 1;
    for (uint32_t i = 0; i < mask->length && at < last; i++) at = json_next_point(at, last);
    if (at < last) cut(at, last);
}

static void round_number(const Mask *mask, Span value, JsonType type) {
    uint8_t text[ROUNDED_ROOM];
    uint32_t length = 0;
    Rounding rounding = ROUND_TOO_LONG;
    if (type == JSON_NUMBER) {
        Decimal number = decimal(value);
        rounding = decimal_round(&number, &mask->step, text, &length);
    }
    if (rounding == ROUND_TOO_LONG) put(value, HIDDEN);
    else if (rounding == ROUND_CHANGED) put(value, (Span){text, length});
}

static void apply(const Mask *mask, Span value, JsonType type) {
    switch (mask->action) {
    case ACTION_HASH: hash(mask, value, type); break;
    case ACTION_TRUNCATE: truncate(mask, value, type); break;
    case ACTION_ROUND: round_number(mask, value, type); break;
    default: put(value, mask->with); break;
    }
}

/* ---- the walk: each function returns where its part of the payload ends, NULL where that is no JSON ---- */

static const uint8_t *walk_inside(const uint8_t *at, uint32_t depth, bool active);

static const uint8_t *walk_value(const uint8_t *at, uint32_t depth, bool active, JsonType *type) {
    if (at >= end) return NULL;
    if (*at != '{' && *at != '[') return json_scalar(at, end, type);
    *type = *at == '{' ? JSON_OBJECT : JSON_ARRAY;
    return depth >= JSON_DEPTH ? NULL : walk_inside(at, depth, active);
}

static const uint8_t *walk_key(const uint8_t *at, Span *key) {
    const uint8_t *after = json_string(at, end);
    if (!after) return NULL;
    *key = json_body(span(at, after));
    at = json_space(after, end);
    return at < end && *at == ':' ? json_space(at + 1, end) : NULL;
}

/* The members or elements of the object or array at `at`, which stands `depth` levels deep. */
static const uint8_t *walk_inside(const uint8_t *at, uint32_t depth, bool active) {
    bool object = *at == '{';
    uint8_t close = object ? '}' : ']';
    const uint8_t *kept = NULL; /* where the last one that stays ends */
    const uint8_t *hole = NULL; /* where what is removed begins, while nothing has been kept */
    at = json_space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    for (uint32_t index = 0;; index++) {
        const uint8_t *start = at;
        Span key = {0};
        const Mask *mask = NULL;
        bool tested = false, further = false;
        JsonType type = JSON_NULL;
        if (hole) cut(hole, start);
        hole = NULL;
        if (object && !(at = walk_key(at, &key))) return NULL;
        if (active) further = step(depth, object ? &key : NULL, index, &mask, &tested);
        const uint8_t *value = at;
        if (mask) quiet++;
        at = walk_value(at, depth + 1, further, &type);
        if (mask) quiet--;
        if (!at) return NULL;
        if (tested) test_value(depth + 1, span(value, at), type);
        if (mask && !quiet && mask->action == ACTION_REMOVE) {
            if (kept) cut(kept, at);
            else hole = start;
        } else {
            if (mask && !quiet) apply(mask, span(value, at), type);
            kept = at;
        }
        const uint8_t *after = at;
        at = json_space(at, end);
        if (at >= end) return NULL;
        if (*at == close) {
            if (hole) cut(hole, after);
            return at + 1;
        }
        if (*at != ',') return NULL;
        at = json_space(at + 1, end);
    }
}

static bool walk(Span payload) {
    JsonType type;
    end = payload.at + payload.length;
    copied = payload.at;
    quiet = 0;
    for (uint32_t i = 0; i < config.count; i++) {
        states[i] = closed(&config.paths[i], 1);
        if (config.paths[i].condition) config.paths[i].condition->met = false;
    }
    const uint8_t *at = walk_value(json_space(payload.at, end), 0, true, &type);
    return at && json_space(at, end) == end;
}

/* ---- the interface ---- */

static void process(GeomqBuilder *result, uint32_t index, Span payload) {
    uint8_t *mark = geomq_mark();
    /* An empty payload has nothing to hide: it deletes a retained message, elsewhere, too. */
    if (payload.length == 0) return;
    if (!walk(payload)) {
        geomq_release(mark);
        if (!config.pass_undecodable) geomq_drop(result, index);
        return;
    }
    if ((config.drop_if && holds(config.drop_if)) || (config.keep_if && !holds(config.keep_if))) {
        geomq_release(mark);
        geomq_drop(result, index);
        return;
    }
    if (copied == payload.at) return;
    cut(end, end);
    GeomqChange *change = geomq_replace(result, index);
    change->what = GEOMQ_CHANGED_PAYLOAD;
    change->payload = geomq_field(result, mark, (uint32_t)(geomq_mark() - mark));
}

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *text, uint32_t length) {
    const char *error = config_read((Span){text, length}, &config);
    if (error) return error;
    states = geomq_take((JSON_DEPTH + 2) * (config.count + 1) * sizeof *states);
    geomq_keep();
    return NULL;
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    if (config.count == 0) return 0;
    GeomqBuilder result = geomq_begin(request->count, 0);
    for (uint32_t i = 0; i < request->count; i++) {
        GeomqField payload = geomq_entry(request, i)->payload;
        process(&result, i, (Span){geomq_bytes(request, payload), payload.length});
    }
    return geomq_end(&result);
}
