#include "state.h"

#include "sha256.h"

#define MOST_BYTES (8u << 20) /* of all tables together */

static Table *tables;
static uint32_t tables_bytes;

/* ---- making ---- */

/* Steps that are configured alike remember alike; of several in one configuration, each has its number. */
static void identify(Table *table, Span step) {
    uint8_t digest[SHA256_SIZE];
    sha256(step.at, step.length, digest);
    __builtin_memcpy(table->identity, digest, sizeof table->identity);
    for (const Table *other = tables; other; other = other->next) {
        if (same((Span){other->identity + 1, 7}, (Span){table->identity + 1, 7})) table->identity[0]++;
    }
}

void table_make(const Where *where, const Node *step, Table *table, uint32_t value_size, uint64_t lifetime_ms,
                uint32_t usual_keys) {
    table->value_size = value_size;
    table->lifetime_ms = lifetime_ms;
    table->capacity = read_whole(where, step, "keys", 1, 65536, usual_keys);
    uint32_t bytes = table->capacity * slot_size(table);
    if (bytes > MOST_BYTES || tables_bytes + bytes > MOST_BYTES) {
        fail(where, NULL, "keys: all steps together would remember more than 8 MiB");
        return;
    }
    tables_bytes += bytes;
    identify(table, step->raw);
    table->slots = geomq_take(bytes);
    for (table->bucket_count = 16; table->bucket_count < table->capacity;) table->bucket_count *= 2;
    table->buckets = geomq_take(table->bucket_count * sizeof(Slot *));
    __builtin_memset(table->buckets, 0, table->bucket_count * sizeof(Slot *));
    table->next = tables;
    tables = table;
}

/* ---- keys ---- */

static uint32_t hash_of(Span key) {
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < key.length; i++) hash = (hash ^ key.at[i]) * 16777619u;
    return hash ^ hash >> 15;
}

/* A key that fits; its first byte tells it from a digest. */
static Span shorten(Span key, uint8_t out[KEY_SIZE]) {
    bool fits = key.length < KEY_SIZE;
    out[0] = fits ? 0 : 1;
    if (fits) __builtin_memcpy(out + 1, key.at, key.length);
    else sha256(key.at, key.length, out + 1);
    return (Span){out, 1 + (fits ? key.length : SHA256_SIZE)};
}

static Span slot_key(const Slot *slot) { return (Span){slot->key, slot->key_length}; }

static Slot **bucket_of(Table *table, uint32_t hash) { return &table->buckets[hash & (table->bucket_count - 1)]; }

/* ---- which was used last ---- */

static void unlink_slot(Table *table, Slot *slot) {
    *(slot->newer ? &slot->newer->older : &table->newest) = slot->older;
    *(slot->older ? &slot->older->newer : &table->oldest) = slot->newer;
}

static void make_newest(Table *table, Slot *slot) {
    slot->newer = NULL;
    slot->older = table->newest;
    *(table->newest ? &table->newest->newer : &table->oldest) = slot;
    table->newest = slot;
}

/* ---- slots ---- */

static Slot *find(Table *table, Span key, uint32_t hash) {
    for (Slot *slot = *bucket_of(table, hash); slot; slot = slot->chained) {
        if (slot->hash == hash && same(slot_key(slot), key)) return slot;
    }
    return NULL;
}

/* One that has changed in this batch goes last: it is not at the host yet. */
Slot *table_victim(const Table *table) {
    if (table->used < table->capacity) return NULL;
    for (Slot *slot = table->oldest; slot; slot = slot->newer) {
        if (!slot->is_changed) return slot;
    }
    return table->oldest;
}

static void forget_change(Table *table, Slot *slot) {
    Slot **link = &table->changed;
    while (*link != slot) link = &(*link)->changed;
    *link = slot->changed;
}

static void leave_bucket(Table *table, Slot *slot) {
    Slot **link = bucket_of(table, slot->hash);
    while (*link != slot) link = &(*link)->chained;
    *link = slot->chained;
}

static Slot *take_victim(Table *table, uint64_t now_ms) {
    Slot *slot = table_victim(table);
    leave_bucket(table, slot);
    unlink_slot(table, slot);
    if (slot->is_changed) forget_change(table, slot);
    if (table->asked_until < now_ms + table->lifetime_ms) table->asked_until = now_ms + table->lifetime_ms;
    return slot;
}

static Slot *new_slot(Table *table, uint64_t now_ms) {
    if (table->used == table->capacity) return take_victim(table, now_ms);
    return table_slot(table, table->used++);
}

/* ---- the host ---- */

#define HOST_KEY_SIZE (8 + KEY_SIZE)

static Span host_key(const Table *table, Span key, uint8_t out[HOST_KEY_SIZE]) {
    __builtin_memcpy(out, table->identity, 8);
    __builtin_memcpy(out + 8, key.at, key.length);
    return (Span){out, 8 + key.length};
}

/* The host's mark of a table: how many slots it has had in use. A table that it knows nothing of is not asked for, key
 * by key. */
static uint32_t look_for_mark(Table *table, uint64_t now_ms) {
    uint32_t used = 0;
    bool is_marked = geomq_state_get(table->identity, 8, &used, sizeof used) == (int32_t)sizeof used;
    table->asked_until = is_marked ? now_ms + table->lifetime_ms : 1;
    return used < table->capacity ? used : table->capacity;
}

