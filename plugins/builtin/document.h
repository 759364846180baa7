/* JSON documents whose texts are templates: `{id: "{path:id}", node: "{node}"}`. */
#ifndef RULES_DOCUMENT_H
#define RULES_DOCUMENT_H

#include "template.h"

typedef struct Document {
    Type type;
    Span key, text;
    Template template; /* TYPE_STRING */
    struct Document *first, *next;
} Document;

/* `needs_payload` becomes true if it has the place of a value. */
Document *document_read(const Where *where, const Node *found, bool *needs_payload);

/* Append it to the arena. A text that is nothing but a place has the type of the value; what is missing is null. */
Span document_write(const Document *document, const Message *message);

#endif
