/* The configuration of the rules, read from JSON into what the walk over a payload needs. */
#ifndef RULES_CONFIG_H
#define RULES_CONFIG_H

#include "decimal.h"
#include "json.h"
#include "sha256.h"

#define MAX_PATHS 256
#define MAX_SEGMENTS 30 /* of a path: its state has a bit for each, and one for its end */

typedef enum { ACTION_REMOVE, ACTION_REDACT, ACTION_HASH, ACTION_TRUNCATE, ACTION_ROUND } Action;

typedef struct {
    Action action;
    Span with;       /* redact: a JSON scalar */
    Hmac hmac;       /* hash */
    uint32_t length; /* hash: hexadecimal digits; truncate: code points */
    Step step;       /* round */
} Mask;

typedef enum { TEST_EXISTS, TEST_EQUALS, TEST_NOT_EQUALS, TEST_ABOVE, TEST_BELOW, TEST_IN } Test;
typedef enum { CONDITION_TEST, CONDITION_ALL, CONDITION_ANY, CONDITION_NOT } ConditionKind;

typedef struct Condition {
    ConditionKind kind;
    Test test;
    const Json *operand;
    bool met; /* by a value of the payload that is being walked */
    struct Condition *first, *next;
} Condition;

typedef enum { SEGMENT_NAME, SEGMENT_ONE, SEGMENT_ANY } SegmentKind;

typedef struct {
    SegmentKind kind;
    Span name;
    uint32_t index; /* of an array's element; NO_INDEX if the name is no number */
} Segment;

#define NO_INDEX UINT32_MAX

/* What a path leads to is masked or tested. */
typedef struct {
    const Segment *segments;
    uint32_t count;
    const Mask *mask;
    Condition *condition;
} Path;

typedef struct {
    Path paths[MAX_PATHS]; /* those that mask first, in the order of the configuration */
    uint32_t count;
    Condition *drop_if, *keep_if;
    bool pass_undecodable;
} Config;

/* NULL, or what is wrong with the configuration. What `text` points to must stay. */
const char *config_read(Span text, Config *config);

#endif
