#include "number.h"

#include "decimal.h"

/* ---- unsigned integers of any size that is needed here: 800 digits, times a power of ten ---- */

#define LIMBS 136
#define MOST_DIGITS 800 /* what comes after them cannot turn a rounding but by not being zero */

typedef struct {
    uint32_t count; /* of limbs in use; the last one is not zero */
    uint32_t limbs[LIMBS];
} Big;

static void big_set(Big *big, uint64_t value) {
    big->count = 0;
    for (; value; value >>= 32) big->limbs[big->count++] = (uint32_t)value;
}

static void big_multiply_add(Big *big, uint32_t factor, uint32_t carry) {
    uint64_t sum = carry;
    for (uint32_t i = 0; i < big->count; i++, sum >>= 32) {
        sum += (uint64_t)big->limbs[i] * factor;
        big->limbs[i] = (uint32_t)sum;
    }
    if (sum) big->limbs[big->count++] = (uint32_t)sum;
}

static void big_power(Big *big, uint32_t exponent) {
    for (; exponent >= 9; exponent -= 9) big_multiply_add(big, 1000000000, 0);
    for (; exponent > 0; exponent--) big_multiply_add(big, 10, 0);
}

static uint32_t big_bits(const Big *big) {
    return big->count ? 32 * big->count - (uint32_t)__builtin_clz(big->limbs[big->count - 1]) : 0;
}

static void big_shift(Big *big, uint32_t bits) {
    uint32_t whole = bits / 32, rest = bits % 32;
    if (!big->count) return;
    big_multiply_add(big, 1u << rest, 0);
    for (uint32_t i = big->count; i-- > 0;) big->limbs[i + whole] = big->limbs[i];
    for (uint32_t i = 0; i < whole; i++) big->limbs[i] = 0;
    big->count += whole;
}

static bool big_below(const Big *a, const Big *b) {
    if (a->count != b->count) return a->count < b->count;
    for (uint32_t i = a->count; i-- > 0;) {
        if (a->limbs[i] != b->limbs[i]) return a->limbs[i] < b->limbs[i];
    }
    return false;
}

static void big_subtract(Big *big, const Big *less) {
    int64_t sum = 0;
    for (uint32_t i = 0; i < big->count; i++, sum >>= 32) {
        sum += (int64_t)big->limbs[i] - (i < less->count ? less->limbs[i] : 0);
        big->limbs[i] = (uint32_t)sum;
    }
    while (big->count && !big->limbs[big->count - 1]) big->count--;
}

/* The quotient, of `bits` bits at most; the rest stays in `big`. */
static uint64_t big_divide(Big *big, Big *by, uint32_t bits) {
    uint64_t quotient = 0;
    for (; bits > 0; bits--) {
        quotient <<= 1;
        if (!big_below(big, by)) {
            big_subtract(big, by);
            quotient |= 1;
        }
        big_shift(big, 1);
    }
    return quotient;
}

/* ---- from decimal ---- */

typedef struct {
    int mantissa; /* bits, with the one that is not stored */
    int least;    /* the exponent of the last bit of the smallest number */
    int most;     /* the exponent of the first bit of the largest */
} Kind;

static const Kind DOUBLE = {53, -1074, 1023}, SINGLE = {24, -149, 127};

static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* 2^exponent, which is that of a number that is not subnormal. */
static double power_of_two(int exponent) {
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double result;
    __builtin_memcpy(&result, &bits, sizeof result);
    return result;
}

/* The digits, in front of the point; the exponent that they need. False where there are more than 15. */
static bool short_digits(const Decimal *number, uint64_t *digits, int64_t *exponent) {
    uint32_t count = 0;
    *digits = 0;
    for (const uint8_t *at = number->first; at < number->last; at++) {
        if (*at == '.') continue;
        if (++count > 15) return false;
        *digits = *digits * 10 + (*at - '0');
    }
    *exponent = number->point - count;
    return true;
}

static void all_digits(const Decimal *number, Big *big, int64_t *exponent) {
    uint32_t count = 0;
    big_set(big, 0);
    for (const uint8_t *at = number->first; at < number->last && count < MOST_DIGITS; at++) {
        if (*at == '.') continue;
        bool last = ++count == MOST_DIGITS;
        big_multiply_add(big, 10, last ? 1 : (uint32_t)(*at - '0'));
    }
    *exponent = number->point - count;
}

