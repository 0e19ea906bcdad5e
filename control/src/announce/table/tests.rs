//! A kernel that does what it is told, and forgets or refuses what a test says.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;

use super::super::plan::tests::{plan, well};
use super::*;

/// Of a route: network, table, metric, protocol.
type Shown = (String, u32, u32, u8);

#[derive(Default)]
struct Played {
    routes: RefCell<BTreeMap<Place, u8>>,
    /// How often anything changed, and what: `+` or `-` and the metric.
    changes: RefCell<Vec<String>>,
    devices: RefCell<BTreeSet<String>>,
    makes_none: Cell<bool>,
    refuses: Cell<Option<ErrorKind>>,
}

struct PlayedDevice(String, Rc<Played>);

impl Drop for PlayedDevice {
    fn drop(&mut self) {
        if self.1.devices.borrow_mut().remove(&self.0) {
            self.1.routes.borrow_mut().clear();
        }
    }
}

impl Kernel for Rc<Played> {
    type Device = PlayedDevice;

    fn make(&self, name: &str) -> Result<PlayedDevice, String> {
        if self.makes_none.get() {
            return Err("no permission".to_owned());
        }
        self.devices.borrow_mut().insert(name.to_owned());
        Ok(PlayedDevice(name.to_owned(), self.clone()))
    }

    fn look_after(&self, device: &PlayedDevice) -> bool {
        self.devices.borrow().contains(&device.0)
    }

    fn add(&self, _: &PlayedDevice, place: Place, protocol: u8) -> io::Result<()> {
        if let Some(kind) = self.refuses.get() {
            return Err(kind.into());
        }
        if self.routes.borrow().contains_key(&place) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.routes.borrow_mut().insert(place, protocol);
        self.changes.borrow_mut().push(format!("+{}", place.metric));
        Ok(())
    }

    fn remove(&self, _: &PlayedDevice, place: Place, protocol: u8) -> io::Result<()> {
        if self.routes.borrow().get(&place) != Some(&protocol) {
            return Err(ErrorKind::NotFound.into());
        }
        self.routes.borrow_mut().remove(&place);
        self.changes.borrow_mut().push(format!("-{}", place.metric));
        Ok(())
    }
}

struct Scene {
    kernel: Rc<Played>,
    table: Table<Rc<Played>>,
}

impl Scene {
    fn new() -> Self {
        let kernel = Rc::new(Played::default());
        Self { table: Table::new(kernel.clone(), Arc::default()), kernel }
    }

    /// With this plan at this moment; returns what the kernel has then.
    fn be(&mut self, plan: &Plan, moment: &Moment, is_review: bool) -> Vec<Shown> {
        self.table.be(&Desired::at(plan, moment), is_review, Instant::now());
        let routes = self.kernel.routes.borrow();
        routes.iter().map(|(place, by)| (place.net.to_string(), place.table, place.metric, *by)).collect()
    }

    fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.kernel.changes.borrow_mut())
    }

    fn problems(&self) -> Vec<String> {
        self.table.announcements.routes().iter().filter_map(|it| it.problem.clone()).collect()
    }
}

const ENTRY: &str = "[[announce]]\nvips = [\"192.0.2.1\"]\nmetric = 7\ndraining_metric = 9\n";

fn route(metric: u32) -> Vec<Shown> {
    vec![("192.0.2.1/32".to_owned(), 254, metric, 119)]
}

#[test]
fn a_route_comes_and_goes_with_the_quorum_and_another_metric_comes_before_the_former_goes() {
    let (mut scene, plan) = (Scene::new(), plan(ENTRY));
    let mut moment = well(&["web"]);
    assert_eq!(scene.be(&plan, &moment, true), route(7));
    assert_eq!(scene.be(&plan, &well(&[]), false), []);
    assert_eq!(scene.be(&plan, &moment, false), route(7));
    moment.is_leaving = true;
    assert_eq!(scene.be(&plan, &moment, false), route(9));
    assert_eq!(scene.changes(), ["+7", "-7", "+7", "+9", "-7"]);
    let counts = &scene.table.announcements;
    assert_eq!((counts.announced.get(), counts.withdrawn.get(), counts.failures.get()), (3, 2, 0));
}

#[test]
fn what_stays_the_same_is_not_touched_by_a_reload_and_what_is_another_is() {
    let (mut scene, well) = (Scene::new(), well(&["web", "tls"]));
    scene.be(&plan(ENTRY), &well, true);
    scene.changes();
    // Another line in the file, and the same route.
    assert_eq!(scene.be(&plan(&format!("{ENTRY}quorum = \"all\"\n")), &well, true), route(7));
    assert_eq!(scene.changes(), [""; 0]);
    let other = scene.be(&plan(&format!("{ENTRY}protocol = 77\n")), &well, true);
    assert_eq!(other, [("192.0.2.1/32".to_owned(), 254, 7, 77)]);
    assert_eq!(scene.be(&plan(""), &well, true), []);
    assert!(scene.kernel.devices.borrow().is_empty(), "the device goes with the last entry");
}

