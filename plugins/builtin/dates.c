#include "dates.h"

#include "decimal.h"

#define DAY_SECONDS 86400

static bool is_leap(uint32_t year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

bool is_day(uint32_t year, uint32_t month, uint32_t day) {
    static const uint8_t DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12) return false;
    return day >= 1 && day <= DAYS[month - 1] + (month == 2 && is_leap(year) ? 1u : 0u);
}

/* ---- texts ---- */

/* A text being read, and the copy in which what is cut off is overwritten. */
typedef struct {
    const uint8_t *at, *end;
    uint8_t *copy; /* of the byte at `at` */
    bool changed;
} Reader;

static bool next_is(const Reader *reader, uint8_t byte) { return reader->at < reader->end && *reader->at == byte; }

static void skip(Reader *reader, uint32_t count) {
    reader->at += count;
    reader->copy += count;
}

static bool take(Reader *reader, uint8_t byte) {
    if (!next_is(reader, byte)) return false;
    skip(reader, 1);
    return true;
}

static bool has_digits(const Reader *reader, uint32_t count) {
    if (reader->end - reader->at < (int32_t)count) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_digit(reader->at[i])) return false;
    }
    return true;
}

/* A number of so many digits, up to `most`; if it is `cut` off, `least` stands in its place. */
static bool field(Reader *reader, uint32_t count, uint32_t least, uint32_t most, bool cut, uint32_t *value) {
    *value = 0;
    if (!has_digits(reader, count)) return false;
    for (uint32_t i = 0; i < count; i++) *value = *value * 10 + (uint32_t)(reader->at[i] - '0');
    if (cut && *value != least) {
        reader->changed = true;
        reader->copy[0] = '0';
        reader->copy[1] = (uint8_t)('0' + least);
    }
    skip(reader, count);
    return *value >= least && *value <= most;
}

static void cut_fraction(Reader *reader) {
    for (; has_digits(reader, 1); skip(reader, 1)) {
        if (*reader->at == '0') continue;
        reader->changed = true;
        *reader->copy = '0';
    }
}

/* YYYY, YYYY-MM, YYYY-MM-DD or YYYYMMDD. Tells whether a time may follow, and that it has no colons. */
static bool date(Reader *reader, DateUnit unit, bool *is_whole, bool *is_basic) {
    uint32_t year, month, day;
    *is_whole = *is_basic = false;
    if (!field(reader, 4, 0, 9999, false, &year)) return false;
    if (reader->at == reader->end) return true;
    *is_basic = !take(reader, '-');
    if (!field(reader, 2, 1, 12, unit >= DATE_YEAR, &month)) return false;
    if (!*is_basic && reader->at == reader->end) return true;
    *is_whole = true;
    if (!*is_basic && !take(reader, '-')) return false;
    return field(reader, 2, 1, 31, unit >= DATE_MONTH, &day) && is_day(year, month, day);
}

/* HH, HH:MM, HH:MM:SS with a fraction, or the same without colons. */
static bool time_of_day(Reader *reader, DateUnit unit, bool is_basic) {
    uint32_t hour, minute = 0, second = 0;
    if (!field(reader, 2, 0, 24, unit >= DATE_DAY, &hour)) return false;
    if (is_basic ? has_digits(reader, 1) : take(reader, ':')) {
        if (!field(reader, 2, 0, 59, true, &minute)) return false;
        if (is_basic ? has_digits(reader, 1) : take(reader, ':')) {
            if (!field(reader, 2, 0, 60, true, &second)) return false;
        }
    }
    if (take(reader, '.') || take(reader, ',')) {
        if (!has_digits(reader, 1)) return false;
        cut_fraction(reader);
    }
    return hour < 24 || minute + second == 0;
}

/* Z, +02, +0200 or +02:00, or nothing; a space may stand before it. */
static bool zone(Reader *reader) {
    uint32_t hours, minutes;
    if (reader->at == reader->end) return true;
    take(reader, ' ');
    if (take(reader, 'Z') || take(reader, 'z')) return true;
    if (!take(reader, '+') && !take(reader, '-')) return false;
    if (!field(reader, 2, 0, 23, false, &hours)) return false;
    if (reader->at == reader->end) return true;
    take(reader, ':');
    return field(reader, 2, 0, 59, false, &minutes);
}

