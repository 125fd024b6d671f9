"""How a board of a lab gets to its boot loader's prompt, with the image where that finds it.

For labgrid: lab files import this, and name `BoardStrategy` among their drivers.
"""

import socket

import attr
from labgrid.factory import target_factory
from labgrid.strategy import Strategy

# What U-Boot is told at once: its line holds 256 bytes or more (CONFIG_SYS_CBSIZE).
PIECE = 180


@target_factory.reg_driver
@attr.s(eq=False)
class BoardStrategy(Strategy):
    """Gets a board to its boot loader's prompt, with the image that is to be booted where
    that finds it: on an SD card (`mux`, `card`), or on a server for TFTP (`tftp`). With
    neither it is there already."""

    bindings = {
        "power": "PowerProtocol",
        "console": "ConsoleProtocol",
        "uboot": "UBootDriver",
        "mux": {"USBSDMuxDriver", "USBSDWireDriver", "USBSDWire3Driver", None},
        "card": {"USBStorageDriver", None},
        "tftp": {"TFTPProviderDriver", None},
    }

    def __attrs_post_init__(self):
        super().__attrs_post_init__()
        self.provided = False
        # What the boot loader is told besides, as variables.
        self.variables = {}

    def _image(self, name):
        return self.target.env.config.get_image_path(name)

    def provide(self):
        """Puts the image in its place; once, for all boots."""
        if self.provided:
            return
        if self.card:
            self.target.activate(self.mux)
            self.mux.set_mode("host")
            self.target.activate(self.card)
            self.card.write_image(self._image("card"))
            self.target.deactivate(self.card)
            self.mux.set_mode("dut")
        if self.tftp:
            self.target.activate(self.tftp)
            # DHCP would give `bootfile` and `serverip` other values.
            self.variables["mastiff_file"] = self.tftp.stage(self._image("kernel"))
            self.variables["mastiff_server"] = socket.gethostbyname(self.tftp.provider.host)
        self.provided = True

    def off(self):
        """No power, nobody on the line."""
        self.target.deactivate(self.uboot)
        self.target.activate(self.power)
        self.power.off()
        self.target.deactivate(self.console)

    def prompt(self):
        """From wherever it was to the boot loader's prompt."""
        self.off()
        self.provide()
        # On the line before there is a word.
        self.target.activate(self.console)
        self.power.cycle()
        self.target.activate(self.uboot)
        for name, value in self.variables.items():
            self.uboot.run_check(f"setenv {name} {value}")

    def set_arguments(self, bootargs):
        """Tells the boot loader the kernel's command line."""
        assert "'" not in bootargs, "a ' ends U-Boot's quotes"
        self.uboot.run_check("setenv bootargs")
        for at in range(0, len(bootargs), PIECE):
            # In pieces, since the whole may be longer than a line can be.
            self.uboot.run_check(f"""setenv bootargs "${{bootargs}}"'{bootargs[at:at + PIECE]}'""")
