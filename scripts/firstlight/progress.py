"""How far a run is: frames done of frames in each stage, and what time is left."""

from __future__ import annotations

from collections import Counter, defaultdict

# The stages of a run in the order in which they come, and their rules. A rule that is not named is a stage of its own name.
STAGES = {
    "masters": "master_bias master_dark master_flat ready_master ready_detector detector",
    "catalogues": "catalogue",
    "lights": "light",
    "answers of nova": "nova",
    "fringes": "fringe",
    "grids": "grid",
    "aligned": "align",
    "stacks": "combine",
    "pictures": "picture preview",
    "tables": "unsolved stacks ledger report",
}
STAGE_OF = {rule: stage for stage, rules in STAGES.items() for rule in rules.split()}
NO_STAGE = {"all", "total"}

# Seconds of jobs as they are to each other, until this run's own are known; of a stack for each of its frames.
TYPICAL = {"light": 1.0, "align": 0.5, "grid": 0.6, "catalogue": 0.7, "picture": 3.0, "preview": 0.8, "report": 2.5}
TYPICAL |= {"master_flat": 1.5, "fringe": 5.0}
PER_FRAME = 0.3
FEW = 3  # jobs that must be done before a time is told
SOON = 5.0  # seconds before which none is told


class Progress:
    """Jobs begun and done. Times are seconds of any clock that runs on.

    jobs  {rule: number of its jobs}; begun: when the run began
    """

    def __init__(self, jobs: dict[str, int], begun: float):
        self.jobs = {rule: number for rule, number in jobs.items() if rule not in NO_STAGE}
        self.done = Counter()
        self.begun = begun
        self._running: dict = {}
        self._seconds = defaultdict(float)

    def start(self, job, rule: str, now: float) -> None:
        """A job was begun."""
        self._running[job] = rule, now

    def finish(self, job, now: float, rule: str | None = None) -> str | None:
        """A job is done; returns the stage that it completes, if it does. The rule is that of its start, unless given."""
        rule, begun = self._running.pop(job, (rule, now))
        if rule not in self.jobs:
            return None
        self.done[rule] += 1
        self._seconds[rule] += now - begun
        stage = STAGE_OF.get(rule, rule)
        done, total = self.stages()[stage]
        return stage if done == total else None

    def drop(self, job) -> None:
        """A job failed."""
        self._running.pop(job, None)

    def total(self) -> tuple[int, int]:
        """Jobs done and all jobs."""
        return self.done.total(), sum(self.jobs.values())

    def stages(self) -> dict[str, tuple[int, int]]:
        """Jobs done and all jobs of each stage, in the order of the stages."""
        counts = {stage: [0, 0] for stage in STAGES}
        for rule, number in self.jobs.items():
            count = counts.setdefault(STAGE_OF.get(rule, rule), [0, 0])
            count[0] += self.done[rule]
            count[1] += number
        return {stage: (done, total) for stage, (done, total) in counts.items() if total}

    def left(self, now: float) -> float | None:
        """Seconds that are left, by what jobs of a rule took in this run and how many ran at a time; None where too little is
        known. A rule that has not run is taken for what it usually is beside the others."""
        spent = sum(self._seconds.values()) + sum(now - begun for _, begun in self._running.values())
        if self.done.total() < FEW or now - self.begun < SOON or not sum(self._seconds.values()):
            return None
        usual = sum(self._usual(rule) * number for rule, number in self.done.items())
        scale = sum(self._seconds.values()) / usual
        costs = {
            rule: self._seconds[rule] / self.done[rule] if self.done[rule] else scale * self._usual(rule)
            for rule in self.jobs
        }
        work = sum(costs[rule] * (number - self.done[rule]) for rule, number in self.jobs.items())
        begun = sum(min(now - start, costs.get(rule, 0.0)) for rule, start in self._running.values())
        return max(work - begun, 0.0) * (now - self.begun) / spent

    def _usual(self, rule: str) -> float:
        if rule == "combine":
            return 1.0 + PER_FRAME * self.jobs.get("align", self.jobs.get("light", 0)) / self.jobs[rule]
        return TYPICAL.get(rule, 0.5)

    def line(self, now: float) -> str:
        """All in a line: 'masters 6/6, lights 13/25, aligned 2/25; about 1 min left'. What has not begun is left out."""
        counts = [f"{stage} {done}/{total}" for stage, (done, total) in self.stages().items() if done]
        left = self.left(now)
        return (", ".join(counts) or f"{sum(self.jobs.values())} jobs") + (
            f"; about {spoken(left)} left" if left else ""
        )

    def short(self, now: float) -> str:
        """The same for a line that is rewritten: only what is at work."""
        at_work = {STAGE_OF.get(rule, rule) for rule, _ in self._running.values()}
        unfinished = [f"{stage} {done}/{total}" for stage, (done, total) in self.stages().items() if stage in at_work]
        left = self.left(now)
        share = self.done.total() / max(sum(self.jobs.values()), 1)
        head = f"{share:4.0%}" + (f", about {spoken(left)} left" if left else "")
        return f"{head}: {', '.join(unfinished)}" if unfinished else head


def spoken(seconds: float) -> str:
    """A time as people say it: '40 s', '3 min', '1 h 20 min'."""
    if seconds < 55:
        return f"{max(round(seconds / 5) * 5, 5):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
