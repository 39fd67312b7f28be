/* See duration.h.  One table of units; several names of one unit differ only by a factor. */
#include "schedules/duration.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum duration_unit unit;
    double factor;
} units[] = {
    {"st", DURATION_STEPS, 1},     {"ep", DURATION_EPOCHS, 1},     {"run", DURATION_RUN, 1},
    {"phase", DURATION_PHASE, 1},  {"d", DURATION_SECONDS, 86400}, {"h", DURATION_SECONDS, 3600},
    {"min", DURATION_SECONDS, 60}, {"s", DURATION_SECONDS, 1},     {"tok", DURATION_TOKENS, 1},
};
enum { UNIT_COUNT = sizeof units / sizeof units[0] };

bool duration_parse(struct duration *out, const char *text)
{
    char *rest;
    if (text[0] != '.' && (text[0] < '0' || text[0] > '9'))
        return false;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return false;
    double amount = strtod(text, &rest);
    if (rest == text || !isfinite(amount) || amount < 0)
        return false;
    while (*rest == ' ')
        rest++;
    for (int i = 0; i < UNIT_COUNT; i++) {
        if (strcmp(rest, units[i].name) != 0)
            continue;
        if (!isfinite(amount * units[i].factor))
            return false;
        out->unit = units[i].unit;
        out->amount = amount * units[i].factor;
        return true;
    }
    return false;
}

/* Shortest decimal that reads back as the same double. */
static void format_amount(char *text, size_t bytes, double amount)
{
    for (int precision = 1; precision <= 17; precision++) {
        (void)snprintf(text, bytes, "%.*g", precision, amount);
        if (strtod(text, NULL) == amount)
            break;
    }
    if (strchr(text, 'e') != NULL && amount < 1e15 && amount == floor(amount))
        (void)snprintf(text, bytes, "%.0f", amount);
}

void duration_format(char text[DURATION_TEXT_BYTES], struct duration d)
{
    char amount[32];
    text[0] = '\0';
    if (d.unit == DURATION_UNSET)
        return;
    for (int i = 0; i < UNIT_COUNT; i++) {
        double n = d.amount / units[i].factor;
        bool exact = n >= 1 && n == floor(n) && n * units[i].factor == d.amount;
        if (units[i].unit != d.unit || (units[i].factor > 1 && !exact))
            continue;
        format_amount(amount, sizeof amount, n);
        (void)snprintf(text, DURATION_TEXT_BYTES, "%s%s", amount, units[i].name);
        return;
    }
}

int64_t duration_steps(struct duration d, const struct duration_scale *scale)
{
    double per_unit = 0;
    switch (d.unit) {
    case DURATION_STEPS:
        per_unit = 1;
        break;
    case DURATION_EPOCHS:
        per_unit = scale->steps_per_epoch;
        break;
    case DURATION_RUN:
        per_unit = (double)scale->run_steps;
        break;
    case DURATION_PHASE:
        per_unit = (double)scale->phase_steps;
        break;
    case DURATION_UNSET:
    case DURATION_SECONDS:
    case DURATION_TOKENS:
        return -1;
    }
    if (!(per_unit > 0))
        return -1;
    /* 0.3 * 10 is a little more than 3: what rounding made must not cost a step. */
    double steps = ceil(d.amount * per_unit * (1 - 1e-12));
    return steps < 9e18 ? (int64_t)steps : INT64_MAX;
}
