/* Bytes somewhere: where they begin, and how many. */
#ifndef RULES_SPAN_H
#define RULES_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *at;
    uint32_t length;
} Span;

static inline Span span(const uint8_t *start, const uint8_t *end) { return (Span){start, (uint32_t)(end - start)}; }

static inline const uint8_t *span_end(Span bytes) { return bytes.at + bytes.length; }

/* The bytes of a string literal. */
#define SPAN(text) ((Span){(const uint8_t *)(text), sizeof(text) - 1})

static inline bool same(Span a, Span b) {
    if (a.length != b.length) return false;
    for (uint32_t i = 0; i < a.length; i++) {
        if (a.at[i] != b.at[i]) return false;
    }
    return true;
}

#endif
