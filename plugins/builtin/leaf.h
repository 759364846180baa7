/* What all masks of a single value have in common: they read the meaning of a text, or the text of a number, and
 * append what is to stand there instead to the arena. The span they read must not lie beyond the arena's end. */
#ifndef RULES_LEAF_H
#define RULES_LEAF_H

#include "../sdk/c/geomq_plugin.h"
#include "json.h"

/* MASK_SAME: the value may stay as it is; nothing was appended. MASK_CANNOT: the mask does not understand the
 * value, which is to be redacted; nothing was appended. */
typedef enum { MASK_SAME, MASK_CHANGED, MASK_CANNOT } Masked;

static inline bool is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }
static inline bool is_letter(uint8_t byte) { return (uint8_t)((byte | 0x20) - 'a') < 26; }

/* What was appended to the arena since `mark`. */
static inline Span appended(const uint8_t *mark) { return span(mark, geomq_mark()); }

#endif
