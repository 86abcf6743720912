//! Which names are bound where: for each name a stack of places, found by the name's number.

use firn_syntax::Sym;
use std::cell::Cell;

/// A frame's number, counted from the outermost one, and a slot.
pub(super) type Place = (u32, u32);

pub(super) struct Scope {
    /// For each name the number of its innermost binding plus one, or 0. One table serves a thread's compilations one
    /// after the other: it is as long as there are names.
    innermost: Vec<u32>,
    bound: Vec<Bound>,
}

struct Bound {
    /// None when it has ended, but others that were bound later have not.
    name: Option<Sym>,
    place: Place,
    /// What `innermost` was before.
    before: u32,
}

thread_local! {
    static INNERMOST: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

impl Scope {
    pub(super) fn new() -> Scope {
        Scope { innermost: INNERMOST.take(), bound: Vec::new() }
    }

    /// The innermost place that a name is bound to.
    #[inline]
    pub(super) fn get(&self, name: Sym) -> Option<Place> {
        let number = self.innermost.get(name.index() as usize)?.checked_sub(1)?;
        self.bound.get(number as usize).map(|bound| bound.place)
    }

    pub(super) fn bind(&mut self, name: Sym, place: Place) {
        let index = name.index() as usize;
        if index >= self.innermost.len() {
            self.innermost.resize((index + 1).next_power_of_two(), 0);
        }
        let before = self.innermost[index];
        self.bound.push(Bound { name: Some(name), place, before });
        self.innermost[index] = self.bound.len() as u32;
    }

    /// Ends a name's innermost binding.
    pub(super) fn unbind(&mut self, name: Sym) {
        let Some(innermost) = self.innermost.get_mut(name.index() as usize) else { return };
        let Some(bound) = innermost.checked_sub(1).and_then(|n| self.bound.get_mut(n as usize)) else {
            return;
        };
        *innermost = bound.before;
        bound.name = None;
        while self.bound.pop_if(|bound| bound.name.is_none()).is_some() {}
    }

    /// All names that are bound, and their innermost places.
    pub(super) fn names(&self) -> impl Iterator<Item = (Sym, Place)> {
        self.bound.iter().enumerate().filter_map(|(i, bound)| {
            let name = bound.name?;
            (self.innermost[name.index() as usize] == i as u32 + 1).then_some((name, bound.place))
        })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Where there was an error, names are still bound.
        for name in self.bound.iter().filter_map(|bound| bound.name) {
            self.innermost[name.index() as usize] = 0;
        }
        INNERMOST.set(std::mem::take(&mut self.innermost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_names_hide_outer_ones() {
        let (a, b) = (Sym::new(b"scope-a"), Sym::new(b"scope-b"));
        let mut scope = Scope::new();
        assert_eq!(scope.get(a), None);
        scope.bind(a, (0, 1));
        scope.bind(b, (0, 2));
        scope.bind(a, (1, 3));
        assert_eq!((scope.get(a), scope.get(b)), (Some((1, 3)), Some((0, 2))));
        let mut names: Vec<_> = scope.names().collect();
        names.sort();
        assert_eq!(
            names,
            [(a.min(b), scope.get(a.min(b)).unwrap()), (a.max(b), scope.get(a.max(b)).unwrap())]
        );
        // In the order in which they were bound.
        scope.unbind(b);
        assert_eq!((scope.get(a), scope.get(b)), (Some((1, 3)), None));
        scope.unbind(a);
        assert_eq!(scope.get(a), Some((0, 1)));
        drop(scope);
        assert_eq!(Scope::new().get(a), None);
    }
}
