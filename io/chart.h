/*
 * chart: pictures of numbers as SVG text: lines, steps, points, bars, and layers over steps.
 *
 * Pure functions from arrays to text.  Each picture is one <svg> element that scales with its
 * container and can stand in HTML as it is; colours come from the classes of chart_add_style, once
 * a document, which follow the reader's light or dark setting.  A picture alone in a file carries
 * the style inside (chart_spec.standalone).  Eight colours that stay apart for colour-blind
 * readers; from the ninth series on, lines are dashed as well.
 *
 *     struct chart_series s[] = {{.name = "train", .x = step, .y = loss, .count = n}};
 *     struct chart_spec c = {.title = "Loss", .x_label = "step", .series = s, .series_count = 1};
 *     chart_add(&text, &c);
 *
 * A value that is not finite makes a gap; so does one <= 0 on a logarithmic axis, which shows five
 * decades at most and lays what is smaller on its lower edge.  Text is escaped.
 * Numbers are not thinned: the caller decides how many points a picture is worth.  The <svg> of a
 * line chart says in data-x, data-y how its units map to values, for a script that shows them.
 */
#ifndef MT_IO_CHART_H
#define MT_IO_CHART_H

#include "io/markup.h"

enum chart_kind { CHART_LINE, CHART_STEP, CHART_POINTS, CHART_BARS };

struct chart_series {
    const char *name; /* in the legend, unless it is the title; NULL = not there */
    enum chart_kind kind;
    const double *x; /* [count] ascending for lines; bars: not used, they stand at 0, 1, ... */
    const double *y; /* [count] */
    int64_t count;
    int32_t color; /* 0 = by position among the series, else color-1 of the palette */
    bool faint;    /* thin and pale: raw values behind their smoothed line */
    bool dots;     /* a dot on each point of a line */
};

/* A vertical band behind the lines, with its name on top: a phase. */
struct chart_band {
    double begin, end;
    const char *label;
};

struct chart_spec {
    const char *title;
    const char *x_label, *y_label; /* NULL = none */
    const struct chart_series *series;
    int32_t series_count;
    const struct chart_band *bands;
    int32_t band_count;
    const char *const *categories; /* bars: a name under each group; NULL = lines */
    int32_t category_count;
    bool log_y;
    bool y_from_zero;
    bool y_unit_interval; /* shares of one: the axis reads in percent and stays in 0..1 */
    bool standalone;
    int32_t width, height; /* units of the picture; 0 = 640 x 300 */
};

/* Local.  Appends the picture.  A picture without a finite value says "no data". */
void chart_add(struct markup *out, const struct chart_spec *spec);

/* What trains when: rows (embeddings, layers, heads) against steps, one column per phase. */
struct chart_layers {
    const char *title, *x_label;
    const char *const *row_names; /* [rows], the lowest of the network first: drawn at the bottom */
    int32_t row_count;
    const struct chart_band *phases; /* [phases] from step to step */
    int32_t phase_count;
    const double *rate; /* [phases][rows] learning rate at its highest; <= 0 = frozen */
    bool standalone;
    int32_t width, height; /* 0 = 640 x (grows with the rows) */
};

/* Local.  Appends the picture: frozen cells are pale, trained ones darker with a higher rate (on a
 * logarithmic scale), and a legend tells the rates. */
void chart_layers_add(struct markup *out, const struct chart_layers *spec);

/* Local.  Appends the rules for the classes that the pictures use, for inside a <style>. */
void chart_add_style(struct markup *out);

/* Local.  Up to `capacity` round numbers (1, 2, 5 times a power of ten) inside low..high, about
 * `wanted` of them; answers how many. */
int32_t chart_ticks(double *ticks, int32_t capacity, double low, double high, int32_t wanted);

#endif
