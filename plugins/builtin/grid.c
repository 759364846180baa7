#include "grid.h"

#define PI 3.14159265358979323846
#define UNITS 100000000ll /* of a degree: integers keep binary fractions out */
#define UNIT_DIGITS 8
#define HALF (180 * UNITS)
#define FULL (360 * UNITS)

/* At the equator of WGS 84. A degree of latitude is nowhere shorter; one of longitude is elsewhere no shorter than the
 * cosine of the latitude makes it. */
#define LATITUDE_METRES 110574.275821
#define LONGITUDE_METRES 111319.490793

/* The number in units of 10^-8, cut towards zero; `most` at most. False if it is larger. */
static bool units(const Decimal *number, int64_t most, int64_t *value) {
    const uint8_t *at = number->first;
    int64_t size = 0;
    if (number->point > 10) return false;
    for (int64_t i = 0; i < number->point + UNIT_DIGITS; i++) {
        if (at < number->last && *at == '.') at++;
        size = size * 10 + (at < number->last ? *at++ - '0' : 0);
    }
    *value = number->negative ? -size : size;
    return size < most || (size == most && at >= number->last);
}

/* Enough of them that rounding does not leave the cell. */
static uint32_t decimals_for(double degrees) {
    uint32_t decimals = 2;
    for (; degrees < 1 && decimals < UNIT_DIGITS; decimals++) degrees *= 10;
    return decimals;
}

static void set(Grid *grid, double height, double width) {
    grid->rows = (uint32_t)(180 / height);
    grid->around = 360 / width;
    grid->decimals = decimals_for(height < width ? height : width);
}

bool grid_by_degrees(const Decimal *degrees, Grid *grid) {
    int64_t size;
    if (!units(degrees, 90 * UNITS, &size) || size < UNITS / 100000) return false;
    set(grid, (double)size / UNITS, (double)size / UNITS);
    grid->rows = (uint32_t)(HALF / size);
    return true;
}

bool grid_by_metres(const Decimal *metres, Grid *grid) {
    int64_t size;
    if (!units(metres, 5000000 * UNITS, &size) || size < UNITS) return false;
    set(grid, (double)size / UNITS / LATITUDE_METRES, (double)size / UNITS / LONGITUDE_METRES);
    return true;
}

/* From 0 to half a turn, to 12 digits; the library of C is not there. */
static double cosine(double angle) {
    double square = angle * angle, term = 1, sum = 1;
    for (int i = 1; i < 16; i++) {
        term *= -square / ((2 * i - 1) * (2 * i));
        sum += term;
    }
    return sum;
}

/* How many cells fit into a row: measured where it is shortest, at its edge towards the pole. */
static int64_t cells_in(const Grid *grid, int64_t row) {
    int64_t from_south = row + 1, from_north = grid->rows - row;
    int64_t edge = 2 * (from_south > from_north ? from_south : from_north) - grid->rows; /* of rows / 2 to the pole */
    double cells = grid->around * cosine(PI / 2 * (double)edge / grid->rows) * (1 - 1e-9);
    return cells < 1 ? 1 : (int64_t)cells;
}

/* The middle of cell `index` of `count` cells over `range`, which begin at -range / 2, rounded. */
static int64_t middle_of(int64_t index, int64_t count, int64_t range, uint32_t decimals) {
    int64_t scale = 1;
    for (uint32_t i = decimals; i < UNIT_DIGITS; i++) scale *= 10;
    int64_t middle = (2 * index + 1) * (range / 2) / count;
    return (middle + scale / 2) / scale * scale - range / 2;
}

static Span append_units(int64_t value) {
    uint8_t text[24], *at = text + sizeof text;
    uint64_t size = value < 0 ? (uint64_t)-value : (uint64_t)value;
    uint32_t place = 0;
    while (place < UNIT_DIGITS && size % 10 == 0) size /= 10, place++;
    while (place < UNIT_DIGITS) *--at = (uint8_t)('0' + size % 10), size /= 10, place++;
    if (at < text + sizeof text) *--at = '.';
    do *--at = (uint8_t)('0' + size % 10);
    while (size /= 10);
    if (value < 0) *--at = '-';
    uint32_t length = (uint32_t)(text + sizeof text - at);
    return (Span){geomq_append(at, length), length};
}

MaskResult grid_move(const Grid *grid, Span latitude, Span longitude, Span *moved_latitude, Span *moved_longitude) {
    uint8_t *mark = geomq_mark();
    Decimal exact_latitude = decimal(latitude), exact_longitude = decimal(longitude);
    int64_t north, east;
    if (!units(&exact_latitude, HALF / 2, &north) || !units(&exact_longitude, HALF, &east)) return MASK_HIDE;
    int64_t row = (int64_t)((uint64_t)(north + HALF / 2) * grid->rows / HALF);
    if (row == grid->rows) row--;
    int64_t cells = cells_in(grid, row);
    int64_t cell = (int64_t)((uint64_t)(east + HALF) * (uint64_t)cells / FULL) % cells; /* 180 is -180 */
    *moved_latitude = append_units(middle_of(row, grid->rows, HALF, grid->decimals));
    *moved_longitude = append_units(middle_of(cell, cells, FULL, grid->decimals));
    if (!same(*moved_latitude, latitude) || !same(*moved_longitude, longitude)) return MASK_CHANGED;
    geomq_release(mark);
    return MASK_SAME;
}
