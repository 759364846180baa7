/* The MQTT 5 properties of a PUBLISH in their wire form (MQTT 5.0, 3.3.2.3). */
#ifndef RULES_PROPERTIES_H
#define RULES_PROPERTIES_H

#include "span.h"

enum {
    PROPERTY_PAYLOAD_FORMAT = 1,
    PROPERTY_EXPIRY = 2,
    PROPERTY_CONTENT_TYPE = 3,
    PROPERTY_RESPONSE_TOPIC = 8,
    PROPERTY_CORRELATION = 9,
    PROPERTY_SUBSCRIPTION = 11,
    PROPERTY_TOPIC_ALIAS = 35,
    PROPERTY_USER = 38
};

/* The end of the property that begins at `at`, with its identifier; NULL where none of a PUBLISH does. */
const uint8_t *property_end(const uint8_t *at, const uint8_t *end);

#endif
