/* The step `properties`: what a publisher says beside the payload stays, or goes. */
#include "properties.h"

#include "steps.h"

static const uint8_t *skip_string(const uint8_t *at, const uint8_t *end) {
    if (!at || end - at < 2) return NULL;
    uint32_t length = (uint32_t)at[0] << 8 | at[1];
    return (uint32_t)(end - at) - 2 < length ? NULL : at + 2 + length;
}

static const uint8_t *skip_variable(const uint8_t *at, const uint8_t *end) {
    while (at < end && *at & 0x80) at++;
    return at < end ? at + 1 : NULL;
}

const uint8_t *property_end(const uint8_t *at, const uint8_t *end) {
    uint32_t size;
    switch (*at++) {
    case PROPERTY_PAYLOAD_FORMAT: size = 1; break;
    case PROPERTY_TOPIC_ALIAS: size = 2; break;
    case PROPERTY_EXPIRY: size = 4; break;
    case PROPERTY_SUBSCRIPTION: return skip_variable(at, end);
    case PROPERTY_USER: return skip_string(skip_string(at, end), end);
    case PROPERTY_CONTENT_TYPE:
    case PROPERTY_RESPONSE_TOPIC:
    case PROPERTY_CORRELATION: return skip_string(at, end);
    default: return NULL;
    }
    return (uint32_t)(end - at) < size ? NULL : at + size;
}

/* ---- the step ---- */

#define NAMES "payload_format_indicator content_type response_topic correlation_data user_property"

static const uint8_t IDENTIFIERS[] = {
    PROPERTY_PAYLOAD_FORMAT, PROPERTY_CONTENT_TYPE, PROPERTY_RESPONSE_TOPIC, PROPERTY_CORRELATION, PROPERTY_USER,
};

typedef struct {
    uint32_t kept; /* a sum of 1 << index among NAMES */
} Properties;

static void read_properties(const Where *where, const Node *found, void *settings, Needs *needs) {
    Properties *properties = settings;
    bool keeps = member(found, "keep");
    (void)needs;
    if (keeps == (member(found, "remove") != NULL)) fail(where, NULL, "needs either keep or remove");
    else properties->kept = keeps ? read_words(where, found, "keep", NAMES, 0) : ~read_words(where, found, "remove", NAMES, 1);
}

static bool is_kept(const Properties *properties, uint8_t identifier) {
    for (uint32_t i = 0; i < sizeof IDENTIFIERS; i++) {
        if (IDENTIFIERS[i] == identifier) return properties->kept >> i & 1;
    }
    return false;
}

/* What cannot be read goes, and all behind it. */
static Fate run_properties(void *settings, Message *message) {
    const uint8_t *at = message->properties.at, *end = span_end(message->properties), *after;
    uint8_t *start = geomq_mark();
    for (; at < end && (after = property_end(at, end)); at = after) {
        if (is_kept(settings, *at)) geomq_append(at, (uint32_t)(after - at));
    }
    Span kept = span(start, geomq_mark());
    if (kept.length == message->properties.length) return GO_ON;
    message->properties = kept;
    message->changed |= GEOMQ_CHANGED_PROPERTIES;
    return GO_ON;
}

const StepKind STEP_PROPERTIES = {"properties", "keep remove", sizeof(Properties), read_properties, run_properties};
