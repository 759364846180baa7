#include "keys.h"

static Part read_part(const Where *where, const Node *found, bool *needs_payload) {
    Part part = {.name = found->text};
    if (found->type != TYPE_STRING) refuse(where, found, "is not topic, client, user or a path");
    else if (named(found->text, "topic")) part.kind = BY_TOPIC;
    else if (named(found->text, "client")) part.kind = BY_CLIENT;
    else if (named(found->text, "user")) part.kind = BY_USER;
    else {
        part.kind = BY_PATH;
        part.path = path_read(where, found);
        *needs_payload = true;
    }
    return part;
}

By by_read(const Where *where, const Node *object, bool *needs_payload) {
    static const Part TOPIC = {.kind = BY_TOPIC, .name = {(const uint8_t *)"topic", 5}};
    const Node *found = member(object, "by");
    Where list = {where, "by", 0}, here = {&list, NULL, 0};
    if (!found) return (By){&TOPIC, 1};
    if (found->type != TYPE_ARRAY) {
        refuse(&list, found, "is not a list");
        return (By){0};
    }
    uint32_t count = 0;
    for (const Node *child = found->first; child; child = child->next) count++;
    if (count > MAX_PARTS) fail(&list, NULL, "has more than 16 parts");
    Part *parts = geomq_take(count * sizeof(Part));
    for (const Node *child = found->first; child; child = child->next, here.index++)
        parts[here.index] = read_part(&here, child, needs_payload);
    return (By){parts, count};
}

bool by_value(const Part *part, const Message *message, Leaf *value) {
    *value = (Leaf){TYPE_STRING, part->kind == BY_TOPIC    ? message->topic
                                 : part->kind == BY_CLIENT ? message->client
                                                           : message->user};
    if (part->kind != BY_PATH) return true;
    Node *node = message->root ? path_first(&part->path, message->root) : NULL;
    if (node) *value = node_leaf(node);
    return node != NULL;
}

void key_append(Leaf value) {
    uint8_t head[5] = {(uint8_t)value.type};
    __builtin_memcpy(head + 1, &value.text.length, 4);
    geomq_append(head, sizeof head);
    geomq_append(value.text.at, value.text.length);
}

Span by_key(const By *by, const Message *message) {
    static const Leaf MISSING = {TYPE_OTHER, {0}};
    Leaf only;
    if (by->count == 1 && by->parts[0].kind != BY_PATH && by_value(by->parts, message, &only)) return only.text;
    Leaf values[MAX_PARTS]; /* some are made in the arena */
    for (uint32_t i = 0; i < by->count; i++) {
        if (!by_value(&by->parts[i], message, &values[i])) values[i] = MISSING;
    }
    uint8_t *start = geomq_mark();
    for (uint32_t i = 0; i < by->count; i++) key_append(values[i]);
    return span(start, geomq_mark());
}
