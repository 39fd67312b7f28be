/*
 * A picture is laid out once in its own units (the viewBox) and scaled by whoever shows it, so no
 * script and no measuring of text is needed; widths of words are estimated at half their size.
 * Coordinates keep two decimals, a hundredth of a unit.
 */
#include "io/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/chart_draw.h"

enum { LEGEND_LETTERS_MAX = 40, LEGEND_LINE = 16, DECADES_MAX = 5 };

static double frame_y(const struct chart_frame *f, double y)
{
    double v = f->log_y ? fmax(log10(y), f->y0) : y;
    return f->bottom - (v - f->y0) / (f->y1 - f->y0) * (f->bottom - f->top);
}

/* Powers of ten, with 2 and 5 between them on a short axis. */
static int32_t log_ticks(double *ticks, int32_t capacity, double low, double high)
{
    static const double PARTS[] = {1, 2, 5};
    int32_t count = 0;
    double decades = high - low, stride = ceil(decades / 8);
    if (decades < 0.7)
        return chart_ticks(ticks, capacity, pow(10, low), pow(10, high), 4);
    for (double e = floor(low); e <= high && count + 3 <= capacity; e += fmax(stride, 1)) {
        for (int i = 0; i < (decades <= 3 ? 3 : 1); i++) {
            double at = e + log10(PARTS[i]);
            if (at >= low - 1e-9 && at <= high + 1e-9)
                ticks[count++] = PARTS[i] * pow(10, e);
        }
    }
    return count;
}

static int32_t series_color(const struct chart_spec *c, int32_t i)
{
    int32_t color = c->series[i].color;
    return color > 0 ? color - 1 : i;
}

/* A value as its axis reads. */
static void format_value(char text[MARKUP_NUMBER_BYTES], const struct chart_spec *c, double value,
                         int digits)
{
    if (!c->y_unit_interval) {
        markup_format_number(text, value, digits);
        return;
    }
    markup_format_number(text, value * 100, digits);
    size_t end = strlen(text);
    memcpy(text + end, "%", 2);
}

/* Widens low..high to the values that are shown; false where there is none. */
static bool measure(const double *v, const double *partner, int64_t count, bool log_axis,
                    double *low, double *high)
{
    bool any = false;
    for (int64_t i = 0; i < count; i++) {
        if (!chart_is_shown(v[i], log_axis) ||
            (partner != NULL && !chart_is_shown(partner[i], false)))
            continue;
        *low = fmin(*low, v[i]);
        *high = fmax(*high, v[i]);
        any = true;
    }
    return any;
}

static void widen(double *low, double *high, double share)
{
    double span = *high - *low, pad = span * share;
    if (span <= 1e-12 * fmax(fabs(*low), fabs(*high)))
        pad = *low != 0 ? fabs(*low) * 0.1 : 1;
    *low -= pad;
    *high += pad;
}

static void find_y_range(struct chart_frame *f, const struct chart_spec *c, double y0, double y1)
{
    if (c->log_y) {
        y1 = log10(y1);
        y0 = fmax(log10(y0), y1 - DECADES_MAX);
        widen(&y0, &y1, 0.05);
    } else {
        bool zero = c->categories != NULL || c->y_from_zero, below = y0<0, above = y1> 0;
        if (zero) {
            y0 = fmin(y0, 0);
            y1 = fmax(y1, 0);
        }
        widen(&y0, &y1, 0.06);
        y0 = zero && !below ? 0 : y0;
        y1 = zero && !above ? 0 : y1;
        if (c->y_unit_interval) {
            y0 = below ? y0 : fmax(y0, 0);
            y1 = y1 < 1.2 ? fmin(y1, 1) : y1;
        }
        if (!(y1 > y0))
            y1 = y0 + 1;
    }
    f->y0 = y0;
    f->y1 = y1;
}

static bool find_ranges(struct chart_frame *f, const struct chart_spec *c)
{
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    bool any = false, bars = c->categories != NULL, points = false;
    for (int32_t s = 0; s < c->series_count; s++) {
        const struct chart_series *v = &c->series[s];
        points |= v->kind == CHART_POINTS;
        any |= measure(v->y, bars ? NULL : v->x, v->count, c->log_y, &y0, &y1);
        if (!bars)
            (void)measure(v->x, NULL, v->count, false, &x0, &x1);
    }
    if (!any)
        return false;
    for (int32_t b = 0; b < c->band_count; b++) {
        (void)measure(&c->bands[b].begin, NULL, 1, false, &x0, &x1);
        (void)measure(&c->bands[b].end, NULL, 1, false, &x0, &x1);
    }
    if (bars) {
        x0 = -0.5;
        x1 = c->category_count - 0.5;
    } else if (!(x1 > x0) || points) {
        widen(&x0, &x1, points ? 0.05 : 0);
    }
    f->x0 = x0;
    f->x1 = x1;
    f->log_y = c->log_y;
    find_y_range(f, c, y0, y1);
    return true;
}

