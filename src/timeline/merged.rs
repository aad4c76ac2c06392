//! What several appliances saw, in one picture.

use std::{collections::HashMap, sync::Arc};

use super::{
    boot::Timeline,
    event::Who,
    machines::{Machine, Snapshot},
    moment::Moment,
};
use crate::boot::identity::MachineId;

impl Snapshot {
    /// With the boots that others saw. Of each machine the last ones stay.
    #[must_use]
    pub fn merged(&self, others: &[(MachineId, Vec<Timeline>)]) -> Self {
        let mut machines = self.machines.clone();
        let mut places: HashMap<Who, usize> =
            machines.iter().enumerate().map(|(place, machine)| (machine.who, place)).collect();
        for (id, boots) in others {
            let who = Who::Machine(*id);
            let place = *places.entry(who).or_insert_with(|| {
                let cards = Vec::from_iter(id.has_card().then_some(id.card));
                let (boots, packets) = Default::default();
                machines.push(Machine { who, cards, version: self.version, boots, packets });
                machines.len() - 1
            });
            let Some(machine) = machines.get_mut(place) else { continue };
            machine.boots.extend(boots.iter().cloned().map(Arc::new));
            // A view that keeps this picture sees that it is another one.
            let last = boots.last().map(|boot| boot.last.since(Moment::default()).as_millis()).unwrap_or_default();
            machine.version = machine.version.wrapping_add(last as u64);
            machine.boots.make_contiguous().sort_by_key(|boot| boot.began);
            while machine.boots.len() > Machine::BOOTS {
                machine.boots.pop_front();
            }
        }
        machines.sort_by_key(|machine| machine.who.in_order());
        Self { at: self.at, version: self.version, machines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{boot::mac::MacAddr, timeline::machines::Timelines};

    #[test]
    fn a_machine_has_the_last_boots_of_all_and_a_strange_one_is_added() {
        let (one, two) = (MacAddr([2; 6]), MacAddr([4; 6]));
        let boot = |began: u64, appliance: Option<&str>| {
            let mut boot = Timeline::begin(1, Moment::from_secs(began));
            boot.appliance = appliance.map(str::to_owned);
            boot
        };
        let mut own = Timelines::default();
        own.restore(one.into(), [10, 30, 50].map(|began| boot(began, None)));
        let others = [
            (one.into(), [20, 40, 60].map(|began| boot(began, Some("b"))).to_vec()),
            (two.into(), vec![boot(5, Some("b"))]),
        ];
        let merged = own.snapshot(Moment::from_secs(100)).merged(&others);
        let seen: Vec<Vec<_>> = merged
            .machines
            .iter()
            .map(|machine| {
                machine
                    .boots
                    .iter()
                    .map(|boot| (boot.began.since(Moment::default()).as_secs(), boot.appliance.as_deref()))
                    .collect()
            })
            .collect();
        let b = Some("b");
        assert_eq!(seen, [vec![(20, b), (30, None), (40, b), (50, None), (60, b)], vec![(5, b)]]);
    }
}
