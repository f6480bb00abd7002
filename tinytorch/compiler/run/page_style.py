"""How a program's page looks, by day and by night.

Knows colours and distances. The colours of kinds of kernel are those of Okabe & Ito 2008, "Color
Universal Design", which people with any kind of colour vision can tell apart; the last one is grey.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --page: #fbfaf7; --ink: #1e2126; --soft: #646a73;
  --line: #e3e0d8; --card: #ffffff; --bar: #cfe0f2; --accent: #0b62a8; --grid: #e9e6de;
  --k0: #0072b2; --k1: #e69f00; --k2: #009e73; --k3: #cc79a7; --k4: #56b4e9; --k5: #d55e00;
  --k6: #b5a900; --k7: #9aa0a6; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e6e4df; --soft: #9aa1ab;
  --line: #2e323a; --card: #1e2127; --bar: #27435f; --accent: #7cbcf0; --grid: #2a2e35;
  --k0: #3f9bdc; --k1: #f0b429; --k2: #2fbf94; --k3: #dd94bb; --k4: #8accf2; --k5: #ee7d35;
  --k6: #d6cb3a; --k7: #7d838b; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.2rem; }
body { margin: 0 auto; max-width: 1180px; padding: 0 1.5rem 4rem; background: var(--page);
  color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
header { padding: 2.6rem 0 1rem; }
h1 { margin: 0 0 .3rem; font-size: 2rem; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .4rem; font-size: 1.3rem; letter-spacing: -.01em; }
.note { margin: .2rem 0 .9rem; max-width: 78ch; color: var(--soft); }
nav { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 0 1.4rem;
  padding: .7rem 0; background: var(--page); border-bottom: 1px solid var(--line); }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: .8rem;
  margin-top: 1.4rem; }
.cards div { padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; color: var(--soft); font-size: .86rem; }
.cards b { display: block; color: var(--ink); font-size: 1.45rem; font-weight: 600;
  letter-spacing: -.02em; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .86rem; }
th { padding: .4rem .7rem .4rem 0; border-bottom: 1px solid var(--line); color: var(--soft);
  font-weight: 500; text-align: left; white-space: nowrap; }
td { padding: .38rem .7rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:nth-child(n+4), th:nth-child(n+4) { font-variant-numeric: tabular-nums; white-space: nowrap; }
td:nth-child(1) { white-space: nowrap; }
td:nth-child(2) { overflow-wrap: anywhere; }
td > i, .legend i { display: inline-block; width: .7em; height: .7em; margin-right: .5em;
  border-radius: 3px; }
code { color: var(--soft); font-size: .82rem; white-space: nowrap; }
small { display: inline-block; margin-left: .5em; color: var(--soft); }
.bar { display: inline-block; position: relative; width: 5.4rem; padding: 0 .35rem; z-index: 0;
  overflow: hidden; border-radius: 4px; background: var(--grid); }
.bar i { position: absolute; inset: 0 auto 0 0; z-index: -1; background: var(--bar); }
.funnel { max-width: 640px; margin-bottom: .8rem; }
.funnel .bar { width: 100%; }
.funnel td { border: 0; }
.funnel td:first-child { width: 15rem; color: var(--soft); }
.legend span { display: inline-block; margin-right: 1.3rem; color: var(--soft); font-size: .84rem; }
#time { position: relative; min-width: 100%; }
.lane { position: relative; height: 3.1rem; margin-bottom: .35rem; border-radius: 6px;
  background: var(--grid); overflow: hidden; }
.lane b { position: sticky; left: 0; display: inline-block; padding: .08rem .45rem;
  color: var(--soft); font-size: .72rem; font-weight: 500; }
.lane i { position: absolute; top: 1.2rem; bottom: .2rem; min-width: 1px; overflow: hidden;
  padding: 0; border-radius: 2px; color: #fff; font-size: .72rem; font-style: normal;
  line-height: 1.7rem; text-indent: .3rem; white-space: nowrap; text-overflow: ellipsis;
  box-shadow: inset -1px 0 0 var(--page); }
.lane i:hover { filter: brightness(1.15); }
.ticks { position: relative; height: 1.2rem; color: var(--soft); font-size: .74rem; }
.ticks span { position: absolute; padding-left: .3rem; border-left: 1px solid var(--soft); }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg.roofline { width: 100%; max-width: 860px; }
svg .grid { stroke: var(--grid); }
svg .roof { stroke: var(--ink); stroke-width: 1.4; opacity: .75; }
svg circle { opacity: .82; stroke: var(--page); }
svg.memory { display: block; width: 100%; height: 320px; border-bottom: 1px solid var(--soft);
  background: var(--grid); border-radius: 6px 6px 0 0; }
svg.memory rect { opacity: .85; stroke: var(--page); vector-effect: non-scaling-stroke;
  stroke-width: .6; }
svg.memory rect:hover { opacity: 1; stroke: var(--ink); }
svg.memory polyline { fill: none; stroke: var(--ink); stroke-width: 1.4; opacity: .8;
  vector-effect: non-scaling-stroke; }
.edge { display: flex; justify-content: space-between; margin: .2rem 0 1rem; color: var(--soft);
  font-size: .78rem; }
details { margin: .3rem 0; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
details details { margin: .3rem .8rem .6rem; }
summary { padding: .45rem .8rem; cursor: pointer; overflow-wrap: anywhere; }
summary b { font-weight: 600; }
summary span { color: var(--soft); font-size: .86rem; }
pre { max-height: 34rem; margin: 0; padding: .6rem 1rem 1rem; overflow: auto;
  font: 12px/1.5 ui-monospace, monospace; tab-size: 8; }
""" + "\n".join(f".k{i} {{ background: var(--k{i}); fill: var(--k{i}); }}" for i in range(8))
