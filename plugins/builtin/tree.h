/* A payload as a tree: what the steps look at and change, whatever the format. Nodes stand in the arena and point
 * into the payload; only what has been changed is written anew, all else is copied byte for byte. */
#ifndef RULES_TREE_H
#define RULES_TREE_H

#include "span.h"

#define MAX_DEPTH 64 /* arrays and objects within one another */

typedef enum {
    TYPE_NULL,
    TYPE_FALSE,
    TYPE_TRUE,
    TYPE_NUMBER,
    TYPE_STRING,
    TYPE_BYTES, /* CBOR's and MessagePack's */
    TYPE_OTHER, /* what JSON has no word for: a NaN, undefined, an extension */
    TYPE_ARRAY,
    TYPE_OBJECT
} Type;

typedef enum { FORMAT_JSON, FORMAT_CBOR, FORMAT_MSGPACK, FORMAT_TEXT, FORMAT_AUTO } Format;

typedef enum { NODE_KEPT, NODE_REPLACED, NODE_ADDED, NODE_REMOVED } NodeState;

typedef struct Node {
    uint8_t type, format, state;
    bool touched; /* it, or something inside it, is to be written anew */
    Span raw;     /* the value as it stands in the payload */
    Span text;    /* its meaning: see node_text */
    Span key;     /* a member's name: its meaning */
    const uint8_t *start; /* where a member's name, or an element, begins in the payload */
    struct Node *first, *next, *parent;
} Node;

/* A scalar by itself: a string's UTF-8, a number's digits as JSON writes them, `true`, a byte string's bytes. */
typedef struct {
    Type type;
    Span text;
} Leaf;

static inline bool is_container(const Node *node) { return node->type >= TYPE_ARRAY; }
static inline bool is_scalar(const Node *node) { return node->type < TYPE_ARRAY; }

/* To be called where the arena has been given back: nodes that were made before are gone. */
void tree_begin(void);

/* Arrays and objects are MAX_DEPTH deep already: what a reader returns then, and whether one has since tree_begin. */
const uint8_t *tree_too_deep(void);
bool tree_was_too_deep(void);

/* Nodes are taken from the arena some at a time: those that are left, and the first of some more. */
extern Node *node_pool, *node_pool_end;
Node *node_more(void);

/* A node in the arena, empty. */
static inline Node *node_new(void) {
    if (node_pool == node_pool_end) return node_more();
    *node_pool = (Node){0};
    return node_pool++;
}

/* The tree of a payload that is not empty; NULL where it is not of the format, or nested too deep. */
Node *tree_read(Format format, Span payload);

/* Append what the tree has become to the arena, in its format. */
Span tree_write(const Node *root);

/* What a node means: a Leaf's text; for an array or object, the bytes that stand for it now. */
Span node_text(Node *node);

static inline Leaf node_leaf(Node *node) { return (Leaf){(Type)node->type, node_text(node)}; }

/* Put a scalar in the node's place. The leaf's text must stay until the message is done. */
void node_replace(Node *node, Leaf leaf);

/* Not for the root: it has nothing to be taken out of. */
void node_remove(Node *node);

/* A new member at an object's end: null, to be replaced. */
Node *node_add(Node *object, Span key);

/* A node that is in the tree still. */
static inline bool is_there(const Node *node) { return node->state != NODE_REMOVED; }

#endif
