/* CBOR as RFC 8949 writes it: one well-formed item, whose texts are UTF-8. Tags stay around what is not changed. */
#ifndef RULES_CBOR_H
#define RULES_CBOR_H

#include "tree.h"

/* NULL if the payload is not one item. */
Node *cbor_read(Span payload);

/* Append what the tree has become to the arena. */
void cbor_write(const Node *root);

/* A number's text, in the arena. */
Span cbor_number(const Node *node);

#endif
