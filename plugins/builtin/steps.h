/* The steps of a configuration, read and run in their order. A kind of step is a row of the table in steps.c; a mask,
 * which works on one value at a time, is a row of the table in masks.c. */
#ifndef RULES_STEPS_H
#define RULES_STEPS_H

#include "conditions.h"
#include "message.h"
#include "paths.h"

/* What reading a step finds out about it, beside its settings. */
typedef struct {
    Format format;
    bool needs_payload; /* it is skipped where there is none to read */
    uint32_t effects;   /* that it may cause for one message */
} Needs;

typedef struct {
    const char *name;
    const char *keys; /* it takes beside `action` and `when`, with a space between them */
    uint32_t size;    /* of its settings, which are cleared before they are read */
    void (*read)(const Where *where, const Node *found, void *settings, Needs *needs);
    Fate (*run)(void *settings, Message *message);
} StepKind;

/* The kinds that are not in steps.c. */
extern const StepKind STEP_SAMPLE, STEP_DEADBAND, STEP_LIMIT, STEP_UNIQUE, STEP_TOPIC, STEP_QOS, STEP_RETAIN,
    STEP_PROPERTIES, STEP_SET, STEP_EMIT, STEP_ALERT, STEP_AGGREGATE, STEP_GRID;

typedef struct Step {
    Fate (*run)(void *settings, Message *message); /* NULL for a group */
    void *settings;
    Condition *when; /* NULL: always */
    bool needs_payload;
    struct Step *first; /* of a group */
    struct Step *next;
} Step;

typedef struct {
    Step *first;
    Format format;
    bool pass_undecodable;
    bool has_offset; /* instead of the host's */
    int32_t utc_offset;
    uint32_t effects; /* that the steps may cause for one message */
} Config;

/* NULL, or what is wrong with the configuration. What `text` points to must stay. */
const char *config_read(Span text, Config *config);

/* Run the steps on a message: GO_ON, or DROPPED, or UNREADABLE where it is dropped because of that. */
Fate steps_run(const Config *config, Message *message);

#endif