#[test]
fn what_somebody_else_removes_comes_back_with_the_next_review() {
    let (mut scene, plan, well) = (Scene::new(), plan(ENTRY), well(&["web"]));
    scene.be(&plan, &well, true);
    scene.kernel.routes.borrow_mut().clear();
    assert_eq!(scene.be(&plan, &well, false), []);
    assert_eq!(scene.be(&plan, &well, true), route(7));
    assert_eq!(scene.table.announcements.restored.get(), 1);
    // The device, with all that leads to it.
    scene.kernel.devices.borrow_mut().clear();
    scene.kernel.routes.borrow_mut().clear();
    assert_eq!(scene.be(&plan, &well, true), route(7));
    assert_eq!(scene.kernel.devices.borrow().len(), 1);
}

#[test]
fn anothers_route_is_left_alone_said_and_tried_again() {
    let (mut scene, plan, well) = (Scene::new(), plan(ENTRY), well(&["web"]));
    let place = Place { net: "192.0.2.1/32".parse().unwrap(), table: 254, metric: 7 };
    scene.kernel.routes.borrow_mut().insert(place, 4);
    for is_review in [true, false, true] {
        assert_eq!(scene.be(&plan, &well, is_review), [("192.0.2.1/32".to_owned(), 254, 7, 4)]);
        assert_eq!(
            scene.problems(),
            ["another route of this network and metric is there, which is not weir's"]
        );
    }
    assert_eq!(scene.table.announcements.failures.get(), 2, "between reviews it is not asked again");
    scene.be(&plan, &Moment::default(), false);
    assert_eq!(scene.kernel.routes.borrow().len(), 1, "it is not weir's to remove");
    scene.kernel.routes.borrow_mut().clear();
    assert_eq!(scene.be(&plan, &well, true), route(7));
    assert_eq!(scene.problems(), [""; 0]);
}

#[test]
fn a_route_is_withdrawn_also_after_the_kernel_had_no_answer_about_it() {
    for kind in [ErrorKind::OutOfMemory, ErrorKind::TimedOut] {
        let (mut scene, plan, well) = (Scene::new(), plan(ENTRY), well(&["web"]));
        scene.be(&plan, &well, true);
        scene.kernel.refuses.set(Some(kind));
        assert_eq!(scene.be(&plan, &well, true), route(7));
        assert_eq!(scene.problems().len(), 1, "{kind}");
        assert_eq!(scene.be(&plan, &self::well(&[]), false), [], "{kind}");
        scene.kernel.refuses.set(None);
        assert_eq!(scene.be(&plan, &well, true), route(7));
        assert_eq!(scene.problems(), [""; 0]);
        scene.kernel.refuses.set(Some(kind));
        scene.be(&plan, &well, true);
        scene.kernel.refuses.set(None);
        assert_eq!(scene.be(&plan, &well, true), route(7));
        assert_eq!(scene.problems(), [""; 0], "what is there is no failure");
    }
    // An answer that was lost: the route may have come.
    let (mut scene, plan, well) = (Scene::new(), plan(ENTRY), well(&["web"]));
    scene.kernel.refuses.set(Some(ErrorKind::TimedOut));
    assert_eq!(scene.be(&plan, &well, true), []);
    let place = Place { net: "192.0.2.1/32".parse().unwrap(), table: 254, metric: 7 };
    scene.kernel.routes.borrow_mut().insert(place, 119);
    assert_eq!(scene.be(&plan, &Moment::default(), false), []);
}

#[test]
fn a_kernel_that_refuses_is_asked_again_and_its_words_are_shown() {
    let (mut scene, plan, well) = (Scene::new(), plan(ENTRY), well(&["web"]));
    scene.kernel.makes_none.set(true);
    assert_eq!(scene.be(&plan, &well, true), []);
    assert_eq!(scene.problems(), ["no permission"]);
    scene.kernel.makes_none.set(false);
    scene.kernel.refuses.set(Some(ErrorKind::PermissionDenied));
    assert_eq!(scene.be(&plan, &well, true), []);
    assert_eq!(scene.problems(), ["permission denied"]);
    assert_eq!(scene.table.announcements.tally().failed, 1);
    scene.kernel.refuses.set(None);
    assert_eq!(scene.be(&plan, &well, true), route(7));
    assert_eq!(scene.table.announcements.tally().serving, 1);
}
