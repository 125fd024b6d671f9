"""What is left for CI systems: JUnit XML and KTAP, of boot tests and of host tests."""

import os
import re
import sys
import xml.etree.ElementTree as xml

import pytest
from lib import libtest, results
from lib.results import Case, Suite

SUITES = [
    Suite("mastiff_dt src/lib.rs", [
        Case("reads", "passed", 0.25), Case("writes # and more", "skipped", reason="no\nmachine #1"),
    ]),
    Suite("tests.boot.test_x", [
        Case("test_a[1-b]", "failed", 1.5, "assert 1 == 2", "one line\nok 7 not a result\x1b[0m"),
    ]),
    Suite("tests.boot.test_y", [Case("test_c", "skipped")]),
]

# As the kernel's documentation has them (dev-tools/ktap): no other line is one of KTAP's.
RESULT = re.compile(r"^(ok|not ok) ([0-9]+) ([^#]+?)( # SKIP(?: (.*))?)?$")
PLAN = re.compile(r"^1\.\.([0-9]+)$")


class Lines:
    """A strict reader of KTAP."""

    def __init__(self, text):
        assert text.endswith("\n")
        self.lines = text.splitlines()

    def at(self, indent):
        """The next line's text where it is indented so."""
        line = self.lines[0] if self.lines else ""
        return line[indent:] if line[:indent].isspace() or not indent else None

    def take(self, indent, pattern):
        line = self.at(indent)
        found = re.match(pattern, line) if line is not None else None
        assert found, f"{self.lines[:1]} is no {pattern}"
        self.lines.pop(0)
        return found

    def tests(self, indent=0):
        """(result, name, reason of a skip, subtests) of each test at a level."""
        self.take(indent, "^KTAP version 1$")
        if indent:
            self.take(indent, "^# Subtest: (.+)$")
        count = int(self.take(indent, PLAN)[1])
        found = []
        for number in range(1, count + 1):
            nested = self.tests(indent + 2) if self.at(indent + 2) == "KTAP version 1" else None
            while (self.at(indent) or "").startswith("#"):
                self.lines.pop(0)
            line = self.take(indent, RESULT)
            assert int(line[2]) == number
            found.append((line[1], line[3], line[4] and (line[5] or ""), nested))
        return found


def ktap(suites):
    lines = Lines(results.ktap(suites))
    found = lines.tests()
    assert lines.lines == []
    return found


def test_ktap_nests_counts_and_says_why():
    assert ktap(SUITES) == [
        ("ok", "mastiff_dt src/lib.rs", None, [
            ("ok", "reads", None, None), ("ok", "writes _ and more", "no machine _1", None)]),
        ("not ok", "tests.boot.test_x", None, [("not ok", "test_a[1-b]", None, None)]),
        ("ok", "tests.boot.test_y", "", [("ok", "test_c", "", None)]),
    ]
    assert "\n  # assert 1 == 2\n  not ok 1 test_a[1-b]\n" in results.ktap(SUITES)
    assert ktap([]) == []


def test_junit_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(results.junit(SUITES))
    again = results.read_junit(path)
    assert [suite.name for suite in again] == [suite.name for suite in SUITES]
    assert [suite.cases for suite in again[:1]] == [suite.cases for suite in SUITES[:1]]
    failed, = again[1].cases
    # An escape character is none of XML's.
    assert failed.output == "one line\nok 7 not a result\ufffd[0m"
    suite = xml.parse(path).getroot()[1]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("1", "1", "0")
    assert suite[0][0].get("message") == "assert 1 == 2"


@pytest.mark.parametrize("suites, line", [
    (SUITES, "1 passed, 1 failed, 2 skipped"), (SUITES[:0], "0 passed, 0 failed"),
    ([Suite("a", [Case("b", "passed")])], "1 passed, 0 failed"),
])
def test_the_last_line(suites, line):
    assert results.tally(suites) == line
    assert results.failed(suites) == (", 1 failed" in line)


def test_pytests_own_report_is_understood(command, tmp_path):
    (tmp_path / "test_it.py").write_text("""if True:
        import pytest
        @pytest.fixture
        def torn(): yield; raise OSError("torn down")
        @pytest.fixture
        def unmade(): raise OSError("not made")
        def test_good(): pass
        def test_bad(): assert 1 == 2
        def test_bad_twice(torn): assert 3 == 4
        def test_unmade(unmade): pass
        def test_skipped(): pytest.skip("no machine")
        @pytest.mark.xfail(reason="known")
        def test_known(): assert False
    """)


    report = tmp_path / "report.xml"
    command(sys.executable, "-m", "pytest", "-c", "/dev/null", f"--rootdir={tmp_path}", "-q",
            "-p", "no:cacheprovider", f"--junitxml={report}", str(tmp_path),
            env=dict(os.environ, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"))
    suite, = results.read_junit(report)
    found = {}
    for case in suite.cases:
        found.setdefault(case.name, []).append((case.outcome, case.reason))
    assert found.pop("test_good") == [("passed", "")]
    assert found.pop("test_skipped") == [("skipped", "no machine")]
    assert found.pop("test_known") == [("skipped", "known")]
    outcomes = {outcome for cases in found.values() for outcome, _ in cases}
    assert set(found) == {"test_bad", "test_bad_twice", "test_unmade"} and outcomes == {"failed"}


PRINTED = """\
   Compiling mastiff-dt v0.1.0 (/somewhere/kernel/dt)
\x1b[1m\x1b[32m     Running\x1b[0m unittests src/lib.rs (target/debug/deps/mastiff_dt-1e680da5b383e4f4)

running 3 tests
test a::good ... ok
test a::slow ... ignored, takes an hour
half a line of a child's test a::bad - should panic ... FAILED

failures:

---- a::bad - should panic stdout ----

thread 'a::bad' panicked at kernel/dt/src/a.rs:3:5:
test of failures: ... ok

failures:
    a::bad - should panic

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.30s

     Running tests/address.rs (/a place/debug/deps/address-133fe96f443a6a7f)

running 2 tests
test seen ... ok
test unse
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests mastiff_dt

running 1 test
test kernel/dt/src/lib.rs - (line 22) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s

   Doc-tests mastiff_pgtable

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
"""


def test_host_tests_are_read_from_what_cargo_prints():
    reader = libtest.Reader()
    for line in PRINTED.splitlines(keepends=True):
        reader.line(line)
    unit, other, examples = reader.suites
    assert [suite.name for suite in reader.suites] == [
        "mastiff_dt src/lib.rs", "mastiff_dt tests/address.rs", "mastiff_dt examples"]
    good, bad, slow = unit.cases
    assert (good.name, good.outcome, round(good.seconds, 3)) == ("a::good", "passed", 0.1)
    assert (bad.name, bad.outcome) == ("a::bad - should panic", "failed")
    assert bad.reason.startswith("thread 'a::bad' panicked") and "failures: ... ok" in bad.output
    assert (slow.outcome, slow.reason) == ("skipped", "takes an hour")
    # The harness counted two, and one's line was torn.
    assert [case.name for case in other.cases] == ["seen", "(passed, its name was lost)"]
    assert [case.name for case in examples.cases] == ["kernel/dt/src/lib.rs - (line 22)"]
    assert results.tally(reader.suites) == "4 passed, 1 failed, 1 skipped"
