/* The interface geomq-plugin-1 for plugins written in C: the frames of docs/plugins.md as structs, an
 * allocator that fits a module called one batch at a time, and a builder for the result frame.
 *
 * No C library is needed. In exactly one source file, define GEOMQ_PLUGIN_IMPLEMENTATION before including
 * this header:
 *
 *   zig cc -target wasm32-freestanding -mcpu=mvp+bulk_memory -O2 -nostdlib -Wl,--no-entry \
 *       -Wl,--export-memory plugin.c -o plugin.wasm
 *
 * filter.c, mask.c and aggregate.c are complete plugins; geomq_json.h helps with JSON and state. */
#ifndef GEOMQ_PLUGIN_H
#define GEOMQ_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GEOMQ_EXPORT(name) __attribute__((export_name(#name), visibility("default")))

#define GEOMQ_REQUEST_MAGIC 0x31514D47u
#define GEOMQ_RESULT_MAGIC 0x31524D47u
#define GEOMQ_NO_MESSAGE 0xFFFFFFFFu

enum { GEOMQ_STAGE_UNKNOWN = 0, GEOMQ_INGRESS = 1, GEOMQ_EGRESS = 2, GEOMQ_STORE_STAGE = 4 };
enum { GEOMQ_ANSWER = 1 }; /* a flag of an entry: see geomq_is_answer */
enum { GEOMQ_PASS = 0, GEOMQ_DROP = 1, GEOMQ_REPLACE = 2, GEOMQ_REJECT = 3 };
enum {
    GEOMQ_CHANGED_TOPIC = 1,
    GEOMQ_CHANGED_PAYLOAD = 2,
    GEOMQ_CHANGED_PROPERTIES = 4,
    GEOMQ_CHANGED_QOS = 8,
    GEOMQ_CHANGED_RETAIN = 16
};
enum {
    GEOMQ_EMIT = 1,
    GEOMQ_STORE = 2,
    GEOMQ_STATE_PUT = 3,
    GEOMQ_METRIC = 4,
    GEOMQ_LOG = 5,
    GEOMQ_ALERT = 6
};

/* A field of a frame: where it begins, counted from the frame's start, and how long it is. */
typedef struct {
    uint32_t offset;
    uint32_t length;
} GeomqField;

typedef struct {
    uint32_t magic;
    uint32_t count;
    uint64_t now_ns; /* wall clock, nanoseconds since 1970 */
    uint64_t batch;
    uint32_t entries; /* offset of the entry table */
    uint32_t stage;
    uint32_t entry_size; /* what geomq_entry steps by: later hosts may append fields */
    int32_t utc_offset;  /* the node's local time at `now_ns`, seconds east of UTC */
    GeomqField node;
    GeomqField region;
} GeomqRequest;

typedef struct {
    GeomqField topic;
    GeomqField payload;
    GeomqField properties;
    GeomqField client;
    uint8_t qos;
    uint8_t retain;
    uint16_t flags;
    uint32_t reserved;
    GeomqField user; /* empty for anonymous clients and messages of the node's own */
} GeomqEntry;

typedef struct {
    uint32_t magic;
    uint32_t count;
    uint32_t verdicts; /* offset */
    uint32_t change_count;
    uint32_t changes; /* offset */
    uint32_t effect_count;
    uint32_t effects; /* offset */
    uint32_t reserved;
} GeomqResult;

typedef struct {
    uint32_t index;
    uint32_t what; /* a sum of GEOMQ_CHANGED_... */
    GeomqField topic;
    GeomqField payload;
    GeomqField properties;
    uint8_t qos;
    uint8_t retain;
    uint8_t reserved[6];
} GeomqChange;

typedef struct {
    uint32_t kind;
    uint32_t index; /* of the message it belongs to, or GEOMQ_NO_MESSAGE */
    GeomqField first;
    GeomqField second;
    uint64_t number; /* QoS + 4 x retain, a lifetime in milliseconds, or the bits of an f64 */
} GeomqEffect;

_Static_assert(sizeof(GeomqRequest) == 56, "request header");
_Static_assert(sizeof(GeomqEntry) == 48, "request entry");
_Static_assert(sizeof(GeomqResult) == 32, "result header");
_Static_assert(sizeof(GeomqChange) == 40, "changed record");
_Static_assert(sizeof(GeomqEffect) == 32, "effect");

/* The module's only permitted import: the length of a stored value (written to `out` only if it fits into
 * `capacity`), or -1 where there is none. A plugin that does not call it does not import it. */
__attribute__((import_module("geomq"), import_name("state_get"))) int32_t geomq_state_get(const void *key,
    uint32_t key_length, void *out, uint32_t capacity);

/* How many messages a tick may add, or one message of a batch: the entry's `limits.emits`, known from geomq_init on. */
extern uint32_t geomq_most_emits;

