#include "paths.h"

#include "../sdk/c/geomq_plugin.h"

#define PATHS_HERE "paths here are driver.name, items.0.id, items.*.id; before a $ or [ of a name stands a backslash"

/* ---- reading ---- */

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

/* Where the level that begins at `at` ends: at a dot that has no backslash before it. */
static const uint8_t *level_end(const uint8_t *at, const uint8_t *end) {
    while (at < end && *at != '.') at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at;
}

static bool whole_only, inside;

void paths_whole_only(bool so) { whole_only = so; }

bool paths_lead_inside(void) { return inside; }

/* Whether a level is as JSONPath writes it: the name would be one that nothing has, and a mask hide nothing. */
static bool is_jsonpath(Span raw, bool first) {
    if (first && named(raw, "$")) return true;
    for (uint32_t i = 0; i < raw.length; i += raw.at[i] == '\\' ? 2 : 1) {
        if (raw.at[i] == '[') return true;
    }
    return false;
}

Path path_read(const Where *where, const Node *found) {
    Path path = {0};
    if (!found || found->type != TYPE_STRING || found->text.length == 0) {
        refuse(where, found, "is not a path such as driver.name, items.*.id or **.phone");
        return path;
    }
    if (named(found->text, "$")) return path;
    if (whole_only) {
        refuse(where, found, "leads nowhere in a text, whose only path is $");
        return path;
    }
    inside = true;
    Segment *segments = geomq_take(MAX_SEGMENTS * sizeof(Segment));
    path.segments = segments;
    for (const uint8_t *at = found->text.at, *end = span_end(found->text);; at++) {
        const uint8_t *after = level_end(at, end);
        if (after == at || path.count == MAX_SEGMENTS) {
            refuse(where, found, after == at ? "has an empty level" : "has too many levels");
            return path;
        }
        if (is_jsonpath(span(at, after), path.count == 0)) {
            refuse(where, found, "is JSONPath; " PATHS_HERE);
            return path;
        }
        Segment level = segment(span(at, after));
        segments[path.count++] = level;
        path.wild |= level.kind != SEGMENT_NAME;
        path.anywhere |= level.kind == SEGMENT_ANY;
        at = after;
        if (at == end) break;
    }
    if (segments[path.count - 1].kind == SEGMENT_ANY) refuse(where, found, "must not end with **");
    return path;
}

static Paths paths_list(const Where *where, const Node *list) {
    uint32_t count = 0;
    if (list->type != TYPE_ARRAY || !list->first) {
        refuse(where, list, "is not a list of paths");
        return (Paths){0};
    }
    for (const Node *child = list->first; child; child = child->next) count++;
    Path *paths = geomq_take(count * sizeof(Path));
    Where here = {where, NULL, 0};
    for (const Node *child = list->first; child; child = child->next, here.index++)
        paths[here.index] = path_read(&here, child);
    return (Paths){paths, count};
}

Paths paths_read(const Where *where, const Node *object, bool whole_allowed) {
    const Node *one = member(object, "path"), *many = member(object, "paths");
    Where here = {where, many ? "paths" : "path", 0};
    if (one && many) fail(where, NULL, "has both path and paths");
    if (many) return paths_list(&here, many);
    Path *path = geomq_take(sizeof(Path));
    *path = one || !whole_allowed ? path_read(&here, one) : (Path){0};
    return (Paths){path, 1};
}

/* ---- following: straight down, without `**` ---- */

static bool leads(const Segment *segment, const Node *parent, const Node *child, uint32_t index) {
    if (segment->kind == SEGMENT_ONE) return true;
    return parent->type == TYPE_OBJECT ? same(segment->name, child->key) : segment->index == index;
}

static bool descend(const Segment *at, const Segment *end, Node *node, Visit visit, void *context) {
    if (at == end) return visit(node, context);
    if (is_scalar(node)) return false;
    uint32_t index = 0;
    for (Node *child = node->first; child; child = child->next) {
        if (!is_there(child)) continue;
        if (leads(at, node, child, index++) && descend(at + 1, end, child, visit, context)) return true;
    }
    return false;
}

/* ---- following any path: an automaton with a bit for each number of levels that lead to the value at hand, so that
 * a value is visited once, however many ways a path has to it ---- */

/* `**` leads on without taking a level, too. */
static uint32_t closed(const Path *path, uint32_t state) {
    for (uint32_t i = 0; i < path->count; i++) {
        if (state >> i & 1 && path->segments[i].kind == SEGMENT_ANY) state |= 1u << (i + 1);
    }
    return state;
}

static uint32_t follow(const Path *path, uint32_t state, const Node *parent, const Node *child, uint32_t index) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < path->count; i++) {
        if (!(state >> i & 1)) continue;
        const Segment *level = &path->segments[i];
        if (level->kind == SEGMENT_ANY) next |= 1u << i;
        else if (leads(level, parent, child, index)) next |= 1u << (i + 1);
    }
    return closed(path, next);
}

static bool walk(const Path *path, uint32_t state, Node *node, Visit visit, void *context) {
    if (is_scalar(node)) return false;
    uint32_t index = 0;
    for (Node *child = node->first; child; child = child->next) {
        if (!is_there(child)) continue;
        uint32_t next = follow(path, state, node, child, index++);
        if (next >> path->count & 1 && visit(child, context)) return true;
        bool further = next & ((1u << path->count) - 1);
        if (further && is_there(child) && walk(path, next, child, visit, context)) return true;
    }
    return false;
}

bool path_visit(const Path *path, Node *root, Visit visit, void *context) {
    if (path->anywhere) return walk(path, closed(path, 1), root, visit, context);
    return descend(path->segments, path->segments + path->count, root, visit, context);
}

static bool keep_first(Node *node, void *context) {
    *(Node **)context = node;
    return true;
}

Node *path_first(const Path *path, Node *root) {
    Node *found = NULL;
    path_visit(path, root, keep_first, &found);
    return found;
}

/* ---- making ---- */

static Node *child_of(const Segment *level, Node *node) {
    uint32_t index = 0;
    for (Node *child = node->first; child; child = child->next) {
        if (is_there(child) && leads(level, node, child, index++)) return child;
    }
    return NULL;
}

Node *path_make(const Path *path, Node *root) {
    Node *node = root;
    for (uint32_t i = 0; i < path->count; i++) {
        const Segment *level = &path->segments[i];
        if (is_scalar(node)) return NULL;
        Node *child = child_of(level, node);
        if (!child) {
            if (node->type != TYPE_OBJECT) return NULL;
            child = node_add(node, level->name);
            if (i + 1 < path->count) child->type = TYPE_OBJECT;
        }
        node = child;
    }
    return node;
}
