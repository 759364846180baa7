#include "settings.h"

#include "../sdk/c/geomq_plugin.h"
#include "json.h"

#define SHOWN 60 /* bytes of what stands in the configuration */

static char error_text[1000];
static uint32_t error_length;

static void add(const char *text) {
    while (*text && error_length < sizeof error_text - 1) error_text[error_length++] = *text++;
    error_text[error_length] = 0;
}

/* `raw` is as the configuration has it, escaped: it holds no NUL. It is never cut within a code point. */
static void add_span(Span raw) {
    uint32_t length = raw.length;
    if (length > SHOWN) {
        length = SHOWN;
        while ((raw.at[length] & 0xC0) == 0x80) length--;
    }
    for (uint32_t i = 0; i < length; i++) add((char[]){(char)raw.at[i], 0});
    if (length < raw.length) add("...");
}

static void add_number(uint32_t number) {
    if (number > 9) add_number(number / 10);
    add((char[]){(char)('0' + number % 10), 0});
}

static void add_where(const Where *where) {
    if (!where) return;
    add_where(where->parent);
    if (where->name) {
        if (error_length) add(".");
        add(where->name);
    } else {
        add("[");
        add_number(where->index);
        add("]");
    }
}

bool fail(const Where *where, const Span *found, const char *text) {
    if (error_length) return false;
    add_where(where);
    if (error_length) add(": ");
    if (found) {
        add_span(*found);
        add(" ");
    }
    add(text);
    return true;
}

bool refuse(const Where *where, const Node *found, const char *text) {
    return fail(where, found ? &found->raw : NULL, text);
}

bool named(Span span, const char *text) {
    for (uint32_t i = 0; i < span.length; i++) {
        if (text[i] == 0 || span.at[i] != (uint8_t)text[i]) return false;
    }
    return text[span.length] == 0;
}

const Node *member(const Node *object, const char *name) {
    for (const Node *child = object->first; child; child = child->next) {
        if (named(child->key, name)) return child;
    }
    return NULL;
}

bool is_listed(Span name, const char *allowed) {
    for (;;) {
        uint32_t length = 0;
        while (allowed[length] && allowed[length] != ' ') length++;
        if (same(name, (Span){(const uint8_t *)allowed, length})) return true;
        if (!allowed[length]) return false;
        allowed += length + 1;
    }
}

void fail_more(const char *text) { add(text); }

const char *first_mistake(void) { return error_length ? error_text : NULL; }

static bool is_repeated(const Node *object, const Node *child) {
    const Node *first = object->first;
    while (!same(first->key, child->key)) first = first->next;
    return first != child;
}

/* A member's name as JSON writes it, without the quotes: so that it holds no control character. */
static Span shown_key(const Node *child) {
    const uint8_t *start = geomq_mark();
    json_write_string(child->key);
    return span(start + 1, geomq_mark() - 1);
}

bool check_object(const Where *where, const Node *found, const char *allowed, const char *more) {
    if (found->type != TYPE_OBJECT) return refuse(where, found, "is not an object"), false;
    for (const Node *child = found->first; child; child = child->next) {
        Span key = shown_key(child);
        if (!is_listed(child->key, allowed) && !is_listed(child->key, more)) {
            if (fail(where, &key, "is not a key; allowed: ")) {
                add(allowed);
                if (*more) add(" ");
                add(more);
            }
            return false;
        }
        if (is_repeated(found, child)) return fail(where, &key, "is there twice"), false;
    }
    return true;
}

/* ---- members ---- */

uint32_t whole_number(const Where *where, const Node *found, uint32_t least, uint32_t most) {
    uint64_t value = 0;
    bool valid = found->type == TYPE_NUMBER;
    for (uint32_t i = 0; valid && i < found->text.length; i++) {
        uint8_t digit = found->text.at[i];
        valid = digit >= '0' && digit <= '9' && value <= most;
        value = value * 10 + (uint64_t)(digit - '0');
    }
    if (valid && value >= least && value <= most) return (uint32_t)value;
    if (refuse(where, found, "is not a whole number from ")) {
        add_number(least);
        add(" to ");
        add_number(most);
    }
    return least;
}

uint32_t read_whole(const Where *where, const Node *object, const char *name, uint32_t least, uint32_t most,
                    uint32_t usual) {
    Where here = {where, name, 0};
    const Node *found = member(object, name);
    if (found) return whole_number(&here, found, least, most);
    if (usual == REQUIRED) fail(&here, NULL, "is required");
    return usual == REQUIRED ? least : usual;
}

