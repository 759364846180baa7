#include "template.h"

#include "json.h"
#include "match.h"
#include "number.h"
#include "times.h"

typedef enum {
    PIECE_TOPIC,
    PIECE_CLIENT,
    PIECE_USER,
    PIECE_NODE,
    PIECE_REGION,
    PIECE_QOS,
    PIECE_TIME,
    PIECE_TIME_MS,
    PIECE_TEXT,
    PIECE_LEVEL,
    PIECE_PATH
} PieceKind;

/* The words of the first kinds, in their order. */
#define WORDS "topic client user node region qos time time_ms"

#define MAX_PIECES 64 /* of a template: its values are on the stack */

struct Piece {
    PieceKind kind;
    Span text; /* PIECE_TEXT; of the others what stands in the braces */
    uint32_t level;
    Path path;
};

/* ---- reading ---- */

static bool is_word(Span text) {
    for (uint32_t i = 0; i < text.length; i++) {
        uint8_t byte = text.at[i];
        bool letter = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
        if (!letter && byte != '_' && !(byte >= '0' && byte <= '9')) return false;
    }
    return text.length > 0;
}

static const uint8_t *find_byte(const uint8_t *at, const uint8_t *end, uint8_t byte) {
    while (at < end && *at != byte) at++;
    return at;
}

/* Whether a text can be part of a topic: no wildcards, and no {1 or {pth:site}, which were meant to be places. */
static bool is_topical(Span text) {
    for (const uint8_t *at = text.at, *end = span_end(text); at < end; at++) {
        if (*at == '+' || *at == '#') return false;
        if (*at != '{') continue;
        if (find_byte(at, end, '}') == end) return false;
        const uint8_t *colon = find_byte(at, end, ':');
        if (colon < end && is_word(span(at + 1, colon))) return false;
    }
    return true;
}

static bool starts_with(Span text, Span start) {
    return text.length >= start.length && same((Span){text.at, start.length}, start);
}

/* The index of a word of WORDS. */
static bool find_word(Span text, uint32_t *index) {
    const char *at = WORDS;
    for (*index = 0;; ++*index) {
        uint32_t length = 0;
        while (at[length] && at[length] != ' ') length++;
        if (same(text, (Span){(const uint8_t *)at, length})) return true;
        if (!at[length]) return false;
        at += length + 1;
    }
}

static bool find_level(Span text, uint32_t *level) {
    *level = 0;
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || i > 4) return false;
        *level = *level * 10 + text.at[i] - '0';
    }
    return text.length > 0;
}

/* What stands in braces; false if that is no place. */
static bool read_place(const Where *where, Span inside, Span raw, Piece *piece, bool *needs_payload) {
    uint32_t word;
    if (starts_with(inside, SPAN("path:"))) {
        Node path = {.type = TYPE_STRING, .raw = raw, .text = {inside.at + 5, inside.length - 5}};
        *piece = (Piece){.kind = PIECE_PATH, .text = inside, .path = path_read(where, &path)};
        *needs_payload = true;
        return true;
    }
    if (!is_word(inside)) return false;
    *piece = (Piece){.kind = PIECE_LEVEL, .text = inside};
    if (find_level(inside, &piece->level)) return true;
    if (find_word(inside, &word)) piece->kind = (PieceKind)word;
    else if (fail(where, &raw, "has an unknown place in braces; allowed: a topic level's number, path:..., "))
        fail_more(WORDS);
    return true;
}

Template template_read(const Where *where, Span text, Span raw, bool *needs_payload) {
    const uint8_t *end = span_end(text), *start = text.at, *at = start;
    uint32_t room = 1, count = 0;
    for (uint32_t i = 0; i < text.length; i++) room += text.at[i] == '{' ? 2 : 0;
    Piece *pieces = geomq_take(room * sizeof(Piece));
    while ((at = find_byte(at, end, '{')) < end) {
        const uint8_t *close = find_byte(at, end, '}');
        Piece place;
        if (close == end || !read_place(where, span(at + 1, close), raw, &place, needs_payload)) {
            at++;
            continue;
        }
        if (at > start) pieces[count++] = (Piece){.kind = PIECE_TEXT, .text = span(start, at)};
        pieces[count++] = place;
        start = at = close + 1;
    }
    if (end > start) pieces[count++] = (Piece){.kind = PIECE_TEXT, .text = span(start, end)};
    if (count > MAX_PIECES) fail(where, &raw, "has too many places in braces");
    return (Template){pieces, count};
}