/* Answers the height that the legend takes; draws only with draw. */
static double add_legend(struct markup *out, const struct chart_spec *c, double y, double width,
                         bool draw)
{
    double x = CHART_LEFT, height = 0, most = LEGEND_LETTERS_MAX * CHART_TEXT_UNIT;
    for (int32_t i = 0; i < c->series_count; i++) {
        const struct chart_series *s = &c->series[i];
        bool says_title = s->name != NULL && c->title != NULL && strcmp(s->name, c->title) == 0;
        if (s->name == NULL || *s->name == '\0' || says_title)
            continue;
        double need = 22 + fmin(chart_text_width(s->name), most) + 12;
        if (height == 0)
            height = LEGEND_LINE;
        if (x + need > width - CHART_MARGIN && x > CHART_LEFT) {
            x = CHART_LEFT;
            height += LEGEND_LINE;
        }
        if (draw) {
            int32_t color = series_color(c, i);
            double at = y + height - 4;
            if (s->kind == CHART_BARS || s->kind == CHART_POINTS || c->categories != NULL)
                markup_addf(out,
                            "<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"8\" rx=\"2\" "
                            "class=\"c%d\"/>\n",
                            x + 4, at - 8, color % CHART_PALETTE);
            else
                markup_addf(out, "<path d=\"M%.1f,%.1fh16\" class=\"ln s%d h%d\"/>\n", x, at - 4,
                            color % CHART_PALETTE, color / CHART_PALETTE);
            chart_text_fitting(out, x + 20, at, "start", NULL, s->name, most);
        }
        x += need;
    }
    return height;
}

static void add_bands(const struct chart_frame *f, const struct chart_spec *c)
{
    for (int32_t i = 0; i < c->band_count; i++) {
        const struct chart_band *b = &c->bands[i];
        if (!chart_is_shown(b->begin, false) || !chart_is_shown(b->end, false) || b->end < b->begin)
            continue;
        double left = chart_frame_x(f, b->begin), width = chart_frame_x(f, b->end) - left;
        markup_addf(f->out,
                    "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" class=\"%s\">",
                    left, f->top, fmax(width, 0.5), f->bottom - f->top, i % 2 == 0 ? "bd" : "be");
        if (b->label != NULL)
            chart_tip(f->out, b->label);
        markup_add(f->out, "</rect>\n");
        if (b->label != NULL)
            chart_text_fitting(f->out, left + 1, f->top - 4, "start", "bl", b->label, width - 3);
    }
}

static void add_y_axis(const struct chart_frame *f, const struct chart_spec *c)
{
    double ticks[CHART_TICKS_MAX];
    int32_t wanted = (int32_t)fmax((f->bottom - f->top) / 32, 2);
    int32_t count = f->log_y ? log_ticks(ticks, CHART_TICKS_MAX, f->y0, f->y1)
                             : chart_ticks(ticks, CHART_TICKS_MAX, f->y0, f->y1, wanted);
    for (int32_t i = 0; i < count; i++) {
        char text[MARKUP_NUMBER_BYTES];
        double y = frame_y(f, ticks[i]);
        format_value(text, c, ticks[i], 6);
        markup_addf(f->out, "<path d=\"M%.1f,%.2fH%.1f\" class=\"gr\"/>\n", f->left, y, f->right);
        chart_text(f->out, f->left - 6, y + 4, "end", NULL, text);
    }
    if (c->y_label != NULL) {
        markup_addf(f->out,
                    "<text transform=\"translate(12 %.1f) rotate(-90)\" text-anchor=\"middle\" "
                    "class=\"bl\">",
                    (f->top + f->bottom) / 2);
        markup_add_escaped(f->out, c->y_label);
        markup_add(f->out, "</text>\n");
    }
}

static bool is_point(const struct chart_frame *f, const struct chart_series *s, int64_t i)
{
    return i >= 0 && i < s->count && chart_is_shown(s->x[i], false) &&
           chart_is_shown(s->y[i], f->log_y);
}

static void add_dot(const struct chart_frame *f, double x, double y, int32_t color, double radius)
{
    markup_addf(f->out, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"%.1f\" class=\"c%d\"/>\n",
                chart_frame_x(f, x), frame_y(f, y), radius, color % CHART_PALETTE);
}

