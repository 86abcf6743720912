//! How many builds run at once on this machine, and which of those that were handed over is next.
//!
//! Slots are taken in the order in which builds were handed over, which is that of their priority, whatever thread looks
//! first. Builders start in the same order, one after the other: of two that cannot even start, the first one is the one
//! that fails. From then on builds run side by side.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// The slots of this machine.
#[derive(Debug, Clone)]
pub struct Slots {
    count: u32,
    shared: Arc<Mutex<Queues>>,
}

/// By the number of the place in the line; the first one of each is told when it may be its turn.
type Line = BTreeMap<u64, Arc<Notify>>;

#[derive(Debug)]
struct Queues {
    free: u32,
    /// The number of the next place.
    next: u64,
    /// Who waits for a slot, or may be about to.
    waiting: Line,
    /// Who has a slot and has not started its builder.
    starting: Line,
}

impl Queues {
    fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
        if self.free > 0 {
            tell_first(&self.waiting);
        }
    }

    fn started(&mut self, number: u64) {
        self.starting.remove(&number);
        tell_first(&self.starting);
    }
}

fn tell_first(line: &Line) {
    if let Some((_, first)) = line.first_key_value() {
        first.notify_one();
    }
}

impl Slots {
    pub fn new(count: u32) -> Slots {
        let queues = Queues { free: count, next: 0, waiting: Line::new(), starting: Line::new() };
        Slots { count, shared: Arc::new(Mutex::new(queues)) }
    }

    /// The setting `max-jobs`; with 0 no build runs on this machine.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many are free at the moment.
    pub fn available(&self) -> usize {
        self.shared.lock().free as usize
    }

    /// The last place in the line. Those behind it wait until it has got a slot, steps aside or is dropped.
    pub fn line_up(&self) -> Place {
        let mut queues = self.shared.lock();
        let number = queues.next;
        queues.next += 1;
        let told = Arc::new(Notify::new());
        queues.waiting.insert(number, Arc::clone(&told));
        Place { slots: self.clone(), number, told, kept: Mutex::default() }
    }
}

/// A build's place in the line for slots.
#[derive(Debug)]
pub struct Place {
    slots: Slots,
    number: u64,
    told: Arc<Notify>,
    kept: Mutex<Option<Slot>>,
}

impl Place {
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Lets those behind it pass, until it asks for a slot again. Whoever waits for something else than a slot has to.
    pub fn step_aside(&self) {
        self.slots.shared.lock().leave(self.number);
    }

    /// Keeps a slot taken for as long as this place is there.
    pub fn keep(&self, slot: Slot) {
        *self.kept.lock() = Some(slot);
    }

    /// Waits for a slot: until one is free and nobody is in front. When this is given up, the place remains.
    pub async fn slot(&self) -> Slot {
        loop {
            {
                let mut queues = self.slots.shared.lock();
                queues.waiting.entry(self.number).or_insert_with(|| Arc::clone(&self.told));
                let first = queues.waiting.first_key_value().map(|(number, _)| *number);
                if queues.free > 0 && first == Some(self.number) {
                    queues.free -= 1;
                    queues.leave(self.number);
                    let turn = Arc::new(Notify::new());
                    queues.starting.insert(self.number, Arc::clone(&turn));
                    return Slot { slots: self.slots.clone(), number: self.number, turn };
                }
            }
            self.told.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.step_aside();
    }
}

/// Room for one build. It is free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    number: u64,
    turn: Arc<Notify>,
}

impl Slot {
    /// Waits until all who got their slots by an earlier place have started their builders.
    pub async fn turn(&self) {
        loop {
            let first = self.slots.shared.lock().starting.first_key_value().map(|(number, _)| *number);
            if first.is_none_or(|first| first >= self.number) {
                return;
            }
            self.turn.notified().await;
        }
    }

    /// The builder has started, or will not for a while: it is the next one's turn.
    pub fn started(&self) {
        self.slots.shared.lock().started(self.number);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut queues = self.slots.shared.lock();
        queues.free += 1;
        queues.started(self.number);
        tell_first(&queues.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn got(place: &Place) -> Option<Slot> {
        place.slot().now_or_never()
    }

    #[test]
    fn slots_go_by_place_whoever_asks_first() {
        let slots = Slots::new(2);
        let [a, b, c] = [slots.line_up(), slots.line_up(), slots.line_up()];
        assert!(got(&b).is_none());
        let slot_a = got(&a).unwrap();
        assert!(got(&c).is_none());
        let slot_b = got(&b).unwrap();
        assert_eq!(slots.available(), 0);
        assert!(got(&c).is_none());
        drop(slot_a);
        assert!(got(&c).is_some());
        drop(slot_b);
        assert_eq!(slots.available(), 2);
    }

    #[test]
    fn who_steps_aside_holds_nobody_up_and_comes_back_to_the_front() {
        let slots = Slots::new(1);
        let [a, b, c] = [slots.line_up(), slots.line_up(), slots.line_up()];
        a.step_aside();
        let slot_b = got(&b).unwrap();
        assert!(got(&c).is_none());
        assert!(got(&a).is_none());
        drop(slot_b);
        // It asked again, so it is in front.
        assert!(got(&c).is_none());
        drop(got(&a).unwrap());
        drop(a);
        assert!(got(&c).is_some());
    }

    #[test]
    fn builders_start_by_place() {
        let slots = Slots::new(3);
        let [a, b, c] = [slots.line_up(), slots.line_up(), slots.line_up()];
        let [a, b, c] = [got(&a).unwrap(), got(&b).unwrap(), got(&c).unwrap()];
        let turn = |slot: &Slot| slot.turn().now_or_never().is_some();
        assert!(turn(&a) && !turn(&b) && !turn(&c));
        drop(b);
        assert!(!turn(&c));
        a.started();
        assert!(turn(&a) && turn(&c));
    }

    #[test]
    fn a_slot_that_is_kept_goes_with_the_place() {
        let slots = Slots::new(1);
        let [a, b] = [slots.line_up(), slots.line_up()];
        let slot = got(&a).unwrap();
        a.keep(slot);
        assert!(got(&b).is_none());
        drop(a);
        assert!(got(&b).is_some());
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let slots = Slots::new(2);
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..50)
            .map(|number| (number, slots.line_up()))
            .map(|(number, place)| {
                let order = Arc::clone(&order);
                tokio::spawn(async move {
                    if number % 7 == 3 {
                        return;
                    }
                    if number % 7 == 5 {
                        place.step_aside();
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    }
                    let slot = place.slot().await;
                    slot.turn().await;
                    order.lock().push(number);
                    slot.started();
                    tokio::task::yield_now().await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock();
        assert_eq!(order.len(), 43);
        let straight: Vec<_> = order.iter().copied().filter(|number| number % 7 != 5).collect();
        assert!(straight.is_sorted(), "{order:?}");
        assert_eq!(slots.available(), 2);
    }
}
