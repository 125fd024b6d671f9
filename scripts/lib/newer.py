"""A newer QEMU beside the system's: Debian's packages, unpacked, not installed.

The packages of a later release need a later libc than this machine's, so all that
they depend on is unpacked with them and QEMU is started through their own loader.
Neither root nor the package database is involved. `QEMU=` takes the wrapper.
"""

import os
import shutil

from .apt import Apt
from .common import ROOT, TARGET, Usage, last_line, qemu_version, run, say

HOME = TARGET / "qemu-new"
WRAPPER = HOME / "qemu-system-aarch64"
PACKAGE = "qemu-system-arm"
# From here on there are several SMMUs in a machine, and iommu-testdev.
LEAST = (11,)
# Tried in this order: a stable release's backports change least.
SUITES = [("trixie", "trixie-backports"), ("sid",)]

# The loader is given by its path, so what QEMU looks for beside itself is not there.
SCRIPT = """\
#!/bin/sh
# Made by scripts/setup: QEMU {version} with the libraries that it was built for.
here=$(dirname "$(readlink -f "$0")")
export QEMU_MODULE_DIR="$here/{modules}"
exec "$here/{loader}" --library-path "$here/{libraries}" \\
    "$here/usr/bin/qemu-system-aarch64" -L "$here/usr/share/qemu" -L "$here/usr/share/seabios" "$@"
"""


def ready():
    return WRAPPER.exists() and (qemu_version(WRAPPER) or (0,)) >= LEAST


def _number(version):
    """A package's version as numbers: `1:11.1.3+ds-1` is (11, 1, 3)."""
    upstream = version.split(":")[-1].split("+")[0].split("-")[0].split("~")[0]
    return tuple(int(part) for part in upstream.split(".") if part.isdigit())


def _offer():
    """apt over the first suites with a QEMU that is new enough, and its version there."""
    newest = "none"
    for suites in SUITES:
        apt = Apt(*suites)
        versions = apt.versions(PACKAGE)
        if versions and _number(versions[0]) >= LEAST:
            return apt, suites[-1], versions[0]
        newest = versions[0] if versions else newest
    least = ".".join(map(str, LEAST))
    raise Usage(f"no QEMU >= {least} on this machine's mirror (the newest {PACKAGE} there: "
                f"{newest}): give QEMU=<binary> of one that you built")


def _one(folder, pattern):
    """The one path in a folder of unpacked packages that matches, relative to it."""
    found = sorted(path for path in folder.glob(pattern) if not path.is_symlink() or path.exists())
    if not found:
        raise Usage(f"the unpacked QEMU has no {pattern}: it is laid out in another way")
    return found[0].relative_to(folder)


def set_up():
    try:
        apt, suite, version = _offer()
    except OSError:
        raise Usage("no apt-get to bring a newer QEMU by: give QEMU=<binary> of one that you built")
    say(f"setup: unpacking QEMU {version} ({PACKAGE} and its libraries, from {suite}) into "
        f"{HOME.relative_to(ROOT)}")
    draft = HOME.with_name(f"{HOME.name}.{os.getpid()}")
    try:
        for file in apt.closure(PACKAGE, suite):
            result = run("dpkg", "-x", file, draft)
            if result.returncode != 0:
                raise Usage(f"could not unpack {file.name}: {last_line(result.stdout)}")
        _wrap(draft, version)
        shutil.rmtree(HOME, ignore_errors=True)
        draft.rename(HOME)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if not ready():
        said = last_line(run(WRAPPER, "--version").stdout)
        raise Usage(f"QEMU {version} was unpacked and does not run: {said}")
    say(f"setup: use it by QEMU={WRAPPER.relative_to(ROOT)}")


def _wrap(folder, version):
    """Writes what starts the QEMU in a folder, wherever that is moved to."""
    loader = _one(folder, "usr/lib/*/ld-linux-*.so.*")
    script = folder / WRAPPER.name
    script.write_text(SCRIPT.format(
        version=version, loader=loader, libraries=loader.parent,
        modules=_one(folder, "usr/lib/*/qemu"),
    ))
    script.chmod(0o755)