static void fetch(Table *table, Slot *slot, uint64_t now_ms) {
    uint8_t key_room[HOST_KEY_SIZE];
    if (table->asked_until == 0) look_for_mark(table, now_ms);
    if (table->whole || table->asked_until < now_ms) return;
    Span key = host_key(table, slot_key(slot), key_room);
    uint8_t *room = geomq_scratch(table->value_size);
    int32_t length = geomq_state_get(key.at, key.length, room, table->value_size);
    if (length == (int32_t)table->value_size) __builtin_memcpy(slot->value, room, table->value_size);
}

static Slot *add_slot(Table *table, Slot *slot, Span key, uint32_t hash) {
    *slot = (Slot){.chained = *bucket_of(table, hash), .hash = hash, .key_length = (uint8_t)key.length};
    __builtin_memcpy(slot->key, key.at, key.length);
    __builtin_memset(slot->value, 0, table->value_size);
    *bucket_of(table, hash) = slot;
    make_newest(table, slot);
    return slot;
}

/* ---- tables that are whole ---- */

static Span index_key(const Table *table, uint32_t index, uint8_t out[HOST_KEY_SIZE]) {
    return host_key(table, (Span){(const uint8_t *)&index, sizeof index}, out);
}

/* What the host keeps of a slot: the key and the value, as they stand in it. */
static Span slot_record(const Table *table, const Slot *slot) {
    return span(&slot->key_length, (const uint8_t *)slot->value + table->value_size);
}

/* Slots keep their place: one that the host does not have becomes that of an empty key, which nobody has. */
void table_restore(Table *table, uint64_t now_ms) {
    if (table->asked_until) return;
    uint32_t used = look_for_mark(table, now_ms);
    for (uint32_t i = 0; i < used; i++) {
        uint8_t key_room[HOST_KEY_SIZE];
        Slot *slot = table_slot(table, i);
        Span record = slot_record(table, slot), key = index_key(table, i, key_room);
        uint8_t *room = geomq_scratch(record.length);
        if (geomq_state_get(key.at, key.length, room, record.length) != (int32_t)record.length) continue;
        while (table->used < i) add_slot(table, table_slot(table, table->used++), (Span){0}, 0);
        Span kept = {room + 1, room[0] <= KEY_SIZE ? room[0] : 0};
        add_slot(table, slot, kept, hash_of(kept));
        __builtin_memcpy(slot->value, room + record.length - table->value_size, table->value_size);
        table->used = i + 1;
    }
}

bool table_has(Table *table, Span key, uint64_t now_ms) {
    uint8_t room[KEY_SIZE];
    if (table->whole) table_restore(table, now_ms);
    key = shorten(key, room);
    return find(table, key, hash_of(key)) != NULL;
}

/* ---- values ---- */

void *table_value(Table *table, Span key, uint64_t now_ms) {
    uint8_t room[KEY_SIZE];
    if (table->whole) table_restore(table, now_ms);
    key = shorten(key, room);
    uint32_t hash = hash_of(key);
    Slot *slot = find(table, key, hash);
    if (slot) {
        unlink_slot(table, slot);
        make_newest(table, slot);
    } else {
        slot = add_slot(table, new_slot(table, now_ms), key, hash);
        fetch(table, slot, now_ms);
    }
    return slot->value;
}

static Slot *slot_of(void *value) { return (Slot *)((uint8_t *)value - offsetof(Slot, value)); }

void table_changed(Table *table, void *value) {
    Slot *slot = slot_of(value);
    if (slot->is_changed) return;
    slot->is_changed = true;
    slot->changed = table->changed;
    table->changed = slot;
}

void table_set_aside(Table *table, void *value) {
    Slot *slot = slot_of(value);
    leave_bucket(table, slot);
    slot->hash = 0;
    slot->key_length = 0;
    slot->chained = *bucket_of(table, slot->hash);
    *bucket_of(table, slot->hash) = slot;
    table_changed(table, value);
}

void table_make_oldest(Table *table, void *value) {
    Slot *slot = slot_of(value);
    unlink_slot(table, slot);
    slot->newer = table->oldest;
    slot->older = NULL;
    *(table->oldest ? &table->oldest->older : &table->newest) = slot;
    table->oldest = slot;
}

/* ---- the end of a batch ---- */

uint32_t table_count(void) {
    uint32_t count = 0;
    for (const Table *table = tables; table; table = table->next) count++;
    return count;
}

static void put(GeomqBuilder *result, Span key, Span value, uint64_t lifetime_ms) {
    GeomqEffect *effect = geomq_effect(result, GEOMQ_STATE_PUT, GEOMQ_NO_MESSAGE);
    effect->first = geomq_field(result, geomq_append(key.at, key.length), key.length);
    effect->second = geomq_field(result, geomq_append(value.at, value.length), value.length);
    effect->number = lifetime_ms;
}

static void table_put(Table *table, GeomqBuilder *result) {
    uint8_t room[HOST_KEY_SIZE];
    if (!table->changed) return;
    for (Slot *slot = table->changed; slot; slot = slot->changed) {
        Span value = {(const uint8_t *)slot->value, table->value_size};
        uint32_t index = (uint32_t)((const uint8_t *)slot - table->slots) / slot_size(table);
        Span key = table->whole ? index_key(table, index, room) : host_key(table, slot_key(slot), room);
        slot->is_changed = false;
        put(result, key, table->whole ? slot_record(table, slot) : value, table->lifetime_ms);
    }
    table->changed = NULL;
    /* Last and every time, so that a host that is full forgets it last. */
    put(result, (Span){table->identity, 8}, (Span){(const uint8_t *)&table->used, 4}, table->lifetime_ms);
}

void tables_put(GeomqBuilder *result) {
    for (Table *table = tables; table; table = table->next) table_put(table, result);
}
