#include "windows.h"

#include "json.h"
#include "keys.h"
#include "number.h"
#include "state.h"
#include "steps.h"
#include "template.h"
#include "times.h"

#define MOST_VALUES 16
#define HEAD_SIZE 400      /* bytes of a window's topic and of what it is told apart by */
#define MOST_WINDOWS 400   /* in a result, before others that are over wait for the next tick */
#define USUAL_KEYS 1000
#define DAY_MS 86400000ull /* for which windows are kept while the node is not running */

typedef enum { COUNT = 1, MIN = 2, MAX = 4, MEAN = 8, LAST = 16, SUM = 32 } Function;

/* In the order of the bits. */
static const char *const FUNCTIONS[] = {"count", "min", "max", "mean", "last", "sum"};
#define FUNCTION_COUNT (sizeof FUNCTIONS / sizeof *FUNCTIONS)

typedef struct {
    Path path;
    Span name;
    uint32_t functions;
} Value;

typedef struct Aggregate {
    uint64_t window_ms;
    Value values[MOST_VALUES];
    uint32_t value_count;
    By by;
    Template topic;
    uint8_t qos;
    bool retain, keep;
    Table table;
    struct Aggregate *next;
} Aggregate;

typedef struct {
    uint64_t count;
    double sum, min, max, last;
} Figures;

typedef struct {
    uint64_t start_ms; /* 0: there is no window */
    uint64_t messages;
    uint16_t topic_length, by_length;
    uint8_t head[HEAD_SIZE]; /* the topic to emit to, then what it is told apart by, as JSON */
    Figures figures[];
} Window;

static Aggregate *aggregates;
static uint32_t aggregate_count;
static uint32_t early; /* windows of this batch that had to go before they were over */

/* ---- reading ---- */

static uint32_t read_functions(const Where *where, const Node *found) {
    uint32_t functions = 0;
    if (found->type != TYPE_ARRAY || !found->first) refuse(where, found, "is not a list of functions");
    Where here = {where, NULL, 0};
    for (const Node *child = found->first; child; child = child->next, here.index++) {
        uint32_t i = 0;
        while (i < FUNCTION_COUNT && !(child->type == TYPE_STRING && named(child->text, FUNCTIONS[i]))) i++;
        if (i == FUNCTION_COUNT) refuse(&here, child, "is not one of count, min, max, mean, last, sum");
        functions |= 1u << i;
    }
    return functions;
}

static void read_values(const Where *where, const Node *found, Aggregate *aggregate) {
    if (!found) return;
    if (found->type != TYPE_OBJECT) {
        refuse(where, found, "is not an object of paths with lists of functions");
        return;
    }
    for (const Node *child = found->first; child; child = child->next) {
        if (aggregate->value_count == MOST_VALUES) {
            fail(where, NULL, "has more than 16 paths");
            return;
        }
        Node path = {.type = TYPE_STRING, .raw = child->key, .text = child->key};
        aggregate->values[aggregate->value_count++] =
            (Value){path_read(where, &path), child->key, read_functions(where, child)};
    }
}

static void read_aggregate(const Where *where, const Node *found, void *settings, Needs *needs) {
    Aggregate *aggregate = settings;
    Where values = {where, "values", 0};
    aggregate->window_ms = read_duration(where, found, "window", true);
    read_values(&values, member(found, "values"), aggregate);
    aggregate->by = by_read(where, found, &needs->needs_payload);
    aggregate->topic = template_of_topic(where, found, "topic", true, &needs->needs_payload);
    aggregate->qos = (uint8_t)read_whole(where, found, "qos", 0, 2, 0);
    aggregate->retain = read_bool(where, found, "retain", false);
    aggregate->keep = read_bool(where, found, "keep", false);
    if (aggregate->value_count) needs->needs_payload = true;
    needs->effects += 3; /* a window that is over, one that has to go for another, and what is remembered */
    aggregate->next = aggregates;
    aggregates = aggregate;
    aggregate_count++;
    table_make(where, found, &aggregate->table, sizeof(Window) + aggregate->value_count * sizeof(Figures),
               aggregate->window_ms + DAY_MS, USUAL_KEYS);
    aggregate->table.whole = true;
}

