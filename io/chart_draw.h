/* chart_draw: what the pictures of chart.h share; for io/chart*.c alone.  All functions Local. */
#ifndef MT_IO_CHART_DRAW_H
#define MT_IO_CHART_DRAW_H

#include "io/chart.h"

enum {
    CHART_PALETTE = 8,
    CHART_TICKS_MAX = 24,
    CHART_WIDTH = 640,
    CHART_HEIGHT = 300,
    CHART_MARGIN = 14,
    CHART_LEFT = 58,
    CHART_BOTTOM = 40
};

#define CHART_TEXT_UNIT 6.3 /* width of a letter of 11 units */

struct chart_frame {
    struct markup *out;
    double left, right, top, bottom; /* of the plot, in units */
    double x0, x1, y0, y1;           /* values at its edges; y in log10 where log_y */
    bool log_y;
};

/* Whether a value has a place on an axis: finite, of sane size, positive where logarithmic. */
bool chart_is_shown(double v, bool log_axis);

double chart_frame_x(const struct chart_frame *f, double x);

/* The <svg> tag, with the style and the paper inside where standalone.  hover: NULL = no data-x. */
void chart_open(struct markup *out, double width, double height, const char *title, bool standalone,
                const struct chart_frame *hover);

/* anchor: "start", "middle", "end"; class may be NULL. */
void chart_text(struct markup *out, double x, double y, const char *anchor, const char *class,
                const char *text);

/* The text, shortened to a width; nothing where not even three letters fit. */
void chart_text_fitting(struct markup *out, double x, double y, const char *anchor,
                        const char *class, const char *text, double width);

/* Estimated: letters, not bytes. */
double chart_text_width(const char *text);

/* What is shown when the pointer rests on the element that is open. */
void chart_tip(struct markup *out, const char *text);

void chart_x_axis(const struct chart_frame *f, const char *label);

#endif
