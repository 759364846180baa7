/* Reading a configuration: its values, and what is wrong with them, by their place: `steps[3].key: ...`. The first
 * mistake is the one that is told; after it, reading goes on with values that do no harm. */
#ifndef RULES_SETTINGS_H
#define RULES_SETTINGS_H

#include "decimal.h"
#include "sha256.h"
#include "tree.h"

/* Where in the configuration a value stands. */
typedef struct Where {
    const struct Where *parent;
    const char *name; /* NULL for an element of an array */
    uint32_t index;
} Where;

/* What is wrong: `steps[0].to: "x" is not ...`. `found` (may be NULL) is the value as it is written: leave it out
 * where it may be a secret. False where there has been a mistake already. */
bool fail(const Where *where, const Span *found, const char *text);

/* As fail, with a value; NULL where it is missing. */
bool refuse(const Where *where, const Node *found, const char *text);

/* More words for the mistake that fail or refuse has just told. */
void fail_more(const char *text);

/* NULL, or the mistake. */
const char *first_mistake(void);

/* Whether the bytes are this word. */
bool named(Span bytes, const char *word);

/* Whether the name is one of `words`, which have a space between them. */
bool is_listed(Span name, const char *words);

/* The value of an object's member, NULL if there is none. */
const Node *member(const Node *object, const char *name);

/* That it is an object, has no member but the `allowed` ones and those of `more`, and none twice. */
bool check_object(const Where *where, const Node *found, const char *allowed, const char *more);

/* ---- the value of a member, with its mistakes told ---- */

#define REQUIRED UINT32_MAX /* instead of a usual value */

/* A whole number that is at hand already. */
uint32_t whole_number(const Where *where, const Node *found, uint32_t least, uint32_t most);

uint32_t read_whole(const Where *where, const Node *object, const char *name, uint32_t least, uint32_t most,
                    uint32_t usual);
bool read_bool(const Where *where, const Node *object, const char *name, bool usual);

/* The index of the member's word among `words`. */
uint32_t read_word(const Where *where, const Node *object, const char *name, const char *words, uint32_t usual);

/* The words of a list, `least` at least: a sum of 1 << index among `words`. */
uint32_t read_words(const Where *where, const Node *object, const char *name, const char *words, uint32_t least);

/* A string that is not empty; an empty Span where it is missing and `required` is false. */
Span read_text(const Where *where, const Node *object, const char *name, bool required);

/* Milliseconds of a text such as `500ms`, `10s`, `5m`, `1h`, `7d`, or of a number of seconds; 0 where it is missing
 * and `required` is false. It is above 0 and at most 30 days. */
uint64_t read_duration(const Where *where, const Node *object, const char *name, bool required);

/* The bytes of `key`, hexadecimal, at least `least` of them. They are never shown. */
Span read_key(const Where *where, const Node *object, uint32_t least);

#endif
