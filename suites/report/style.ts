import { colourCss } from './svg.js';

/** The report's own style sheet: no font, script or picture is fetched from anywhere. */
export const style = `
${colourCss(':root')}
:root{color-scheme:light dark;--page:#fff;--panel:#f6f8fa;--accent:#2a78d6;
--pass:#0f7a4d;--pass-bg:#e3f5ec;--fail:#b3261e;--fail-bg:#fce8e6;--none:#59636e;--none-bg:#eceff2;--warn:#8a5a00;--warn-bg:#fff4dc}
@media (prefers-color-scheme:dark){:root{--page:#14171b;--panel:#1c2026;--accent:#5b9df0;
--pass:#5fd39f;--pass-bg:#12322a;--fail:#ff8a80;--fail-bg:#3d1a18;--none:#a0a9b4;--none-bg:#272c33;--warn:#f0c060;--warn-bg:#362a10}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px}
h2{font-size:19px;margin:48px 0 12px}
h3{font-size:15px;margin:24px 0 4px}
figure h3{margin-top:0}
p{margin:0 0 12px}
a{color:var(--accent)}
.sub{color:var(--muted);margin:0 0 20px}
.lead{font-size:18px;line-height:1.45;margin:20px 0;padding:16px 20px;background:var(--panel);border-left:4px solid var(--accent);border-radius:4px}
.notice{margin:12px 0;padding:12px 16px;background:var(--warn-bg);color:var(--warn);border-radius:4px}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:8px 28px;margin:0}
.facts div{display:flex;gap:12px}
.facts dt{color:var(--muted);flex:0 0 92px}
.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:0 0 8px}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{color:var(--muted);font-weight:500;text-align:left;vertical-align:bottom;padding:6px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
td{padding:6px 8px;border-bottom:1px solid var(--line);vertical-align:top}
th.n,td.n{text-align:right;white-space:nowrap}
td.name{white-space:nowrap}
td.note{min-width:130px}
td small,.small{display:block;color:var(--muted);font-size:12px}
tr.base td{background:var(--panel)}
.chip{display:inline-block;padding:1px 9px;border-radius:10px;font-size:12px;font-weight:600;white-space:nowrap}
.PASS,.ok{color:var(--pass);background:var(--pass-bg)}
.FAIL,.failed{color:var(--fail);background:var(--fail-bg)}
.NOT-COMPARABLE,.pending{color:var(--none);background:var(--none-bg)}
.invalid{color:var(--warn);background:var(--warn-bg)}
figure{margin:28px 0;padding:0}
figcaption{color:var(--muted);max-width:70ch;margin:0 0 10px;font-size:13.5px}
figure svg{max-width:100%;height:auto;display:block}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;font-size:12.5px}
pre{background:var(--panel);padding:12px 14px;border-radius:4px;overflow:auto;max-height:420px}
details{margin:8px 0}
summary{cursor:pointer}
li{margin:0 0 6px}
dl.words dt{font-weight:600;margin-top:8px}
dl.words dd{margin:0;color:var(--muted)}
@media print{details{display:block}.notice,.lead{break-inside:avoid}figure{break-inside:avoid}}
`.trim();
