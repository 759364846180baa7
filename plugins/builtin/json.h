/* JSON as RFC 8259 writes it: no more (no comments, no NaN, no trailing comma, no byte order mark), and
 * strings must be UTF-8. An escaped surrogate without its other half is accepted, as the grammar does. */
#ifndef RULES_JSON_H
#define RULES_JSON_H

#include "tree.h"

/* NULL if the text is not one JSON document. */
Node *json_read(Span text);

/* Append the document that the tree has become to the arena. */
void json_write(const Node *root);

/* Append a node that was made, with what is inside it, to the arena. */
void json_write_new(const Node *node);

/* Append a scalar to the arena. */
void json_write_leaf(Leaf leaf);

/* Append a string with its quotes to the arena. Bytes that are no UTF-8 become U+FFFD. */
void json_write_string(Span text);

/* Whether the text is a number, and nothing else. */
bool json_is_number(Span text);

/* Where the well-formed UTF-8 sequence of several bytes at `at` ends; NULL if there is none. */
const uint8_t *utf8_sequence(const uint8_t *at, const uint8_t *end);

bool is_utf8(Span text);

/* Write a code point, or a surrogate; how many bytes it has. */
uint32_t utf8_encode(uint32_t point, uint8_t *out);

#endif
