/* The step `grid`: positions, each of two values, moved to the middle of their cell. */
#ifndef RULES_GRID_STEP_H
#define RULES_GRID_STEP_H

#include "grid.h"
#include "steps.h"

#define GRID_KEYS "latitude longitude degrees metres"

typedef struct {
    Path latitude, longitude;
    Grid grid;
} GridStep;

void grid_read(const Where *where, const Node *found, void *settings, Needs *needs);
Fate grid_run(void *settings, Message *message);

#endif
