/* Steps that let some messages through: sample, deadband, limit, unique. All of them depend on what came before, and let
 * answers pass. */
#include "json.h"
#include "keys.h"
#include "number.h"
#include "output.h"
#include "sha256.h"
#include "state.h"
#include "steps.h"

#define DAY_MS 86400000ull
#define USUAL_KEYS 4096

/* How long ago; nothing of the kind where the clock has been set back. */
static bool has_passed(uint64_t since_ms, uint64_t duration_ms, uint64_t now_ms) {
    return now_ms < since_ms || now_ms - since_ms >= duration_ms;
}

/* ---- sample ---- */

typedef struct {
    uint32_t one_in;
    uint64_t every_ms;
    By by;
    Table table;
} Sample;

typedef struct {
    uint64_t count, last_ms;
} Sampled;

static void read_sample(const Where *where, const Node *found, void *settings, Needs *needs) {
    Sample *sample = settings;
    bool counts = member(found, "one_in"), times = member(found, "every");
    if (counts == times) fail(where, NULL, "needs either one_in or every");
    sample->one_in = read_whole(where, found, "one_in", 1, 1000000000, 1);
    sample->every_ms = read_duration(where, found, "every", false);
    sample->by = by_read(where, found, &needs->needs_payload);
    needs->effects++;
    table_make(where, found, &sample->table, sizeof(Sampled), sample->every_ms ? sample->every_ms : DAY_MS, USUAL_KEYS);
}

static Fate run_sample(void *settings, Message *message) {
    Sample *sample = settings;
    if (message->is_answer) return GO_ON;
    Sampled *sampled = table_value(&sample->table, by_key(&sample->by, message), message->now_ms);
    bool passes = sample->every_ms ? has_passed(sampled->last_ms, sample->every_ms, message->now_ms)
                                   : sampled->count % sample->one_in == 0;
    if (sample->every_ms && !passes) return DROPPED;
    sampled->count = (sampled->count + 1) % sample->one_in;
    sampled->last_ms = message->now_ms;
    table_changed(&sample->table, sampled);
    return passes ? GO_ON : DROPPED;
}

const StepKind STEP_SAMPLE = {"sample", "one_in every by keys", sizeof(Sample), read_sample, run_sample};

/* ---- deadband ---- */

typedef struct {
    Path path;
    double change, percent; /* the one that is not configured is 0 */
    uint64_t at_most_ms, at_least_ms;
    By by;
    Table table;
} Deadband;

typedef struct {
    double value;
    uint64_t last_ms; /* 0: nothing has passed yet */
} Passed;

static double read_positive(const Where *where, const Node *object, const char *name) {
    Where here = {where, name, 0};
    const Node *found = member(object, name);
    if (!found) return 0;
    double value = found->type == TYPE_NUMBER ? number_double(found->text) : 0;
    if (!(value > 0)) refuse(&here, found, "is not a number above 0");
    return value;
}

static void read_deadband(const Where *where, const Node *found, void *settings, Needs *needs) {
    Deadband *deadband = settings;
    Where here = {where, "path", 0};
    bool change = member(found, "change"), percent = member(found, "percent");
    if (change == percent) fail(where, NULL, "needs either change or percent");
    deadband->path = path_read(&here, member(found, "path"));
    deadband->change = read_positive(where, found, "change");
    deadband->percent = read_positive(where, found, "percent");
    deadband->at_most_ms = read_duration(where, found, "at_most_every", false);
    deadband->at_least_ms = read_duration(where, found, "at_least_every", false);
    deadband->by = by_read(where, found, &needs->needs_payload);
    needs->needs_payload = true;
    needs->effects++;
    table_make(where, found, &deadband->table, sizeof(Passed), 30 * DAY_MS, USUAL_KEYS);
}

static double size_of(double number) { return number < 0 ? -number : number; }

/* A hair less than the change is the change: 0.3 - 0.2 is below 0.1 in binary fractions. */
static bool has_changed(const Deadband *deadband, double from, double to) {
    double least = deadband->change > 0 ? deadband->change : size_of(from) * deadband->percent / 100;
    double change = size_of(to - from);
    return change > 0 && change >= least * (1 - 1e-9);
}

/* A value that is no number cannot be compared: it passes, and so does what comes without one. */
static Fate run_deadband(void *settings, Message *message) {
    Deadband *deadband = settings;
    if (message->is_answer) return GO_ON;
    Node *node = path_first(&deadband->path, message->root);
    if (!node || node->type != TYPE_NUMBER) return GO_ON;
    double value = number_double(node_text(node));
    Passed *passed = table_value(&deadband->table, by_key(&deadband->by, message), message->now_ms);
    bool first = passed->last_ms == 0;
    bool due = deadband->at_least_ms && has_passed(passed->last_ms, deadband->at_least_ms, message->now_ms);
    bool early = deadband->at_most_ms && !has_passed(passed->last_ms, deadband->at_most_ms, message->now_ms);
    bool passes = first || due || (!early && has_changed(deadband, passed->value, value));
    if (!passes) return DROPPED;
    *passed = (Passed){value, message->now_ms};
    table_changed(&deadband->table, passed);
    return GO_ON;
}

