"""Style of the compliance page beside the reports' own, and its script."""

from __future__ import annotations

__all__ = ["COMPLIANCE_SCRIPT", "COMPLIANCE_STYLE"]

COMPLIANCE_STYLE = """
td .range{display:block;color:var(--soft);font-size:.9em;line-height:1.3}
.mini{flex:none}
figure.small svg.figure{width:100%}
.plain th:first-child{max-width:none}
.confusion{display:inline-block;max-width:100%}
.confusion table{width:auto}
.confusion td.cell{background:color-mix(in srgb,var(--c) calc(var(--w)*52%),var(--card))!important;
 text-align:center;min-width:4.6em}
.confusion td.cell b{font-weight:650}
.confusion .hit{--c:var(--good)}.confusion .miss{--c:var(--bad)}
.index{list-style:none;padding:0;margin:10px 0 22px;display:grid;gap:6px;
 grid-template-columns:repeat(auto-fill,minmax(min(270px,100%),1fr))}
.index a{display:flex;flex-wrap:wrap;gap:3px 8px;justify-content:space-between;padding:5px 10px;
 border:1px solid var(--line);border-radius:8px;background:var(--card);color:var(--ink);
 text-decoration:none;font-size:.88rem;height:100%;align-content:center}
.index a:hover{border-color:var(--accent)}
.id{font-weight:600;overflow-wrap:anywhere;min-width:0}
.badges{display:inline-flex;flex-wrap:wrap;gap:4px}
.badge{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:0 8px;
 font-size:.74rem;line-height:1.6;font-weight:550;color:var(--soft);white-space:nowrap}
.badge.bad{color:var(--bad);border-color:currentColor}
.badge.good{color:var(--good);border-color:currentColor}
.badge.flag,.badge.override{color:var(--accent);border-color:currentColor}
.badge.override{border-style:dashed}
.badge.rule{border-style:dotted;border-color:var(--soft)}
.case{margin:12px 0 0}
.case summary .badges{margin-left:12px;vertical-align:1px}
.sides{scroll-margin-top:62px;display:grid;align-items:start;
 grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:26px}
.side{min-width:0}
.said-side{position:sticky;top:8px;max-height:calc(100vh - 16px);overflow-y:auto;padding:3px}
.turns{list-style:none;margin:0;padding:0;display:grid;gap:7px}
.turn{background:var(--sunk);border-radius:10px;padding:7px 12px 9px;max-width:94%;
 white-space:pre-wrap;overflow-wrap:anywhere;font-size:.93rem;line-height:1.6;scroll-margin-top:18px}
.turn.agent{justify-self:end;background:color-mix(in srgb,var(--accent) 7%,var(--sunk))}
.turn.unknown{max-width:100%}
.turn:target{outline:2px solid var(--accent);outline-offset:2px}
.who{display:block;font-size:.74rem;color:var(--soft);line-height:1.4}
.who .no{opacity:.75}
.turn mark{--w:.42;border-bottom:1.5px solid var(--accent);border-radius:3px 3px 0 0;
 padding:.05em 0;margin:0}
.cut{color:var(--soft);font-size:.9rem}
.fields{list-style:none;margin:0;padding:0;display:grid;gap:8px;
 grid-template-columns:repeat(auto-fill,minmax(min(210px,100%),1fr))}
.field{border:1px solid var(--line);border-left-width:4px;border-radius:8px;padding:7px 11px;
 font-size:.87rem;min-width:0;overflow-wrap:anywhere;background:var(--card)}
.field.wrong{border-left:4px double var(--bad)}
.field.right{border-left-color:color-mix(in srgb,var(--good) 55%,var(--line))}
.field.pinned{border-color:var(--accent);background:color-mix(in srgb,var(--accent) 6%,var(--card))}
.field p{margin:3px 0 0;font-size:.82rem;color:var(--soft);line-height:1.45}
.top{display:flex;flex-wrap:wrap;gap:3px 6px;align-items:baseline}
.key{font-weight:600;margin-right:auto;min-width:0}
.pin{all:unset;cursor:pointer;text-decoration:underline dotted;text-underline-offset:.25em}
.pin:hover{color:var(--accent)}
.pin:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:4px}
.pin[aria-pressed=true]::after{content:" ●";color:var(--accent)}
.value{margin-top:2px}
.value code,.said code{font:inherit;
 font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
 font-size:.94em;background:var(--sunk);border-radius:4px;padding:.08em .35em}
.mark-right{color:var(--good);font-weight:700;margin-left:5px}
.mark-wrong{color:var(--bad);font-weight:600;margin-top:3px}
.mark-wrong code{color:var(--ink);font-weight:400}
.said code{text-decoration:line-through}
.bar{display:inline-block;width:64px;height:7px;border-radius:4px;vertical-align:1px;
 margin-right:7px;border:1px solid var(--soft);print-color-adjust:exact;
 background:linear-gradient(to right,var(--soft) var(--p),transparent var(--p))}
.flags{border:1px solid var(--accent);border-radius:8px;padding:7px 12px;margin:0 0 10px;
 font-size:.88rem;overflow-wrap:anywhere}
.flags ul{margin:2px 0 0;padding-left:20px}.flags p{margin:2px 0 0}
footer dt{font-weight:600;color:var(--ink);margin-top:.6em}
footer dd{margin:0;max-width:74em}
@media(max-width:860px){.said-side{position:static;max-height:none}
 .sides{grid-template-columns:minmax(0,1fr)}}
@page{size:A4 landscape;margin:11mm}
@media print{th,td,thead th{padding:3px 4px;font-size:.62rem;white-space:normal}
 td .range{font-size:.58rem}thead th{hyphens:auto}figure.small svg.figure{max-width:400px}
 .said-side{position:static;max-height:none;overflow:visible}
 .case{border:0;padding:0;break-before:auto}.turn,.field{break-inside:avoid}
 .sides{gap:14px}.turn{font-size:.76rem}.field{font-size:.7rem}.badge,mark{print-color-adjust:exact}}
"""

COMPLIANCE_SCRIPT = """
for (const pin of document.querySelectorAll(".pin")) {
  pin.addEventListener("click", () => {
    const on = pin.getAttribute("aria-pressed") !== "true";
    const field = pin.closest(".field");
    pin.setAttribute("aria-pressed", on);
    field.classList.toggle("pinned", on);
    const name = [...field.classList].find(each => /^f\\d+$/.test(each));
    const spot = field.closest(".case").querySelector("mark." + name);
    if (on && spot) spot.scrollIntoView({block: "nearest"});
  });
}
function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  const around = target && target.closest("details");
  if (around && !around.open) { around.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", reveal);
reveal();
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
"""
