//! What is made at first use, and may be made anew while somebody still looks at what was there before.

use firn_settings::Settings;
use std::cell::OnceCell;
use std::ops::Deref;
use std::sync::Arc;

/// A value that is made at first use, and again after [`Renewable::renew`]. What was handed out stays.
pub struct Renewable<T> {
    value: OnceCell<T>,
    next: OnceCell<Box<Renewable<T>>>,
}

impl<T> Default for Renewable<T> {
    fn default() -> Self {
        Self { value: OnceCell::new(), next: OnceCell::new() }
    }
}

impl<T> Renewable<T> {
    fn newest(&self) -> &Self {
        let mut here = self;
        while let Some(next) = here.next.get() {
            here = next;
        }
        here
    }

    pub fn get(&self) -> Option<&T> {
        self.newest().value.get()
    }

    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.newest().value.get_or_init(make)
    }

    /// The next use makes a new value.
    pub fn renew(&self) {
        let newest = self.newest();
        if newest.value.get().is_some() {
            let _ = newest.next.set(Box::default());
        }
    }
}

/// The settings, which flakes may add to while a command runs.
pub struct CurrentSettings {
    settings: Arc<Settings>,
    next: OnceCell<Box<CurrentSettings>>,
}

impl CurrentSettings {
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), next: OnceCell::new() }
    }

    fn newest(&self) -> &Self {
        let mut here = self;
        while let Some(next) = here.next.get() {
            here = next;
        }
        here
    }

    /// The settings as they are now.
    pub fn shared(&self) -> Arc<Settings> {
        Arc::clone(&self.newest().settings)
    }

    pub fn replace(&self, settings: Settings) {
        let _ = self.newest().next.set(Box::new(Self::new(settings)));
    }
}

impl Deref for CurrentSettings {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.newest().settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal() {
        let cell = Renewable::default();
        let first = cell.get_or_init(|| 1);
        assert_eq!(cell.get_or_init(|| 2), &1);
        cell.renew();
        assert_eq!(cell.get(), None);
        assert_eq!((cell.get_or_init(|| 3), first), (&3, &1));
    }
}
