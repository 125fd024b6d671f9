"""The crates that are made for use elsewhere: which they are, and what each one's package
must have."""

import json
import tarfile

from .common import ROOT, Usage, last_line, run

EVERY = {"Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"}


def names():
    """The workspace's crates that may be published."""
    result = run("cargo", "metadata", "--no-deps", "--format-version=1", "--quiet", cwd=ROOT)
    if result.returncode != 0:
        raise Usage(f"cargo metadata: {last_line(result.stdout)}")
    packages = json.loads(result.stdout)["packages"]
    return sorted(p["name"] for p in packages if p["publish"] is None)


def make(folder, *options):
    """Packages all of them at once, each with the others' packages beside it; gives the
    files."""
    words = [word for name in names() for word in ("--package", name)]
    result = run("cargo", "package", "--quiet", "--allow-dirty", "--target-dir", folder,
                 *options, *words, cwd=ROOT)
    if result.returncode != 0:
        raise Usage(f"cargo package: {last_line(result.stdout)}")
    return sorted((folder / "package").glob("*.crate"))


def problems(file):
    """What a package lacks, a line each."""
    with tarfile.open(file) as package:
        inside = {member.name.split("/", 1)[1]: member for member in package.getmembers()}
        for name in sorted(EVERY - inside.keys()):
            yield f"{file.name}: no {name}"
        readme = inside.get("README.md")
        first = package.extractfile(readme).readline().decode() if readme else ""
    name = file.name.rsplit("-", 1)[0]
    if readme and first != f"# {name}\n":
        yield f"{file.name}: its README.md is another's: {first.strip()}"
