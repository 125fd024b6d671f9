//! Where devices are: `reg` through every `ranges`.

use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{PropErrorKind, Range, RawRegion, Region, Tree};

/// A bus with one address and one size cell.
fn small_bus(n: TreeBuilder) -> TreeBuilder {
    n.u32("#address-cells", 1).u32("#size-cells", 1)
}

fn wide_root() -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
}

fn reg(tree: &Tree, path: &str) -> Result<Vec<(u64, u64)>, PropErrorKind> {
    let regions = tree.find(path).unwrap().reg().map_err(|error| error.kind)?;
    Ok(regions.iter().map(|r| (r.base, r.size)).collect())
}

#[test]
fn default_cells() {
    let tree = TreeBuilder::new()
        .node("a", |n| n.cells("reg", &[1, 0x1000, 0x10]))
        .tree()
        .unwrap();
    assert_eq!(tree.root().address_cells(), 2);
    assert_eq!(tree.root().size_cells(), 1);
    assert_eq!(reg(&tree, "/a"), Ok(vec![(0x1_0000_1000, 0x10)]));
}

#[test]
fn reg_goes_through_every_bus() {
    let tree = wide_root()
        .node("soc", |soc| {
            // Bus 0..0x10000 is CPU 0x4_0000_0000.., the rest is elsewhere.
            small_bus(soc)
                .cells("ranges", &[0, 4, 0, 0x1_0000, 0x1_0000, 5, 0, 0x1_0000])
                .node("inner", |inner| {
                    small_bus(inner)
                        .cells("ranges", &[0x100, 0x8000, 0x100])
                        .node("dev", |n| n.cells("reg", &[0x110, 0x10, 0x1f0, 0x10]))
                        .node("outside", |n| n.cells("reg", &[0x200, 1]))
                        .node("across", |n| n.cells("reg", &[0x1f0, 0x11]))
                })
                .node("same", |same| {
                    small_bus(same)
                        .flag("ranges")
                        .node("dev", |n| n.cells("reg", &[0x1_0010, 8]))
                })
                .node("i2c", |i2c| {
                    i2c.u32("#address-cells", 1)
                        .u32("#size-cells", 0)
                        .node("chip", |n| n.u32("reg", 0x50))
                })
        })
        .tree()
        .unwrap();
    assert_eq!(
        reg(&tree, "/soc/inner/dev"),
        Ok(vec![(0x4_0000_8010, 0x10), (0x4_0000_80f0, 0x10)])
    );
    assert_eq!(reg(&tree, "/soc/same/dev"), Ok(vec![(0x5_0000_0010, 8)]));
    let bus = || "/soc/inner".to_owned();
    let not_in_ranges = |base, size| {
        let bus = bus();
        Err(PropErrorKind::NotInRanges { base, size, bus })
    };
    assert_eq!(reg(&tree, "/soc/inner/outside"), not_in_ranges(0x200, 1));
    assert_eq!(reg(&tree, "/soc/inner/across"), not_in_ranges(0x1f0, 0x11));
    let bus = "/soc/i2c".to_owned();
    assert_eq!(
        reg(&tree, "/soc/i2c/chip"),
        Err(PropErrorKind::NoRanges { bus })
    );
    let raw = tree.find("/soc/i2c/chip").unwrap().reg_raw();
    let chip = RawRegion {
        space: 0,
        base: 0x50,
        size: 0,
    };
    assert_eq!(raw, Ok(vec![chip]));
}

#[test]
fn broken_reg() {
    let tree = wide_root()
        .node("none", |n| n)
        .node("short", |n| n.cells("reg", &[0, 1, 0, 2, 0]))
        .node("wraps", |n| n.reg(&[(u64::MAX, 2)]))
        .node("top", |n| n.reg(&[(u64::MAX, 1)]))
        .node("odd", |n| n.bytes("reg", &[0; 15]))
        .node("nothing", |bus| {
            bus.u32("#address-cells", 0)
                .u32("#size-cells", 0)
                .node("dev", |n| n.u32("reg", 0))
        })
        .node("many", |bus| {
            bus.u32("#address-cells", 5)
                .node("dev", |n| n.cells("reg", &[0; 6]))
        })
        .tree()
        .unwrap();
    let error = |path| reg(&tree, path).unwrap_err();
    assert_eq!(error("/none"), PropErrorKind::MissingProperty);
    assert_eq!(
        error("/short"),
        PropErrorKind::Truncated { need: 2, left: 1 }
    );
    assert_eq!(
        error("/wraps"),
        PropErrorKind::WrapsAround { base: u64::MAX }
    );
    assert_eq!(reg(&tree, "/top"), Ok(vec![(u64::MAX, 1)]));
    assert_eq!(error("/odd"), PropErrorKind::NotCells { bytes: 15 });
    assert_eq!(error("/nothing/dev"), PropErrorKind::EmptyEntries);
    assert_eq!(error("/many/dev"), PropErrorKind::TooManyCells { cells: 5 });
    assert_eq!(
        tree.find("/short").unwrap().reg().unwrap_err().to_string(),
        "/short: reg[4]: entry is cut off: 1 of 2 cells are there"
    );
}

