/* Texts searched for in a free text, and replaced. The time is proportional to the length of the text times that of what
 * is searched for, whatever they are. */
#ifndef RULES_SEARCH_H
#define RULES_SEARCH_H

#include "leaf.h"

#define SEARCH_MOST 256 /* texts and globs */

/* Pieces with a star between them; a text has one piece. */
typedef struct {
    const Span *pieces;
    uint32_t count;
} Wanted;

typedef struct {
    const Wanted *wanted;
    uint32_t count;
    bool ignore_case; /* of ASCII letters */
    bool whole_words; /* no ASCII letter or digit stands right before or behind */
    bool over_spaces; /* stars and question marks stand for spaces, too, but not for the end of a line */
    bool begins[256]; /* whether anything can begin with the byte */
    Span with;
} Search;

/* A text to search for; in a glob `*` is any number of characters but spaces (as few as will do; at its end, up to the
 * next space), `?` is one, and a backslash takes the meaning of the next one away. False if it is nothing but stars.
 * `search` knows ignore_case already; what `text` points to must stay. */
bool search_add(Search *search, Wanted *wanted, Span text, bool is_glob);

/* What begins first is replaced; of several that begin together, the first in the list. */
MaskResult search_mask(const Search *search, Span text, Span *out);

#endif
