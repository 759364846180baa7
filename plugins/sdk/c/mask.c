/* A mask with state: whatever stands in `member` is replaced by a pseudonym, the same for the same value:
 * driver-1, driver-2... Which is whose is remembered by the host, so a restart changes nothing.
 *
 * Configuration: {"member": "driver", "prefix": "driver-"} */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "geomq_plugin.h"

#include "geomq_json.h"

#define LONGEST 256u

static GeomqText member;
static GeomqText prefix;

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *config, uint32_t length) {
    GeomqText settings = {config, length}, value;
    if (geomq_member(settings, GEOMQ_WORDS("member"), &value) != GEOMQ_FOUND || !geomq_string(value, &member))
        return "member: the name of what is masked is expected";
    if (geomq_member(settings, GEOMQ_WORDS("prefix"), &value) != GEOMQ_FOUND || !geomq_string(value, &prefix))
        return "prefix: a text without escapes is expected";
    geomq_keep(); /* both stand in the configuration's text */
    return NULL;
}

static GeomqText known_as(GeomqBuilder *result, uint32_t message, GeomqText person) {
    uint8_t *start = geomq_append("is:", 3);
    geomq_append_text(person);
    GeomqText key = geomq_since(start), number, last;
    if (geomq_state_find(result, key, &number)) return number;
    double count = 0;
    GeomqText counter = {geomq_append("last", 4), 4};
    if (geomq_state_find(result, counter, &last)) geomq_number(last, &count);
    start = geomq_mark();
    geomq_append_whole((uint64_t)count + 1);
    number = geomq_since(start);
    geomq_state_put(result, message, counter, number, 0);
    geomq_state_put(result, message, key, number, 0);
    return number;
}

static void mask(GeomqBuilder *result, uint32_t message, GeomqText payload, GeomqText person) {
    GeomqText number = known_as(result, message, person);
    GeomqText before = {payload.start, (uint32_t)(person.start - payload.start)};
    GeomqText behind = {person.start + person.length, payload.length - before.length - person.length};
    uint8_t *start = geomq_mark();
    geomq_append_text(before);
    geomq_append("\"", 1);
    geomq_append_text(prefix);
    geomq_append_text(number);
    geomq_append("\"", 1);
    geomq_append_text(behind);
    GeomqChange *change = geomq_replace(result, message);
    change->what = GEOMQ_CHANGED_PAYLOAD;
    change->payload = geomq_put(result, geomq_since(start));
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    GeomqBuilder result = geomq_begin(request->count, 2 * request->count);
    for (uint32_t i = 0; i < request->count; i++) {
        GeomqText payload = geomq_text_of(request, geomq_entry(request, i)->payload), person;
        GeomqFound found = geomq_member(payload, member, &person);
        if (found == GEOMQ_ABSENT) continue;
        /* What cannot be masked does not leave. */
        if (found != GEOMQ_FOUND) geomq_reject_because(&result, i, GEOMQ_WORDS("the payload is no object that can be read"));
        else if (person.length > LONGEST) geomq_reject_because(&result, i, GEOMQ_WORDS("what is masked is too long"));
        else mask(&result, i, payload, person);
    }
    return geomq_end(&result);
}
