/* Paths into a payload: `driver.name`, `items.*.id`, `**.phone`, `items.0`, and `$` for the whole payload. */
#ifndef RULES_PATHS_H
#define RULES_PATHS_H

#include "settings.h"
#include "tree.h"

#define MAX_SEGMENTS 30 /* of a path: a set of them has a bit for each, and one for its end */

typedef enum { SEGMENT_NAME, SEGMENT_ONE, SEGMENT_ANY } SegmentKind;

typedef struct {
    SegmentKind kind;
    Span name;
    uint32_t index; /* of an array's element; NO_INDEX if the name is no number */
} Segment;

#define NO_INDEX UINT32_MAX

typedef struct {
    const Segment *segments;
    uint32_t count; /* 0 for the whole payload */
    bool anywhere;  /* has a `**` */
    bool wild;      /* has a `*` or `**` */
} Path;

typedef struct {
    const Path *first;
    uint32_t count;
} Paths;

/* Whether payloads are texts: another path than `$` is a mistake then, for it would lead nowhere, silently. */
void paths_whole_only(bool so);

/* Whether any path that was read leads into payloads. */
bool paths_lead_inside(void);

/* Read a path from a member, or an element of a list. */
Path path_read(const Where *where, const Node *found);

/* The members `path` or `paths` of an object; without either the whole payload, if that is `allowed`. */
Paths paths_read(const Where *where, const Node *object, bool whole_allowed);

/* Called with each value that a path leads to, once; true is enough: no further ones. It may replace or remove it. */
typedef bool (*Visit)(Node *node, void *context);

/* Whether a visit was enough. */
bool path_visit(const Path *path, Node *root, Visit visit, void *context);

/* The first value that a path leads to, NULL if there is none. */
Node *path_first(const Path *path, Node *root);

/* The same, made with the objects around it where it is missing; NULL where something else is in the way. The path is
 * not wild. */
Node *path_make(const Path *path, Node *root);

#endif
