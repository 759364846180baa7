/* The masks `patterns`, `search`, `pseudonymise`, `reveal` and `date` as rows of the table in masks.c: their settings, and what
 * they do with the scalars they are given. */
#ifndef RULES_TEXT_MASKS_H
#define RULES_TEXT_MASKS_H

#include "dates.h"
#include "masks.h"
#include "patterns.h"
#include "pseudonym.h"
#include "search.h"

#define PSEUDONYM_KEYS "key tweak keep_first keep_last allow_short"

typedef struct {
    DateUnit to;
    int32_t utc_offset; /* for numbers; seconds */
} Date;

void read_patterns(const Where *where, const Node *found, void *settings);
MaskResult apply_patterns(const void *settings, Leaf leaf, Leaf *changed);

#define SEARCH_KEYS "text texts glob globs with ignore_case whole_words"

void read_search(const Where *where, const Node *found, void *settings);
MaskResult apply_search(const void *settings, Leaf leaf, Leaf *changed);

void read_pseudonymise(const Where *where, const Node *found, void *settings);
void read_reveal(const Where *where, const Node *found, void *settings);
MaskResult apply_pseudonym(const void *settings, Leaf leaf, Leaf *changed);

void read_date(const Where *where, const Node *found, void *settings);
MaskResult apply_date(const void *settings, Leaf leaf, Leaf *changed);

#endif