/// A PCI host with I/O, 32- and 64-bit memory windows, as QEMU's virt has.
fn pci_host(host: TreeBuilder) -> TreeBuilder {
    #[rustfmt::skip]
    let ranges = [
        0x0100_0000, 0, 0,           0, 0x3eff_0000, 0, 0x1_0000,
        0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000,
        0x0300_0000, 0x80, 0,        0x80, 0,        0x80, 0,
    ];
    host.string("device_type", "pci")
        .u32("#address-cells", 3)
        .u32("#size-cells", 2)
        .cells("ranges", &ranges)
}

#[test]
fn pci_ranges_keep_their_space() {
    let tree = wide_root()
        .node("pcie@10000000", |host| {
            pci_host(host)
                .node("dev@1,0", |n| n.cells("reg", &[0x800, 0, 0, 0, 0]))
                // BARs: prefetchable 32-bit memory, I/O, and 64-bit memory that
                // was placed in the 32-bit window.
                .node("bars", |n| {
                    let memory = [0x4200_0810, 0, 0x1000_1000, 0, 0x1000];
                    let io = [0x8100_0814, 0, 0x20, 0, 0x20];
                    let low = [0x8300_0818, 0, 0x1000_2000, 0, 0x1000];
                    n.cells("reg", &[memory, io, low].concat())
                })
                // An ISA bridge: its bus is a part of the host's I/O space.
                .node("isa", |isa| {
                    small_bus(isa)
                        .cells("ranges", &[0, 0x0100_0000, 0, 0x100, 0x1000])
                        .node("serial", |n| n.cells("reg", &[0x3f8, 8]))
                })
        })
        .tree()
        .unwrap();
    let host = tree.find("/pcie").unwrap();
    let range = |space, child, cpu, size| Range {
        space,
        child,
        cpu,
        size,
    };
    assert_eq!(
        host.ranges().unwrap().unwrap(),
        [
            range(0x0100_0000, 0, 0x3eff_0000, 0x1_0000),
            range(0x0200_0000, 0x1000_0000, 0x1000_0000, 0x2eff_0000),
            range(0x0300_0000, 0x80_0000_0000, 0x80_0000_0000, 0x80_0000_0000),
        ]
    );
    assert_eq!(
        reg(&tree, "/pcie/bars"),
        Ok(vec![
            (0x1000_1000, 0x1000),
            (0x3eff_0020, 0x20),
            (0x1000_2000, 0x1000)
        ])
    );
    assert_eq!(reg(&tree, "/pcie/isa/serial"), Ok(vec![(0x3eff_04f8, 8)]));
    let function = tree.find("/pcie/dev").unwrap();
    assert!(function.reg().is_err(), "configuration space is no memory");
    assert_eq!(function.reg_raw().unwrap()[0].space, 0x800);
}

#[test]
fn ranges_absent_empty_and_translated() {
    let tree = wide_root()
        .node("none", |n| n)
        .node("outer", |outer| {
            small_bus(outer)
                .cells("ranges", &[0, 1, 0, 0x1000])
                .node("same", |n| n.flag("ranges"))
                .node("inner", |n| {
                    small_bus(n).cells("ranges", &[0x10, 0x20, 0x30])
                })
                .node("beyond", |n| small_bus(n).cells("ranges", &[0, 0xfff, 2]))
        })
        .tree()
        .unwrap();
    let ranges = |path: &str| tree.find(path).unwrap().ranges();
    assert_eq!(ranges("/none"), Ok(None));
    assert_eq!(ranges("/outer/same"), Ok(Some(vec![])));
    let inner = Range {
        space: 0,
        child: 0x10,
        cpu: 0x1_0000_0020,
        size: 0x30,
    };
    assert_eq!(ranges("/outer/inner"), Ok(Some(vec![inner])));
    assert_eq!(
        ranges("/outer/beyond").unwrap_err().to_string(),
        "/outer/beyond: ranges[0]: 0xfff+0x2 is not in the ranges of /outer"
    );
}

/// A region as a struct literal, to keep its fields part of the interface.
#[test]
fn regions_compare() {
    let tree = wide_root().node("a", |n| n.reg(&[(1, 2)])).tree().unwrap();
    let region = Region { base: 1, size: 2 };
    assert_eq!(tree.find("/a").unwrap().reg(), Ok(vec![region]));
}
