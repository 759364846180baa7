/* What the masks of a single value have in common. Those that are no more than a function (patterns.h, pseudonym.h,
 * dates.h, grid.h, search.h) read the meaning of a text, or the text of a number, and append what is to stand there
 * instead to the arena; nothing where the result is not MASK_CHANGED. */
#ifndef RULES_LEAF_H
#define RULES_LEAF_H

#include "../sdk/c/geomq_plugin.h"
#include "span.h"

/* What a mask makes of a value: nothing, another one, or it cannot work on it, so that it is hidden. */
typedef enum { MASK_SAME, MASK_CHANGED, MASK_HIDE } MaskResult;

static inline bool is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }
static inline bool is_letter(uint8_t byte) { return (uint8_t)((byte | 0x20) - 'a') < 26; }
static inline bool is_word(uint8_t byte) { return is_digit(byte) || is_letter(byte); }

/* What was appended to the arena since `mark`. */
static inline Span appended(const uint8_t *mark) { return span(mark, geomq_mark()); }

#endif
