"""Reads what `cargo test` prints, as it is printed: the programs it runs, their tests, and
what those that failed said. The words are those of Rust's test harness, which has no
machine-readable output on a stable compiler."""

import re

from .results import Case, Suite

# Cargo colours its words where CARGO_TERM_COLOR says so.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# By cargo: a program's source and its file, or the crate whose examples follow.
PROGRAM = re.compile(r"^ +Running (unittests )?(\S+) \(.*?([^/]+?)(?:-[0-9a-f]{16})?\)$")
EXAMPLES = re.compile(r"^ +Doc-tests (\S+)$")
TEST = re.compile(r"test (.+) \.\.\. (ok|FAILED|ignored)(?:, (.*))?$")
SAID = re.compile(r"^---- (.+?) (?:stdout|stderr) ----$")
RESULT = re.compile(r"^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored;"
                    r"(?:.* finished in ([0-9.]+)s)?")
OUTCOMES = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}


class Reader:
    """Takes lines, keeps `suites`."""

    def __init__(self):
        self.suites = []
        self._crate = self._name = "cargo test"
        self._cases, self._said, self._saying = [], {}, None

    def line(self, text):
        """One line of the output."""
        text = COLOUR.sub("", text.rstrip("\n"))
        if found := PROGRAM.match(text):
            unit, source, program = found.groups()
            # A crate's own come first; its other programs' names are not unique.
            self._crate = program if unit else self._crate
            self._begin(f"{self._crate} {source}")
        elif found := EXAMPLES.match(text):
            self._begin(f"{found[1]} examples")
        elif found := RESULT.match(text):
            self._end(*found.groups())
        elif found := SAID.match(text):
            self._saying = self._said.setdefault(found[1], [])
        elif text == "failures:":
            self._saying = None
        elif self._saying is not None:
            self._saying.append(text)
        # Not at the line's start only: a program that a test ran may have left it half full.
        elif found := TEST.search(text):
            self._cases.append(Case(found[1], OUTCOMES[found[2]], reason=found[3] or ""))

    def _begin(self, name):
        self._name = name
        self._cases, self._said, self._saying = [], {}, None

    def _end(self, passed, failed, ignored, seconds):
        """The harness's own counts hold: a line that was lost in others' output is made up for."""
        counted = {"passed": int(passed), "failed": int(failed), "skipped": int(ignored)}
        cases = []
        for outcome, count in counted.items():
            seen = [case for case in self._cases if case.outcome == outcome][:count]
            cases += seen + [Case(f"({outcome}, its name was lost)", outcome)] * (count - len(seen))
        for case in cases:
            if case.outcome == "failed":
                said = [line for line in self._said.get(case.name, []) if line.strip()]
                case.reason, case.output = (said or ["it said nothing"])[0], "\n".join(said)
        if cases:
            # Time is told of the program only; each test has its share.
            for case in cases:
                case.seconds = float(seconds or 0) / len(cases)
            self.suites.append(Suite(self._name, cases))
        self._begin(self._name)
