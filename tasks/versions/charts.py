"""Charts for pages that must work alone: inline SVG, made of numbers only."""

from collections.abc import Sequence

import numpy as np

WIDTH = 320
HEIGHT = 150
LEFT = 4
BOTTOM = 24
TOP = 18
GAP = 2  # between two bars


def histogram(values: Sequence[float], low: float, high: float, *, bins: int, unit: str) -> str:
    """SVG of how often values fall between `low` and `high`; what lies outside counts at the ends."""
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
    top = max(int(counts.max()), 1)
    step = (WIDTH - 2 * LEFT) / bins
    parts = [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
    ]
    for n, count in enumerate(counts.tolist()):
        if count:
            tall = max((HEIGHT - BOTTOM - TOP) * count / top, 1.5)
            place = f'x="{LEFT + n * step:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}"'
            told = f"{edges[n]:.4g} to {edges[n + 1]:.4g} {unit}: {count:,}"
            size = f'width="{step - GAP:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect {place} {size} rx="2"><title>{told}</title></rect>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        x = LEFT + share * (WIDTH - 2 * LEFT)
        label = f"{low + share * (high - low):.3g}" + (f" {unit}" if share == 1 else "")
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{label}</text>')
    parts.append(f'<text x="{WIDTH - LEFT}" y="12" text-anchor="end">fullest bar {top:,}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="histogram" role="img">{"".join(parts)}</svg>'


def waveform(wave: np.ndarray, columns: int = 160) -> str:
    """SVG of how loud a sound is over its time: int16 (samples,)."""
    usable = len(wave) // columns * columns
    heard = np.abs(wave[:usable].astype(np.float32)).reshape(columns, -1).max(axis=1) / 32768
    half = np.maximum(np.sqrt(heard) * 20, 0.4)  # the root shows what is quiet, too
    bars = "".join(f"M{n + 0.5} {20 - tall:.1f}V{20 + tall:.1f}" for n, tall in enumerate(half.tolist()))
    head = f'<svg viewBox="0 0 {columns} 40" class="wave" preserveAspectRatio="none" role="img">'
    return f'{head}<path d="{bars}"/></svg>'
