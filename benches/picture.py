#!/usr/bin/env python3
"""Draws benches/cpu.svg: CPU per request of each proxy, out of a file of figures.

    python3 benches/picture.py [benches/data/peers.json [benches/cpu.svg]]

The file is what `cargo bench --bench scale -- peers --json FILE` writes, or another with the same form: a
table of the section "peers", of whose columns "proxy" and "keep-alive" are drawn, the latter in
microseconds. A column "checks" says what a proxy checks of a token; without it Portcullis is taken to be the
only one that checks any. Needs Python's standard library alone.
"""

import html
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
LEFT, BAR, ROW, TOP, FOOT, WIDTH = 210, 410, 30, 64, 46, 760


def table(figures):
    for one in figures["tables"]:
        if one["section"] == "peers":
            return one
    sys.exit("no table of the section \"peers\" in the file")


def rows(one):
    """(name, what it checks, microseconds), the cheapest first."""
    columns = one["columns"]
    name, value = columns.index("proxy"), columns.index("keep-alive")
    checks = columns.index("checks") if "checks" in columns else None
    found = []
    for row in one["rows"]:
        if not isinstance(row[value], (int, float)):
            continue
        said = row[checks] if checks is not None else ("token" if row[name].startswith("Portcullis") else "nothing")
        found.append((row[name], said, row[value]))
    return sorted(found, key=lambda row: row[2])


def kind(name, checks):
    if name.startswith("Portcullis"):
        return "ours"
    return "bare" if checks == "nothing" else "checking"


def draw(figures):
    bars = rows(table(figures))
    most = max(value for _, _, value in bars)
    height = TOP + ROW * len(bars) + FOOT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13">',
        '<title id="title">CPU of the proxy per request, microseconds, less is better</title>',
        "<style>text{fill:#24292f}.dim{fill:#57606a}.ours{fill:#1a7f5a}.bare{fill:#c3c9d0}.checking{fill:#7f8c9a}"
        "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9aa4af}.ours{fill:#3fb98a}"
        ".bare{fill:#4a535d}.checking{fill:#76828f}}</style>",
        '<text x="16" y="26" font-size="15" font-weight="600">CPU per request, microseconds (less is better)</text>',
    ]
    x = 16
    for css, words in (("ours", "checks the token and all of profile fapi2"), ("checking", "checks the token"),
                       ("bare", "checks no token")):
        if any(kind(name, checks) == css for name, checks, _ in bars):
            out.append(f'<rect class="{css}" x="{x}" y="38" width="11" height="11" rx="2"/>')
            out.append(f'<text class="dim" x="{x + 16}" y="48" font-size="12">{words}</text>')
            x += 34 + 7 * len(words)
    for number, (name, checks, value) in enumerate(bars):
        y = TOP + ROW * number
        css = kind(name, checks)
        weight = ' font-weight="600"' if css == "ours" else ""
        width = max(2, BAR * value / most)
        out.append(f'<text x="{LEFT - 10}" y="{y + 19}" text-anchor="end"{weight}>{html.escape(name)}</text>')
        out.append(f'<rect class="{css}" x="{LEFT}" y="{y + 4}" width="{width:.1f}" height="21" rx="3"/>')
        out.append(f'<text x="{LEFT + width + 8:.1f}" y="{y + 19}"{weight}>{value:.1f}</text>')
    said = figures.get("method", "")
    for number, line in enumerate(said if isinstance(said, list) else [said]):
        y = height - FOOT + 20 + 15 * number
        out.append(f'<text class="dim" x="16" y="{y}" font-size="11">{html.escape(line)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    source = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "data" / "peers.json"
    target = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "cpu.svg"
    target.write_text(draw(json.loads(source.read_text())))


if __name__ == "__main__":
    main()
