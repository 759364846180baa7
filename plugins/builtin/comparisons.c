#include "comparisons.h"

#include "json.h"
#include "match.h"

/* ---- reading ---- */

static void check_list(const Where *where, const Node *found) {
    if (found->type != TYPE_ARRAY || !found->first) refuse(where, found, "is not a list of scalars");
    Where here = {where, NULL, 0};
    for (const Node *child = found->first; child; child = child->next, here.index++) {
        if (is_container(child)) refuse(&here, child, "is not a scalar");
    }
}

static void check_operand(const Where *where, const Node *found, Comparator comparator) {
    switch (comparator) {
    case COMPARE_EXISTS:
        if (found->type != TYPE_TRUE && found->type != TYPE_FALSE) refuse(where, found, "is neither true nor false");
        break;
    case COMPARE_EQUALS:
    case COMPARE_NOT_EQUALS:
        if (is_container(found)) refuse(where, found, "is not a scalar");
        break;
    case COMPARE_ABOVE:
    case COMPARE_BELOW:
    case COMPARE_AT_LEAST:
    case COMPARE_AT_MOST:
        if (found->type != TYPE_NUMBER) refuse(where, found, "is not a number");
        break;
    case COMPARE_IN:
    case COMPARE_NOT_IN: check_list(where, found); break;
    default:
        if (found->type != TYPE_STRING) refuse(where, found, "is not a text");
    }
}

void comparison_read(const Where *where, const Node *object, Comparison *comparison) {
    static const char *const NAMES[] = {"exists",   "equals",  "not_equals", "above",       "below",
                                        "at_least", "at_most", "in",         "not_in",      "starts_with",
                                        "ends_with", "contains", "matches_glob"};
    for (Comparator comparator = COMPARE_EXISTS; comparator <= COMPARE_GLOB; comparator++) {
        const Node *operand = member(object, NAMES[comparator]);
        if (!operand) continue;
        if (comparison->operand) fail(where, NULL, "has more than one comparison");
        Where here = {where, NAMES[comparator], 0};
        check_operand(&here, operand, comparator);
        *comparison = (Comparison){comparator, operand};
    }
    if (!comparison->operand && fail(where, NULL, "needs one of: ")) fail_more(COMPARISONS);
}

/* ---- comparing ---- */

static bool is_number(Leaf value, bool loose) {
    return value.type == TYPE_NUMBER || (loose && json_is_number(value.text));
}

static int order(Leaf value, const Node *operand) {
    Decimal a = decimal(value.text), b = decimal(operand->text);
    return decimal_compare(&a, &b);
}

static bool equals(Leaf value, const Node *operand, bool loose) {
    if (operand->type == TYPE_NUMBER) return is_number(value, loose) && order(value, operand) == 0;
    if (value.type != (Type)operand->type) return false;
    return value.type != TYPE_STRING || same(value.text, operand->text);
}

static bool equals_any(Leaf value, const Node *list, bool loose) {
    for (const Node *item = list->first; item; item = item->next) {
        if (equals(value, item, loose)) return true;
    }
    return false;
}

static bool contains(Span text, Span part) {
    for (uint32_t i = 0; part.length <= text.length && i <= text.length - part.length; i++) {
        if (same((Span){text.at + i, part.length}, part)) return true;
    }
    return false;
}

static bool compare_text(Comparator comparator, Span text, Span operand) {
    if (comparator == COMPARE_GLOB) return glob_matches(operand, text);
    if (comparator == COMPARE_CONTAINS) return contains(text, operand);
    if (operand.length > text.length) return false;
    uint32_t at = comparator == COMPARE_STARTS_WITH ? 0 : text.length - operand.length;
    return same((Span){text.at + at, operand.length}, operand);
}

static bool compare_number(Comparator comparator, int order) {
    switch (comparator) {
    case COMPARE_ABOVE: return order > 0;
    case COMPARE_BELOW: return order < 0;
    case COMPARE_AT_LEAST: return order >= 0;
    default: return order <= 0;
    }
}

bool comparison_holds(const Comparison *comparison, Node *value, bool loose) {
    const Node *operand = comparison->operand;
    Leaf leaf = {(Type)value->type, {0}};
    if (is_scalar(value)) leaf.text = node_text(value);
    switch (comparison->comparator) {
    case COMPARE_EXISTS: return true;
    case COMPARE_EQUALS: return equals(leaf, operand, loose);
    case COMPARE_NOT_EQUALS: return !equals(leaf, operand, loose);
    case COMPARE_IN: return equals_any(leaf, operand, loose);
    case COMPARE_NOT_IN: return !equals_any(leaf, operand, loose);
    case COMPARE_ABOVE:
    case COMPARE_BELOW:
    case COMPARE_AT_LEAST:
    case COMPARE_AT_MOST:
        return is_number(leaf, loose) && compare_number(comparison->comparator, order(leaf, operand));
    default: return leaf.type == TYPE_STRING && compare_text(comparison->comparator, leaf.text, operand->text);
    }
}

bool comparison_is_absence(const Comparison *comparison) {
    return comparison->comparator == COMPARE_EXISTS && comparison->operand->type == TYPE_FALSE;
}
