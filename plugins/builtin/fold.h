/* What is written with other signs than ASCII's and means the same: digits, letters and signs of full width, the digits
 * of other scripts, the spaces and dashes of typography; what has no width is left out. Escapes of URLs and of JSON
 * inside a text are what they stand for. */
#ifndef RULES_FOLD_H
#define RULES_FOLD_H

#include "span.h"

typedef struct {
    Span text;
    const uint32_t *origins; /* where each byte, and the end, was in the text before; NULL: nothing has been folded */
} Folded;

/* Takes five times the text from the arena, and nothing where there is nothing to fold. */
Folded fold(Span text);

/* Where in the text before a byte of the folded one, or its end, was. */
static inline uint32_t folded_origin(const Folded *folded, const uint8_t *at) {
    uint32_t offset = (uint32_t)(at - folded->text.at);
    return folded->origins ? folded->origins[offset] : offset;
}

#endif
