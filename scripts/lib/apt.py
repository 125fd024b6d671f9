"""Debian packages by a private apt configuration.

The machine's own sources stay as they are. A second list is made under
`target/apt` from the Debian (or Ubuntu) entries that the machine already has:
the same mirrors and keys, with more suites. Third-party sources are left out,
so that one of them being unreachable does not matter here.
"""

import os
import shlex
from pathlib import Path

from .common import TARGET, Usage, last_line, run, say

HOME = TARGET / "apt"


def _deb822(text):
    """The paragraphs of a `.sources` file, as dictionaries."""
    for paragraph in text.split("\n\n"):
        fields, key = {}, None
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and key:
                fields[key] += "\n" + line
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if fields:
            yield fields


def _one_line(text):
    """The entries of a `sources.list`, in the same shape as `_deb822`'s."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["deb"]:
            continue
        options, rest = {}, words[1:]
        if rest and rest[0].startswith("["):
            end = next((i for i, word in enumerate(rest) if word.endswith("]")), 0)
            inner = " ".join(rest[: end + 1]).strip("[] ")
            options = dict(pair.split("=", 1) for pair in inner.split() if "=" in pair)
            rest = rest[end + 1 :]
        if len(rest) >= 3:
            yield {
                "types": "deb",
                "uris": rest[0],
                "suites": rest[1],
                "components": " ".join(rest[2:]),
                "signed-by": options.get("signed-by", ""),
            }


def entries(etc=Path("/etc/apt")):
    """Every enabled binary source of the machine."""
    found = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        parse = _deb822 if path.suffix == ".sources" else _one_line
        for entry in parse(path.read_text(errors="replace")):
            enabled = entry.get("enabled", "yes").lower() != "no"
            if enabled and "deb" in entry.get("types", "").split():
                found.append(entry)
    return found


def codename(release=Path("/etc/os-release")):
    """The distribution's release name, such as `bookworm`."""
    for line in release.read_text().splitlines() if release.exists() else []:
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    raise Usage("not a Debian-like machine (no VERSION_CODENAME in /etc/os-release)")


def private_sources(wanted, machine, release):
    """The text of the private source list: the distribution's own entries, then
    one paragraph for each further suite on the same mirror."""
    own = [
        entry
        for entry in machine
        if any(s == release or s.startswith(release + "-") for s in entry["suites"].split())
    ]
    if not own:
        raise Usage(f"no source for {release} in /etc/apt")
    mirror = next((e for e in own if release in e["suites"].split()), own[0])
    have = {suite for entry in own for suite in entry["suites"].split()}
    extra = [dict(mirror, suites=suite) for suite in wanted if suite not in have]
    paragraphs = []
    for entry in own + extra:
        names = ["types", "uris", "suites", "components", "signed-by"]
        lines = [f"{name.title()}: {entry[name]}" for name in names if entry.get(name)]
        paragraphs.append("\n".join(lines) + "\n")
    return "\n".join(paragraphs)


class Apt:
    """apt with lists and caches of its own, over the machine's mirrors.

    `architectures` are foreign ones to have packages of as well, as `name:arm64`.
    """

    def __init__(self, *suites, architectures=()):
        parts = HOME / "sources.list.d"
        for folder in (parts, HOME / "lists" / "partial", HOME / "cache" / "archives" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (parts / "mastiff.sources").write_text(private_sources(suites, entries(), codename()))
        options = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": parts,
            "Dir::State::Lists": HOME / "lists",
            "Dir::Cache": HOME / "cache",
            # The sandbox user can't reach into a home directory.
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
        }
        self.options = [f"-o{key}={value}" for key, value in options.items()]
        self.options += [f"-oAPT::Architectures::={name}" for name in architectures]
        self.environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
        # A suite that the mirror lacks fails alone; what counts is whether the
        # package turns up.
        self.get("update", "-q")

    def get(self, *arguments, cwd=None):
        return run("apt-get", *self.options, *arguments, env=self.environment, cwd=cwd)

    def versions(self, package):
        """The versions on offer, newest first."""
        out = run("apt-cache", *self.options, "madison", package, env=self.environment).stdout
        rows = [line.split("|") for line in out.splitlines() if line.count("|") >= 2]
        return [row[1].strip() for row in rows]

    def depends(self, package, version):
        """The names in a version's `Depends`."""
        shown = run("apt-cache", *self.options, "show", f"{package}={version}",
                    env=self.environment).stdout
        line = next((l for l in shown.splitlines() if l.startswith("Depends:")), "Depends:")
        return [word.split()[0] for word in line.split(":", 1)[1].split(",") if word.strip()]

    def install(self, packages, release=None):
        """Installs for the whole machine; needs root, or sudo without a password."""
        chosen = [f"-t{release}"] if release else []
        command = ["install", "-qy", "--no-install-recommends", *chosen, *packages]
        if os.geteuid() == 0:
            result = self.get(*command)
        else:
            result = run("sudo", "-n", "DEBIAN_FRONTEND=noninteractive", "apt-get",
                         *self.options, *command)
        if result.returncode != 0:
            raise Usage(f"apt-get could not install {' '.join(packages)}: {last_line(result.stdout)}")

    def download(self, package, version=None):
        """Downloads one package; its file, which is the caller's to remove."""
        folder = HOME / "unpack"
        folder.mkdir(parents=True, exist_ok=True)
        pattern = f"{package.split(':')[0]}_*.deb"
        for old in folder.glob(pattern):
            old.unlink()
        wanted = f"{package}={version}" if version else package
        result = self.get("download", wanted, cwd=folder)
        found = list(folder.glob(pattern))
        if result.returncode != 0 or not found:
            raise Usage(f"apt-get could not download {package}: {last_line(result.stdout)}")
        return found[0]

    def unpack(self, package, version, into):
        """Downloads one package and unpacks it, without installing: needs no root."""
        file = self.download(package, version)
        result = run("dpkg", "-x", file, into)
        file.unlink()
        if result.returncode != 0:
            raise Usage(f"could not unpack {package}: {last_line(result.stdout)}")

    def closure(self, package, release):
        """Downloads a package and all that it depends on, as if nothing were installed;
        their files, which go with apt's cache. The release has precedence."""
        nothing = HOME / "nothing-installed"
        nothing.touch()
        archives = HOME / "cache" / "archives"
        for old in archives.glob("*.deb"):
            old.unlink()
        result = self.get("install", "-qy", "--no-install-recommends", "--download-only",
                          f"-oDir::State::status={nothing}", f"-t{release}", package)
        if result.returncode != 0:
            raise Usage(f"apt-get could not download {package}: {last_line(result.stdout)}")
        return sorted(archives.glob("*.deb"))


def can_install():
    """Whether packages can be installed at all: apt, and the right to."""
    try:
        if run("apt-get", "--version").returncode != 0:
            return False
        return os.geteuid() == 0 or run("sudo", "-n", "true").returncode == 0
    except OSError:
        return False
