/* Times of day and days of the week. */
#ifndef RULES_HOURS_H
#define RULES_HOURS_H

#include "settings.h"

typedef struct {
    uint32_t from, to; /* minutes of the day; equal: all day */
    uint32_t days;     /* a bit for each, from Monday on: those on which the time begins */
} Hours;

/* `{from: "22:00", to: "06:00", days: [mon, tue]}`. */
void hours_read(const Where *where, const Node *found, Hours *hours);

/* Whether that time of the local clock is within the hours: from `from`, before `to`; after midnight, the hours of
 * the day before go on. */
bool hours_hold(const Hours *hours, uint64_t now_ms, int32_t utc_offset);

/* `local` or `+08:00`. False for local. */
bool offset_read(const Where *where, const Node *found, int32_t *seconds);

#endif
