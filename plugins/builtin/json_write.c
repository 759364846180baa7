#include "json.h"

#include "../sdk/c/geomq_plugin.h"

static const uint8_t *copied; /* up to where the output has the payload */

/* Leave out what stands between two places. */
static void cut(const uint8_t *from, const uint8_t *to) {
    if (from > copied) {
        geomq_append(copied, (uint32_t)(from - copied));
        copied = from;
    }
    if (to > copied) copied = to;
}

static void put(Span text) { geomq_append(text.at, text.length); }

/* ---- new text ---- */

static void put_escape(uint32_t unit) {
    static const char *const DIGITS = "0123456789abcdef";
    uint8_t text[6] = {'\\', 'u'};
    for (int i = 0; i < 4; i++) text[2 + i] = (uint8_t)DIGITS[unit >> (12 - 4 * i) & 15];
    put((Span){text, 6});
}

/* What a string has that does not stand for itself at `at`; returns where it ends. */
static const uint8_t *put_special(const uint8_t *at, const uint8_t *end) {
    if (*at == '"' || *at == '\\') {
        put((Span){(const uint8_t[]){'\\', *at}, 2});
        return at + 1;
    }
    if (*at < 0x20) {
        put_escape(*at);
        return at + 1;
    }
    bool surrogate = end - at >= 3 && at[0] == 0xED && (at[1] & 0xE0) == 0xA0 && (at[2] & 0xC0) == 0x80;
    if (!surrogate) {
        put(SPAN("\xEF\xBF\xBD"));
        return at + 1;
    }
    put_escape(0xD000u | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu));
    return at + 3;
}

void json_write_string(Span text) {
    const uint8_t *at = text.at, *start = at, *end = span_end(text);
    put(SPAN("\""));
    while (at < end) {
        const uint8_t *next = *at >= 0x80 ? utf8_sequence(at, end) : at + 1;
        if (next && *at >= 0x20 && *at != '"' && *at != '\\') {
            at = next;
            continue;
        }
        put(span(start, at));
        start = at = put_special(at, end);
    }
    put(span(start, at));
    put(SPAN("\""));
}

void json_write_leaf(Leaf leaf) {
    switch (leaf.type) {
    case TYPE_NUMBER: put(leaf.text); break;
    case TYPE_TRUE: put(SPAN("true")); break;
    case TYPE_FALSE: put(SPAN("false")); break;
    case TYPE_STRING:
    case TYPE_BYTES: json_write_string(leaf.text); break;
    default: put(SPAN("null"));
    }
}

static void write_members(const Node *child, bool named, bool any) {
    for (; child; child = child->next) {
        if (!is_there(child)) continue;
        if (any) put(SPAN(","));
        if (named) {
            json_write_string(child->key);
            put(SPAN(":"));
        }
        json_write_new(child);
        any = true;
    }
}

void json_write_new(const Node *node) {
    if (is_scalar(node)) {
        json_write_leaf((Leaf){(Type)node->type, node->text});
        return;
    }
    bool object = node->type == TYPE_OBJECT;
    put(object ? SPAN("{") : SPAN("["));
    write_members(node->first, object, false);
    put(object ? SPAN("}") : SPAN("]"));
}

/* ---- what was there ---- */

static void write_node(const Node *node);

/* A member goes with the comma before it; the first ones, with the comma behind. */
static void write_inside(const Node *node) {
    const uint8_t *kept = NULL; /* where the last one that stays ends */
    const uint8_t *hole = NULL; /* where what is removed begins, while nothing has been kept */
    const uint8_t *last = node->raw.at + 1;
    const Node *child = node->first;
    for (; child && child->raw.at; child = child->next) {
        last = span_end(child->raw);
        if (!is_there(child)) {
            if (kept) cut(kept, last);
            else if (!hole) hole = child->start;
            continue;
        }
        if (hole) cut(hole, child->start);
        hole = NULL;
        if (child->touched) write_node(child);
        kept = last;
    }
    if (hole) cut(hole, last);
    if (!child) return;
    cut(kept ? kept : last, copied);
    write_members(child, true, kept != NULL);
}

static void write_node(const Node *node) {
    if (node->state == NODE_REPLACED) {
        cut(node->raw.at, span_end(node->raw));
        json_write_new(node);
    } else {
        write_inside(node);
    }
}

void json_write(const Node *root) {
    copied = root->raw.at;
    if (root->touched) write_node(root);
    cut(span_end(root->raw), copied);
}
