/* MessagePack (github.com/msgpack/msgpack, spec.md): one object, whose strings are UTF-8. */
#ifndef RULES_MSGPACK_H
#define RULES_MSGPACK_H

#include "tree.h"

/* NULL if the payload is not one object. */
Node *msgpack_read(Span payload);

/* Append what the tree has become to the arena. */
void msgpack_write(const Node *root);

/* A number's text, in the arena. */
Span msgpack_number(const Node *node);

#endif
