#include "message.h"

#include "auto.h"

static Span bytes(const GeomqRequest *request, GeomqField field) {
    return (Span){geomq_bytes(request, field), field.length};
}

void message_begin(Message *message, const GeomqRequest *request, uint32_t index, Format format) {
    tree_begin();
    const GeomqEntry *entry = geomq_entry(request, index);
    *message = (Message){
        .request = request,
        .index = index,
        .topic = bytes(request, entry->topic),
        .payload = bytes(request, entry->payload),
        .properties = bytes(request, entry->properties),
        .client = bytes(request, entry->client),
        .user = bytes(request, entry->user),
        .qos = entry->qos,
        .retain = entry->retain,
        .is_answer = geomq_is_answer(entry),
        .format = format,
        .now_ms = request->now_ns / 1000000,
    };
}

/* The content type counts, also where a step before has taken it away. */
static Span sent_properties(const Message *message) {
    return bytes(message->request, geomq_entry(message->request, message->index)->properties);
}

bool message_read(Message *message) {
    if (message->content == CONTENT_UNREAD) {
        message->root = message->format == FORMAT_AUTO ? auto_read(message->payload, sent_properties(message))
                                                       : tree_read(message->format, message->payload);
        message->content = message->root ? CONTENT_READ : CONTENT_UNREADABLE;
    }
    return message->content == CONTENT_READ;
}

Span message_payload(const Message *message) {
    const Node *root = message->root;
    if (!root || !root->touched) return message->payload;
    const uint8_t *start = geomq_mark(), *end = span_end(root->raw);
    geomq_append(message->payload.at, (uint32_t)(root->raw.at - message->payload.at));
    tree_write(root);
    geomq_append(end, (uint32_t)(span_end(message->payload) - end));
    return span(start, geomq_mark());
}
