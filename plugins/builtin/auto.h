/* Finding out which format a payload has. */
#ifndef RULES_AUTO_H
#define RULES_AUTO_H

#include "tree.h"

/* Read a payload by the content type among its MQTT 5 properties, else by its first byte; NULL where it is not what it
 * claims to be, or could be either of two formats. */
Node *auto_read(Span payload, Span properties);

/* In words, why auto_read has found nothing. */
Span auto_reason(Span properties);

#endif
