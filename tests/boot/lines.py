"""What the GPIO controller's lines did, as QEMU's trace tells it."""

import re

GPIO = "/pl061@9030000"
CLOCK, DOMAIN = "/smmu-clock", "/smmu-domain"
CLOCK_LINE, DOMAIN_LINE, SUPPLY_LINE = 0, 1, 4
TRACE = "-trace pl061_set_output"
ON = [(DOMAIN_LINE, 1), (CLOCK_LINE, 1)]
OFF = [(CLOCK_LINE, 0), (DOMAIN_LINE, 0)]


def lines(booted):
    """(line, level) of every change since the first line went high."""
    found = re.findall(r"pl061_set_output .* output (\d) to (\d)", booted.messages)
    changes = [(int(line), int(level)) for line, level in found]
    highs = [index for index, (_, level) in enumerate(changes) if level]
    return changes[highs[0]:] if highs else []


def latest(booted, name):
    """The last record of a device, where commands showed it before."""
    return [record for record in booted.records("device") if record["name"] == name][-1]