/* ---- closing ---- */

static void put(Span text) { geomq_append(text.at, text.length); }

static void put_number(double number) {
    uint8_t text[NUMBER_ROOM];
    if (number - number != 0) put(SPAN("null")); /* infinite: the sum of numbers that JSON has no end for */
    else geomq_append(text, number_write(number, text));
}

static double apply(const Figures *figures, Function function) {
    switch (function) {
    case COUNT: return (double)figures->count;
    case MIN: return figures->min;
    case MAX: return figures->max;
    case MEAN: return figures->sum / (double)figures->count;
    case LAST: return figures->last;
    default: return figures->sum;
    }
}

static void put_value(const Value *value, const Figures *figures) {
    json_write_string(value->name);
    put(SPAN(":{"));
    bool any = false;
    for (uint32_t i = 0; i < FUNCTION_COUNT; i++) {
        if (!(value->functions >> i & 1)) continue;
        if (any) put(SPAN(","));
        any = true;
        put(SPAN("\""));
        for (const char *c = FUNCTIONS[i]; *c; c++) geomq_append(c, 1);
        put(SPAN("\":"));
        if (figures->count || i == 0) put_number(apply(figures, (Function)(1u << i)));
        else put(SPAN("null"));
    }
    put(SPAN("}"));
}

static Span payload(const Aggregate *aggregate, const Window *window, uint64_t end_ms) {
    uint8_t *start = geomq_mark();
    put(SPAN("{\"from\":\""));
    time_write(window->start_ms);
    put(SPAN("\",\"to\":\""));
    time_write(end_ms);
    put(SPAN("\",\"by\":"));
    geomq_append(window->head + window->topic_length, window->by_length);
    put(SPAN(",\"messages\":"));
    put_number((double)window->messages);
    put(SPAN(",\"values\":{"));
    for (uint32_t i = 0; i < aggregate->value_count; i++) {
        if (i) put(SPAN(","));
        put_value(&aggregate->values[i], &window->figures[i]);
    }
    put(SPAN("}}"));
    return span(start, geomq_mark());
}

static void close(Aggregate *aggregate, Window *window, uint64_t end_ms) {
    static const Message NONE = {0};
    Span topic = {window->head, window->topic_length};
    output_emit(&NONE, topic, payload(aggregate, window, end_ms), aggregate->qos, aggregate->retain);
    __builtin_memset(window, 0, aggregate->table.value_size);
}

/* Windows begin at multiples of their length. A clock that is set back further than that ends one, too. */
static bool is_over(const Aggregate *aggregate, const Window *window, uint64_t now_ms) {
    uint64_t length = aggregate->window_ms;
    return window->start_ms && (now_ms >= window->start_ms + length || now_ms + length < window->start_ms);
}

/* ---- a message ---- */

/* Append what the window is told apart by, with the names of the configuration. */
static Span write_by(const By *by, const Message *message) {
    Leaf values[MAX_PARTS]; /* some are made in the arena */
    for (uint32_t i = 0; i < by->count; i++) {
        bool found = by_value(&by->parts[i], message, &values[i]) && values[i].type < TYPE_ARRAY;
        if (!found) values[i] = (Leaf){TYPE_NULL, {0}};
    }
    uint8_t *start = geomq_mark();
    put(SPAN("{"));
    for (uint32_t i = 0; i < by->count; i++) {
        if (i) put(SPAN(","));
        json_write_string(by->parts[i].name);
        put(SPAN(":"));
        json_write_leaf(values[i]);
    }
    put(SPAN("}"));
    return span(start, geomq_mark());
}

/* False where there is no topic, or it and what the window is told apart by are too long to be remembered. */
static bool open(const Aggregate *aggregate, Window *window, Message *message) {
    Span topic;
    if (!template_topic(&aggregate->topic, message, &topic)) return false;
    Span by = write_by(&aggregate->by, message);
    if (topic.length > HEAD_SIZE || by.length > HEAD_SIZE - topic.length) return false;
    window->start_ms = message->now_ms - message->now_ms % aggregate->window_ms;
    window->topic_length = (uint16_t)topic.length;
    window->by_length = (uint16_t)by.length;
    __builtin_memcpy(window->head, topic.at, topic.length);
    __builtin_memcpy(window->head + topic.length, by.at, by.length);
    return true;
}