Template template_member(const Where *where, const Node *object, const char *name, bool required,
                         bool *needs_payload) {
    Where here = {where, name, 0};
    Span text = read_text(where, object, name, required);
    return text.at ? template_read(&here, text, member(object, name)->raw, needs_payload) : (Template){0};
}

Template template_of_topic(const Where *where, const Node *object, const char *name, bool required,
                           bool *needs_payload) {
    Where here = {where, name, 0};
    Template found = template_member(where, object, name, required, needs_payload);
    for (uint32_t i = 0; i < found.count; i++) {
        if (found.pieces[i].kind != PIECE_TEXT || is_topical(found.pieces[i].text)) continue;
        fail(&here, &member(object, name)->raw, "is to be a topic, with places such as {path:site}");
        break;
    }
    return found;
}

/* ---- writing ---- */

static Span append_number(uint64_t number) {
    uint8_t text[NUMBER_ROOM];
    uint32_t length = number_write_whole(number, text);
    return (Span){geomq_append(text, length), length};
}

static Span append_time(uint64_t now_ms) {
    uint8_t *start = geomq_mark();
    time_write(now_ms);
    return span(start, geomq_mark());
}

static Leaf text_leaf(Span text) { return (Leaf){TYPE_STRING, text}; }

static bool path_value(const Piece *piece, const Message *message, Leaf *value) {
    Node *node = message->root ? path_first(&piece->path, message->root) : NULL;
    if (!node || is_container(node) || node->type == TYPE_OTHER) return false;
    *value = node_leaf(node);
    return value->type != TYPE_BYTES || is_utf8(value->text);
}

static Span field(const Message *message, GeomqField field) {
    return message->request ? (Span){geomq_bytes(message->request, field), field.length} : (Span){0};
}

static bool piece_value(const Piece *piece, const Message *message, Leaf *value) {
    const GeomqRequest *request = message->request;
    switch (piece->kind) {
    case PIECE_PATH: return path_value(piece, message, value);
    case PIECE_TEXT: *value = text_leaf(piece->text); break;
    case PIECE_LEVEL: *value = text_leaf(topic_level(message->topic, piece->level)); break;
    case PIECE_TOPIC: *value = text_leaf(message->topic); break;
    case PIECE_CLIENT: *value = text_leaf(message->client); break;
    case PIECE_USER: *value = text_leaf(message->user); break;
    case PIECE_NODE: *value = text_leaf(field(message, request->node)); break;
    case PIECE_REGION: *value = text_leaf(field(message, request->region)); break;
    case PIECE_QOS: *value = (Leaf){TYPE_NUMBER, append_number(message->qos)}; break;
    case PIECE_TIME: *value = text_leaf(append_time(message->now_ms)); break;
    case PIECE_TIME_MS: *value = (Leaf){TYPE_NUMBER, append_number(message->now_ms)}; break;
    }
    return value->text.at != NULL;
}

/* Some values are made in the arena, so that they are gathered first. */
Span template_write(const Template *template, const Message *message, bool *complete) {
    Span values[MAX_PIECES];
    *complete = true;
    for (uint32_t i = 0; i < template->count; i++) {
        Leaf value = {0};
        if (!piece_value(&template->pieces[i], message, &value)) *complete = false, value = (Leaf){0};
        values[i] = value.text;
    }
    uint8_t *start = geomq_mark();
    for (uint32_t i = 0; i < template->count; i++) geomq_append(values[i].at, values[i].length);
    return span(start, geomq_mark());
}

static bool is_level(Span text) {
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.at[i] == '/' || text.at[i] == '+' || text.at[i] == '#') return false;
    }
    return true;
}

bool template_topic(const Template *template, Message *message, Span *topic) {
    bool complete;
    message->lacking = (Span){0};
    for (uint32_t i = 0; i < template->count; i++) {
        const Piece *piece = &template->pieces[i];
        Leaf value;
        if (piece->kind == PIECE_TEXT || piece->kind == PIECE_TOPIC) continue;
        if (!piece_value(piece, message, &value) || !is_level(value.text)) {
            message->lacking = piece->text;
            return false;
        }
    }
    *topic = template_write(template, message, &complete);
    bool own = template->count && template->pieces[0].kind > PIECE_TOPIC && template->pieces[0].kind != PIECE_TEXT;
    return complete && is_topic(*topic) && !(own && topic->at[0] == '$');
}

bool template_value(const Template *template, const Message *message, Leaf *value) {
    bool complete;
    if (template->count == 1) return piece_value(&template->pieces[0], message, value);
    *value = text_leaf(template_write(template, message, &complete));
    return complete;
}
