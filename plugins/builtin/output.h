/* What messages leave behind in the result of a batch. */
#ifndef RULES_OUTPUT_H
#define RULES_OUTPUT_H

#include "message.h"

/* Begin the result of a batch, with room for so many effects of each message and of the batch. */
void output_begin(uint32_t count, uint32_t for_message, uint32_t for_batch);

/* How many extra messages the result has so far: the host takes no more than `limits.emits`. */
uint32_t output_emits(void);

/* What geomq_process returns. */
int64_t output_end(void);

/* Add to a figure that the operator sees. */
void output_metric(Span name, double number);

/* Keep in the result what has been told since output_message, and give back the rest of the arena. */
void output_settle(void);

/* ---- one message: what is told in between is copied ---- */

void output_message(void);

void output_emit(const Message *message, Span topic, Span payload, uint8_t qos, bool retain);
void output_alert(const Message *message, Span name, Span text);

/* The message is done: give back what it took from the arena but for what is in the result. */
void output_done(const Message *message, bool dropped);

/* The message cannot be worked on, and is done. */
void output_reject(const Message *message, Span reason);

#endif
