use std::cell::Cell;

use super::*;

const WORKER: Role = Role::Worker(1);

/// Looks ten times a second at two workers and the others, of which one stands.
struct Scene {
    stuck: Stuck,
    standing: Standing,
    stands: Role,
    begin: Instant,
    tenth: u64,
    asked: Cell<u32>,
}

impl Scene {
    fn new(stands: Role) -> Self {
        let (stuck, begin) = (Stuck::none(2, true), Instant::now());
        let standing = Standing::new(stuck.clone(), begin);
        let mut scene = Self { stuck, standing, stands, begin, tenth: 0, asked: Cell::new(0) };
        scene.look_at(1, 1, |_| unreachable!("everybody goes on"));
        scene
    }

    /// At this tenth of a second, when the thread has made so many turns, and its condition is this.
    fn look_at(&mut self, tenth: u64, turns: u64, condition: impl Fn(u64) -> Option<Condition>) {
        self.tenth = tenth;
        let now = self.begin + Duration::from_millis(tenth * 100);
        let (stands, asked) = (self.stands, &self.asked);
        let of_all = |role| Some(if role == stands { turns } else { tenth });
        self.standing.see(now, of_all, |role| {
            assert_eq!(role, stands);
            asked.set(asked.get() + 1);
            condition(tenth)
        });
    }

    /// Stands on for so many tenths; the first of them at which it was stuck.
    fn stand(&mut self, tenths: u64, condition: impl Fn(u64) -> Option<Condition>) -> Option<u64> {
        let begin = self.tenth;
        for tenth in begin + 1..=begin + tenths {
            self.look_at(tenth, 1, &condition);
            if self.stuck.is(self.stands) {
                return Some(tenth - begin);
            }
        }
        None
    }
}

fn condition(ran_ms: u64, state: char) -> Option<Condition> {
    Some(Condition { ran: Duration::from_millis(ran_ms), state })
}

/// It has its CPU all the time.
fn runs(tenth: u64) -> Option<Condition> {
    condition(tenth * 100, 'R')
}

/// It has none.
fn starves(_: u64) -> Option<Condition> {
    condition(7, 'R')
}

#[test]
fn who_stands_by_its_own_fault_is_stuck_within_its_bound() {
    let ways: [fn(u64) -> Option<Condition>; 6] = [
        runs,
        |_| condition(7, 'S'),
        |_| condition(7, 'D'),
        |_| condition(7, 't'),
        |_| None,
        // A tenth of the time without its CPU.
        |tenth| condition(tenth * 90, 'R'),
    ];
    for (role, bound) in
        [(WORKER, 6..=8), (Role::Vrrp, 10..=12), (Role::Host, 10..=12), (Role::Health, 30..=32)]
    {
        for (number, way) in ways.iter().enumerate() {
            let mut scene = Scene::new(role);
            let noticed = scene.stand(100, way).unwrap();
            assert!(bound.contains(&noticed), "{role} {number}: {noticed}");
            assert_eq!(scene.stuck.has_worker(), role == WORKER);
            assert_eq!((scene.stuck.roles().collect::<Vec<_>>(), scene.stuck.late(role)), (vec![role], 0));
            scene.look_at(200, 2, way);
            assert!(!scene.stuck.is(role), "it goes on");
        }
    }
}

#[test]
fn who_gets_no_cpu_is_late_once_and_stuck_when_that_has_no_end() {
    for (role, hopeless) in [(WORKER, 30), (Role::Vrrp, 50), (Role::Health, 150)] {
        let mut scene = Scene::new(role);
        assert_eq!(scene.stand(hopeless - 1, starves), None, "{role}");
        assert_eq!(scene.stuck.late(role), 1, "{role}");
        assert_eq!(scene.stand(1, starves), Some(1), "{role}");
        scene.look_at(1_000, 2, starves);
        assert_eq!((scene.stuck.is(role), scene.stuck.late(role)), (false, 1), "{role}");
        // The next time counts anew.
        for tenth in 1_001..1_000 + hopeless {
            scene.look_at(tenth, 2, starves);
        }
        assert_eq!((scene.stuck.is(role), scene.stuck.late(role)), (false, 2), "{role}");
    }
}

#[test]
fn what_a_late_thread_had_of_its_cpu_is_not_enough_to_be_stuck() {
    let mut scene = Scene::new(WORKER);
    // A tenth of a CPU: it does not come to the end of its pass.
    assert_eq!(scene.stand(29, |tenth| condition(tenth * 10, 'R')), None);
    assert_eq!(scene.stuck.late(WORKER), 1);
}

#[test]
fn who_goes_on_is_never_asked_and_who_stands_for_a_moment_neither() {
    let mut scene = Scene::new(WORKER);
    for tenth in 2..100 {
        // Each turn takes two looks.
        scene.look_at(tenth, tenth / 2 + 1, |_| unreachable!("asked at {tenth}"));
    }
    assert_eq!((scene.asked.get(), scene.stuck.late(WORKER)), (0, 0));
}

#[test]
fn a_minute_in_which_control_stood_as_well_says_nothing() {
    let mut scene = Scene::new(WORKER);
    scene.look_at(601, 1, |_| condition(7, 'S'));
    scene.look_at(602, 2, |_| condition(7, 'S'));
    assert_eq!((scene.stuck.roles().count(), scene.stuck.late(WORKER)), (0, 0));
}

#[test]
fn a_thread_that_does_not_run_is_not_stuck() {
    let (stuck, begin) = (Stuck::none(1, false), Instant::now());
    let mut standing = Standing::new(stuck.clone(), begin);
    for tenth in 1..100 {
        let turns = |role| (role != Role::Health).then_some(tenth);
        standing.see(begin + Duration::from_millis(tenth * 100), turns, |_| unreachable!());
    }
    assert_eq!(stuck.roles().count(), 0);
    assert_eq!(stuck.threads().collect::<Vec<_>>(), [Role::Vrrp, Role::Health]);
}
