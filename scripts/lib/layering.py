"""The rules that keep the layers apart, over what `cargo metadata` says.

Dependencies point one way: boards -> drivers -> core -> dt. `hw` and `arch`
implement traits that `core` declares; only boards name everything, and only the
host names other boards, for their lists of drivers; nothing but tests reaches the
testkit. Unsafe code stays in `hw` and `arch`; a board's entry stub comes from a
macro of `arch`.
"""

import re
from pathlib import Path

from .common import HOST

# What each kernel crate may use. Drivers and boards have their rules below.
KERNEL = {
    "dt": set(),
    "core": {"dt"},
    "pgtable": {"core"},
    "hw": {"core", "dt", "pgtable"},
    "arch": {"core", "dt", "hw", "pgtable"},
    "shell": {"core", "dt"},
    # What all boards share: from the entry to the shell.
    "main": {"arch", "core", "dt", "hw", "shell"},
    # The SMMU model shares the driver's bit layouts, and none of its logic.
    "testkit": {"core", "dt", "pgtable", "smmuv3"},
}
DRIVER = {"core", "dt"}
# What single drivers may use beyond that.
DRIVER_EXTRA = {"smmuv3": {"pgtable"}}
# What touches a machine, and what a host therefore has no use for.
MACHINE = {"hw", "arch", "main"}
UNSAFE_CRATES = {"hw", "arch"}
FORBID = "#![forbid(unsafe_code)]"
UNSAFE_WORD = re.compile(r"\bunsafe\b(?!_)")


class Crate:
    """A workspace member: which layer, what it is called there, what it uses."""

    def __init__(self, package, root):
        self.folder = Path(package["manifest_path"]).parent
        self.layer, self.name = self.folder.relative_to(root).parts[:2]
        self.package = package["name"]
        self.uses = [d["name"] for d in package["dependencies"] if d["kind"] != "dev"]

    def __str__(self):
        return f"{self.layer}/{self.name}"


def crates(metadata):
    """The workspace's crates by package name."""
    root = Path(metadata["workspace_root"])
    members = set(metadata["workspace_members"])
    found = [Crate(p, root) for p in metadata["packages"] if p["id"] in members]
    return {crate.package: crate for crate in found}


def _may_use(crate):
    """The names a crate may use, or None for all but the testkit."""
    if crate.layer == "boards":
        return None
    if crate.layer == "drivers":
        return DRIVER | DRIVER_EXTRA.get(crate.name, set())
    return KERNEL.get(crate.name, set())


def dependency_violations(members):
    """One line for each dependency that points the wrong way."""
    for crate in members.values():
        allowed = _may_use(crate)
        is_host = crate.layer == "boards" and crate.name == HOST
        for used in (members[name] for name in crate.uses if name in members):
            if used.layer == "boards" and not is_host:
                yield f"{crate} uses {used}: nothing depends on a board"
            elif used.name == "testkit":
                yield f"{crate} uses {used} outside its dev-dependencies"
            elif is_host and used.layer == "kernel" and used.name in MACHINE:
                yield f"{crate} uses {used}: a host has no hardware"
            elif allowed is not None and used.name not in allowed:
                yield f"{crate} uses {used}; it may use: {', '.join(sorted(allowed)) or 'nothing'}"


def _code(text):
    """Rust source without its comments and string literals."""
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', "", text, flags=re.S)


def unsafe_violations(members):
    """One line for each place where unsafe code could be, or is, and should not."""
    for crate in members.values():
        if crate.name in UNSAFE_CRATES and crate.layer == "kernel":
            continue
        if crate.layer == "boards":
            for path in sorted(crate.folder.rglob("*.rs")):
                if UNSAFE_WORD.search(_code(path.read_text())):
                    yield f"{crate}: unsafe in {path.name}"
        elif FORBID not in (crate.folder / "src/lib.rs").read_text().splitlines():
            yield f"{crate}: src/lib.rs lacks {FORBID}"


def lint_violations(members):
    """One line for each crate that the workspace's lints do not reach."""
    for crate in members.values():
        if "[lints]\nworkspace = true" not in (crate.folder / "Cargo.toml").read_text():
            yield f"{crate}: Cargo.toml lacks `[lints] workspace = true`"


def violations(metadata):
    """All of them."""
    members = crates(metadata)
    for rule in (dependency_violations, unsafe_violations, lint_violations):
        yield from rule(members)
