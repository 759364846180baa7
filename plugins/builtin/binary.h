/* What CBOR and MessagePack have in common. */
#ifndef RULES_BINARY_H
#define RULES_BINARY_H

#include "tree.h"

/* An unsigned number of `size` bytes, the highest first. */
uint64_t read_big_endian(const uint8_t *at, uint32_t size);
void append_big_endian(uint64_t value, uint32_t size);
void append_byte(uint8_t byte);

/* Floating-point numbers by their bits. */
double double_of(uint64_t bits);
float single_of(uint32_t bits);

/* Numbers as JSON's text, in the arena. */
Span whole_text(uint64_t value);
Span negative_text(uint64_t below); /* -1 - below */
Span double_text(double number);
Span single_text(float number);

/* Whether a number's text is a whole one of 64 bits: `size`, or -1 - `size`. */
bool is_whole(Span text, bool *negative, uint64_t *size);

/* Append a head and a number as floating point. */
void append_double(uint8_t head, Span text);
void append_single(uint8_t head, Span text);

/* How a format writes what is new. */
typedef struct {
    void (*begin)(const Node *container, uint32_t count);
    void (*end)(const Node *container);
    void (*leaf)(Leaf leaf, const Node *was); /* `was`: the node in whose place it stands, for a number's kind */
} Encoding;

/* Append what the tree has become to the arena. */
void binary_write(const Node *node, const Encoding *encoding);

#endif
