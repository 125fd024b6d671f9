//! The driver against a model of the controller (DDI 0190), bound by the engine, with
//! an owner of lines that follows a script.

use std::sync::{Arc, Mutex};

use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::policy::Policy;
use mastiff_core::probe::{Probe, Service};
use mastiff_core::supply::{GpioLine, LineSetup};
use mastiff_dt::build::TreeBuilder;
use mastiff_pl061::Pl061;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::inject::Step;
use mastiff_testkit::pl061::Pl061Model;

const BASE: u64 = 0x0903_0000;
const GPIO: &str = "/pl061@9030000";
const OWNER: &str = "/owner";

struct Bench {
    sim: Sim,
    model: Shared<Pl061Model>,
    diary: Diary,
    /// What the owner claimed.
    lines: Arc<Mutex<Vec<GpioLine>>>,
}

impl Bench {
    fn new() -> Self {
        let sim = Sim::new();
        let diary = Diary::default();
        let model = sim.add_device(BASE, 0x1000, Pl061Model::new(&diary));
        Self {
            sim,
            model,
            diary,
            lines: Arc::default(),
        }
    }

    /// Binds the controller, and an owner that claims all lines of its property.
    fn start(&self, enable: &[u32], setup: LineSetup) -> Engine<Sim> {
        let lines = self.lines.clone();
        let claim = move |probe: &mut Probe<'_, Sim>| {
            let count = probe.require_node()?.prop("enable-gpios");
            let count = count.map_or(0, |prop| prop.bytes().len() / 12);
            for index in 0..count {
                let line = probe.gpio("enable-gpios", index, setup)?;
                lines.lock().unwrap().push(line);
            }
            Ok(())
        };
        let owner = FakeDriver::new(
            "owner",
            &[Match::compatible("test,owner")],
            vec![Do::Call(Box::new(claim))],
            &self.diary,
        );
        let drivers: [&'static dyn Driver<Sim>; 2] = [owner, &Pl061];
        let tree = tree(enable).tree().unwrap();
        let mut engine = Engine::new(self.sim.clone(), tree, Policy::default(), &drivers);
        engine.start();
        engine
    }

    fn high(&self) -> u8 {
        self.model.lock().unwrap().high()
    }

    fn driven(&self) -> u8 {
        self.model.lock().unwrap().driven()
    }

    fn set(&self, index: usize, active: bool) {
        self.lines.lock().unwrap()[index].set(active).unwrap();
    }
}

fn tree(enable: &[u32]) -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .node("owner", |n| {
            n.compatible(&["test,owner"]).cells("enable-gpios", enable)
        })
        .node("pl061@9030000", |n| {
            n.compatible(&["arm,pl061", "arm,primecell"])
                .reg(&[(BASE, 0x1000)])
                .phandle(1)
                .flag("gpio-controller")
                .u32("#gpio-cells", 2)
        })
}

fn fault(engine: &Engine<Sim>, name: &str) -> Fault {
    match &engine.device(name).unwrap().state {
        State::Failed(fault) => fault.clone(),
        state => panic!("{name} is {}", state.name()),
    }
}

#[test]
fn lines_are_driven_one_by_one_and_never_show_a_wrong_level() {
    for only_outputs in [false, true] {
        let bench = Bench::new();
        bench.model.lock().unwrap().only_outputs = only_outputs;
        // Another's line, which stays as it is.
        bench.model.lock().unwrap().left(7, true);
        let _engine = bench.start(&[1, 1, 0, 1, 5, 1], LineSetup::default());
        assert_eq!(bench.driven(), 1 << 7 | 1 << 5 | 1 << 1);
        assert_eq!(
            bench.high(),
            1 << 7 | 1 << 5,
            "inactive: the second is active low"
        );
        let mut expected = vec!["/owner: probe", "line 1 low", "line 5 high"];
        if only_outputs {
            // Such a controller cannot do better.
            expected.insert(2, "line 5 low");
        }
        assert_eq!(bench.diary.take(), expected);

        bench.set(0, true);
        bench.set(1, true);
        assert_eq!(bench.high(), 1 << 7 | 1 << 1);
        bench.set(0, false);
        assert_eq!(bench.high(), 1 << 7);
        assert!(!bench.lines.lock().unwrap()[0].is_active());
        assert!(bench.lines.lock().unwrap()[1].is_active());
        bench.lines.lock().unwrap().clear();
        assert_eq!(bench.driven(), 1 << 7, "what is let go of is an input");
    }
}

