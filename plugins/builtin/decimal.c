#include "decimal.h"

#define EXPONENT_LIMIT 1000000000000000 /* no payload has as many digits: more makes no difference */

static int64_t exponent(const uint8_t *at, const uint8_t *end) {
    bool negative = *at == '-';
    if (*at == '-' || *at == '+') at++;
    int64_t value = 0;
    for (; at < end && value < EXPONENT_LIMIT; at++) value = value * 10 + (*at - '0');
    return negative ? -value : value;
}

Decimal decimal(Span number) {
    const uint8_t *at = number.at, *end = at + number.length;
    Decimal result = {.negative = *at == '-'};
    bool fraction = false;
    if (result.negative) at++;
    for (; at < end && (*at | 0x20) != 'e'; at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        if (*at != '0') {
            if (!result.first) result.first = at;
            result.last = at + 1;
        }
        if (result.first && !fraction) result.point++;
        else if (!result.first && fraction) result.point--;
    }
    if (!result.first) return (Decimal){0};
    if (at < end) result.point += exponent(at + 1, end);
    return result;
}

static bool zero(const Decimal *number) { return number->first == number->last; }

/* The next digit, 0 after the last one. */
static uint32_t next_digit(const uint8_t **at, const uint8_t *last) {
    if (*at < last && **at == '.') ++*at;
    return *at < last ? (uint32_t)(*(*at)++ - '0') : 0;
}

static int compare_size(const Decimal *a, const Decimal *b) {
    if (a->point != b->point) return a->point < b->point ? -1 : 1;
    const uint8_t *left = a->first, *right = b->first;
    while (left < a->last || right < b->last) {
        uint32_t x = next_digit(&left, a->last), y = next_digit(&right, b->last);
        if (x != y) return x < y ? -1 : 1;
    }
    return 0;
}

static int sign(const Decimal *number) { return zero(number) ? 0 : number->negative ? -1 : 1; }

uint32_t decimal_plain(const Decimal *number, uint8_t *out) {
    uint32_t length = 0;
    int64_t digits = 0;
    if (number->point < 1 || number->point > PLAIN_DIGITS) return 0;
    if (number->negative) out[length++] = '-';
    for (const uint8_t *at = number->first; at < number->last; at++) {
        if (*at == '.') continue;
        if (digits++ == number->point) return 0;
        out[length++] = *at;
    }
    for (; digits < number->point; digits++) out[length++] = '0';
    return length;
}

int decimal_compare(const Decimal *a, const Decimal *b) {
    if (sign(a) != sign(b)) return sign(a) - sign(b);
    if (zero(a)) return 0;
    return a->negative ? compare_size(b, a) : compare_size(a, b);
}

bool multiple_from(const Decimal *number, Multiple *step) {
    const uint8_t *at = number->first;
    uint32_t digits = 0;
    if (sign(number) <= 0) return false;
    *step = (Multiple){0, 0};
    while (at < number->last) {
        if (++digits > STEP_DIGITS) return false;
        step->factor = step->factor * 10 + next_digit(&at, number->last);
    }
    int64_t scale = number->point - digits;
    if (scale < -STEP_SCALE || scale > STEP_SCALE) return false;
    step->scale = (int32_t)scale;
    return true;
}

/* Add to, or take from, an unsigned integer of digits, whose first digit has room for a carry. */
static void add(uint8_t *digits, uint32_t count, int64_t amount) {
    for (uint32_t i = count; i-- > 0 && amount != 0;) {
        int64_t sum = digits[i] + amount;
        int64_t digit = sum % 10;
        if (digit < 0) digit += 10;
        digits[i] = (uint8_t)digit;
        amount = (sum - digit) / 10;
    }
}

/* Write digits x 10^scale. */
static uint32_t write(const uint8_t *digits, uint32_t count, int32_t scale, bool negative, uint8_t *out) {
    uint8_t *start = out;
    while (count > 0 && *digits == 0) digits++, count--;
    if (count == 0) {
        *out = '0';
        return 1;
    }
    for (; scale < 0 && digits[count - 1] == 0; count--) scale++;
    if (negative) *out++ = '-';
    int32_t whole = (int32_t)count + (scale < 0 ? scale : 0);
    if (whole <= 0) *out++ = '0';
    for (int32_t i = whole < 0 ? whole : 0; i < (int32_t)count; i++) {
        if (i == whole || (i < 0 && i == whole)) *out++ = '.';
        *out++ = i < 0 ? '0' : (uint8_t)('0' + digits[i]);
    }
    for (; scale > 0; scale--) *out++ = '0';
    return (uint32_t)(out - start);
}

Rounding decimal_round(const Decimal *number, const Multiple *step, uint8_t *out, uint32_t *length) {
    uint8_t digits[ROUNDED_DIGITS + 1]; /* in units of 10^scale, behind a zero for the carry */
    if (zero(number)) return ROUND_SAME;
    int64_t count = number->point - step->scale;
    if (count > ROUNDED_DIGITS) return ROUND_TOO_LONG;
    digits[0] = 0;
    const uint8_t *at = number->first;
    uint64_t rest = 0; /* of the division by the factor */
    for (int64_t i = 1; i <= count; i++) {
        digits[i] = (uint8_t)next_digit(&at, number->last);
        rest = (rest * 10 + digits[i]) % step->factor;
    }
    bool exact = at >= number->last;
    if (rest == 0 && exact) return ROUND_SAME;
    bool half = count >= 0 && next_digit(&at, number->last) >= 5; /* of a unit, or more */
    bool up = 2 * rest + (half ? 1 : 0) >= step->factor;
    uint32_t used = (uint32_t)(count > 0 ? count : 0) + 1;
    add(digits, used, up ? (int64_t)(step->factor - rest) : -(int64_t)rest);
    *length = write(digits, used, step->scale, number->negative, out);
    return ROUND_CHANGED;
}
