/* JSON as RFC 8259 writes it: no more (no comments, no NaN, no trailing comma, no byte order mark), and
 * strings must be UTF-8. An escaped surrogate without its other half is accepted, as the grammar does. */
#ifndef RULES_JSON_H
#define RULES_JSON_H

#include <stdbool.h>
#include <stdint.h>

#define JSON_DEPTH 64 /* arrays and objects within one another */

typedef struct {
    const uint8_t *at;
    uint32_t length;
} Span;

static inline Span span(const uint8_t *start, const uint8_t *end) {
    return (Span){start, (uint32_t)(end - start)};
}

static inline bool same(Span a, Span b) {
    if (a.length != b.length) return false;
    for (uint32_t i = 0; i < a.length; i++) {
        if (a.at[i] != b.at[i]) return false;
    }
    return true;
}

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonType;

/* ---- scanning: each takes where it stands and the text's end, and returns where the token ends, or NULL
 * where there is no such token ---- */

static inline const uint8_t *json_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

const uint8_t *json_string(const uint8_t *at, const uint8_t *end);
const uint8_t *json_scalar(const uint8_t *at, const uint8_t *end, JsonType *type);

/* ---- strings: `body` is what stands between the quotes of a string that json_string has accepted ---- */

static inline Span json_body(Span string) { return (Span){string.at + 1, string.length - 2}; }

bool json_escaped(Span body);

/* Write the string's meaning as UTF-8 to `out`, which has room for body.length bytes; returns its length. */
uint32_t json_decode(Span body, uint8_t *out);

/* Where the code point that begins at `at` ends; a surrogate pair of two escapes is one code point. */
const uint8_t *json_next_point(const uint8_t *at, const uint8_t *end);

/* ---- a document as a tree, for configurations ---- */

typedef struct Json {
    JsonType type;
    Span raw;
    Span text; /* a string's meaning */
    Span key;  /* a member's name: its meaning, and as it is written */
    Span raw_key;
    struct Json *first, *next;
} Json;

/* NULL if the text is not one JSON document. */
Json *json_tree(Span text);

#endif
