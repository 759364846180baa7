/* Pseudonyms that look like what they stand for: digits become digits and letters letters of the same case, by a
 * permutation that only the key can undo; everything else stays where it is.
 *
 * The digits and letters of a value are the symbols of one Feistel network of ten rounds over mixed radices (10 and
 * 26), whose two halves are added to in turn (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002; as in
 * NIST SP 800-38G's FF1, with HMAC-SHA-256 for its AES). The tweak, the pattern of digits and letters and the
 * symbols that are kept go into every round: values of another pattern have a permutation of their own. */
#ifndef RULES_PSEUDONYM_H
#define RULES_PSEUDONYM_H

#include "leaf.h"
#include "sha256.h"

#define PSEUDONYM_LEAST 6  /* symbols: a million values of digits, as NIST asks for */
#define PSEUDONYM_MOST 256 /* symbols; what is longer is no identifier */

typedef struct {
    Hmac key;
    uint8_t tweak[SHA256_SIZE];
    uint32_t keep_first, keep_last; /* symbols that stay as they are */
    bool allow_short;               /* fewer than PSEUDONYM_LEAST: can be found out by trying */
    bool reveal;                    /* go back to what a pseudonym stands for */
} Pseudonym;

/* Another tweak gives other pseudonyms. The key may serve other masks, too: here it is another one. */
void pseudonym_key(Pseudonym *how, Span key, Span tweak);

/* MASK_HIDE: letters that are not ASCII, too few symbols or too many. */
MaskResult pseudonym_text(const Pseudonym *how, Span text, Span *out);

/* An integer as an integer of equally many digits, with its sign. MASK_HIDE: a fraction, an exponent, too few digits
 * or too many. */
MaskResult pseudonym_number(const Pseudonym *how, Span number, Span *out);

#endif
