//! Whatever is typed, nothing panics, records stay records, and devices go down.

use proptest::prelude::*;

use crate::bench::*;

const WORDS: &[&str] = &[
    "help",
    "devices",
    "why",
    "tree",
    "driver",
    "list",
    "add",
    "remove",
    "bind",
    "unbind",
    "rescan",
    "isolation",
    "iommu",
    "streams",
    "ste",
    "walk",
    "domains",
    "faults",
    "dma",
    "verify",
    "read",
    "disk",
    "hash",
    "run",
    "clocks",
    "irqs",
    "mem",
    "dmesg",
    "boot",
    "uptime",
    "echo",
    "poweroff",
    "reboot",
    "--json",
    "disk@1",
    "/engine@2",
    "/iommu@1000000",
    "iommu@1000000",
    "/bus@3",
    "00:01.0",
    "/off@5",
    "orphan@4",
    "engine",
    "/",
    "",
    "0",
    "1",
    "6",
    "0x1000",
    "4096",
    "65536",
    "18446744073709551615",
    "0xffffffffffffffff",
    "-1",
    "0x",
    ";",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(WORDS).prop_map(String::from),
        1 => "[^\"]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_command_line_panics(
        words in prop::collection::vec(word(), 0..40),
        json in any::<bool>(),
    ) {
        let bench = Bench::new();
        let report = if json { "report=json " } else { "" };
        let booted = bench.boot(&format!("{report}run=\"{}\"", words.join(" ")));
        // Parsing panics on what is no JSON.
        all_records(&booted.shown).for_each(drop);
        let counts = bench.iommu.counts();
        prop_assert_eq!((counts.attached, counts.mappings), (0, 0));
    }

    #[test]
    fn no_key_panics(keys in prop::collection::vec(
        prop_oneof![
            any::<u8>().prop_map(|key| vec![key]),
            prop::sample::select(WORDS).prop_map(|word| [word.as_bytes(), b" "].concat()),
            Just(b"\r".to_vec()),
        ], 0..40))
    {
        let booted = Bench::new().keys(&keys.concat()).boot("interactive=1");
        prop_assert!(booted.shown.contains("mastiff> "));
    }
}