/* ---- reading a request ---- */

static inline const GeomqEntry *geomq_entry(const GeomqRequest *request, uint32_t index) {
    return (const GeomqEntry *)((const uint8_t *)request + request->entries + index * request->entry_size);
}

static inline const uint8_t *geomq_bytes(const void *frame, GeomqField field) {
    return (const uint8_t *)frame + field.offset;
}

/* Whether a message was published before, and is told now to a node that asks for it (the history; retained messages).
 * A plugin does to it what it does to any, and neither counts it nor compares it with what it remembers. */
static inline bool geomq_is_answer(const GeomqEntry *entry) { return entry->flags & GEOMQ_ANSWER; }

/* ---- memory ----
 * One arena. What a batch takes is given back as a whole when the next batch arrives (geomq_alloc); what
 * was taken before geomq_keep() stays for the module's life. When there is no more memory, the calls trap:
 * the host discards the instance and applies nothing. */

/* Room for `size` bytes, 8-byte aligned, not cleared. */
void *geomq_take(uint32_t size);

/* Copy bytes to the arena's end, right behind what was appended last; returns where they stand. */
uint8_t *geomq_append(const void *bytes, uint32_t length);

/* Room for `size` bytes beyond the arena's end that the next call of any of these functions reuses. */
uint8_t *geomq_scratch(uint32_t size);

/* The arena's end, and going back to an earlier one. */
uint8_t *geomq_mark(void);
void geomq_release(uint8_t *mark);

/* Everything taken so far, the configuration's text included, stays. */
void geomq_keep(void);

/* Give back what was not kept. Only geomq_tick needs it: before a batch, geomq_alloc does it. */
void geomq_reset(void);

/* ---- building a result ---- */

typedef struct {
    GeomqResult *frame;
    uint8_t *verdicts;
    GeomqChange *changes;
    GeomqEffect *effects;
    uint32_t effect_room;
    bool dropped;
} GeomqBuilder;

/* A result in which every one of `count` messages passes, with room for `effects` effects. */
GeomqBuilder geomq_begin(uint32_t count, uint32_t effects);

void geomq_drop(GeomqBuilder *builder, uint32_t index);

/* Drop a message that the plugin cannot work on: the entry's dead letters get it. An effect GEOMQ_LOG of this
 * message says why, in its second field: geomq_reject_because in geomq_json.h does both. */
void geomq_reject(GeomqBuilder *builder, uint32_t index);

/* The changed record of a message, empty; call it in ascending order of index, once for each. */
GeomqChange *geomq_replace(GeomqBuilder *builder, uint32_t index);

/* An effect, empty; traps when there are more than geomq_begin was told. */
GeomqEffect *geomq_effect(GeomqBuilder *builder, uint32_t kind, uint32_t index);

/* The field for bytes that geomq_append has put behind the frame. */
GeomqField geomq_field(const GeomqBuilder *builder, const void *bytes, uint32_t length);

/* What geomq_process returns; 0 when all messages pass and there are no effects. */
int64_t geomq_end(GeomqBuilder *builder);

#endif

#ifdef GEOMQ_PLUGIN_IMPLEMENTATION
#undef GEOMQ_PLUGIN_IMPLEMENTATION

#define GEOMQ_PAGE 65536u
#define GEOMQ_GROWTH 16u /* pages asked for at a time, if they can be had */

GEOMQ_EXPORT(geomq_abi) int32_t geomq_abi(void) { return 1; }

uint32_t geomq_most_emits = 1000; /* for hosts that do not tell */

GEOMQ_EXPORT(geomq_emits) void geomq_emits(uint32_t most) { geomq_most_emits = most; }

extern uint8_t __heap_base;

static uint8_t *geomq_kept = &__heap_base, *geomq_top = &__heap_base;

static bool geomq_room(const uint8_t *from, uint32_t size) {
    uint32_t have = __builtin_wasm_memory_size(0);
    uint32_t need = (uint32_t)(((uint64_t)(uintptr_t)from + size + GEOMQ_PAGE - 1) / GEOMQ_PAGE);
    if (need <= have) return true;
    return __builtin_wasm_memory_grow(0, need - have + GEOMQ_GROWTH) != SIZE_MAX ||
           __builtin_wasm_memory_grow(0, need - have) != SIZE_MAX;
}

static uint8_t *geomq_aligned(uint8_t *address) { return (uint8_t *)(((uintptr_t)address + 7) & ~(uintptr_t)7); }

GEOMQ_EXPORT(geomq_alloc) void *geomq_alloc(uint32_t size) {
    geomq_reset();
    if (!geomq_room(geomq_top, size)) return NULL;
    uint8_t *block = geomq_top;
    geomq_top += size;
    return block;
}

