/* SHA-256 (FIPS 180-4) and HMAC with it (RFC 2104). */
#ifndef RULES_SHA256_H
#define RULES_SHA256_H

#include <stdint.h>

#define SHA256_SIZE 32

typedef struct {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
} Sha256;

/* A key, worked into the two states that every message begins and ends with. */
typedef struct {
    Sha256 inner, outer;
} Hmac;

void sha256_begin(Sha256 *sha);
void sha256_add(Sha256 *sha, const uint8_t *bytes, uint32_t count);
void sha256_end(Sha256 *sha, uint8_t digest[SHA256_SIZE]);

/* All three. */
void sha256(const uint8_t *message, uint32_t length, uint8_t digest[SHA256_SIZE]);

void hmac_key(Hmac *hmac, const uint8_t *key, uint32_t length);
void hmac_digest(const Hmac *hmac, const uint8_t *message, uint32_t length, uint8_t digest[SHA256_SIZE]);

#endif
