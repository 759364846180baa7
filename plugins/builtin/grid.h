/* Positions moved to the middle of the cell of a grid that they are in.
 *
 * The grid has rows of equal height from pole to pole, and each row has cells of equal width all around; fewer towards
 * the poles, so that a cell is nowhere narrower than asked for. The middle of a cell is in it: moving twice is
 * moving once. Neighbouring positions on two sides of an edge part: a grid hides where something is, not that it moved
 * over an edge. */
#ifndef RULES_GRID_H
#define RULES_GRID_H

#include "decimal.h"
#include "leaf.h"

typedef struct {
    uint32_t rows;
    double around; /* cells around the equator, if they were as wide as asked for */
    uint32_t decimals;
} Grid;

/* Cells of at least so many degrees in each direction (of longitude: as wide as that at the equator), from 0.00001 to
 * 90. False if it is anything else. */
bool grid_by_degrees(const Decimal *degrees, Grid *grid);

/* Cells of at least so many metres in each direction, on the ellipsoid of WGS 84, from 1 to 5,000,000. */
bool grid_by_metres(const Decimal *metres, Grid *grid);

/* Both numbers as JSON writes them, as are the results. MASK_HIDE: a latitude beyond 90 or a longitude beyond 180
 * degrees. */
MaskResult grid_move(const Grid *grid, Span latitude, Span longitude, Span *moved_latitude, Span *moved_longitude);

#endif
