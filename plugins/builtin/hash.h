/* HMAC-SHA-256 as hexadecimal digits: equal values stay equal. */
#ifndef RULES_HASH_H
#define RULES_HASH_H

#include "settings.h"

typedef struct {
    Hmac hmac;
    uint32_t length; /* hexadecimal digits */
} Hash;

/* The `key` and `length` of a step. */
Hash hash_read(const Where *where, const Node *found);

/* Append the digits for these bytes to the arena's end. */
Span hash_append(const Hash *hash, Span bytes);

#endif