static bool add(Node *node, void *context) {
    Figures *figures = context;
    if (node->type != TYPE_NUMBER) return false;
    double number = number_double(node_text(node));
    if (number - number != 0) return false; /* 1e400: one of them would be the window's sum and mean */
    if (!figures->count || number < figures->min) figures->min = number;
    if (!figures->count || number > figures->max) figures->max = number;
    figures->sum += number;
    figures->last = number;
    figures->count++;
    return false;
}

/* When a window that has to be emitted ends: now, where it is not over yet. */
static uint64_t end_of(const Aggregate *aggregate, const Window *window, uint64_t now_ms) {
    return is_over(aggregate, window, now_ms) ? window->start_ms + aggregate->window_ms : now_ms;
}

/* The window of a key that has to go is emitted as it is. */
static void make_room(Aggregate *aggregate, Span key, uint64_t now_ms) {
    Slot *victim = table_has(&aggregate->table, key, now_ms) ? NULL : table_victim(&aggregate->table);
    Window *window = victim ? (Window *)victim->value : NULL;
    if (!window || !window->start_ms) return;
    if (!is_over(aggregate, window, now_ms)) early++;
    close(aggregate, window, end_of(aggregate, window, now_ms));
}

/* Whether a new key takes the slot of no window. */
static bool has_room(const Table *table) {
    const Slot *victim = table_victim(table);
    return !victim || !((const Window *)victim->value)->start_ms;
}

static uint32_t most_emits(void) { return geomq_most_emits < MOST_WINDOWS ? geomq_most_emits : MOST_WINDOWS; }

/* The window that goes on for a key whose last one is over. Where the result has enough messages, and the table has
 * room, the last one is left to windows_close: a host that gets too many takes none. */
static Window *next_window(Aggregate *aggregate, Window *last, Span key, uint64_t now_ms) {
    if (output_emits() < most_emits() || !has_room(&aggregate->table)) {
        close(aggregate, last, last->start_ms + aggregate->window_ms);
        return last;
    }
    table_set_aside(&aggregate->table, last);
    return table_value(&aggregate->table, key, now_ms);
}

static Fate run_aggregate(void *settings, Message *message) {
    Aggregate *aggregate = settings;
    Span no_use;
    if (message->is_answer) {
        if (!template_topic(&aggregate->topic, message, &no_use)) return UNREADABLE;
        return aggregate->keep ? GO_ON : DROPPED;
    }
    Span key = by_key(&aggregate->by, message);
    make_room(aggregate, key, message->now_ms);
    Window *window = table_value(&aggregate->table, key, message->now_ms);
    if (is_over(aggregate, window, message->now_ms)) window = next_window(aggregate, window, key, message->now_ms);
    if (!window->start_ms && !open(aggregate, window, message)) return UNREADABLE;
    window->messages++;
    for (uint32_t i = 0; i < aggregate->value_count; i++)
        path_visit(&aggregate->values[i].path, message->root, add, &window->figures[i]);
    table_changed(&aggregate->table, window);
    return aggregate->keep ? GO_ON : DROPPED;
}

const StepKind STEP_AGGREGATE = {"aggregate", "window by values topic qos retain keep keys", sizeof(Aggregate),
                                 read_aggregate, run_aggregate};

/* ---- time ---- */

uint32_t windows_early(void) {
    uint32_t count = early;
    early = 0;
    return count;
}

uint32_t windows_effects(void) { return aggregate_count ? 2 * MOST_WINDOWS : 0; }

void windows_close(uint64_t now_ms) {
    for (Aggregate *aggregate = aggregates; aggregate; aggregate = aggregate->next) {
        Table *table = &aggregate->table;
        table_restore(table, now_ms);
        for (uint32_t i = 0; i < table->used && output_emits() < most_emits(); i++) {
            Window *window = (Window *)table_slot(table, i)->value;
            if (!is_over(aggregate, window, now_ms)) continue;
            close(aggregate, window, window->start_ms + aggregate->window_ms);
            table_changed(table, window);
            table_make_oldest(table, window);
        }
    }
}
