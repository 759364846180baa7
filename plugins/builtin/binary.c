#include "binary.h"

#include "../sdk/c/geomq_plugin.h"
#include "number.h"

uint64_t read_big_endian(const uint8_t *at, uint32_t size) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++) value = value << 8 | at[i];
    return value;
}

void append_big_endian(uint64_t value, uint32_t size) {
    uint8_t bytes[8];
    for (uint32_t i = size; i-- > 0; value >>= 8) bytes[i] = (uint8_t)value;
    geomq_append(bytes, size);
}

void append_byte(uint8_t byte) { geomq_append(&byte, 1); }

double double_of(uint64_t bits) {
    double number;
    __builtin_memcpy(&number, &bits, sizeof number);
    return number;
}

float single_of(uint32_t bits) {
    float number;
    __builtin_memcpy(&number, &bits, sizeof number);
    return number;
}

/* ---- numbers as text ---- */

static Span keep(const uint8_t *text, uint32_t length) { return (Span){geomq_append(text, length), length}; }

Span whole_text(uint64_t value) {
    uint8_t text[NUMBER_ROOM];
    return keep(text, number_write_whole(value, text));
}

Span negative_text(uint64_t below) {
    uint8_t text[NUMBER_ROOM] = {'-'};
    if (below == UINT64_MAX) return SPAN("-18446744073709551616");
    return keep(text, 1 + number_write_whole(below + 1, text + 1));
}

Span double_text(double number) {
    uint8_t text[NUMBER_ROOM];
    return keep(text, number_write(number, text));
}

Span single_text(float number) {
    uint8_t text[NUMBER_ROOM];
    return keep(text, number_write_single(number, text));
}

bool is_whole(Span text, bool *negative, uint64_t *size) {
    const uint8_t *at = text.at, *end = span_end(text);
    uint64_t value = 0;
    *negative = at < end && *at == '-';
    for (at += *negative; at < end; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    if (*negative && value == 0) *negative = false;
    *size = *negative ? value - 1 : value;
    return true;
}

void append_double(uint8_t head, Span text) {
    double number = number_double(text);
    uint64_t bits;
    __builtin_memcpy(&bits, &number, sizeof bits);
    append_byte(head);
    append_big_endian(bits, 8);
}

void append_single(uint8_t head, Span text) {
    float number = number_single(text);
    uint32_t bits;
    __builtin_memcpy(&bits, &number, sizeof bits);
    append_byte(head);
    append_big_endian(bits, 4);
}

/* ---- writing ---- */

static Span unchanged; /* a stretch of the payload that is still to be copied */

static void flush(void) {
    geomq_append(unchanged.at, unchanged.length);
    unchanged = (Span){0};
}

static void copy(Span bytes) {
    if (bytes.at != span_end(unchanged)) {
        flush();
        unchanged = bytes;
    } else {
        unchanged.length += bytes.length;
    }
}

static uint32_t count_children(const Node *node) {
    uint32_t count = 0;
    for (const Node *child = node->first; child; child = child->next) count += is_there(child);
    return count;
}

static void write_node(const Node *node, const Encoding *encoding);

/* A member's name stands before its value, byte for byte as it was. */
static void write_child(const Node *child, bool is_member, const Encoding *encoding) {
    if (is_member && child->state == NODE_ADDED) {
        flush();
        encoding->leaf((Leaf){TYPE_STRING, child->key}, NULL);
    } else if (is_member) {
        copy(span(child->start, child->raw.at));
    }
    write_node(child, encoding);
}

static void write_node(const Node *node, const Encoding *encoding) {
    if (!node->touched) {
        copy(node->raw);
        return;
    }
    flush();
    if (is_scalar(node)) {
        encoding->leaf((Leaf){(Type)node->type, node->text}, node);
        return;
    }
    encoding->begin(node, count_children(node));
    for (const Node *child = node->first; child; child = child->next) {
        if (is_there(child)) write_child(child, node->type == TYPE_OBJECT, encoding);
    }
    flush();
    encoding->end(node);
}

void binary_write(const Node *root, const Encoding *encoding) {
    write_node(root, encoding);
    flush();
}