void *geomq_take(uint32_t size) {
    uint8_t *start = geomq_aligned(geomq_top);
    if (!geomq_room(start, size)) __builtin_trap();
    geomq_top = start + size;
    return start;
}

uint8_t *geomq_append(const void *bytes, uint32_t length) {
    uint8_t *copy = geomq_scratch(length);
    __builtin_memcpy(copy, bytes, length);
    geomq_top += length;
    return copy;
}

uint8_t *geomq_scratch(uint32_t size) {
    if (!geomq_room(geomq_top, size)) __builtin_trap();
    return geomq_top;
}

uint8_t *geomq_mark(void) { return geomq_top; }

void geomq_release(uint8_t *mark) { geomq_top = mark; }

void geomq_keep(void) { geomq_kept = geomq_top; }

void geomq_reset(void) {
    geomq_top = geomq_aligned(geomq_kept);
}

/* How many are needed is known only at the end, so changes and effects wait in front of the frame. */
GeomqBuilder geomq_begin(uint32_t count, uint32_t effects) {
    GeomqBuilder builder = {0};
    if (count > UINT32_MAX / sizeof(GeomqChange) || effects > UINT32_MAX / sizeof(GeomqEffect)) __builtin_trap();
    builder.changes = geomq_take(count * sizeof(GeomqChange));
    builder.effects = geomq_take(effects * sizeof(GeomqEffect));
    builder.effect_room = effects;
    builder.frame = geomq_take(sizeof(GeomqResult));
    builder.verdicts = geomq_take(count);
    __builtin_memset(builder.verdicts, GEOMQ_PASS, count);
    *builder.frame = (GeomqResult){
        .magic = GEOMQ_RESULT_MAGIC, .count = count, .verdicts = sizeof(GeomqResult)};
    return builder;
}

void geomq_drop(GeomqBuilder *builder, uint32_t index) {
    builder->verdicts[index] = GEOMQ_DROP;
    builder->dropped = true;
}

void geomq_reject(GeomqBuilder *builder, uint32_t index) {
    builder->verdicts[index] = GEOMQ_REJECT;
    builder->dropped = true;
}

GeomqChange *geomq_replace(GeomqBuilder *builder, uint32_t index) {
    GeomqChange *change = &builder->changes[builder->frame->change_count++];
    *change = (GeomqChange){.index = index};
    builder->verdicts[index] = GEOMQ_REPLACE;
    return change;
}

GeomqEffect *geomq_effect(GeomqBuilder *builder, uint32_t kind, uint32_t index) {
    if (builder->frame->effect_count == builder->effect_room) __builtin_trap();
    GeomqEffect *effect = &builder->effects[builder->frame->effect_count++];
    *effect = (GeomqEffect){.kind = kind, .index = index};
    return effect;
}

GeomqField geomq_field(const GeomqBuilder *builder, const void *bytes, uint32_t length) {
    return (GeomqField){(uint32_t)((const uint8_t *)bytes - (const uint8_t *)builder->frame), length};
}

static uint32_t geomq_place(GeomqBuilder *builder, const void *table, uint32_t size) {
    void *copy = geomq_take(size);
    __builtin_memcpy(copy, table, size);
    return geomq_field(builder, copy, size).offset;
}

int64_t geomq_end(GeomqBuilder *builder) {
    GeomqResult *frame = builder->frame;
    if (!builder->dropped && frame->change_count == 0 && frame->effect_count == 0) return 0;
    frame->changes = geomq_place(builder, builder->changes, frame->change_count * sizeof(GeomqChange));
    frame->effects = geomq_place(builder, builder->effects, frame->effect_count * sizeof(GeomqEffect));
    uint32_t length = (uint32_t)(geomq_top - (uint8_t *)frame);
    return (int64_t)((uint64_t)(uintptr_t)frame << 32 | length);
}

/* A compiler may call these three for what it cannot do in line. */
#define GEOMQ_RUNTIME __attribute__((weak, used, no_builtin))

GEOMQ_RUNTIME void *memcpy(void *restrict to, const void *restrict from, size_t length) {
    for (size_t i = 0; i < length; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

GEOMQ_RUNTIME void *memset(void *to, int value, size_t length) {
    for (size_t i = 0; i < length; i++) ((uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

GEOMQ_RUNTIME void *memmove(void *to, const void *from, size_t length) {
    uint8_t *target = to;
    const uint8_t *source = from;
    if (target < source) {
        for (size_t i = 0; i < length; i++) target[i] = source[i];
    } else {
        while (length--) target[length] = source[length];
    }
    return to;
}

GEOMQ_RUNTIME int memcmp(const void *a, const void *b, size_t length) {
    const uint8_t *left = a, *right = b;
    for (; length; length--, left++, right++) {
        if (*left != *right) return *left < *right ? -1 : 1;
    }
    return 0;
}

#endif
