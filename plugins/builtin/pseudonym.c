#include "pseudonym.h"

#define ROUNDS 10
#define WORDS 10 /* of 24 bits in a digest, one for each symbol: their remainders are even to a millionth */

/* Every message that is hashed begins with what it is for, so that none can pass for one of another kind. */
enum { FOR_FORMAT = 1, FOR_ROUND = 2, FOR_MORE = 3 };

typedef struct {
    const Hmac *key;
    uint32_t count;
    uint8_t *places[PSEUDONYM_MOST]; /* where the symbols stand */
    uint8_t symbols[PSEUDONYM_MOST];
    uint8_t radices[PSEUDONYM_MOST];
    uint8_t format[SHA256_SIZE]; /* the tweak, the pattern and what is kept */
} Network;

/* A key with a label behind it is another key: what is seen of the mask `hash` tells nothing about the rounds. */
void pseudonym_key(Pseudonym *how, Span key, Span tweak) {
    static const char LABEL[] = "geomq pseudonym 1";
    uint8_t *labelled = geomq_scratch(key.length + sizeof LABEL);
    __builtin_memcpy(labelled, key.at, key.length);
    __builtin_memcpy(labelled + key.length, LABEL, sizeof LABEL);
    hmac_key(&how->key, labelled, key.length + sizeof LABEL);
    hmac_digest(&how->key, tweak.at, tweak.length, how->tweak);
}

static uint8_t first_of(uint8_t symbol) { return is_digit(symbol) ? '0' : symbol & 0x20 ? 'a' : 'A'; }

/* False where something cannot be worked on. `text` is what the symbols will be written to. */
static bool find_symbols(Network *network, uint8_t *text, uint32_t length) {
    network->count = 0;
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] >= 0x80) return false;
        if (!is_digit(text[i]) && !is_letter(text[i])) continue;
        if (network->count == PSEUDONYM_MOST) return false;
        network->places[network->count++] = text + i;
    }
    return true;
}

/* A digit and a letter of either case stand for themselves; a symbol to be replaced for its kind only. */
static void bind_format(Network *network, const Pseudonym *how, uint32_t first, uint32_t last) {
    uint8_t message[1 + SHA256_SIZE + PSEUDONYM_MOST], *at = message;
    *at++ = FOR_FORMAT;
    __builtin_memcpy(at, how->tweak, SHA256_SIZE);
    at += SHA256_SIZE;
    for (uint32_t i = 0; i < network->count; i++) {
        uint8_t symbol = *network->places[i];
        *at++ = i >= first && i < last ? (is_digit(symbol) ? '#' : '@') : is_digit(symbol) ? symbol : symbol | 0x20;
    }
    hmac_digest(&how->key, message, (uint32_t)(at - message), network->format);
}

static void load(Network *network, uint32_t first, uint32_t last) {
    network->count = last - first;
    for (uint32_t i = 0; i < network->count; i++) {
        uint8_t *place = network->places[i] = network->places[first + i];
        network->radices[i] = is_digit(*place) ? 10 : 26;
        network->symbols[i] = (uint8_t)(*place - first_of(*place));
    }
}

static void store(const Network *network) {
    for (uint32_t i = 0; i < network->count; i++) {
        uint8_t *place = network->places[i];
        *place = (uint8_t)(first_of(*place) + network->symbols[i]);
    }
}

static uint32_t word_of(const uint8_t *digest, uint32_t index) {
    const uint8_t *at = digest + 3 * index;
    return (uint32_t)(at[0] << 16 | at[1] << 8 | at[2]);
}

/* Add to one half what the other half says, or take it away. */
static void run_round(Network *network, uint32_t round, bool backwards) {
    uint32_t middle = network->count / 2;
    bool front = round % 2 == 0;
    uint32_t start = front ? 0 : middle, stop = front ? middle : network->count;
    uint32_t other = front ? middle : 0, others = network->count - (stop - start);
    uint8_t message[2 + SHA256_SIZE + PSEUDONYM_MOST] = {FOR_ROUND, (uint8_t)round};
    uint8_t more[2 + SHA256_SIZE] = {FOR_MORE}, digest[SHA256_SIZE];
    __builtin_memcpy(message + 2, network->format, SHA256_SIZE);
    __builtin_memcpy(message + 2 + SHA256_SIZE, network->symbols + other, others);
    hmac_digest(network->key, message, 2 + SHA256_SIZE + others, digest);
    __builtin_memcpy(more + 2, digest, SHA256_SIZE);
    for (uint32_t i = 0; i < stop - start; i++) {
        if (i && i % WORDS == 0) {
            more[1] = (uint8_t)(i / WORDS);
            hmac_digest(network->key, more, sizeof more, digest);
        }
        uint32_t radix = network->radices[start + i], shift = word_of(digest, i % WORDS) % radix;
        if (backwards) shift = radix - shift;
        network->symbols[start + i] = (uint8_t)((network->symbols[start + i] + shift) % radix);
    }
}

static void run(Network *network, bool backwards) {
    for (uint32_t i = 0; i < ROUNDS; i++) run_round(network, backwards ? ROUNDS - 1 - i : i, backwards);
}

/* What an integer of so many digits is compared with: readers that have only 53, 63 or 64 bits can read its pseudonym
 * if they can read it. NULL if there is nothing between. */
static const char *bound_of(uint32_t digits) {
    switch (digits) {
    case 16: return "9007199254740992";
    case 19: return "9223372036854775808";
    case 20: return "18446744073709551616";
    default: return NULL;
    }
}

static bool is_below(const Network *network, const char *bound) {
    for (uint32_t i = 0; bound && i < network->count; i++) {
        if (network->symbols[i] != bound[i] - '0') return network->symbols[i] < bound[i] - '0';
    }
    return false;
}

/* An integer that comes out with a 0 in front, or on the other side of its bound, is sent on until one does not. Its
 * way is part of a circle through the number it began with, so it ends; and backwards it is the same way. */
static bool walk(Network *network, bool backwards) {
    const char *bound = bound_of(network->count);
    bool below = is_below(network, bound);
    if (network->symbols[0] == 0) return false;
    do run(network, backwards);
    while (network->symbols[0] == 0 || is_below(network, bound) != below);
    return true;
}

static bool permute(Network *network, const Pseudonym *how, bool integer) {
    uint32_t kept = how->keep_first + how->keep_last;
    if (network->count < kept + (how->allow_short ? 1 : PSEUDONYM_LEAST)) return false;
    bool walks = integer && how->keep_first == 0 && network->count > 1;
    bind_format(network, how, how->keep_first, network->count - how->keep_last);
    load(network, how->keep_first, network->count - how->keep_last);
    network->key = &how->key;
    if (!walks) run(network, how->reveal);
    else if (!walk(network, how->reveal)) return false;
    store(network);
    return true;
}

static MaskResult mask(const Pseudonym *how, Span text, bool integer, Span *out) {
    Network network;
    uint8_t *mark = geomq_mark(), *copy = geomq_append(text.at, text.length);
    if (find_symbols(&network, copy, text.length) && permute(&network, how, integer)) {
        *out = appended(mark);
        return MASK_CHANGED;
    }
    geomq_release(mark);
    return MASK_HIDE;
}

MaskResult pseudonym_text(const Pseudonym *how, Span text, Span *out) { return mask(how, text, false, out); }

MaskResult pseudonym_number(const Pseudonym *how, Span number, Span *out) {
    for (uint32_t i = 0; i < number.length; i++) {
        if (!is_digit(number.at[i]) && (i || number.at[i] != '-')) return MASK_HIDE;
    }
    return mask(how, number, true, out);
}
