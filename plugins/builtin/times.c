#include "times.h"

#include "../sdk/c/geomq_plugin.h"

static uint8_t *write_digits(uint8_t *out, uint32_t number, uint32_t count) {
    for (uint32_t i = count; i-- > 0; number /= 10) out[i] = (uint8_t)('0' + number % 10);
    return out + count;
}

/* The civil date of a day since 1970, by the 400 years in which the calendar repeats; the year begins in March. */
static uint8_t *write_date(uint8_t *out, uint32_t day) {
    uint32_t shifted = day + 719468, era = shifted / 146097, of_era = shifted % 146097;
    uint32_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    out = write_digits(out, year + era * 400 + (month >= 10), 4);
    *out++ = '-';
    out = write_digits(out, month < 10 ? month + 3 : month - 9, 2);
    *out++ = '-';
    return write_digits(out, of_year - (153 * month + 2) / 5 + 1, 2);
}

void time_write(uint64_t now_ms) {
    uint8_t text[24];
    uint32_t ms = (uint32_t)(now_ms % 86400000), seconds = ms / 1000;
    uint8_t *at = write_date(text, (uint32_t)(now_ms / 86400000));
    *at++ = 'T';
    at = write_digits(at, seconds / 3600, 2);
    *at++ = ':';
    at = write_digits(at, seconds / 60 % 60, 2);
    *at++ = ':';
    at = write_digits(at, seconds % 60, 2);
    *at++ = '.';
    at = write_digits(at, ms % 1000, 3);
    *at++ = 'Z';
    geomq_append(text, (uint32_t)(at - text));
}
