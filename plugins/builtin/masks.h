/* Masks: steps that work on one value at a time, whatever the format. */
#ifndef RULES_MASKS_H
#define RULES_MASKS_H

#include "leaf.h"
#include "steps.h"

typedef enum {
    ON_SCALARS, /* arrays and objects are hidden */
    ON_WHOLE,   /* takes them, too, as the bytes that they are */
    ON_INSIDE   /* takes each scalar inside them */
} MaskReach;

typedef struct {
    const char *name;
    const char *keys; /* it takes beside `action`, `when`, `path` and `paths`, with a space between them */
    MaskReach reach;
    uint32_t size; /* of its settings, which are cleared before they are read */
    void (*read)(const Where *where, const Node *found, void *settings);
    /* `changed` is what is written with MASK_CHANGED; its text is appended to the arena, or stands in the settings. */
    MaskResult (*apply)(const void *settings, Leaf leaf, Leaf *changed);
} MaskKind;

extern const MaskKind MASK_PATTERNS, MASK_SEARCH, MASK_PSEUDONYMISE, MASK_REVEAL, MASK_DATE;

/* The kind of that name, NULL if there is none. */
const MaskKind *mask_kind(Span name);

/* Add the names to a mistake. */
void fail_mask_names(void);

/* Read a step of that kind. */
void mask_read(const MaskKind *kind, const Where *where, const Node *found, Step *step, Needs *needs);

#endif
