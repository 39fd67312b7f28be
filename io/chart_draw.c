/* See chart_draw.h. */
#include "io/chart_draw.h"

#include <math.h>
#include <string.h>

#define VALUE_MAX 1e150 /* beyond it a value is a gap: ranges must not overflow */

/* Okabe and Ito's palette, darkened or lightened until each keeps 3:1 against the paper. */
static const struct {
    const char *light, *dark;
} COLORS[CHART_PALETTE] = {{"#0072b2", "#58b4ee"}, {"#d55e00", "#ff8f4a"}, {"#008f68", "#35cfa2"},
                           {"#b4568c", "#e79ac6"}, {"#a67c00", "#eeb72c"}, {"#2e8fc4", "#a3daff"},
                           {"#595959", "#b9b9b9"}, {"#6a3d9a", "#bfa3e6"}};

bool chart_is_shown(double v, bool log_axis)
{
    return isfinite(v) && fabs(v) < VALUE_MAX && (!log_axis || v > 1e-300);
}

double chart_frame_x(const struct chart_frame *f, double x)
{
    return f->left + (x - f->x0) / (f->x1 - f->x0) * (f->right - f->left);
}

int32_t chart_ticks(double *ticks, int32_t capacity, double low, double high, int32_t wanted)
{
    static const double NICE[] = {1, 2, 5, 10};
    if (!(high > low) || !isfinite(high - low) || wanted < 1)
        return 0;
    double raw = (high - low) / wanted, power = pow(10, floor(log10(raw))), step = 0;
    if (!(power > 0))
        return 0;
    for (size_t i = 0; i < sizeof NICE / sizeof *NICE && step < 0.7 * raw; i++)
        step = NICE[i] * power;
    if (step < 1e-13 * fmax(fabs(low), fabs(high))) /* the axis is finer than doubles are */
        return 0;
    double first = ceil(low / step - 1e-9), last = floor(high / step + 1e-9);
    int32_t count = 0;
    for (double k = first; k <= last && count < capacity; k++) {
        ticks[count++] = k == 0 ? 0 : k * step;
    }
    return count;
}

void chart_add_style(struct markup *out)
{
    markup_add(out, ".mtc{font:11px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;"
                    "max-width:100%;height:auto}\n"
                    ".mtc text{fill:#444}.mtc .ti{font-size:13px;font-weight:600;fill:#222}\n"
                    ".mtc .gr{stroke:#e4e4e7}.mtc .ax{stroke:#9a9aa2}.mtc .ln{fill:none;"
                    "stroke-width:1.8;stroke-linejoin:round}.mtc .fa{stroke-width:.8;"
                    "stroke-opacity:.4}\n"
                    ".mtc .bd{fill:#64648c;fill-opacity:.05}.mtc .be{fill:#64648c;"
                    "fill-opacity:.12}.mtc .bl{font-size:10px;fill:#66666e}\n"
                    ".mtc .fz{fill:#64648c;fill-opacity:.08}.mtc .pa{fill:#fff}"
                    ".mtc .se{stroke:#fff;stroke-width:1}.mtc .h1{stroke-dasharray:6 3}"
                    ".mtc .h2{stroke-dasharray:2 3}\n");
    for (int i = 0; i < CHART_PALETTE; i++)
        markup_addf(out, ".mtc .s%d{stroke:%s}.mtc .c%d{fill:%s}\n", i, COLORS[i].light, i,
                    COLORS[i].light);
    markup_add(out, "@media (prefers-color-scheme:dark){\n"
                    ".mtc text{fill:#c4c4cc}.mtc .ti{fill:#ececf0}.mtc .gr{stroke:#34343c}"
                    ".mtc .ax{stroke:#74747e}.mtc .bd,.mtc .be,.mtc .fz{fill:#b4b4ff}"
                    ".mtc .bl{fill:#a0a0aa}.mtc .pa{fill:#1c1c21}.mtc .se{stroke:#1c1c21}\n");
    for (int i = 0; i < CHART_PALETTE; i++)
        markup_addf(out, ".mtc .s%d{stroke:%s}.mtc .c%d{fill:%s}\n", i, COLORS[i].dark, i,
                    COLORS[i].dark);
    markup_add(out, "}\n");
}