/* One path with a move wherever a gap ends; a point between two gaps is a dot. */
static void add_line(const struct chart_frame *f, const struct chart_series *s, int32_t color)
{
    double last_y = 0;
    markup_addf(f->out, "<path class=\"ln s%d h%d%s\"", color % CHART_PALETTE,
                color / CHART_PALETTE, s->faint ? " fa" : "");
    if (s->name != NULL) {
        markup_add(f->out, " data-name=\"");
        markup_add_escaped(f->out, s->name);
        markup_add(f->out, "\"");
    }
    markup_add(f->out, " d=\"");
    for (int64_t i = 0; i < s->count; i++) {
        if (!is_point(f, s, i))
            continue;
        bool down = is_point(f, s, i - 1);
        double x = chart_frame_x(f, s->x[i]), y = frame_y(f, s->y[i]);
        if (down && s->kind == CHART_STEP)
            markup_addf(f->out, "L%.2f,%.2f", x, last_y);
        markup_addf(f->out, "%c%.2f,%.2f", down ? 'L' : 'M', x, y);
        last_y = y;
    }
    markup_add(f->out, "\"/>\n");
    for (int64_t i = 0; i < s->count; i++)
        if (is_point(f, s, i) && (s->dots || (!is_point(f, s, i - 1) && !is_point(f, s, i + 1))))
            add_dot(f, s->x[i], s->y[i], color, s->faint ? 1 : 2.6);
}

static void add_points(const struct chart_frame *f, const struct chart_series *s, int32_t color)
{
    for (int64_t i = 0; i < s->count; i++)
        if (is_point(f, s, i))
            add_dot(f, s->x[i], s->y[i], color, 4);
}

static void add_bar(const struct chart_frame *f, const struct chart_spec *c, int32_t k, int32_t s,
                    double x, double width)
{
    const struct chart_series *v = &c->series[s];
    char text[MARKUP_NUMBER_BYTES], tip[256];
    if (k >= v->count || !chart_is_shown(v->y[k], f->log_y))
        return;
    double y = frame_y(f, v->y[k]);
    double base = f->log_y ? f->bottom : frame_y(f, fmax(f->y0, fmin(f->y1, 0)));
    format_value(text, c, v->y[k], 3);
    (void)snprintf(tip, sizeof tip, "%.100s, %.100s: %s", c->categories[k],
                   v->name != NULL ? v->name : "", text);
    markup_addf(f->out, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" class=\"c%d\">",
                x, fmin(y, base), fmax(width - 1.5, 0.5), fabs(base - y),
                series_color(c, s) % CHART_PALETTE);
    chart_tip(f->out, tip);
    markup_add(f->out, "</rect>\n");
    if (width >= chart_text_width(text) - 2)
        chart_text(f->out, x + width / 2, fmin(y, base) - 4, "middle", "bl", text);
}

static void add_bars(const struct chart_frame *f, const struct chart_spec *c)
{
    double group = (f->right - f->left) / c->category_count;
    double bar = fmin(0.8 * group / fmax(c->series_count, 1), 48);
    for (int32_t k = 0; k < c->category_count; k++) {
        double middle = chart_frame_x(f, k), x = middle - bar * c->series_count / 2;
        for (int32_t s = 0; s < c->series_count; s++)
            add_bar(f, c, k, s, x + bar * s, bar);
        chart_text_fitting(f->out, middle, f->bottom + 16, "middle", NULL, c->categories[k],
                           group - 4);
    }
    double base = f->log_y ? f->bottom : frame_y(f, fmax(f->y0, fmin(f->y1, 0)));
    markup_addf(f->out, "<path d=\"M%.1f,%.2fH%.1f\" class=\"ax\"/>\n", f->left, base, f->right);
    if (c->x_label != NULL)
        chart_text(f->out, (f->left + f->right) / 2, f->bottom + 32, "middle", "bl", c->x_label);
}

void chart_add(struct markup *out, const struct chart_spec *c)
{
    double width = c->width > 0 ? c->width : CHART_WIDTH,
           height = c->height > 0 ? c->height : CHART_HEIGHT;
    bool bars = c->categories != NULL;
    double title = c->title != NULL ? 22 : 6;
    struct chart_frame f = {.out = out,
                            .left = CHART_LEFT,
                            .right = width - CHART_MARGIN,
                            .top = title + add_legend(out, c, 0, width, false) +
                                   (c->band_count > 0 ? 18 : 8),
                            .bottom = height - CHART_BOTTOM};
    bool any = (!bars || c->category_count > 0) && find_ranges(&f, c) && f.bottom > f.top + 10;
    chart_open(out, width, height, c->title, c->standalone, any && !bars ? &f : NULL);
    if (c->title != NULL)
        chart_text(out, CHART_LEFT, 17, "start", "ti", c->title);
    if (!any) {
        chart_text(out, width / 2, height / 2, "middle", "bl", "no data");
        markup_add(out, "</svg>\n");
        return;
    }
    add_bands(&f, c);
    add_y_axis(&f, c);
    (void)add_legend(out, c, title, width, true);
    if (bars) {
        add_bars(&f, c);
    } else {
        chart_x_axis(&f, c->x_label);
        for (int32_t s = 0; s < c->series_count; s++)
            if (c->series[s].faint)
                add_line(&f, &c->series[s], series_color(c, s));
        for (int32_t s = 0; s < c->series_count; s++) {
            if (c->series[s].kind == CHART_POINTS)
                add_points(&f, &c->series[s], series_color(c, s));
            else if (!c->series[s].faint)
                add_line(&f, &c->series[s], series_color(c, s));
        }
    }
    markup_add(out, "</svg>\n");
}
