/* Decimal texts and binary floating-point numbers (IEEE 754), each the nearest of the other. */
#ifndef RULES_NUMBER_H
#define RULES_NUMBER_H

#include "span.h"

/* The number nearest to a decimal that JSON's grammar accepts, half-way ones to the even one; infinite if it is too
 * large. */
double number_double(Span text);
float number_single(Span text);

#define NUMBER_ROOM 32

/* Write the shortest decimal that is nearest to no other number; how many bytes it has, at most NUMBER_ROOM. The number
 * is finite. */
uint32_t number_write(double number, uint8_t *out);
uint32_t number_write_single(float number, uint8_t *out);

uint32_t number_write_whole(uint64_t number, uint8_t *out);

#endif
