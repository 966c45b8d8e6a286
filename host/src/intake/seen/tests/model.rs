//! What is seen of a device against a plain model that remembers everything, and says of each sample which answer is
//! right: a set a boot, the boots in the order in which they were heard last, and those that were closed.

use std::collections::BTreeSet;

use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

/// More boots than can be open, and fewer gaps than can be.
const BOOTS: u64 = OPEN_BOOTS_MAX as u64 + 4;
const SEQUENCES: u64 = 40;

#[derive(Clone, Debug, Default)]
struct Model {
    /// Log time since [`START`], in milliseconds.
    passed_ms: u64,
    /// The one that was silent longest first.
    open: Vec<(u64, u64, BTreeSet<u64>)>,
    /// With when each was heard last.
    closed: Vec<(u64, u64)>,
    undecided: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Take(u64, u64),
    TakeAsUndecided(u64, u64),
    Wait(u64),
    Restart,
}

impl Model {
    fn sees(&self, boot: u64, seq: u64) -> Sighting {
        if self.closed.iter().any(|(closed, _)| *closed == boot) {
            return Sighting::CannotTell;
        }
        let set = self.open.iter().find(|(open, ..)| *open == boot);
        if set.is_some_and(|(.., set)| set.contains(&seq)) { Sighting::Counted } else { Sighting::New }
    }

    fn take(&mut self, boot: u64, seq: u64) {
        let now = self.passed_ms;
        let mut set = match self.open.iter().position(|(open, ..)| *open == boot) {
            Some(at) => self.open.remove(at).2,
            None => {
                let is_kept = |heard: u64| heard + BOOT_KEPT_MS >= now;
                self.open.retain(|(_, heard, _)| is_kept(*heard));
                self.closed.retain(|(_, heard)| is_kept(*heard));
                BTreeSet::new()
            }
        };
        set.insert(seq);
        self.open.push((boot, now, set));
        if self.open.len() > OPEN_BOOTS_MAX {
            let (boot, heard, _) = self.open.remove(0);
            self.closed.push((boot, heard));
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_model: &Self) -> BoxedStrategy<Step> {
        let (boot, seq) = (0..BOOTS, 0..SEQUENCES);
        prop_oneof![
            30 => (boot.clone(), seq.clone()).prop_map(|(boot, seq)| Step::Take(boot, seq)),
            2 => (boot, seq).prop_map(|(boot, seq)| Step::TakeAsUndecided(boot, seq)),
            2 => (0..BOOT_KEPT_MS / 3).prop_map(Step::Wait),
            2 => Just(Step::Restart),
        ]
        .boxed()
    }

    /// What cannot be told is not recorded as a sample.
    fn preconditions(model: &Self, step: &Step) -> bool {
        match step {
            Step::Take(boot, seq) => model.sees(*boot, *seq) != Sighting::CannotTell,
            _ => true,
        }
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        match step {
            Step::Take(boot, seq) => model.take(*boot, *seq),
            Step::TakeAsUndecided(..) => model.undecided += 1,
            Step::Wait(ms) => model.passed_ms += ms,
            Step::Restart => {}
        }
        model
    }
}

struct AgainstModel;

impl StateMachineTest for AgainstModel {
    type SystemUnderTest = Seen;
    type Reference = Model;

    fn init_test(_model: &Model) -> Seen {
        Seen::default()
    }

    fn apply(mut seen: Seen, model: &Model, step: Step) -> Seen {
        let log_time = UnixMs(START.0 + model.passed_ms);
        match step {
            Step::Take(boot, seq) => drop(seen.record(&record(sample(boot, seq)), log_time)),
            Step::TakeAsUndecided(boot, seq) => {
                let undecided = Record { kind: RecordKind::Undecided, ..record(sample(boot, seq)) };
                seen.record(&undecided, log_time);
            }
            // A row that was not changed since is with the store.
            Step::Restart if seen.changed() > 0 => return seen.restored(),
            Step::Wait(_) | Step::Restart => {}
        }
        seen
    }

    fn check_invariants(seen: &Seen, model: &Model) {
        for boot in 0..BOOTS {
            for seq in 0..SEQUENCES {
                assert_eq!(seen.sees(boot, seq), model.sees(boot, seq), "{seq} of {boot}");
            }
        }
        let undecided = seen.devices.get(&device()).map_or(0, |device| device.state.undecided);
        assert_eq!(undecided, model.undecided);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_says_of_every_sample_what_a_model_that_forgets_nothing_says(sequential 1..120 => AgainstModel);
}
