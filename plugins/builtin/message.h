/* The message at hand, as the steps before have left it, and what it leaves behind in the result. */
#ifndef RULES_MESSAGE_H
#define RULES_MESSAGE_H

#include "../sdk/c/geomq_plugin.h"
#include "tree.h"

/* What a step makes of a message. UNREADABLE: it needs what the message does not have (a payload of the format, a
 * value for a topic); `on_undecodable` says what then. */
typedef enum { GO_ON, DROPPED, UNREADABLE } Fate;

typedef enum { CONTENT_UNREAD, CONTENT_READ, CONTENT_UNREADABLE } Content;

typedef struct {
    const GeomqRequest *request;
    uint32_t index;
    Span topic, payload, properties, client, user;
    uint8_t qos;
    bool retain;
    bool is_answer; /* published before: it is neither counted nor compared with what is remembered, and emits nothing */
    uint32_t changed; /* a sum of GEOMQ_CHANGED_... */
    Content content;
    Format format;
    Node *root; /* CONTENT_READ */
    Span lacking; /* where a step has found it UNREADABLE, though the payload could be read: the place in braces */
    uint64_t now_ms;     /* since 1970 */
    int32_t utc_offset;  /* of local time, seconds */
} Message;

void message_begin(Message *message, const GeomqRequest *request, uint32_t index, Format format);

/* Read the payload, if it has not been yet; whether there is a tree. An empty payload has none. */
bool message_read(Message *message);

/* The payload as it is now. */
Span message_payload(const Message *message);

#endif