/* quotient x 2^exponent, with a rest or without, as the nearest number of the kind. */
static double nearest(uint64_t quotient, int exponent, bool rest, const Kind *kind) {
    int bits = 64 - __builtin_clzll(quotient);
    int drop = bits - kind->mantissa;
    if (exponent + drop < kind->least) drop = kind->least - exponent;
    if (drop > 64) return 0;
    if (drop > 0) {
        uint64_t below = drop == 64 ? quotient : quotient & ((1ull << drop) - 1), half = 1ull << (drop - 1);
        quotient = drop == 64 ? 0 : quotient >> drop;
        if (below > half || (below == half && (rest || quotient & 1))) quotient++;
        exponent += drop;
    }
    if (quotient && 63 - __builtin_clzll(quotient) + exponent > kind->most) return __builtin_inf();
    /* In two steps: 2^exponent alone may be too small. Neither rounds: the bits fit. */
    return (double)quotient * power_of_two(exponent / 2) * power_of_two(exponent - exponent / 2);
}

static double from_decimal(const Decimal *number, const Kind *kind) {
    Big above, below;
    int64_t exponent;
    all_digits(number, &above, &exponent);
    big_set(&below, 1);
    if (exponent > 0) big_power(&above, (uint32_t)exponent);
    else big_power(&below, (uint32_t)-exponent);
    int shift = 62 - (int)big_bits(&above) + (int)big_bits(&below); /* a quotient of 62 or 63 bits */
    if (shift > 0) big_shift(&above, (uint32_t)shift);
    else big_shift(&below, (uint32_t)-shift);
    big_shift(&below, 63); /* big_divide begins with the bit of 2^63 */
    uint64_t quotient = big_divide(&above, &below, 64);
    return nearest(quotient, -shift, above.count > 0, kind);
}

static double convert(Span text, const Kind *kind) {
    Decimal number = decimal(text);
    uint64_t digits;
    int64_t exponent;
    double size = 0;
    if (number.first == number.last) return number.negative ? -0.0 : 0;
    bool is_short = short_digits(&number, &digits, &exponent);
    if (is_short && kind == &DOUBLE && exponent >= -22 && exponent <= 22)
        size = exponent < 0 ? (double)digits / POWERS[-exponent] : (double)digits * POWERS[exponent];
    else if (number.point > 310) size = __builtin_inf();
    else if (number.point > -330) size = from_decimal(&number, kind);
    return number.negative ? -size : size;
}

double number_double(Span text) { return convert(text, &DOUBLE); }

float number_single(Span text) { return (float)convert(text, &SINGLE); }

/* ---- to decimal ---- */

uint32_t number_write_whole(uint64_t number, uint8_t *out) {
    uint8_t digits[20];
    uint32_t count = 0;
    do digits[count++] = (uint8_t)('0' + number % 10);
    while (number /= 10);
    for (uint32_t i = 0; i < count; i++) out[i] = digits[count - 1 - i];
    return count;
}

/* digits x 10^exponent, as JSON writes it. */
static uint32_t write_decimal(uint64_t value, int exponent, uint8_t *out) {
    uint8_t digits[20];
    for (; value && value % 10 == 0; exponent++) value /= 10;
    int count = (int)number_write_whole(value, digits), point = count + exponent;
    uint8_t *at = out;
    bool plain = point > -6 && point <= 21;
    if (!plain) exponent = point - 1, point = 1;
    if (point <= 0) *at++ = '0', *at++ = '.';
    for (int i = point; i < 0; i++) *at++ = '0';
    for (int i = 0; i < count; i++) {
        if (i > 0 && i == point) *at++ = '.';
        *at++ = digits[i];
    }
    for (int i = count; i < point; i++) *at++ = '0';
    if (plain) return (uint32_t)(at - out);
    *at++ = 'e';
    if (exponent < 0) *at++ = '-';
    return (uint32_t)(at - out) + number_write_whole((uint64_t)(exponent < 0 ? -exponent : exponent), at);
}

