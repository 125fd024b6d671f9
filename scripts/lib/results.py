"""What tests came to, and how it is written down: JUnit XML, which every CI reads, and
KTAP (the kernel's Test Anything Protocol, version 1), which KernelCI-like systems do."""

import re
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field

# Characters that XML 1.0 cannot hold (section 2.2), however they are written.
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# By what pytest calls it in a report, where a test did not just pass.
OUTCOMES = {"failure": "failed", "error": "failed", "skipped": "skipped"}


@dataclass
class Case:
    """One test: `passed`, `failed`, or `skipped`, and why."""

    name: str
    outcome: str
    seconds: float = 0.0
    reason: str = ""
    output: str = ""


@dataclass
class Suite:
    """The tests of one program or module."""

    name: str
    cases: list = field(default_factory=list)

    def count(self, outcome):
        return sum(case.outcome == outcome for case in self.cases)


def tally(suites):
    """The one line about all of them."""
    passed, failed, skipped = (sum(suite.count(outcome) for suite in suites)
                               for outcome in ("passed", "failed", "skipped"))
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def failed(suites):
    """Whether anything did."""
    return any(suite.count("failed") for suite in suites)


def _read_case(element):
    case = Case(element.get("name"), "passed", float(element.get("time") or 0))
    for child in element:
        # A test that failed and could not clean up either has two; the worse one counts.
        if child.tag in OUTCOMES and case.outcome != "failed":
            case.outcome = OUTCOMES[child.tag]
            case.reason = child.get("message") or ""
            case.output = child.text or ""
    return case


def read_junit(path):
    """The suites of pytest's report, one for each module."""
    suites = {}
    for element in xml.parse(path).getroot().iter("testcase"):
        name = element.get("classname") or "pytest"
        suites.setdefault(name, Suite(name)).cases.append(_read_case(element))
    return list(suites.values())


def _clean(text):
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def junit(suites):
    """JUnit XML."""
    root = xml.Element("testsuites")
    for suite in suites:
        within = xml.SubElement(
            root, "testsuite", name=_clean(suite.name), tests=str(len(suite.cases)),
            failures=str(suite.count("failed")), errors="0", skipped=str(suite.count("skipped")),
            time=f"{sum(case.seconds for case in suite.cases):.3f}")
        for case in suite.cases:
            element = xml.SubElement(within, "testcase", classname=_clean(suite.name),
                                     name=_clean(case.name), time=f"{case.seconds:.3f}")
            if case.outcome != "passed":
                kind = "failure" if case.outcome == "failed" else "skipped"
                told = xml.SubElement(element, kind, message=_clean(case.reason))
                told.text = _clean(case.output)
    xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _flat(text):
    """Text that stays on its line and starts no directive there: a `#` would."""
    return " ".join(NOT_XML.sub("?", text).split()).replace("#", "_")


def _line(number, name, outcome, reason=""):
    """A test's result line."""
    result = "not ok" if outcome == "failed" else "ok"
    directive = f" # SKIP {_flat(reason)}".rstrip() if outcome == "skipped" else ""
    return f"{result} {number} {_flat(name)}{directive}"


def _subtests(suite):
    """The nested part of a suite: indented by two spaces, with a header of its own."""
    yield "  KTAP version 1"
    yield f"  # Subtest: {_flat(suite.name)}"
    yield f"  1..{len(suite.cases)}"
    for number, case in enumerate(suite.cases, 1):
        if case.outcome == "failed":
            for line in (case.reason or case.output).splitlines():
                yield f"  # {_flat(line)}".rstrip()
        yield "  " + _line(number, case.name, case.outcome, case.reason)


def ktap(suites):
    """KTAP, one subtest for each suite."""
    lines = ["KTAP version 1", f"1..{len(suites)}"]
    for number, suite in enumerate(suites, 1):
        lines += _subtests(suite)
        whole = "failed" if suite.count("failed") else "passed"
        if suite.count("skipped") == len(suite.cases):
            whole = "skipped"
        lines.append(_line(number, suite.name, whole))
    return "\n".join(lines) + "\n"
