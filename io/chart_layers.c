/* What trains when, as cells: a row per layer, a column per phase.  Neighbouring rows of one rate
 * are one rectangle, so a discriminative schedule of 24 layers is small all the same. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/chart_draw.h"

enum { NAME_LETTERS_MAX = 24, LEGEND_STEPS = 4 };

struct rates {
    double low, high; /* of the trained cells; 0 = nothing trains */
};

static double cell_rate(const struct chart_layers *c, int32_t phase, int32_t row)
{
    double rate = c->rate[(int64_t)phase * c->row_count + row];
    return chart_is_shown(rate, true) ? rate : 0;
}

static struct rates measure_rates(const struct chart_layers *c)
{
    struct rates r = {0};
    for (int32_t p = 0; p < c->phase_count; p++) {
        for (int32_t i = 0; i < c->row_count; i++) {
            double rate = cell_rate(c, p, i);
            if (rate > 0) {
                r.low = r.low > 0 ? fmin(r.low, rate) : rate;
                r.high = fmax(r.high, rate);
            }
        }
    }
    return r;
}

static double shade(const struct rates *r, double rate)
{
    if (!(r->high > r->low * (1 + 1e-9)))
        return 0.85;
    return 0.3 + 0.65 * log(rate / r->low) / log(r->high / r->low);
}

static void add_column(const struct chart_frame *f, const struct chart_layers *c, int32_t phase,
                       const struct rates *rates, double row_height)
{
    const struct chart_band *b = &c->phases[phase];
    if (!chart_is_shown(b->begin, false) || !chart_is_shown(b->end, false) || b->end < b->begin)
        return;
    double left = chart_frame_x(f, b->begin), width = chart_frame_x(f, b->end) - left;
    for (int32_t row = 0, end; row < c->row_count; row = end) {
        char tip[320], number[MARKUP_NUMBER_BYTES];
        double rate = cell_rate(c, phase, row);
        for (end = row + 1; end < c->row_count && cell_rate(c, phase, end) == rate;)
            end++;
        markup_format_number(number, rate, 3);
        const char *many = end - row > 1 ? c->row_names[end - 1] : "";
        (void)snprintf(tip, sizeof tip, "%.90s: %.90s%s%.90s %s%s",
                       b->label != NULL ? b->label : "", c->row_names[row],
                       *many != '\0' ? " to " : "", many, rate > 0 ? "train at " : "frozen",
                       rate > 0 ? number : "");
        markup_addf(f->out,
                    "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" class=\"%s\"", left,
                    f->bottom - end * row_height, fmax(width, 0.5), (end - row) * row_height,
                    rate > 0 ? "c0" : "fz");
        if (rate > 0)
            markup_addf(f->out, " fill-opacity=\"%.3f\"", shade(rates, rate));
        markup_add(f->out, ">");
        chart_tip(f->out, tip);
        markup_add(f->out, "</rect>\n");
    }
    markup_addf(f->out, "<path d=\"M%.2f,%.1fV%.1f\" class=\"se\"/>\n", left, f->top, f->bottom);
    if (b->label != NULL)
        chart_text_fitting(f->out, left + width / 2, f->top - 5, "middle", "bl", b->label,
                           width - 2);
}

static void add_legend(struct markup *out, const struct rates *r, double x, double y)
{
    int steps = r->high <= 0 ? 0 : r->high > r->low * (1 + 1e-9) ? LEGEND_STEPS : 1;
    markup_addf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\" class=\"fz\"/>\n", x,
                y - 9);
    chart_text(out, x + 14, y, "start", NULL, "frozen");
    x += 14 + chart_text_width("frozen") + 14;
    if (steps == 0)
        return;
    char low[MARKUP_NUMBER_BYTES], high[MARKUP_NUMBER_BYTES];
    markup_format_number(low, r->low, 3);
    markup_format_number(high, r->high, 3);
    chart_text(out, x, y, "start", NULL, "rate");
    x += chart_text_width("rate ") + 2;
    chart_text(out, x, y, "start", NULL, low);
    x += chart_text_width(low) + 6;
    for (int i = 0; i < steps; i++, x += 12) {
        double rate = steps > 1 ? r->low * pow(r->high / r->low, i / (steps - 1.0)) : r->low;
        markup_addf(out,
                    "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"10\" class=\"c0\" "
                    "fill-opacity=\"%.3f\"/>\n",
                    x, y - 9, shade(r, rate));
    }
    if (steps > 1)
        chart_text(out, x + 6, y, "start", NULL, high);
}

static void add_row_names(const struct chart_frame *f, const struct chart_layers *c,
                          double row_height)
{
    int32_t stride = row_height >= 11 ? 1 : (int32_t)ceil(11 / row_height);
    for (int32_t i = 0; i < c->row_count; i++) {
        double y = f->bottom - i * row_height;
        if (i % stride == 0)
            chart_text_fitting(f->out, f->left - 6, y - row_height / 2 + 4, "end", NULL,
                               c->row_names[i], f->left - 10);
        if (i > 0 && row_height >= 5)
            markup_addf(f->out, "<path d=\"M%.1f,%.2fH%.1f\" class=\"se\"/>\n", f->left, y,
                        f->right);
    }
}

void chart_layers_add(struct markup *out, const struct chart_layers *c)
{
    double name_width = 0, x0 = INFINITY, x1 = -INFINITY;
    for (int32_t i = 0; i < c->row_count; i++)
        name_width = fmax(name_width, chart_text_width(c->row_names[i]));
    for (int32_t p = 0; p < c->phase_count; p++) {
        const struct chart_band *b = &c->phases[p];
        if (chart_is_shown(b->begin, false) && chart_is_shown(b->end, false)) {
            x0 = fmin(x0, b->begin);
            x1 = fmax(x1, b->end);
        }
    }
    double row_height = c->row_count <= 16 ? 18 : c->row_count <= 32 ? 13 : 7;
    double width = c->width > 0 ? c->width : CHART_WIDTH, top = c->title != NULL ? 56 : 40;
    double height = c->height > 0 ? c->height : top + c->row_count * row_height + CHART_BOTTOM;
    struct chart_frame f = {.out = out,
                            .left = 14 + fmin(name_width, NAME_LETTERS_MAX * CHART_TEXT_UNIT),
                            .right = width - CHART_MARGIN,
                            .top = top,
                            .bottom = height - CHART_BOTTOM,
                            .x0 = x0,
                            .x1 = x1};
    bool any = c->row_count > 0 && x1 > x0 && f.bottom > f.top;
    chart_open(out, width, height, c->title, c->standalone, NULL);
    if (c->title != NULL)
        chart_text(out, f.left, 17, "start", "ti", c->title);
    if (any) {
        struct rates rates = measure_rates(c);
        row_height = (f.bottom - f.top) / c->row_count;
        add_legend(out, &rates, f.left, top - 22);
        for (int32_t p = 0; p < c->phase_count; p++)
            add_column(&f, c, p, &rates, row_height);
        add_row_names(&f, c, row_height);
        chart_x_axis(&f, c->x_label);
    } else {
        chart_text(out, width / 2, height / 2, "middle", "bl", "no data");
    }
    markup_add(out, "</svg>\n");
}