static bool date_and_time(Reader *reader, DateUnit unit) {
    bool is_whole, is_basic;
    if (!date(reader, unit, &is_whole, &is_basic)) return false;
    if (reader->at == reader->end) return true;
    bool is_run = is_basic && reader->end - reader->at == 6 && has_digits(reader, 6);
    if (!is_whole || !(is_run || take(reader, 'T') || take(reader, 't') || take(reader, ' '))) return false;
    is_basic = reader->end - reader->at > 2 && reader->at[2] != ':';
    return time_of_day(reader, unit, is_basic) && zone(reader) && reader->at == reader->end;
}

MaskResult date_text(DateUnit unit, Span text, Span *out) {
    uint8_t *mark = geomq_mark(), *copy = geomq_append(text.at, text.length);
    Reader reader = {text.at, text.at + text.length, copy, false};
    bool valid = date_and_time(&reader, unit);
    if (valid && reader.changed) {
        *out = appended(mark);
        return MASK_CHANGED;
    }
    geomq_release(mark);
    return valid ? MASK_SAME : MASK_HIDE;
}

/* ---- numbers ---- */

/* Rounded towards below. False if it does not fit. */
static bool whole(const Decimal *number, int64_t *value) {
    const uint8_t *at = number->first;
    int64_t size = 0;
    if (number->point > 19) return false;
    for (int64_t i = 0; i < number->point; i++) {
        if (at < number->last && *at == '.') at++;
        int32_t digit = at < number->last ? *at++ - '0' : 0;
        if (size > (INT64_MAX - 9) / 10) return false;
        size = size * 10 + digit;
    }
    bool rest = at < number->last;
    *value = number->negative ? -size - (rest ? 1 : 0) : size;
    return true;
}

static int64_t floor_divide(int64_t value, int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

/* Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"): years begin in March. */
static int64_t first_of_month(int64_t days, bool of_year) {
    days += 719468;
    int64_t era = floor_divide(days, 146097), day_of_era = days - era * 146097;
    int64_t year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100), month = (5 * day_of_year + 2) / 153;
    int64_t first = days - (day_of_year - (153 * month + 2) / 5) - 719468;
    if (!of_year) return first;
    if (month >= 10) return first - (month == 11 ? 31 : 0);
    /* January and February stand at the end of the year before. */
    bool leap = year % 4 == 0 && (year % 100 != 0 || year == 0);
    return days - day_of_year - 719468 - (leap ? 60 : 59);
}

static int64_t cut_seconds(DateUnit unit, int64_t seconds) {
    if (unit == DATE_HOUR) return floor_divide(seconds, 3600) * 3600;
    int64_t days = floor_divide(seconds, DAY_SECONDS);
    return (unit == DATE_DAY ? days : first_of_month(days, unit == DATE_YEAR)) * DAY_SECONDS;
}

static int64_t ticks_a_second(int64_t value) {
    uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
    return size < 100000000000 ? 1 : size < 100000000000000 ? 1000 : size < 100000000000000000 ? 1000000 : 1000000000;
}

static void append_number(int64_t value) {
    uint8_t text[20], *at = text + sizeof text;
    uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do *--at = (uint8_t)('0' + size % 10);
    while (size /= 10);
    if (value < 0) *--at = '-';
    geomq_append(at, (uint32_t)(text + sizeof text - at));
}

MaskResult date_number(DateUnit unit, int32_t offset, Span number, Span *out) {
    const uint8_t *mark = geomq_mark();
    Decimal exact = decimal(number);
    int64_t value;
    if (!whole(&exact, &value)) return MASK_HIDE;
    int64_t ticks = ticks_a_second(value);
    int64_t seconds = cut_seconds(unit, floor_divide(value, ticks) + offset) - offset;
    if (seconds < INT64_MIN / ticks) return MASK_HIDE;
    append_number(seconds * ticks);
    *out = appended(mark);
    if (!same(*out, number)) return MASK_CHANGED;
    geomq_release((uint8_t *)mark);
    return MASK_SAME;
}
