"""The page's own style sheet and its one script, which sorts tables."""

from __future__ import annotations

__all__ = ["PAGE_SCRIPT", "PAGE_STYLE"]

PAGE_STYLE = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif}
.wrap{max-width:1240px;margin:0 auto;padding:0 28px}
h1,h2,h3,.finding{font-family:"Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua",
 "Liberation Serif",Georgia,serif;font-weight:600;text-wrap:balance}
h1{font-size:clamp(2rem,4.5vw,3.1rem);line-height:1.1;margin:.15em 0 .25em;letter-spacing:-.015em}
h2{font-size:1.85rem;line-height:1.2;margin:0 0 .35em;letter-spacing:-.01em}
h3{font-size:1.22rem;margin:2.4em 0 .3em}
a{color:var(--accent);text-underline-offset:.2em}
a:focus-visible,button:focus-visible,.scroll:focus-visible,summary:focus-visible
 {outline:2px solid var(--accent);outline-offset:2px;border-radius:4px}
header{padding:56px 0 26px;border-bottom:1px solid var(--line);margin-bottom:40px}
.over{font-size:.82rem;letter-spacing:.09em;text-transform:uppercase;color:var(--accent);
 font-weight:650;margin:0}
.scope{color:var(--soft);margin:0;font-variant-numeric:tabular-nums}
nav{display:flex;flex-wrap:wrap;gap:8px;margin-top:22px}
nav a{padding:5px 13px;border:1px solid var(--line);border-radius:99px;background:var(--card);
 color:var(--ink);text-decoration:none;font-size:.92rem}
nav a:hover{border-color:var(--accent);color:var(--accent)}
section{margin:0 0 76px;scroll-margin-top:18px}
section.study{border-top:3px solid var(--accent);padding-top:22px}
.meta{color:var(--soft);font-size:.92rem;margin:0 0 14px}
.finding{font-size:1.22rem;line-height:1.5;font-weight:400;max-width:62em;margin:.4em 0 1.2em;
 text-wrap:pretty}
.notes{margin:14px 0 0;padding:10px 16px 10px 34px;background:var(--sunk);border-radius:8px;
 font-size:.92rem;color:var(--soft)}
.notes li{margin:.15em 0}
.hint{color:var(--soft);font-size:.92rem;max-width:64em;margin:.2em 0 .9em}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:.89rem;
 font-variant-numeric:tabular-nums}
th,td{padding:8px 12px;text-align:right;white-space:nowrap;vertical-align:middle}
thead th{font-weight:600;color:var(--soft);font-size:.8rem;line-height:1.25;
 border-bottom:1px solid var(--line);background:var(--card);vertical-align:bottom}
td.interval,th.interval-head{text-align:left;padding-left:26px}
td.interval>*{display:inline-block;vertical-align:middle}
td.interval>span{min-width:158px}
tbody th{font-weight:550}
th:first-child{text-align:left;position:sticky;left:0;background:var(--card);z-index:1;
 border-right:1px solid var(--line)}
tbody tr:nth-child(even)>*{background:color-mix(in srgb,var(--sunk) 55%,var(--card))}
tbody tr.reference>*{background:color-mix(in srgb,var(--accent) 11%,var(--card))}
tbody tr.reference th{color:var(--accent)}
tbody tr:hover>*{background:color-mix(in srgb,var(--accent) 6%,var(--sunk))}
.best{font-weight:700}
.dim{color:var(--soft)}
.sd{color:var(--soft);font-size:.92em}
thead button{all:unset;cursor:pointer;position:relative;font-weight:inherit;border-radius:4px}
thead button:hover{color:var(--accent)}
thead button::after{content:"";position:absolute;left:calc(100% + 1px);bottom:0}
[aria-sort=ascending] button::after{content:"↑";color:var(--accent)}
[aria-sort=descending] button::after{content:"↓";color:var(--accent)}
.mini{display:inline-block;vertical-align:-4px}
.name{display:inline-flex;align-items:center;gap:8px;vertical-align:middle}
.forest .zero{stroke:var(--soft);stroke-width:1;opacity:.55}
.forest .span{stroke:var(--ink);stroke-width:2;opacity:.55;stroke-linecap:round}
.forest .told .span,.forest .told circle{stroke:var(--c);opacity:1}
.forest circle{fill:var(--ink)}
.better{--c:var(--good)}.worse{--c:var(--bad)}
.told circle{fill:var(--c)}
td .told-text{color:var(--ink);font-weight:600}
figure{margin:14px 0 0}
figure .plot{overflow-x:auto;background:var(--card);border:1px solid var(--line);
 border-radius:10px;padding:16px 12px}
figure svg.figure{display:block;margin:0 auto;height:auto;max-width:100%;min-width:620px}
figure.small svg.figure{min-width:0}
figcaption{color:var(--soft);font-size:.9rem;margin:9px 2px 0;max-width:70em}
.maps{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(540px,100%),1fr));gap:0 22px}
.examples{display:grid;gap:10px;padding:0;margin:12px 0 0;list-style:none}
.examples li{background:var(--card);border:1px solid var(--line);border-radius:10px;
 padding:13px 18px}
.examples .text{font-size:1.06rem;line-height:1.95;margin:0}
mark{background:color-mix(in srgb,var(--accent) calc(var(--w)*62%),transparent);color:inherit;
 border-radius:4px;padding:.13em .22em;margin:0 -.06em;
 box-decoration-break:clone;-webkit-box-decoration-break:clone}
.verdict{margin:5px 0 0;font-size:.89rem;color:var(--soft)}
.verdict b{font-weight:650}
.right b{color:var(--good)}.wrong b{color:var(--bad)}
.ramp{display:inline-block;width:120px;height:11px;border-radius:4px;vertical-align:-1px;
 margin:0 6px;border:1px solid var(--line);background:linear-gradient(to right,transparent,
 color-mix(in srgb,var(--accent) 62%,transparent))}
details{margin:22px 0 0;border:1px solid var(--line);border-radius:10px;background:var(--card);
 padding:0 16px}
summary{cursor:pointer;padding:11px 0;font-weight:600}
details[open]{padding-bottom:16px}
details .scroll{border:0}
footer{border-top:1px solid var(--line);padding:26px 0 60px;color:var(--soft);font-size:.92rem}
footer h2{font-size:1.3rem;color:var(--ink)}
footer p,footer li{max-width:74em}
.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media(max-width:640px){.wrap{padding:0 16px}header{padding-top:34px}section{margin-bottom:52px}
 th:first-child{max-width:44vw;white-space:normal}}
@media print{body{background:#fff}.scroll,figure .plot{overflow:visible}nav{display:none}
 section{break-before:page}section:first-of-type{break-before:auto}figure,tr,li{break-inside:avoid}
 table{font-size:.66rem}th,td{padding:4px 5px}}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
"""

PAGE_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.value ?? "";
    const compare = (a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const difference = column ? key(a) - key(b) : key(b).localeCompare(key(a));
      return up ? difference : -difference;
    };
    const body = table.tBodies[0];
    [...body.rows].sort(compare).forEach(row => body.append(row));
  }));
}
"""
