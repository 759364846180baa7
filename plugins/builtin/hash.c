#include "hash.h"

#include "../sdk/c/geomq_plugin.h"

Hash hash_read(const Where *where, const Node *found) {
    Hash hash;
    Span key = read_key(where, found, 8);
    hmac_key(&hash.hmac, key.at, key.length);
    hash.length = read_whole(where, found, "length", 4, 2 * SHA256_SIZE, 16);
    return hash;
}

Span hash_append(const Hash *hash, Span bytes) {
    static const char *const DIGITS = "0123456789abcdef";
    uint8_t digest[SHA256_SIZE], text[2 * SHA256_SIZE];
    hmac_digest(&hash->hmac, bytes.at, bytes.length, digest);
    for (uint32_t i = 0; i < hash->length; i++) text[i] = (uint8_t)DIGITS[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    return (Span){geomq_append(text, hash->length), hash->length};
}
