#include "hours.h"

#include "leaf.h"

#define DAY 1440 /* minutes */

/* The minutes of `HH:MM`; DAY or more if it is not such a time. */
static uint32_t minutes(Span text) {
    const uint8_t *at = text.at;
    if (text.length != 5 || at[2] != ':' || !is_digit(at[0]) || !is_digit(at[1]) || !is_digit(at[3]) || at[3] > '5' ||
        !is_digit(at[4]))
        return DAY;
    uint32_t hour = (at[0] - '0') * 10u + at[1] - '0';
    return hour * 60 + (at[3] - '0') * 10u + at[4] - '0';
}

static uint32_t read_minutes(const Where *where, const Node *object, const char *name) {
    Where here = {where, name, 0};
    const Node *found = member(object, name);
    uint32_t value = found && found->type == TYPE_STRING ? minutes(found->text) : DAY;
    if (value >= DAY) refuse(&here, found, "is not a time from 00:00 to 23:59");
    return value;
}

static uint32_t read_days(const Where *where, const Node *found) {
    static const char *const DAYS[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
    uint32_t days = 0;
    if (found->type != TYPE_ARRAY || !found->first) refuse(where, found, "is not a list of days");
    Where here = {where, NULL, 0};
    for (const Node *child = found->first; child; child = child->next, here.index++) {
        uint32_t day = 0;
        while (day < 7 && !(child->type == TYPE_STRING && named(child->text, DAYS[day]))) day++;
        if (day == 7) refuse(&here, child, "is not one of mon, tue, wed, thu, fri, sat, sun");
        days |= 1u << day;
    }
    return days;
}

void hours_read(const Where *where, const Node *found, Hours *hours) {
    *hours = (Hours){0, 0, 0x7F};
    if (!check_object(where, found, "from to days", "")) return;
    const Node *days = member(found, "days");
    Where here = {where, "days", 0};
    if (member(found, "from") || member(found, "to")) {
        hours->from = read_minutes(where, found, "from");
        hours->to = read_minutes(where, found, "to");
        if (hours->from == hours->to) fail(where, NULL, "from and to are the same; leave both out for the whole day");
    } else if (!days) {
        fail(where, NULL, "needs from and to, or days");
    }
    if (days) hours->days = read_days(&here, days);
}

bool hours_hold(const Hours *hours, uint64_t now_ms, int32_t utc_offset) {
    int64_t minute = ((int64_t)(now_ms / 1000) + utc_offset) / 60;
    uint32_t now = (uint32_t)(minute % DAY);
    uint32_t day = (uint32_t)(minute / DAY + 3) % 7; /* 1970 began on a Thursday */
    bool over_midnight = hours->from > hours->to;
    if (over_midnight && now < hours->to) return hours->days >> (day + 6) % 7 & 1;
    bool within = hours->from == hours->to || (now >= hours->from && (over_midnight || now < hours->to));
    return within && (hours->days >> day & 1);
}

bool offset_read(const Where *where, const Node *found, int32_t *seconds) {
    if (found->type == TYPE_STRING && named(found->text, "local")) return false;
    bool valid = found->type == TYPE_STRING && found->text.length == 6 &&
                 (found->text.at[0] == '+' || found->text.at[0] == '-');
    uint32_t value = valid ? minutes((Span){found->text.at + 1, 5}) : DAY;
    if (value >= DAY) {
        refuse(where, found, "is neither local nor an offset such as +08:00");
        return false;
    }
    *seconds = (int32_t)value * (found->text.at[0] == '-' ? -60 : 60);
    return true;
}
