/* The page is whole without its script, which only shows the values under the pointer: it turns
 * the coordinates of each curve back into values by the data-x and data-y of the chart. */
#include "io/report_page.h"

#include "io/chart.h"

static const char STYLE[] =
    ":root{color-scheme:light dark;--ink:#222;--dim:#66666e;--line:#e2e2e6;--paper:#fff;"
    "--back:#f4f4f6;--hit:0,143,104;--miss:213,94,0}\n"
    "@media (prefers-color-scheme:dark){:root{--ink:#e6e6ea;--dim:#a0a0aa;--line:#34343c;"
    "--paper:#1c1c21;--back:#131316}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);"
    "font:14px/1.45 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\n"
    "main{max-width:1360px;margin:0 auto;padding:24px 20px}\n"
    "h1{font-size:24px;margin:0 0 12px}h2{font-size:17px;margin:28px 0 10px}"
    "h3{font-size:13px;margin:0 0 8px}\n"
    ".st{font-size:13px;font-weight:500;padding:3px 10px;border-radius:12px;vertical-align:4px;"
    "background:rgba(213,94,0,.15)}.st.ok{background:rgba(0,143,104,.18)}\n"
    "dl{display:flex;flex-wrap:wrap;gap:8px 28px;margin:0;padding:12px 16px;"
    "background:var(--paper);border:1px solid var(--line);border-radius:8px}"
    "dt{color:var(--dim);font-size:12px}dd{margin:0;overflow-wrap:anywhere}\n"
    ".g{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:14px}\n"
    "figure,.t{margin:0;background:var(--paper);border:1px solid var(--line);border-radius:8px}"
    "figure{padding:12px}figure svg{display:block;width:100%;height:auto}figure .t{border:0}\n"
    ".t{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{padding:6px 12px;"
    "text-align:left;border-top:1px solid var(--line);white-space:nowrap}"
    "tr:first-child th{border-top:0}th{font-weight:600;font-size:12px;color:var(--dim)}"
    "td:first-child{white-space:normal}.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".c{width:auto}.c td{border:1px solid var(--paper)}"
    ".hit{background:rgba(var(--hit),calc(var(--a)*.55))}"
    ".miss{background:rgba(var(--miss),calc(var(--a)*.75))}\n"
    "footer{margin:28px 0 8px;color:var(--dim);font-size:12px}\n"
    "#tip{position:fixed;display:none;pointer-events:none;z-index:9;padding:6px 10px;"
    "font-size:12px;white-space:pre;background:var(--paper);border:1px solid var(--line);"
    "border-radius:6px;box-shadow:0 2px 8px rgba(0,0,0,.2)}\n";

static const char SCRIPT[] =
    "(function(){\n"
    "var tip=document.createElement('div');tip.id='tip';document.body.appendChild(tip);\n"
    "function num(v){var a=Math.abs(v);return a&&(a<1e-3||a>=1e6)?v.toExponential(2):"
    "String(+v.toPrecision(4));}\n"
    "document.querySelectorAll('svg[data-x]').forEach(function(svg){\n"
    "var X=svg.dataset.x.split(' ').map(Number),t=svg.dataset.y.split(' '),log=t[4]==='log',"
    "Y=t.slice(0,4).map(Number);\n"
    "var lines=[].map.call(svg.querySelectorAll('path[data-name]'),function(p){return{"
    "name:p.dataset.name,at:(p.getAttribute('d').match(/-?[\\d.]+,-?[\\d.]+/g)||[]).map("
    "function(s){return s.split(',').map(Number);})};});\n"
    "var mark=document.createElementNS('http://www.w3.org/2000/svg','path');"
    "mark.setAttribute('class','ax');svg.appendChild(mark);\n"
    "svg.addEventListener('mousemove',function(e){\n"
    "var box=svg.getBoundingClientRect(),x=(e.clientX-box.left)*svg.viewBox.baseVal.width/"
    "box.width;\n"
    "if(x<X[2]||x>X[3]||!lines.length){leave();return;}\n"
    "mark.setAttribute('d','M'+x+','+Y[3]+'V'+Y[2]);\n"
    "var text=['step '+Math.round(X[0]+(x-X[2])/(X[3]-X[2])*(X[1]-X[0]))];\n"
    "lines.forEach(function(l){if(!l.at.length)return;"
    "var b=l.at.reduce(function(p,q){return Math.abs(q[0]-x)<Math.abs(p[0]-x)?q:p;});"
    "var v=Y[0]+(b[1]-Y[2])/(Y[3]-Y[2])*(Y[1]-Y[0]);"
    "text.push(l.name+'  '+num(log?Math.pow(10,v):v));});\n"
    "tip.textContent=text.join('\\n');tip.style.display='block';"
    "tip.style.left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8)+'px';"
    "tip.style.top=Math.min(e.clientY+14,innerHeight-tip.offsetHeight-8)+'px';});\n"
    "function leave(){tip.style.display='none';mark.removeAttribute('d');}\n"
    "svg.addEventListener('mouseleave',leave);});\n"
    "})();\n";

void report_page_begin(struct markup *out, const char *title)
{
    markup_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                    "<title>");
    markup_add_escaped(out, title);
    markup_add(out, "</title>\n<style>\n");
    markup_add(out, STYLE);
    chart_add_style(out);
    markup_add(out, "</style>\n</head>\n<body>\n<main>\n");
}

void report_page_end(struct markup *out)
{
    markup_add(out, "</main>\n<script>\n");
    markup_add(out, SCRIPT);
    markup_add(out, "</script>\n</body>\n</html>\n");
}
