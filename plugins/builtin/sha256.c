#include "sha256.h"

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t word, int by) { return word >> by | word << (32 - by); }

void sha256_begin(Sha256 *sha) {
    *sha = (Sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                              0x5be0cd19}};
}

static void compress(uint32_t state[8], const uint8_t block[64]) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        uint32_t word;
        __builtin_memcpy(&word, block + 4 * i, 4);
        w[i] = __builtin_bswap32(word);
    }
    for (int i = 16; i < 64; i++) {
        uint32_t early = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t late = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + early + w[i - 7] + late;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    #pragma clang loop unroll_count(8) /* then no variable has to be moved */
    for (int i = 0; i < 64; i++) {
        uint32_t first = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (g ^ (e & (f ^ g))) + ROUND[i] + w[i];
        uint32_t second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) | (c & (a | b)));
        h = g, g = f, f = e, e = d + first;
        d = c, c = b, b = a, a = first + second;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void sha256_add(Sha256 *sha, const uint8_t *bytes, uint32_t count) {
    while (count) {
        uint32_t used = (uint32_t)(sha->length & 63), taken = 64 - used < count ? 64 - used : count;
        __builtin_memcpy(sha->block + used, bytes, taken);
        sha->length += taken;
        bytes += taken;
        count -= taken;
        if (used + taken == 64) compress(sha->state, sha->block);
    }
}

void sha256_end(Sha256 *sha, uint8_t digest[SHA256_SIZE]) {
    uint32_t used = (uint32_t)(sha->length & 63);
    uint64_t bits = __builtin_bswap64(sha->length * 8);
    sha->block[used++] = 0x80;
    if (used > 56) {
        __builtin_memset(sha->block + used, 0, 64 - used);
        compress(sha->state, sha->block);
        used = 0;
    }
    __builtin_memset(sha->block + used, 0, 56 - used);
    __builtin_memcpy(sha->block + 56, &bits, 8);
    compress(sha->state, sha->block);
    for (int i = 0; i < 8; i++) {
        uint32_t word = __builtin_bswap32(sha->state[i]);
        __builtin_memcpy(digest + 4 * i, &word, 4);
    }
}

void hmac_key(Hmac *hmac, const uint8_t *key, uint32_t length) {
    uint8_t block[64] = {0};
    if (length > sizeof block) {
        sha256_begin(&hmac->inner);
        sha256_add(&hmac->inner, key, length);
        sha256_end(&hmac->inner, block);
    } else {
        __builtin_memcpy(block, key, length);
    }
    for (int i = 0; i < 64; i++) block[i] ^= 0x36;
    sha256_begin(&hmac->inner);
    sha256_add(&hmac->inner, block, sizeof block);
    for (int i = 0; i < 64; i++) block[i] ^= 0x36 ^ 0x5c;
    sha256_begin(&hmac->outer);
    sha256_add(&hmac->outer, block, sizeof block);
}

void hmac_digest(const Hmac *hmac, const uint8_t *message, uint32_t length, uint8_t digest[SHA256_SIZE]) {
    Sha256 sha = hmac->inner;
    sha256_add(&sha, message, length);
    sha256_end(&sha, digest);
    sha = hmac->outer;
    sha256_add(&sha, digest, SHA256_SIZE);
    sha256_end(&sha, digest);
}

void sha256(const uint8_t *message, uint32_t length, uint8_t digest[SHA256_SIZE]) {
    Sha256 sha;
    sha256_begin(&sha);
    sha256_add(&sha, message, length);
    sha256_end(&sha, digest);
}
