/* Aggregates over windows of time. */
#ifndef RULES_WINDOWS_H
#define RULES_WINDOWS_H

#include "output.h"

/* How many windows this batch has ended for want of room, before they were over. Counts anew from here. */
uint32_t windows_early(void);

/* How many effects windows_close may need. */
uint32_t windows_effects(void);

/* Emit the windows that are over, some hundreds at a time. */
void windows_close(uint64_t now_ms);

#endif