bool read_bool(const Where *where, const Node *object, const char *name, bool usual) {
    Where here = {where, name, 0};
    const Node *found = member(object, name);
    if (!found) return usual;
    if (found->type != TYPE_TRUE && found->type != TYPE_FALSE) refuse(&here, found, "is neither true nor false");
    return found->type == TYPE_TRUE;
}

#define NO_WORD UINT32_MAX

static uint32_t word_index(const Node *found, const char *words) {
    for (uint32_t index = 0; found->type == TYPE_STRING; index++) {
        uint32_t length = 0;
        while (words[length] && words[length] != ' ') length++;
        if (same(found->text, (Span){(const uint8_t *)words, length})) return index;
        if (!words[length]) break;
        words += length + 1;
    }
    return NO_WORD;
}

uint32_t read_word(const Where *where, const Node *object, const char *name, const char *words, uint32_t usual) {
    Where here = {where, name, 0};
    const Node *found = member(object, name);
    if (!found && usual != REQUIRED) return usual;
    uint32_t index = found ? word_index(found, words) : NO_WORD;
    if (index != NO_WORD) return index;
    if (refuse(&here, found, found ? "is not one of: " : "is to be one of: ")) add(words);
    return 0;
}

static uint32_t no_list(const Where *where, const Node *found, const char *words) {
    if (refuse(where, found, found ? "is not a list of some of: " : "is to be a list of some of: ")) add(words);
    return 0;
}

uint32_t read_words(const Where *where, const Node *object, const char *name, const char *words, uint32_t least) {
    Where list = {where, name, 0}, here = {&list, NULL, 0};
    const Node *found = member(object, name);
    uint32_t sum = 0;
    if (!found || found->type != TYPE_ARRAY) return no_list(&list, found, words);
    for (const Node *child = found->first; child; child = child->next, here.index++) {
        uint32_t index = word_index(child, words);
        if (index != NO_WORD) sum |= 1u << index;
        else if (refuse(&here, child, "is not one of: ")) add(words);
    }
    return here.index < least ? no_list(&list, found, words) : sum;
}

Span read_text(const Where *where, const Node *object, const char *name, bool required) {
    Where here = {where, name, 0};
    const Node *found = member(object, name);
    if (found && found->type == TYPE_STRING && found->text.length) return found->text;
    if (found) refuse(&here, found, "is not a text");
    else if (required) fail(&here, NULL, "is required");
    return (Span){0};
}

/* The milliseconds of a unit; 0 if it is none. */
static uint64_t unit(Span name) {
    return named(name, "ms") ? 1
           : named(name, "s") ? 1000
           : named(name, "m") ? 60000
           : named(name, "h") ? 3600000
           : named(name, "d") ? 86400000
                              : 0;
}

#define LONGEST_DURATION (30ull * 86400000)

uint64_t read_duration(const Where *where, const Node *object, const char *name, bool required) {
    Where here = {where, name, 0};
    const Node *found = member(object, name);
    if (!found) {
        if (required) fail(&here, NULL, "is required");
        return 0;
    }
    const uint8_t *at = found->text.at, *end = span_end(found->text);
    uint64_t value = 0, factor = 0;
    if (found->type == TYPE_STRING || found->type == TYPE_NUMBER) {
        while (at < end && *at >= '0' && *at <= '9' && value < LONGEST_DURATION) value = value * 10 + (*at++ - '0');
        factor = found->type == TYPE_STRING ? unit(span(at, end)) : at == end ? 1000 : 0;
    }
    if (value == 0 || factor == 0 || value > LONGEST_DURATION / factor) {
        refuse(&here, found, "is not a duration such as 500ms, 10s, 5m, 1h or 7d, of 30 days at most");
        return 1000;
    }
    return value * factor;
}

static uint32_t hex_digit(uint8_t digit) {
    uint8_t lower = digit | 0x20;
    if (digit >= '0' && digit <= '9') return digit - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10u : 16;
}

Span read_key(const Where *where, const Node *object, uint32_t least) {
    Where here = {where, "key", 0};
    const Node *found = member(object, "key");
    Span digits = found && found->type == TYPE_STRING ? found->text : (Span){0};
    uint8_t *key = geomq_take(digits.length / 2 + 1);
    bool valid = digits.length >= 2 * least && digits.length % 2 == 0;
    for (uint32_t i = 0; valid && i < digits.length; i++) {
        uint32_t value = hex_digit(digits.at[i]);
        valid = value < 16;
        key[i / 2] = (uint8_t)(i % 2 ? key[i / 2] | value : value << 4);
    }
    if (valid) return (Span){key, digits.length / 2};
    if (fail(&here, NULL, "is to be at least ")) {
        add_number(2 * least);
        add(" hexadecimal digits, or a key_file");
    }
    return (Span){0};
}
