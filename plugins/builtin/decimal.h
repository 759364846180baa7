/* JSON numbers as the decimals they are written as: compared and rounded exactly, without binary fractions. */
#ifndef RULES_DECIMAL_H
#define RULES_DECIMAL_H

#include "span.h"

/* 0.DIGITS x 10^point, where DIGITS are those of [first, last), which begin and end with a digit that is not
 * zero and may have the point among them; first == last is zero. */
typedef struct {
    const uint8_t *first, *last;
    int64_t point;
    bool negative;
} Decimal;

/* Of a number that the scanner has accepted. */
Decimal decimal(Span number);

#define PLAIN_DIGITS 40

/* Write a whole number without point and exponent, `out` has PLAIN_DIGITS + 1 bytes; how many they are; 0 where it is
 * no whole number, 0, or has more than PLAIN_DIGITS digits. */
uint32_t decimal_plain(const Decimal *number, uint8_t *out);

/* Below 0, 0 or above 0, as a is below, equal to or above b. */
int decimal_compare(const Decimal *a, const Decimal *b);

/* What to round to a multiple of: factor x 10^scale. */
typedef struct {
    uint32_t factor;
    int32_t scale;
} Multiple;

#define STEP_DIGITS 9  /* a factor's */
#define STEP_SCALE 30  /* the largest power of ten, up or down */

/* False if the number is not above zero, has more digits than a factor or is out of scale. */
bool multiple_from(const Decimal *number, Multiple *step);

#define ROUNDED_DIGITS 400 /* before the point of the step; no longer number is rounded */
#define ROUNDED_ROOM (ROUNDED_DIGITS + STEP_SCALE + 4)

typedef enum { ROUND_SAME, ROUND_CHANGED, ROUND_TOO_LONG } Rounding;

/* The multiple of the step that is nearest to the number, halves away from zero, without zeros at its end. `out` has
 * ROUNDED_ROOM bytes. ROUND_SAME: the number is such a multiple; nothing is written. */
Rounding decimal_round(const Decimal *number, const Multiple *step, uint8_t *out, uint32_t *length);

#endif
