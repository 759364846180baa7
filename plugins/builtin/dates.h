/* Dates and times, cut to the hour, day, month or year they are in. */
#ifndef RULES_DATES_H
#define RULES_DATES_H

#include "leaf.h"

typedef enum { DATE_HOUR, DATE_DAY, DATE_MONTH, DATE_YEAR } DateUnit;

/* Of the Gregorian calendar, extended backwards. */
bool is_day(uint32_t year, uint32_t month, uint32_t day);

/* A text of ISO 8601: 2024, 2024-05, 2024-05-17, 20240517, with a time (T or a space; 13:45, 13:45:12.345, 134512) and
 * its zone; or 20240517134512. What is cut off becomes 01 or 00, so that the text keeps its form; the zone stays, and
 * the date is the one in that zone. MASK_HIDE: anything else, such as a week. */
MaskResult date_text(DateUnit unit, Span text, Span *out);

/* The time since 1970: seconds below 10^11, milliseconds below 10^14, microseconds below 10^17, else nanoseconds. The
 * result is an integer in the same unit. `offset`: seconds east of Greenwich, where the hours and days begin.
 * MASK_HIDE: what 63 bits cannot hold. */
MaskResult date_number(DateUnit unit, int32_t offset, Span number, Span *out);

#endif