#[test]
fn what_is_on_stays_on_when_it_is_claimed() {
    let bench = Bench::new();
    bench.model.lock().unwrap().left(2, true);
    let setup = LineSetup {
        active: true,
        // The specifier's flag says the opposite.
        active_low: Some(false),
    };
    let _engine = bench.start(&[1, 2, 1], setup);
    assert_eq!(bench.high(), 1 << 2);
    assert_eq!(bench.diary.take(), ["/owner: probe"]);
}

#[test]
fn a_claimed_line_is_taken_from_other_hardware() {
    let bench = Bench::new();
    bench.model.lock().unwrap().given_away(2);
    bench.model.lock().unwrap().given_away(3);
    bench.model.lock().unwrap().left(3, true);
    let _engine = bench.start(&[1, 2, 0], LineSetup::default());
    bench.set(0, true);
    assert_eq!(bench.driven(), 1 << 2, "and no other is");
    assert_eq!(bench.high(), 1 << 2);
    assert_eq!(bench.model.lock().unwrap().mask(), 0, "no interrupt");
}

#[test]
fn a_line_has_one_owner_and_must_exist() {
    let bench = Bench::new();
    let engine = bench.start(&[1, 3, 0, 1, 3, 0], LineSetup::default());
    assert!(
        fault(&engine, OWNER)
            .to_string()
            .contains("belongs to /owner")
    );
    drop(engine);
    let bench = Bench::new();
    let engine = bench.start(&[1, 8, 0], LineSetup::default());
    assert!(fault(&engine, OWNER).to_string().contains("line 8 of 8"));
    assert_eq!(bench.driven(), 0);
}

#[test]
fn outputs_come_back_after_power_was_lost() {
    let bench = Bench::new();
    // Firmware's, and nobody else's.
    bench.model.lock().unwrap().left(3, true);
    let mut engine = bench.start(&[1, 0, 0, 1, 6, 0], LineSetup::default());
    bench.set(1, true);
    engine.suspend().unwrap();
    bench.model.lock().unwrap().lose_state();
    assert_eq!(bench.driven(), 0);
    engine.resume().unwrap();
    assert_eq!(bench.driven(), 1 << 6 | 1 << 3 | 1);
    assert_eq!(bench.high(), 1 << 6 | 1 << 3);
    assert_eq!(bench.model.lock().unwrap().mask(), 0, "no interrupt");
}

#[test]
fn what_is_no_pl061_is_left_alone() {
    let bench = Bench::new();
    let before = bench.sim.windows();
    for (n, name) in ["GPIOPCellID0", "GPIOPeriphID0"].into_iter().enumerate() {
        // All ones, as from registers that nobody answers for.
        bench.sim.inject().fail(Step::Read, n as u32);
        let mut engine = bench.start(&[1, 0, 0], LineSetup::default());
        let Fault::Register {
            name: named, seen, ..
        } = fault(&engine, GPIO)
        else {
            panic!("{}", fault(&engine, GPIO));
        };
        assert_eq!((named, seen), (name, 0xff));
        // The owner cannot do without, and says why.
        assert!(
            fault(&engine, OWNER)
                .to_string()
                .contains("gpio /pl061@9030000")
        );
        assert_eq!(bench.sim.windows(), before);
        assert_eq!(bench.driven(), 0);
        engine.rescan().unwrap();
        assert!(matches!(engine.device(OWNER).unwrap().state, State::Bound));
        bench.lines.lock().unwrap().clear();
    }
}

#[test]
fn unbinding_the_controller_takes_its_owners_first() {
    let bench = Bench::new();
    let mut engine = bench.start(&[1, 4, 0], LineSetup::default());
    bench.lines.lock().unwrap().clear();
    bench.diary.take();
    engine.unbind(GPIO).unwrap();
    assert_eq!(bench.diary.take(), ["/owner: quiesce", "/owner: drop"]);
    assert_eq!(engine.device(OWNER).unwrap().state.name(), "waiting");
    engine.bind(GPIO).unwrap();
    assert!(matches!(engine.device(OWNER).unwrap().state, State::Bound));
}

#[test]
fn the_bank_says_who_has_what() {
    let bench = Bench::new();
    let engine = bench.start(&[1, 4, 0], LineSetup::default());
    let services = engine.context().services();
    let Some((_, Service::Gpio(bank))) = services.first() else {
        panic!("no GPIO controller");
    };
    assert_eq!(bank.owners(), [(4, OWNER.into())]);
}
