/* The step `grid`: positions, each of two values, moved to the middle of their cell. */
#include "../sdk/c/geomq_plugin.h"
#include "grid.h"
#include "json.h"
#include "steps.h"

typedef struct {
    Path latitude, longitude;
    Grid grid;
} GridStep;

static const Leaf HIDDEN = {TYPE_STRING, {(const uint8_t *)"***", 3}};

/* ---- reading ---- */

static Path read_part(const Where *where, const Node *found, const char *name) {
    Where here = {where, name, 0};
    const Node *part = member(found, name);
    if (part) return path_read(&here, part);
    fail(&here, NULL, "is required");
    return (Path){0};
}

static void read(const Where *where, const Node *found, void *settings, Needs *needs) {
    GridStep *step = settings;
    needs->needs_payload = true;
    step->latitude = read_part(where, found, "latitude");
    step->longitude = read_part(where, found, "longitude");
    const Node *degrees = member(found, "degrees"), *metres = member(found, "metres"), *size = degrees ? degrees : metres;
    Where here = {where, degrees ? "degrees" : "metres", 0};
    if (!degrees == !metres) {
        fail(where, NULL, "needs one of degrees and metres");
        return;
    }
    Decimal number = size->type == TYPE_NUMBER ? decimal(size->text) : (Decimal){0};
    if (degrees && !grid_by_degrees(&number, &step->grid)) refuse(&here, size, "is not a number from 0.00001 to 90");
    if (metres && !grid_by_metres(&number, &step->grid)) refuse(&here, size, "is not a number from 1 to 5000000");
}

/* ---- running ---- */

typedef struct Found {
    Node *node;
    struct Found *next;
} Found;

typedef struct {
    Found *first, **link;
} List;

static bool collect(Node *node, void *context) {
    List *list = context;
    Found *found = geomq_take(sizeof(Found));
    *found = (Found){node, NULL};
    *list->link = found;
    list->link = &found->next;
    return false;
}

static Found *find_all(const Path *path, Node *root) {
    List list = {NULL, &list.first};
    path_visit(path, root, collect, &list);
    return list.first;
}

static bool is_number(Leaf leaf) {
    return leaf.type == TYPE_NUMBER || (leaf.type == TYPE_STRING && json_is_number(leaf.text));
}

static void move(const Grid *grid, Node *latitude, Node *longitude) {
    Leaf from[2], to[2];
    if (is_scalar(latitude) && is_scalar(longitude)) {
        from[0] = node_leaf(latitude), from[1] = node_leaf(longitude);
        to[0].type = from[0].type, to[1].type = from[1].type;
        if (is_number(from[0]) && is_number(from[1])) {
            MaskResult result = grid_move(grid, from[0].text, from[1].text, &to[0].text, &to[1].text);
            if (result == MASK_SAME) return;
            if (result == MASK_CHANGED) {
                node_replace(latitude, to[0]);
                node_replace(longitude, to[1]);
                return;
            }
        }
    }
    node_replace(latitude, HIDDEN);
    node_replace(longitude, HIDDEN);
}

/* Latitudes and longitudes are pairs if they are members or elements of the same value; or if there is one of each. A
 * number without the other is hidden: a longitude alone tells too much. */
static Fate run(void *settings, Message *message) {
    const GridStep *step = settings;
    Found *latitude = find_all(&step->latitude, message->root), *longitude = find_all(&step->longitude, message->root);
    bool single = latitude && longitude && !latitude->next && !longitude->next;
    for (; latitude; latitude = latitude->next) {
        Found *pair = longitude;
        while (pair && !single && pair->node->parent != latitude->node->parent) pair = pair->next;
        if (!pair) {
            node_replace(latitude->node, HIDDEN);
            continue;
        }
        for (; longitude != pair; longitude = longitude->next) node_replace(longitude->node, HIDDEN);
        move(&step->grid, latitude->node, pair->node);
        longitude = pair->next;
    }
    for (; longitude; longitude = longitude->next) node_replace(longitude->node, HIDDEN);
    return GO_ON;
}

const StepKind STEP_GRID = {"grid", "latitude longitude degrees metres", sizeof(GridStep), read, run};