/* mantissa x 2^binary, rounded to a multiple of 10^result: how many times that. */
static uint64_t round_digits(uint64_t mantissa, int binary, int result) {
    Big above, below;
    big_set(&above, mantissa);
    big_set(&below, 1);
    if (binary > 0) big_shift(&above, (uint32_t)binary);
    else big_shift(&below, (uint32_t)-binary);
    big_power(result < 0 ? &above : &below, (uint32_t)(result < 0 ? -result : result));
    big_shift(&below, 63);
    uint64_t quotient = big_divide(&above, &below, 64);
    /* The rest has been shifted 64 times, the divisor 63 times: they compare as twice the rest does. */
    if (big_below(&above, &below)) return quotient;
    return quotient + (big_below(&below, &above) ? 1 : quotient & 1); /* a half goes to the even one */
}

static double parse_back(uint64_t digits, int exponent, const Kind *kind) {
    uint8_t text[48];
    return convert((Span){text, write_decimal(digits, exponent, text)}, kind);
}

/* The power of ten of 2^bits, rounded down: exact for every exponent that there is. */
static int magnitude(int bits) { return bits >= 0 ? bits * 78913 >> 18 : -((-bits * 78913 >> 18) + 1); }

static uint32_t shortest(double size, uint64_t mantissa, int binary, const Kind *kind, uint8_t *out) {
    int fewest = kind == &DOUBLE ? 15 : 6, most = kind == &DOUBLE ? 17 : 9;
    if (!(mantissa >> (kind->mantissa - 1))) fewest = 1; /* a subnormal number may have a bit only */
    int first = magnitude(63 - __builtin_clzll(mantissa) + binary);
    if (round_digits(mantissa, binary, first) >= 10) first++;
    for (int digits = fewest;; digits++) {
        int exponent = first + 1 - digits;
        uint64_t value = round_digits(mantissa, binary, exponent);
        if (digits == most || parse_back(value, exponent, kind) == size) return write_decimal(value, exponent, out);
        /* Below a power of two the next number is nearer than above: what is less near may be this one all the same. */
        if (!(mantissa & (mantissa - 1)) && parse_back(value + 1, exponent, kind) == size)
            return write_decimal(value + 1, exponent, out);
    }
}

/* The usual case: 15 digits and nine places say it. A decimal of 15 digits is no other number's nearest. */
static uint32_t write_short(double size, uint8_t *out) {
    for (int places = 0; places <= 9; places += 3) {
        double scaled = size * POWERS[places];
        if (scaled >= 1e15) return 0;
        uint64_t value = (uint64_t)(scaled + 0.5);
        if (value && (double)value / POWERS[places] == size) return write_decimal(value, -places, out);
    }
    return 0;
}

static uint32_t write_sign(double *number, uint8_t *out) {
    if (!__builtin_signbit(*number)) return 0;
    *number = -*number;
    *out = '-';
    return 1;
}

uint32_t number_write(double number, uint8_t *out) {
    uint32_t sign = write_sign(&number, out), length;
    uint64_t bits;
    if (number == 0) return sign + number_write_whole(0, out + sign);
    if ((length = write_short(number, out + sign))) return sign + length;
    __builtin_memcpy(&bits, &number, sizeof bits);
    int exponent = (int)(bits >> 52);
    uint64_t mantissa = bits & 0xFFFFFFFFFFFFF;
    if (exponent) mantissa |= 1ull << 52;
    return sign + shortest(number, mantissa, (exponent ? exponent : 1) - 1075, &DOUBLE, out + sign);
}

uint32_t number_write_single(float number, uint8_t *out) {
    double size = number;
    uint32_t sign = write_sign(&size, out), bits;
    if (size == 0) return sign + number_write_whole(0, out + sign);
    __builtin_memcpy(&bits, &number, sizeof bits);
    uint32_t exponent = bits >> 23 & 0xFF, mantissa = bits & 0x7FFFFF;
    if (exponent) mantissa |= 1u << 23;
    return sign + shortest(size, mantissa, (int)(exponent ? exponent : 1) - 150, &SINGLE, out + sign);
}
