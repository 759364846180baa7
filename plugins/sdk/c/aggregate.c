/* An aggregate: the numbers `member` of each topic are collected and dropped; when a window of `seconds` is
 * over, a message with their count, minimum, maximum and mean goes to `topic`/<their topic>.
 *
 * Configuration: {"member": "temperature", "seconds": 60, "topic": "summary"} */
#define GEOMQ_PLUGIN_IMPLEMENTATION
#include "geomq_plugin.h"

#include "geomq_json.h"

#define MOST_TOPICS 64u /* or what the host takes of a tick */
#define LONGEST_TOPIC 256u

typedef struct {
    uint8_t topic[LONGEST_TOPIC];
    uint32_t topic_length;
    uint32_t count;
    double lowest, highest, sum;
} Window;

static GeomqText member;
static GeomqText target;
static uint64_t nanoseconds, opened;
static Window windows[MOST_TOPICS];
static uint32_t used;

GEOMQ_EXPORT(geomq_init) const char *geomq_init(const uint8_t *config, uint32_t length) {
    GeomqText settings = {config, length}, value;
    double seconds;
    if (geomq_member(settings, GEOMQ_WORDS("member"), &value) != GEOMQ_FOUND || !geomq_string(value, &member))
        return "member: the name of a number in the payload is expected";
    if (geomq_member(settings, GEOMQ_WORDS("seconds"), &value) != GEOMQ_FOUND || !geomq_number(value, &seconds) ||
        !(seconds > 0 && seconds < 1e9))
        return "seconds: how long a window is open is expected";
    if (geomq_member(settings, GEOMQ_WORDS("topic"), &value) != GEOMQ_FOUND || !geomq_string(value, &target) || !target.length)
        return "topic: where the results go is expected";
    nanoseconds = (uint64_t)(seconds * 1e9);
    geomq_keep(); /* both stand in the configuration's text */
    return NULL;
}

static void close_windows(GeomqBuilder *result) {
    for (uint32_t i = 0; i < used; i++) {
        const Window *window = &windows[i];
        GeomqEffect *effect = geomq_effect(result, GEOMQ_EMIT, GEOMQ_NO_MESSAGE);
        uint8_t *start = geomq_mark();
        geomq_append_text(target);
        geomq_append("/", 1);
        geomq_append(window->topic, window->topic_length);
        effect->first = geomq_put(result, geomq_since(start));
        start = geomq_mark();
        geomq_append_text(GEOMQ_WORDS("{\"count\":"));
        geomq_append_whole(window->count);
        geomq_append_text(GEOMQ_WORDS(",\"min\":"));
        geomq_append_decimal(window->lowest);
        geomq_append_text(GEOMQ_WORDS(",\"max\":"));
        geomq_append_decimal(window->highest);
        geomq_append_text(GEOMQ_WORDS(",\"mean\":"));
        geomq_append_decimal(window->sum / window->count);
        geomq_append("}", 1);
        effect->second = geomq_put(result, geomq_since(start));
    }
    used = 0;
}

static void close_if_over(GeomqBuilder *result, uint64_t now) {
    if (used && now >= opened + nanoseconds) close_windows(result);
}

static bool is_full(void) {
    return used == MOST_TOPICS || (used && used >= geomq_most_emits);
}

static Window *window_of(GeomqBuilder *result, GeomqText topic, uint64_t now) {
    for (uint32_t i = 0; i < used; i++) {
        if (geomq_same((GeomqText){windows[i].topic, windows[i].topic_length}, topic)) return &windows[i];
    }
    if (is_full()) close_windows(result); /* early, but nothing is lost */
    if (!used) opened = now;
    Window *window = &windows[used++];
    __builtin_memcpy(window->topic, topic.start, topic.length);
    window->topic_length = topic.length;
    window->count = 0;
    window->sum = 0;
    return window;
}

static void collect(Window *window, double number) {
    if (!window->count || number < window->lowest) window->lowest = number;
    if (!window->count || number > window->highest) window->highest = number;
    window->count++;
    window->sum += number;
}

GEOMQ_EXPORT(geomq_process) int64_t geomq_process(const GeomqRequest *request, uint32_t length) {
    (void)length;
    GeomqBuilder result = geomq_begin(request->count, used + request->count + 1);
    uint32_t skipped = 0;
    close_if_over(&result, request->now_ns);
    for (uint32_t i = 0; i < request->count; i++) {
        const GeomqEntry *entry = geomq_entry(request, i);
        GeomqText topic = geomq_text_of(request, entry->topic), value;
        double number;
        geomq_drop(&result, i);
        if (geomq_is_answer(entry)) continue; /* counted when it was published */
        if (topic.length <= LONGEST_TOPIC &&
            geomq_member(geomq_text_of(request, entry->payload), member, &value) == GEOMQ_FOUND &&
            geomq_number(value, &number)) {
            collect(window_of(&result, topic, request->now_ns), number);
        } else {
            skipped++;
        }
    }
    if (skipped) geomq_metric(&result, GEOMQ_WORDS("skipped"), skipped);
    return geomq_end(&result);
}

GEOMQ_EXPORT(geomq_tick) int64_t geomq_tick(uint64_t now_ns) {
    geomq_reset();
    GeomqBuilder result = geomq_begin(0, used);
    close_if_over(&result, now_ns);
    return geomq_end(&result);
}
