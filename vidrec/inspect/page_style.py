"""How the report page looks: light and dark, wide and narrow, moving and still, on paper."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1f2933; --faint: #5b6470; --line: #dfe3e8;
  --bar: #2b7bd4; --track: #e6eaef; --right: #0b6b53; --right-bg: #e1f3ed; --wrong: #a33b06; --wrong-bg: #fdebdf; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0e1217; --card: #161b22; --ink: #dee4ec; --faint: #9aa4b2; --line: #2a323c;
    --bar: #4a94e6; --track: #2a323c; --right: #63d3b0; --right-bg: #12332b; --wrong: #ffa873; --wrong-bg: #3d2415; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 24px 64px; max-width: 1128px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 15px; font-weight: 600; color: var(--faint); }
.finding { margin: 8px 0 0; max-width: 34em; font-size: clamp(21px, 3.2vw, 29px); line-height: 1.28; font-weight: 600;
  letter-spacing: -.012em; text-wrap: balance; }
h2 { margin: 48px 0 14px; font-size: 19px; }
h3 { margin: 0; font-size: 16px; overflow-wrap: anywhere; }
figure, figcaption p, ul, dl, dd { margin: 0; padding: 0; }
img { display: block; max-width: 100%; }
.card, .wide { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 18px; min-width: 0; }
.card > svg { display: block; width: 100%; max-width: 560px; height: auto; }
.wide { overflow-x: auto; padding: 4px 18px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.caption { margin: 12px 2px 0; max-width: 60em; font-size: 14px; color: var(--faint); }
th, td { padding: 11px 0 11px 20px; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
th:first-child { padding-left: 0; }
td { min-width: 8em; }
thead th { border: 0; font-size: 14px; font-weight: 600; color: var(--faint); vertical-align: bottom; }
th small { display: block; font-size: 13px; font-weight: 400; }
tbody th { font-weight: 600; white-space: nowrap; }
td.number { min-width: 0; }
.number { text-align: right; white-space: nowrap; }
.bar { display: block; position: relative; min-width: 88px; height: 5px; margin-top: 5px; border-radius: 3px;
  background: var(--track); }
.bar b { display: block; height: 100%; border-radius: 3px; background: var(--bar); }
.bar i { position: absolute; top: -3px; width: 2px; height: 11px; background: var(--ink); }
.swatch { width: 13px; height: 13px; margin-right: 8px; vertical-align: -1px; }
.charts, .matrices, .clips { display: grid; gap: 18px; }
.charts, .matrices { grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.charts > :only-child, .matrices > :only-child { max-width: 680px; }
.clips { grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
.matrices picture { display: block; margin: 12px 0 0; }
.matrices img { height: auto; }
figcaption { color: var(--faint); font-size: 14px; }
figcaption ul { margin-top: 12px; list-style: none; }
summary { cursor: pointer; padding: 4px 2px; }
summary, .hold { width: fit-content; }
details .wide { margin-top: 10px; }
:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.clip img { width: 100%; height: auto; margin-bottom: 6px; border-radius: 6px; }
.still, section:has(.hold :checked) .moving { display: none; }
section:has(.hold :checked) .still { display: block; }
.hold { display: block; margin: 10px 0 12px; font-size: 14px; color: var(--faint); }
@media (prefers-reduced-motion: reduce) { .still { display: block; } .moving, .hold { display: none; } }
.note { margin: 2px 0 0; overflow-wrap: anywhere; font-size: 14px; color: var(--faint); }
.clip ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 14px; margin-top: 12px;
  list-style: none; font-size: 14px; }
.clip li { min-width: 0; max-width: 256px; overflow-wrap: anywhere; }
.clip li .network { display: block; }
.verdict { justify-self: start; padding: 1px 7px; border-radius: 5px; font-size: 13px; font-weight: 600;
  white-space: nowrap; }
.right .verdict { color: var(--right); background: var(--right-bg); }
.wrong .verdict { color: var(--wrong); background: var(--wrong-bg); }
.network { color: var(--faint); }
.score { font-variant-numeric: tabular-nums; }
footer { margin-top: 56px; padding-top: 24px; border-top: 1px solid var(--line); font-size: 14px; color: var(--faint); }
footer h2 { margin-top: 0; font-size: 16px; color: var(--ink); }
footer p { max-width: 46em; }
pre { margin: 0 0 14px; padding: 12px 16px; overflow-x: auto; border-radius: 8px; background: var(--card);
  border: 1px solid var(--line); color: var(--ink); font: 13px/1.5 ui-monospace, Consolas, monospace; }
dl { display: flex; flex-wrap: wrap; gap: 2px 22px; }
dl div { display: flex; gap: 6px; }
dd { color: var(--ink); }
@media (max-width: 600px) {
  thead { display: block; position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  table, tbody, tr, tbody th, td { display: block; }
  tbody th { padding: 12px 0 2px; }
  td { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 16px; padding: 3px 0; border: 0; }
  td::before { content: attr(data-title); color: var(--faint); }
  td.number { text-align: left; white-space: normal; }
  td.number::before { flex: 1 1 0; }
  tr:first-child th { border: 0; }
  .bar { flex-basis: 100%; margin: 2px 0 6px; }
  tr:last-child td:last-child { padding-bottom: 12px; } }
@media (max-width: 520px) { body { padding: 24px 14px 48px; } .card { padding: 14px; } .wide { padding: 4px 14px; } }
@media print { .card, .wide { break-inside: avoid; } }
"""
