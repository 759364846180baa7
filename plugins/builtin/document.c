#include "document.h"

#include "json.h"

Document *document_read(const Where *where, const Node *found, bool *needs_payload) {
    Document *document = geomq_take(sizeof(Document));
    *document = (Document){.type = (Type)found->type, .key = found->key, .text = found->text};
    if (found->type == TYPE_STRING)
        document->template = template_read(where, found->text, found->raw, needs_payload);
    Where here = {where, NULL, 0};
    Document **link = &document->first;
    for (const Node *child = found->first; child; child = child->next, here.index++) {
        *link = document_read(found->type == TYPE_OBJECT ? where : &here, child, needs_payload);
        link = &(*link)->next;
    }
    return document;
}

static Node *resolve(const Document *document, const Message *message) {
    Node *node = node_new();
    Leaf leaf = {document->type, document->text};
    if (document->type == TYPE_STRING && !template_value(&document->template, message, &leaf))
        leaf = (Leaf){TYPE_NULL, SPAN("null")};
    node->state = NODE_ADDED;
    node->type = leaf.type;
    node->text = leaf.text;
    node->key = document->key;
    Node **link = &node->first;
    for (const Document *child = document->first; child; child = child->next) {
        *link = resolve(child, message);
        link = &(*link)->next;
    }
    return node;
}

Span document_write(const Document *document, const Message *message) {
    const Node *root = resolve(document, message);
    uint8_t *start = geomq_mark();
    json_write_new(root);
    return span(start, geomq_mark());
}
