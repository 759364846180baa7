/* Matching texts: patterns with `*` and `?`, and MQTT's topic filters. */
#ifndef RULES_MATCH_H
#define RULES_MATCH_H

#include "span.h"

/* `*` stands for any characters, `?` for one (a code point); a backslash before them, or before itself, takes their
 * meaning away. */
bool glob_matches(Span pattern, Span text);

/* Whether a topic name is one that the filter means (MQTT 5.0, 4.7; no wildcard at its beginning matches a `$`). */
bool filter_matches(Span filter, Span topic);

/* Whether it is a filter: UTF-8, `#` only as the last level, `+` only as a whole one. */
bool is_filter(Span filter);

/* Whether it is a topic name: UTF-8 of 1 to 65,535 bytes without NUL and wildcards [MQTT-3.3.2-2]. */
bool is_topic(Span topic);

/* Level `index` of a topic, counted from 0; `at` is NULL where there is none. */
Span topic_level(Span topic, uint32_t index);

#endif
