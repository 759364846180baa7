#include "tree.h"

#include "../sdk/c/geomq_plugin.h"
#include "json.h"

Node *node_new(void) {
    Node *node = geomq_take(sizeof(Node));
    *node = (Node){0};
    return node;
}

static Node *text_read(Span payload) {
    if (!is_utf8(payload)) return NULL;
    Node *root = node_new();
    root->type = TYPE_STRING;
    root->format = FORMAT_TEXT;
    root->raw = root->text = payload;
    return root;
}

Node *tree_read(Format format, Span payload) { return format == FORMAT_TEXT ? text_read(payload) : json_read(payload); }

Span tree_write(const Node *root) {
    uint8_t *start = geomq_mark();
    if (root->format == FORMAT_TEXT) geomq_append(root->text.at, root->text.length);
    else json_write(root);
    return span(start, geomq_mark());
}

Span node_text(Node *node) {
    if (is_scalar(node)) return node->text;
    return node->touched ? tree_write(node) : node->raw;
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