void chart_open(struct markup *out, double width, double height, const char *title, bool standalone,
                const struct chart_frame *hover)
{
    markup_addf(out,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"mtc\" width=\"%.0f\" "
                "height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"",
                width, height, width, height);
    markup_add_escaped(out, title != NULL ? title : "chart");
    markup_add(out, "\"");
    if (hover != NULL)
        markup_addf(out, " data-x=\"%.9g %.9g %.2f %.2f\" data-y=\"%.9g %.9g %.2f %.2f%s\"",
                    hover->x0, hover->x1, hover->left, hover->right, hover->y0, hover->y1,
                    hover->bottom, hover->top, hover->log_y ? " log" : "");
    markup_add(out, ">\n");
    if (standalone) {
        markup_add(out, "<style>");
        chart_add_style(out);
        markup_addf(out, "</style>\n<rect class=\"pa\" width=\"%.0f\" height=\"%.0f\"/>\n", width,
                    height);
    }
}

void chart_text(struct markup *out, double x, double y, const char *anchor, const char *class,
                const char *text)
{
    markup_addf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"", x, y, anchor);
    if (class != NULL)
        markup_addf(out, " class=\"%s\"", class);
    markup_add(out, ">");
    markup_add_escaped(out, text);
    markup_add(out, "</text>\n");
}

double chart_text_width(const char *text)
{
    double letters = 0;
    for (const char *p = text; *p != '\0'; p++)
        letters += ((unsigned char)*p & 0xC0) != 0x80;
    return letters * CHART_TEXT_UNIT;
}

void chart_text_fitting(struct markup *out, double x, double y, const char *anchor,
                        const char *class, const char *text, double width)
{
    char part[64];
    size_t keep = 0, letters = 0, room = width > 0 ? (size_t)(width / CHART_TEXT_UNIT) : 0;
    if (chart_text_width(text) <= width && strlen(text) < sizeof part) {
        chart_text(out, x, y, anchor, class, text);
        return;
    }
    if (room < 4)
        return;
    while (text[keep] != '\0' && keep < sizeof part - 8) {
        letters += ((unsigned char)text[keep] & 0xC0) != 0x80;
        if (letters >= room)
            break;
        keep++;
    }
    while (keep > 0 && ((unsigned char)text[keep] & 0xC0) == 0x80)
        keep--;
    memcpy(part, text, keep);
    memcpy(part + keep, "\xE2\x80\xA6", 4);
    chart_text(out, x, y, anchor, class, part);
}

void chart_tip(struct markup *out, const char *text)
{
    markup_add(out, "<title>");
    markup_add_escaped(out, text);
    markup_add(out, "</title>");
}

void chart_x_axis(const struct chart_frame *f, const char *label)
{
    double ticks[CHART_TICKS_MAX];
    int32_t count = chart_ticks(ticks, CHART_TICKS_MAX, f->x0, f->x1, 8);
    markup_addf(f->out, "<path d=\"M%.1f,%.1fH%.1f\" class=\"ax\"/>\n", f->left, f->bottom,
                f->right);
    for (int32_t i = 0; i < count; i++) {
        char text[MARKUP_NUMBER_BYTES];
        double x = chart_frame_x(f, ticks[i]);
        markup_format_number(text, ticks[i], 6);
        markup_addf(f->out, "<path d=\"M%.2f,%.1fv4\" class=\"ax\"/>\n", x, f->bottom);
        chart_text(f->out, x, f->bottom + 16, "middle", NULL, text);
    }
    if (label != NULL)
        chart_text(f->out, (f->left + f->right) / 2, f->bottom + 32, "middle", "bl", label);
}
