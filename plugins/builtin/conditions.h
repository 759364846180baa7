/* Conditions: what `when` says. */
#ifndef RULES_CONDITIONS_H
#define RULES_CONDITIONS_H

#include "message.h"
#include "settings.h"

typedef struct Condition Condition;

/* Never NULL. `needs_payload` becomes true if it asks for a value of the payload. */
Condition *condition_read(const Where *where, const Node *found, bool *needs_payload);

/* One that holds where the other does not. */
Condition *condition_not(Condition *inner);

/* The payload has been read, if the condition asks for it. */
bool condition_holds(const Condition *condition, const Message *message);

#endif
