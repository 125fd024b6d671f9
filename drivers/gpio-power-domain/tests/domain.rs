//! The driver over a model of a GPIO controller: a domain inside another.

use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::Engine;
use mastiff_core::policy::Policy;
use mastiff_dt::build::TreeBuilder;
use mastiff_gpio_power_domain::GpioPowerDomain;
use mastiff_pl061::Pl061;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, FakeDriver};
use mastiff_testkit::pl061::Pl061Model;

const BASE: u64 = 0x0903_0000;

fn tree() -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .node("user", |n| {
            n.compatible(&["test,user"]).cells("power-domains", &[3])
        })
        .node("inner", |n| {
            n.compatible(&["mastiff,gpio-power-domain"])
                .phandle(3)
                .u32("#power-domain-cells", 0)
                // Active low.
                .cells("enable-gpios", &[1, 1, 1])
                .cells("power-domains", &[2])
        })
        .node("outer", |n| {
            n.compatible(&["mastiff,gpio-power-domain"])
                .phandle(2)
                .u32("#power-domain-cells", 0)
                .cells("enable-gpios", &[1, 0, 0])
        })
        .node("gpio@9030000", |n| {
            n.compatible(&["arm,pl061"])
                .reg(&[(BASE, 0x1000)])
                .phandle(1)
                .u32("#gpio-cells", 2)
        })
}

#[test]
fn the_outer_domain_is_on_before_the_inner_and_off_after_it() {
    let sim = Sim::new();
    let diary = Diary::default();
    sim.add_device(BASE, 0x1000, Pl061Model::new(&diary));
    let user = FakeDriver::new("user", &[Match::compatible("test,user")], vec![], &diary);
    let drivers: [&'static dyn Driver<Sim>; 3] = [user, &GpioPowerDomain, &Pl061];
    let tree = tree().tree().unwrap();
    let mut engine = Engine::new(sim, tree, Policy::default(), &drivers);
    engine.start();
    // Claimed inactive, then on for the inner domain's binding and for the user.
    let on = [
        "line 0 low",
        "line 0 high",
        "line 1 high",
        "line 1 low",
        "/user: probe",
    ];
    assert_eq!(diary.take(), on);
    let user = engine.device("/user").unwrap();
    assert_eq!((user.state.name(), user.probes), ("bound", 1));
    assert_eq!(user.held().collect::<Vec<_>>(), ["/inner"]);

    engine.suspend().unwrap();
    let off = ["/user: quiesce", "line 1 high", "line 0 low"];
    assert_eq!(diary.take(), off);
    engine.resume().unwrap();
    assert_eq!(diary.take(), ["line 0 high", "line 1 low"]);

    engine.unbind("/outer").unwrap();
    let off = [
        "/user: quiesce",
        "/user: drop",
        "line 1 high",
        "line 1 input",
        "line 0 low",
        "line 0 input",
    ];
    assert_eq!(diary.take(), off);
}
