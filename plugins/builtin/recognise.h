/* What can be recognised inside a free text by its shape and its check digits. Each function is asked about one place
 * in the text and returns where what begins there ends, or NULL. None looks further than the longest thing of its
 * kind, an e-mail address excepted, so that a text is searched in time proportional to its length. */
#ifndef RULES_RECOGNISE_H
#define RULES_RECOGNISE_H

#include "leaf.h"

static inline bool is_hex(uint8_t byte) { return is_digit(byte) || (uint8_t)((byte | 0x20) - 'a') < 6; }

/* A letter beyond ASCII does not belong to a word here: texts without spaces between words have identifiers, too. */
static inline bool word_before(const uint8_t *at, Span text) { return at > text.at && is_word(at[-1]); }

static inline bool word_after(const uint8_t *at, const uint8_t *end) { return at < end && is_word(*at); }

/* ---- with check digits: letters may stand right before digits ---- */

/* A payment card's number (ISO/IEC 7812): a known issuer's prefix and length, Luhn's check digit; in one group, or in
 * groups of at least four digits, the last excepted, with single spaces or single dashes between them. */
const uint8_t *recognise_card(const uint8_t *at, Span text);

/* A resident identity number of China (GB 11643): 17 digits with a province and a date, and the check character. */
const uint8_t *recognise_cn_id(const uint8_t *at, Span text);

/* An IBAN (ISO 13616): a country's length, remainder 1 by 97; single spaces or dashes may be in it. */
const uint8_t *recognise_iban(const uint8_t *at, Span text);

/* ---- by shape only ---- */

/* IPv4 with four decimal numbers, IPv6 as RFC 4291 writes it ("::" alone is none). */
const uint8_t *recognise_ip(const uint8_t *at, Span text);

/* Six or eight pairs of hexadecimal digits with colons or dashes, or three or four groups of four with dots. */
const uint8_t *recognise_mac(const uint8_t *at, Span text);

/* +49 30 1234567, 0049 30 1234567, (030) 1234567, 030-1234567, 415-555-0100 and the mobile numbers of China. A number
 * without + or anything between its digits is none of them, the last excepted. */
const uint8_t *recognise_phone(const uint8_t *at, Span text);

/* The first e-mail address at or after `from`; empty, at the text's end, where there is none. */
Span recognise_email(const uint8_t *from, Span text);

#endif
