/* What identifies somebody or something, found in a free text by its shape and its check digits. */
#ifndef RULES_PATTERNS_H
#define RULES_PATTERNS_H

#include "hash.h"
#include "leaf.h"

typedef enum {
    PATTERN_CARD = 1,
    PATTERN_IBAN = 2,
    PATTERN_PHONE = 4,
    PATTERN_EMAIL = 8,
    PATTERN_IP = 16,
    PATTERN_MAC = 32,
    PATTERN_CN_ID = 64
} Pattern;

typedef enum { PATTERN_WITH, PATTERN_KEEP_LAST, PATTERN_HASH } PatternPut;

typedef struct {
    uint32_t kinds; /* a sum of PATTERN_... */
    PatternPut put;
    Span with;      /* PATTERN_WITH: another text */
    uint32_t count; /* PATTERN_KEEP_LAST: letters and digits at the end, half of them at most; the others become stars */
    Hash hash;      /* PATTERN_HASH: of the letters (small) and digits; of an e-mail or IP address, of all of it */
} Patterns;

/* A number is a text here, too; what comes out is a text. */
MaskResult patterns_mask(const Patterns *how, Span text, Span *out);

#endif
