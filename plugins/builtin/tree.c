#include "tree.h"

#include "../sdk/c/geomq_plugin.h"
#include "cbor.h"
#include "json.h"
#include "msgpack.h"

#define POOL 32 /* nodes */

Node *node_pool, *node_pool_end;

static bool too_deep;

void tree_begin(void) {
    node_pool = node_pool_end = NULL;
    too_deep = false;
}

const uint8_t *tree_too_deep(void) {
    too_deep = true;
    return NULL;
}

bool tree_was_too_deep(void) { return too_deep; }

Node *node_more(void) {
    node_pool = geomq_take(POOL * sizeof(Node));
    node_pool_end = node_pool + POOL;
    return node_new();
}

static Node *text_read(Span payload) {
    if (!is_utf8(payload)) return NULL;
    Node *root = node_new();
    root->type = TYPE_STRING;
    root->format = FORMAT_TEXT;
    root->raw = root->text = payload;
    return root;
}

Node *tree_read(Format format, Span payload) {
    switch (format) {
    case FORMAT_CBOR: return cbor_read(payload);
    case FORMAT_MSGPACK: return msgpack_read(payload);
    case FORMAT_TEXT: return text_read(payload);
    default: return json_read(payload);
    }
}

Span tree_write(const Node *root) {
    uint8_t *start = geomq_mark();
    switch (root->format) {
    case FORMAT_CBOR: cbor_write(root); break;
    case FORMAT_MSGPACK: msgpack_write(root); break;
    case FORMAT_TEXT: geomq_append(root->text.at, root->text.length); break;
    default: json_write(root);
    }
    return span(start, geomq_mark());
}

/* What a binary format has no text for gets one when somebody asks. */
static Span make_text(const Node *node) {
    switch (node->type) {
    case TYPE_NUMBER: return node->format == FORMAT_CBOR ? cbor_number(node) : msgpack_number(node);
    case TYPE_TRUE: return SPAN("true");
    case TYPE_FALSE: return SPAN("false");
    default: return SPAN("null");
    }
}

Span node_text(Node *node) {
    if (is_container(node)) return node->touched ? tree_write(node) : node->raw;
    if (!node->text.at) node->text = make_text(node);
    return node->text;
}

static void touch(Node *node) {
    for (; node && !node->touched; node = node->parent) node->touched = true;
}

void node_replace(Node *node, Leaf leaf) {
    node->type = leaf.type;
    node->text = leaf.text;
    node->first = NULL;
    if (node->state == NODE_KEPT) node->state = NODE_REPLACED;
    touch(node);
}

void node_remove(Node *node) {
    node->state = NODE_REMOVED;
    touch(node);
}

Node *node_add(Node *object, Span key) {
    Node *child = node_new(), **link = &object->first;
    while (*link) link = &(*link)->next;
    *link = child;
    child->format = object->format;
    child->state = NODE_ADDED;
    child->key = key;
    child->parent = object;
    touch(child);
    return child;
}