const StepKind STEP_DEADBAND = {"deadband", "path change percent at_most_every at_least_every by keys",
                                sizeof(Deadband), read_deadband, run_deadband};

/* ---- limit ---- */

typedef struct {
    uint64_t interval_ns; /* between messages, at the limit */
    uint64_t per_ns;
    By by;
    Table table;
} Limit;

/* The time up to which the messages so far have used the rate, nanoseconds: the generic cell rate algorithm. */
typedef struct {
    uint64_t used_ns;
} Used;

static void read_limit(const Where *where, const Node *found, void *settings, Needs *needs) {
    Limit *limit = settings;
    uint32_t messages = read_whole(where, found, "messages", 1, 1000000, REQUIRED);
    uint64_t per_ms = read_duration(where, found, "per", true);
    limit->per_ns = per_ms * 1000000;
    limit->interval_ns = limit->per_ns / messages;
    limit->by = by_read(where, found, &needs->needs_payload);
    needs->effects++;
    table_make(where, found, &limit->table, sizeof(Used), per_ms ? per_ms : 1, USUAL_KEYS);
}

/* More used than there can be: the clock has been set back, and the limit begins anew. */
static Fate run_limit(void *settings, Message *message) {
    Limit *limit = settings;
    if (message->is_answer) return GO_ON;
    Used *used = table_value(&limit->table, by_key(&limit->by, message), message->now_ms);
    uint64_t now = message->request->now_ns, from = used->used_ns;
    if (from < now || from > now + limit->per_ns) from = now;
    if (from + limit->interval_ns > now + limit->per_ns) return DROPPED;
    used->used_ns = from + limit->interval_ns;
    table_changed(&limit->table, used);
    return GO_ON;
}

const StepKind STEP_LIMIT = {"limit", "messages per by keys", sizeof(Limit), read_limit, run_limit};

/* ---- unique ---- */

typedef struct {
    uint64_t within_ms;
    Paths paths; /* none: the whole payload */
    By by;
    Table table;
} Unique;

typedef struct {
    uint64_t last_ms; /* 0: never */
} Seen;

static void read_unique(const Where *where, const Node *found, void *settings, Needs *needs) {
    Unique *unique = settings;
    unique->within_ms = read_duration(where, found, "within", true);
    if (member(found, "path") || member(found, "paths")) {
        unique->paths = paths_read(where, found, false);
        needs->needs_payload = true;
    }
    unique->by = by_read(where, found, &needs->needs_payload);
    needs->effects++;
    table_make(where, found, &unique->table, sizeof(Seen), unique->within_ms, USUAL_KEYS);
}

typedef struct {
    Sha256 sha;
    bool any;
} Hashed;

static bool hash_value(Node *node, void *context) {
    Hashed *hashed = context;
    Leaf value = node_leaf(node);
    uint8_t type = (uint8_t)value.type;
    sha256_add(&hashed->sha, &type, 1);
    sha256_add(&hashed->sha, (const uint8_t *)&value.text.length, 4);
    sha256_add(&hashed->sha, value.text.at, value.text.length);
    hashed->any = true;
    return false;
}

/* The digest of what is to be the same, and what it is told apart by; false where there is nothing to compare. */
static bool unique_key(const Unique *unique, const Message *message, uint8_t digest[SHA256_SIZE]) {
    Hashed hashed = {.any = !unique->paths.count};
    sha256_begin(&hashed.sha);
    for (uint32_t i = 0; i < unique->paths.count; i++) {
        sha256_add(&hashed.sha, (const uint8_t[]){TYPE_OTHER}, 1);
        path_visit(&unique->paths.first[i], message->root, hash_value, &hashed);
    }
    Span payload = unique->paths.count ? (Span){0} : message_payload(message), by = by_key(&unique->by, message);
    sha256_add(&hashed.sha, (const uint8_t *)&payload.length, 4);
    sha256_add(&hashed.sha, payload.at, payload.length);
    sha256_add(&hashed.sha, by.at, by.length);
    sha256_end(&hashed.sha, digest);
    return hashed.any;
}

static Fate run_unique(void *settings, Message *message) {
    Unique *unique = settings;
    uint8_t digest[SHA256_SIZE];
    if (message->is_answer || message->payload.length == 0 || !unique_key(unique, message, digest)) return GO_ON;
    Seen *seen = table_value(&unique->table, (Span){digest, SHA256_SIZE}, message->now_ms);
    if (seen->last_ms && !has_passed(seen->last_ms, unique->within_ms, message->now_ms)) return DROPPED;
    seen->last_ms = message->now_ms;
    table_changed(&unique->table, seen);
    return GO_ON;
}

const StepKind STEP_UNIQUE = {"unique", "within path paths by keys", sizeof(Unique), read_unique, run_unique};
