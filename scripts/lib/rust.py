"""The Rust side of the set-up: a `core` for the bare-metal target.

Five ways, tried in order: the toolchain has the target; rustup adds it; the
toolchain has the library's source and builds it along; Debian's package
`rust-src` of exactly this compiler's version provides that source; or one line
that says what was tried.
"""

import shutil
from pathlib import Path

from .apt import HOME, Apt, codename
from .common import ROOT, RUST_TARGET, TARGET, Usage, last_line, run, say

# Where Debian has shipped compilers newer than its release's own.
SUITES = ("trixie-backports",)
LINTS = ("rustfmt", "cargo-clippy")
RUSTUP_TRIED = TARGET / "setup" / "rustup-tried"


def sysroot():
    """The active toolchain's root; rustup's own words where there is none."""
    try:
        result = run("rustc", "--print", "sysroot", cwd=ROOT)
        if result.returncode != 0 and shutil.which("rustup"):
            say("setup: installing the Rust toolchain that rust-toolchain.toml names")
            run("rustup", "toolchain", "install", cwd=ROOT)
            result = run("rustc", "--print", "sysroot", cwd=ROOT)
    except OSError:
        raise Usage("rustc is not on PATH: install Rust 1.95 (by rustup, or your distribution)")
    if result.returncode != 0:
        raise Usage(f"no Rust toolchain: {last_line(result.stdout)}")
    return Path(result.stdout.split("\n")[-2].strip())


def has_target(root):
    return any((root / "lib/rustlib" / RUST_TARGET / "lib").glob("libcore-*.rlib"))


def source(root):
    return root / "lib/rustlib/src/rust/library"


def has_source(root):
    return (source(root) / "core/src/lib.rs").exists()


def by_rustup(root):
    """Way 2. Returns why not, or None when it worked."""
    if not shutil.which("rustup"):
        return "no rustup"
    say(f"setup: adding the Rust target {RUST_TARGET} (rustup)")
    result = run("rustup", "target", "add", RUST_TARGET, cwd=ROOT)
    if result.returncode == 0 and has_target(root):
        return None
    return f"rustup: {last_line(result.stdout)}"


def by_debian(root):
    """Way 4: the library's source from Debian. Returns why not, or None."""
    version = run("rustc", "--version", cwd=ROOT).stdout.split()[1]
    say(f"setup: getting Rust {version}'s library source (Debian's rust-src)")
    try:
        apt = Apt(f"{codename()}-backports", *SUITES)
        exact = [v for v in apt.versions("rust-src") if v.split("+")[0].split("-")[0] == version]
        if not exact:
            return f"Debian's rust-src: no {version} on this machine's mirror"
        tree = HOME / "rust-src"
        apt.unpack("rust-src", exact[0], tree)
        unpacked = tree / f"usr/src/rustc-{version}/library"
        if not (unpacked / "core/src/lib.rs").exists():
            return "Debian's rust-src: the package has no library/core"
        source(root).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(unpacked, source(root), symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(tree)
    except Usage as error:
        return f"Debian's rust-src: {error}"
    except OSError as error:
        return f"Debian's rust-src: {error.strerror} ({error.filename})"
    return None


def ready():
    """Whether ways 1 or 3 hold already; 3 only once 2 was tried, which is remembered."""
    root = sysroot()
    return has_target(root) or (has_source(root) and RUSTUP_TRIED.exists())


def set_up():
    root = sysroot()
    tried = [by_rustup(root)]
    if tried[0] is None:
        return
    RUSTUP_TRIED.parent.mkdir(parents=True, exist_ok=True)
    RUSTUP_TRIED.touch()
    if has_source(root):
        return
    tried += ["no library source in the toolchain", by_debian(root)]
    if tried[-1] is not None:
        raise Usage(
            f"no `core` for {RUST_TARGET}: {'; '.join(tried)}. "
            f"Run `rustup target add {RUST_TARGET}` where rustup reaches its server"
        )


def lints_ready():
    return all(shutil.which(tool) and run(tool, "--version", cwd=ROOT).returncode == 0
               for tool in LINTS)


def set_up_lints():
    """rustfmt and clippy, which minimal toolchains leave out."""
    say("setup: adding rustfmt and clippy (rustup)")
    try:
        result = run("rustup", "component", "add", "rustfmt", "clippy", cwd=ROOT)
    except OSError:
        raise Usage("rustfmt or clippy is missing: install your toolchain's packages of them")
    if result.returncode != 0:
        raise Usage(f"no rustfmt or clippy: {last_line(result.stdout)}")
