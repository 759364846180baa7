/* Points in time as text. */
#ifndef RULES_TIMES_H
#define RULES_TIMES_H

#include <stdint.h>

/* Append a time, in milliseconds since 1970, to the arena as ISO 8601 has it: UTC, with milliseconds. */
void time_write(uint64_t now_ms);

#endif
