/* Texts with places for what a message has: `anon/{2}/{path:site}`. */
#ifndef RULES_TEMPLATE_H
#define RULES_TEMPLATE_H

#include "message.h"
#include "paths.h"

typedef struct Piece Piece;

typedef struct {
    const Piece *pieces;
    uint32_t count;
} Template;

/* `needs_payload` becomes true if it has the place of a value. A brace that does not begin a place stands for itself,
 * unless a word stands in braces. */
Template template_read(const Where *where, Span text, Span raw, bool *needs_payload);

/* A member's template; empty where it is missing and `required` is false. */
Template template_member(const Where *where, const Node *object, const char *name, bool required, bool *needs_payload);

/* As template_member, for a topic: wildcards, and what looks like a place and is none, are mistakes. */
Template template_of_topic(const Where *where, const Node *object, const char *name, bool required,
                           bool *needs_payload);

/* Append the text to the arena. `complete` becomes false where the message does not have what belongs into a place. */
Span template_write(const Template *template, const Message *message, bool *complete);

/* As template_write, for a topic: what is put in is one level, or the whole topic. False if there is none:
 * then the message's `lacking` is the place whose value no topic can have, empty where it is the whole. */
bool template_topic(const Template *template, Message *message, Span *topic);

/* What the template stands for as a value: that of a place with its type, if it has nothing else; a text otherwise.
 * False where it is missing. */
bool template_value(const Template *template, const Message *message, Leaf *value);

#endif
