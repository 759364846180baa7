/* Comparing a value with what stands in the configuration: `equals: 5`, `in: [a, b]`. */
#ifndef RULES_COMPARISONS_H
#define RULES_COMPARISONS_H

#include "settings.h"

typedef enum {
    COMPARE_EXISTS,
    COMPARE_EQUALS,
    COMPARE_NOT_EQUALS,
    COMPARE_ABOVE,
    COMPARE_BELOW,
    COMPARE_AT_LEAST,
    COMPARE_AT_MOST,
    COMPARE_IN,
    COMPARE_NOT_IN,
    COMPARE_STARTS_WITH,
    COMPARE_ENDS_WITH,
    COMPARE_CONTAINS,
    COMPARE_GLOB
} Comparator;

/* Their names, in that order. */
#define COMPARISONS \
    "exists equals not_equals above below at_least at_most in not_in starts_with ends_with contains matches_glob"

typedef struct {
    Comparator comparator;
    const Node *operand;
} Comparison;

/* The one comparison that an object has. */
void comparison_read(const Where *where, const Node *object, Comparison *comparison);

/* Whether a value meets it. `loose`: the value is a text that may stand for a number. */
bool comparison_holds(const Comparison *comparison, Node *value, bool loose);

/* `exists: false`: it is met where no value is there. */
bool comparison_is_absence(const Comparison *comparison);

#endif
