"""Lab files and places: what labgrid is told of a board, checked before anything runs, and
the coordinator that hands out places. Runs in the boot tests' Python environment."""

import asyncio
import logging
import os
import subprocess
import sys
import time

from . import board
from .common import ROOT, TARGET, Usage

VENV = TARGET / "venv"
COORDINATOR = "127.0.0.1:20408"
# gRPC reads them when it is loaded: a child that is forked here runs another program, and
# does not want its connections; what goes wrong is said in one line of ours.
os.environ |= {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "NONE"}
# A coordinator that does not answer by then is not there.
ANSWER_SECONDS = 10
# How long to wait for a place that somebody else has (LG_WAIT).
WAIT_SECONDS = 60
# A place's tag that says which board it has.
TAG = "board"
# What holds for machines that QEMU makes, of what a person may set.
OF_QEMU = ("QEMU_ARGS", "SMP", "MEM", "CPU")


def in_environment():
    """Starts the script over in the boot tests' environment, unless it runs there."""
    if sys.prefix == str(VENV) or os.path.realpath(sys.prefix) == os.path.realpath(VENV):
        return
    if subprocess.run([ROOT / "scripts/setup", "python"], stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(2)
    os.execv(VENV / "bin/python", [VENV / "bin/python", *sys.argv])


def _one_line(error):
    return " ".join(str(error).split())


class Lab:
    """A lab file that is of use: its board, and how it is reached."""

    def __init__(self, path):
        # Until a place is held its name stands open; labgrid takes no default.
        os.environ.setdefault("LG_PLACE", "")
        from labgrid import Environment, target_factory

        self.path = path
        try:
            self.environment = Environment(str(path))
            main = self.environment.config.get_targets()["main"]
            self.resources, self.drivers = target_factory.normalize_config(main)
        except (AttributeError, KeyError, TypeError):
            raise Usage(f"{path}: no labgrid environment: it has no target `main`")
        except Exception as error:
            # YAML's errors, labgrid's, those of what it imports: all of them say what.
            raise Usage(f"{path}: {_one_line(error)}")
        self._check_drivers(target_factory.drivers)
        options = self.environment.config.data.get("options") or {}
        self.board = options.get("board")
        if self.board not in board.names():
            raise Usage(f"{path}: options: board: is `{self.board}`; there are: "
                        f"{', '.join(board.names())}")
        if "RemotePlace" not in self.resources:
            self.check_driven(self.resources, str(path))
        self.coordinator = options.get("coordinator_address",
                                       os.environ.get("LG_COORDINATOR") or COORDINATOR)
        self.by_qemu = "BoundedQEMUDriver" in self.drivers
        self.has_places = "RemotePlace" in self.resources
        given = [name for name in OF_QEMU if os.environ.get(name)]
        if given and not self.by_qemu:
            raise Usage(f"{given[0]} is for machines that QEMU makes, which {path} has not")

    def _check_drivers(self, known):
        from labgrid.protocol import ConsoleProtocol, PowerProtocol

        for kind in self.drivers:
            if kind not in known:
                raise Usage(f"{self.path}: labgrid knows no driver `{kind}`")
        for what, protocol in (("console", ConsoleProtocol), ("power switch", PowerProtocol)):
            if not any(issubclass(known[kind], protocol) for kind in self.drivers):
                raise Usage(f"{self.path}: no {what}: none of its drivers "
                            f"({', '.join(self.drivers) or 'there are none'}) is one")

    def check_driven(self, offered, where):
        """Checks that of what drivers drive something is among the resources offered."""
        from labgrid import target_factory
        from labgrid.resource import Resource

        have = [target_factory.class_from_string(name) for name in offered]
        for kind in self.drivers:
            for wanted in target_factory.drivers[kind].bindings.values():
                several = wanted if isinstance(wanted, set) else {wanted}
                classes = [target_factory.class_from_string(one) if isinstance(one, str) else one
                           for one in several if one]
                driven = tuple(one for one in classes if issubclass(one, Resource))
                if driven and None not in several and not any(issubclass(h, driven) for h in have):
                    names = " or ".join(sorted(one.__name__ for one in driven))
                    raise Usage(f"{where} has no {names}, which {kind} drives")


class Coordinator:
    """A session with a coordinator. Each call is bounded in time, and names it."""

    def __init__(self, address):
        # Its words about a connection come with a traceback; ours are one line.
        logging.disable(logging.CRITICAL)
        from labgrid.remote.client import ClientSession
        from labgrid.util.proxy import proxymanager

        self.address = address
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.session = ClientSession(proxymanager.get_grpc_address(address, default_port=20408),
                                     self.loop)
        try:
            self._await(self.session.start())
        except Exception:
            self._close()
            raise Usage(f"no labgrid coordinator answers at {address} (LG_COORDINATOR)")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._close()

    def _close(self):
        for step in (self.session.stop, self.session.close):
            try:
                self._await(step())
            except Exception:
                # It is gone, or never was.
                pass
        self.loop.close()

    def _await(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, ANSWER_SECONDS))

    def call(self, what, /, **fields):
        """One of the coordinator's calls; what it refuses is an error with its words."""
        import grpc
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        request = getattr(messages, f"{what}Request")(**fields)
        try:
            self._await(getattr(self.session.stub, what)(request))
            self._await(self.session.sync_with_coordinator())
        except grpc.aio.AioRpcError as error:
            raise Usage(f"coordinator {self.address}: {_one_line(error.details())}")
        except TimeoutError:
            raise Usage(f"coordinator {self.address} does not answer to {what}")

    def names(self, of, wanted):
        """The places to choose from: those wanted, or those tagged with a board."""
        places = self.session.places
        for name in wanted:
            if name not in places:
                raise Usage(f"coordinator {self.address} has no place `{name}` (LG_PLACE); "
                            f"there are: {', '.join(sorted(places)) or 'none'}")
        found = wanted or sorted(name for name in places if places[name].tags.get(TAG) == of)
        if not found:
            raise Usage(f"coordinator {self.address} has no place tagged {TAG}={of}")
        return found

    def acquire(self, of, wanted, seconds):
        """Takes every place that is wanted, or every free one of a board, waiting for the
        first; their names."""
        deadline = time.monotonic() + seconds
        choice, held = self.names(of, wanted), []
        try:
            while True:
                held += [name for name in choice if name not in held and self._take(name)]
                if held and (not wanted or len(held) == len(wanted)):
                    return held
                if time.monotonic() > deadline:
                    raise Usage(f"coordinator {self.address}: not free within {seconds:g} s "
                                f"(LG_WAIT): {self._holders(choice, held)}")
                self._await(asyncio.sleep(min(1, seconds)))
                self._await(self.session.sync_with_coordinator())
        except BaseException:
            self.release(held)
            raise

    def offered(self, name):
        """The classes of what a place has."""
        return [path[2] for path in self.session.places[name].acquired_resources]

    def _take(self, name):
        if self.session.places[name].acquired:
            return False
        try:
            self.call("AcquirePlace", placename=name)
            return True
        except Usage:
            # Somebody was quicker, or has reserved it.
            return False

    def _holders(self, names, held):
        places = self.session.places
        return ", ".join(f"{name} (held by {places[name].acquired or 'nobody, but refused'})"
                         for name in names if name not in held)

    def release(self, names):
        """Gives places back."""
        for name in names:
            self.call("ReleasePlace", placename=name)
