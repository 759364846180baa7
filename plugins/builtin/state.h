/* What steps remember: bounded tables of values by key, in the module's memory. What changes in a batch is put to the
 * host with it; a key that the table does not have is asked for there, as long as the host may have it: so that
 * nothing is forgotten over a trap, a reload or a restart. */
#ifndef RULES_STATE_H
#define RULES_STATE_H

#include "../sdk/c/geomq_plugin.h"
#include "settings.h"

#define KEY_SIZE 48 /* longer keys are remembered by their SHA-256 */

typedef struct Slot {
    struct Slot *chained; /* the next in the bucket */
    struct Slot *newer, *older;
    struct Slot *changed; /* the next of those that have changed in this batch */
    uint32_t hash;
    bool is_changed;
    uint8_t key_length; /* from here on it is what the host keeps of a table that is whole */
    uint8_t key[KEY_SIZE];
    uint64_t value[]; /* of the table's value_size */
} Slot;

typedef struct Table {
    uint8_t identity[8];  /* of the step, the first bytes of its keys at the host */
    uint64_t lifetime_ms; /* of a value at the host, from its last change on */
    uint64_t asked_until; /* up to when the host may have what the table does not have */
    bool whole;           /* the host has it slot by slot, and all of them are fetched at once: so that a key that
                             does not come again is known, too */
    uint32_t capacity, used, value_size;
    uint8_t *slots;
    Slot **buckets;
    uint32_t bucket_count; /* a power of two */
    Slot *newest, *oldest, *changed;
    struct Table *next;
} Table;

/* Make the table of a step; `step` is its configuration. The member `keys` says how many keys it has room for. */
void table_make(const Where *where, const Node *step, Table *table, uint32_t value_size, uint64_t lifetime_ms,
                uint32_t usual_keys);

/* The value for a key, made the newest: all zeroes where there is none. Where the table is full, the slot of the one
 * that was used longest ago is taken. */
void *table_value(Table *table, Span key, uint64_t now_ms);

/* The slot to be taken for the next new key if it is in use, NULL if there is room. */
Slot *table_victim(const Table *table);

/* Whether the table has a key, which the host may have. */
bool table_has(Table *table, Span key, uint64_t now_ms);

/* Fetch a table that is whole, if that has not been done yet. */
void table_restore(Table *table, uint64_t now_ms);

static inline uint32_t slot_size(const Table *table) { return (uint32_t)sizeof(Slot) + ((table->value_size + 7) & ~7u); }

static inline Slot *table_slot(const Table *table, uint32_t index) {
    return (Slot *)(table->slots + index * slot_size(table));
}

/* That a value has changed. */
void table_changed(Table *table, void *value);

/* Take a value from its key, which is new from then on. The value keeps its slot, under an empty key, which nobody
 * has. */
void table_set_aside(Table *table, void *value);

/* That a value is worth nothing any more: its slot is the first to be taken. */
void table_make_oldest(Table *table, void *value);

/* How many effects tables_put may need for a batch: one for each changed value and each table. */
uint32_t table_count(void);

/* Put what has changed to the host. */
void tables_put(GeomqBuilder *result);

#endif
