#include "masks.h"

#include "../sdk/c/geomq_plugin.h"
#include "hash.h"

static const Leaf HIDDEN = {TYPE_STRING, {(const uint8_t *)"***", 3}};

/* ---- redact ---- */

typedef struct {
    Leaf with;
} Redact;

static void read_redact(const Where *where, const Node *found, void *settings) {
    Redact *redact = settings;
    Where here = {where, "with", 0};
    const Node *with = member(found, "with");
    redact->with = with ? (Leaf){(Type)with->type, with->text} : HIDDEN;
    if (with && is_container(with)) refuse(&here, with, "is not a scalar");
}

static MaskResult redact(const void *settings, Leaf leaf, Leaf *changed) {
    (void)leaf;
    *changed = ((const Redact *)settings)->with;
    return MASK_CHANGED;
}

/* ---- hash ---- */

static void read_hash(const Where *where, const Node *found, void *settings) {
    *(Hash *)settings = hash_read(where, found);
}

static MaskResult hash(const void *settings, Leaf leaf, Leaf *changed) {
    *changed = (Leaf){TYPE_STRING, hash_append(settings, leaf.text)};
    return MASK_CHANGED;
}

/* ---- truncate ---- */

typedef struct {
    uint32_t length; /* code points */
} Truncate;

static void read_truncate(const Where *where, const Node *found, void *settings) {
    ((Truncate *)settings)->length = read_whole(where, found, "length", 0, 1000000, REQUIRED);
}

static MaskResult truncate(const void *settings, Leaf leaf, Leaf *changed) {
    if (leaf.type != TYPE_STRING) return MASK_HIDE;
    const uint8_t *at = leaf.text.at, *end = span_end(leaf.text);
    for (uint32_t i = 0; i < ((const Truncate *)settings)->length && at < end; i++) {
        at++;
        while (at < end && (*at & 0xC0) == 0x80) at++;
    }
    *changed = (Leaf){TYPE_STRING, span(leaf.text.at, at)};
    return at < end ? MASK_CHANGED : MASK_SAME;
}

/* ---- round ---- */

typedef struct {
    Multiple to;
} Round;

static void read_round(const Where *where, const Node *found, void *settings) {
    Where here = {where, "to", 0};
    const Node *to = member(found, "to");
    if (to && to->type == TYPE_NUMBER) {
        Decimal number = decimal(to->text);
        if (multiple_from(&number, &((Round *)settings)->to)) return;
    }
    refuse(&here, to, "is not a step such as 0.01 or 10");
}

static MaskResult round_number(const void *settings, Leaf leaf, Leaf *changed) {
    uint8_t text[ROUNDED_ROOM];
    uint32_t length = 0;
    if (leaf.type != TYPE_NUMBER) return MASK_HIDE;
    Decimal number = decimal(leaf.text);
    switch (decimal_round(&number, &((const Round *)settings)->to, text, &length)) {
    case ROUND_SAME: return MASK_SAME;
    case ROUND_TOO_LONG: return MASK_HIDE;
    default: break;
    }
    *changed = (Leaf){TYPE_NUMBER, {geomq_append(text, length), length}};
    return MASK_CHANGED;
}

/* ---- all of them ---- */

static const MaskKind REDACT = {"redact", "with", ON_WHOLE, sizeof(Redact), read_redact, redact};
static const MaskKind HASH = {"hash", "key length", ON_WHOLE, sizeof(Hash), read_hash, hash};
static const MaskKind TRUNCATE = {"truncate", "length", ON_SCALARS, sizeof(Truncate), read_truncate, truncate};
static const MaskKind ROUND = {"round", "to", ON_SCALARS, sizeof(Round), read_round, round_number};

static const MaskKind *const KINDS[] = {
    &REDACT,       &HASH,        &TRUNCATE,          &ROUND,       &MASK_DATE,
    &MASK_PATTERNS, &MASK_SEARCH, &MASK_PSEUDONYMISE, &MASK_REVEAL,
};

#define KIND_COUNT (sizeof KINDS / sizeof *KINDS)

const MaskKind *mask_kind(Span name) {
    for (uint32_t i = 0; i < KIND_COUNT; i++) {
        if (named(name, KINDS[i]->name)) return KINDS[i];
    }
    return NULL;
}

void fail_mask_names(void) {
    for (uint32_t i = 0; i < KIND_COUNT; i++) {
        fail_more(" ");
        fail_more(KINDS[i]->name);
    }
}

typedef struct {
    const MaskKind *kind;
    Paths paths;
    void *settings;
} Mask;

static void apply(const Mask *mask, Node *node) {
    Leaf changed;
    if (is_container(node) && mask->kind->reach == ON_INSIDE) {
        for (Node *child = node->first; child; child = child->next) {
            if (is_there(child)) apply(mask, child);
        }
        return;
    }
    MaskResult result = MASK_HIDE;
    if (is_scalar(node) || mask->kind->reach == ON_WHOLE)
        result = mask->kind->apply(mask->settings, node_leaf(node), &changed);
    if (result == MASK_HIDE) node_replace(node, HIDDEN);
    else if (result == MASK_CHANGED) node_replace(node, changed);
}

static bool visit(Node *node, void *context) {
    apply(context, node);
    return false;
}

static Fate run(void *settings, Message *message) {
    const Mask *mask = settings;
    for (uint32_t i = 0; i < mask->paths.count; i++) path_visit(&mask->paths.first[i], message->root, visit, settings);
    return GO_ON;
}

void mask_read(const MaskKind *kind, const Where *where, const Node *found, Step *step, Needs *needs) {
    Mask *mask = geomq_take(sizeof(Mask));
    *mask = (Mask){.kind = kind, .settings = geomq_take(kind->size)};
    __builtin_memset(mask->settings, 0, kind->size);
    step->settings = mask;
    step->run = run;
    needs->needs_payload = true;
    if (!check_object(where, found, "when action path paths", kind->keys)) return;
    mask->paths = paths_read(where, found, needs->format == FORMAT_TEXT);
    kind->read(where, found, mask->settings);
}
