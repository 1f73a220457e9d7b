"""Which claims of the papers hold on toy videos: rows compared over seeds, and the tables of README.md."""

import functools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from experiments.grid import Claim, Scale, Study, measured_by, point
from experiments.results import Results

Found = dict[str, dict[int, float]]  # row -> seed -> percent

# One-sided 95 % points of Student's t, by the number of seeds.
T95 = {2: 6.31, 3: 2.92, 4: 2.35, 5: 2.13, 6: 2.02, 7: 1.94, 8: 1.89}
MOST_SEEDS = max(T95)
# Test videos. All seeds are tested on the same ones: to pass a sign test at 5 %, rows must differ in five, however much
# the seeds agree.
LEAST = 5


class Verdict(NamedTuple):
    """What became of a claim.

    Attributes:
      claim: it.
      measure: by which its rows are compared.
      better, worse: means of the rows over the seeds that have both, in percent.
      spread: half of the 90 % interval of their difference.
      seeds: how many have both.
      least: points by which rows must differ, half a video below the number, as results are rounded.
      ours: it is a question of ours, which has no side.
    """

    claim: Claim
    measure: str
    better: float
    worse: float
    spread: float
    seeds: int
    least: float
    ours: bool

    @property
    def difference(self) -> float:
        """Better less worse, in points."""
        return self.better - self.worse

    @property
    def name(self) -> str:
        """The claim in words."""
        by = f" ({self.claim.measure})" if self.claim.measure else ""
        return f"{self.claim.better} > {self.claim.worse}{by}"

    @property
    def name_and_measure(self) -> str:
        """The same beside claims of other measures: what nothing is said of is `pairs`."""
        return self.name if self.measure in ("pairs", self.claim.measure) else f"{self.name} ({self.measure})"

    @property
    def word(self) -> str:
        """What came out, where the interval is on one side of 0."""
        if self.seeds < 2:
            return "too few seeds" if self.seeds else "not run yet"
        if abs(self.difference) <= self.spread or abs(self.difference) < self.least:
            return "not separable"
        ways = ("first ahead", "second ahead") if self.ours else ("holds", "reversed")
        return ways[self.difference < 0]


def values(study: Study, scale: Scale, results: Results, measure: str = "") -> Found:
    """Of each row and seed the measure, in percent, as far as there are results; "": that of the row."""
    found: Found = {}
    for name, row in study.rows_at(scale).items():
        one, own = point(study, row, scale, 0), measure or measured_by(study, scale, row)
        each = {seed: results.measures(one._replace(seed=seed).key) or {} for seed in range(MOST_SEEDS)}
        found[name] = {seed: 100 * measures[own] for seed, measures in each.items() if own in measures}
    return found


def verdicts(study: Study, scale: Scale, results: Results) -> Iterator[Verdict]:
    """Of each claim about rows that there are."""
    rows = study.rows_at(scale)
    found = functools.cache(partial(values, study, scale, results))
    least = 100 * (LEAST - 0.5) / study.videos.tests if scale.size and study.videos.tests else 0.0
    for claim in study.claims:
        if claim.better in rows and claim.worse in rows:
            measure = claim.measure or measured_by(study, scale, rows[claim.better])
            better, worse = (found(measure)[name] for name in (claim.better, claim.worse))
            yield verdict(claim, measure, better, worse, least=least, ours=study.ours)


def verdict(
    claim: Claim,
    measure: str,
    better: Mapping[int, float],
    worse: Mapping[int, float],
    *,
    least: float = 0.0,
    ours: bool = False,
) -> Verdict:
    """What became of a claim, by the seeds that both rows have."""
    seeds = sorted(better.keys() & worse.keys())
    count = len(seeds)
    if not count:
        return Verdict(claim, measure, np.nan, np.nan, np.inf, 0, least, ours)
    one, other = (np.array([row[seed] for seed in seeds]) for row in (better, worse))
    spread = T95[count] * np.std(one - other, ddof=1) / np.sqrt(count) if count > 1 else np.inf
    return Verdict(claim, measure, float(np.mean(one)), float(np.mean(other)), float(spread), count, least, ours)


def text(study: Study, scale: Scale, results: Results) -> str:
    """The table beside the paper's, the claims, and what it cost, as Markdown."""
    found, rows = values(study, scale, results), study.rows_at(scale)
    measure = measured_by(study, scale)
    lines = [f"### {study.title}", "", f"| row | paper | here: {measure}, %, mean ± standard deviation | seeds |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, row in study.rows.items():
        if name not in rows and scale.size:
            lines.append(f"| {name} | {row.published or ''} | - (of the paper's networks alone) | |")
        if name not in rows:
            continue
        measured = list(found[name].values())
        here = f"{np.mean(measured):.1f}" if measured else "-"
        here += f" ± {np.std(measured, ddof=1):.1f}" if len(measured) > 1 else ""
        here += f" ({row.measure})" if row.measure else ""
        lines.append(f"| {name} | {row.published or ''} | {here} | {len(measured)} |")
    whose = "question of ours" if study.ours else "claim"
    lines += ["", f"| {whose} | difference ± half of its 90 % interval | | seeds |", "| --- | ---: | --- | ---: |"]
    for one in verdicts(study, scale, results):
        told = f"{one.difference:+.1f}" if one.seeds else "-"
        told += f" ± {one.spread:.1f}" if one.seeds > 1 else ""
        lines.append(f"| {one.name} | {told} | {one.word} | {one.seeds} |")
    firsts = [point(study, row, scale, 0) for row in rows.values()]
    keys = (first._replace(seed=seed).key for first in firsts for seed in range(MOST_SEEDS))
    cost = results.cost(keys)
    return "\n".join([*lines, "", cost] if cost else [*lines, ""])
