/* What a step tells messages apart by: `by: [topic, client, site.id]`. */
#ifndef RULES_KEYS_H
#define RULES_KEYS_H

#include "message.h"
#include "paths.h"

#define MAX_PARTS 16

typedef struct {
    enum { BY_TOPIC, BY_CLIENT, BY_USER, BY_PATH } kind;
    Path path;
    Span name; /* as it is configured */
} Part;

typedef struct {
    const Part *parts;
    uint32_t count;
} By;

/* The member `by`, `[topic]` where it is missing. `needs_payload` becomes true if it has a path. */
By by_read(const Where *where, const Node *object, bool *needs_payload);

/* Append a message's key to the arena: different ones for different values. */
Span by_key(const By *by, const Message *message);

/* The value of a part; false where the message has none. */
bool by_value(const Part *part, const Message *message, Leaf *value);

/* Append a value to a key in the arena, so that its end can be told. */
void key_append(Leaf value);

#endif
