//! Numbered places for values, all taken at once.

use crate::chain::place;

/// A fixed number of places for values.
#[derive(Debug, Clone)]
pub(crate) struct Slab<T> {
    places: Box<[Option<T>]>,
    /// Numbers of free places; its capacity is the number of places.
    free: Vec<u32>,
}

impl<T: Clone> Slab<T> {
    /// `count` free places, at most `u32::MAX`.
    pub(crate) fn new(count: u32) -> Self {
        Self {
            places: vec![None; place(count)].into_boxed_slice(),
            free: (0..count).rev().collect(),
        }
    }

    /// Puts a value into a free place; `None` when there is none.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let number = self.free.pop()?;
        if let Some(free) = self.places.get_mut(place(number)) {
            *free = Some(value);
        }
        Some(number)
    }

    /// Puts a value into the place `number` if that is free. Looks for it from the end of the free
    /// ones, where low numbers are as long as none was given back.
    pub(crate) fn insert_at(&mut self, number: u32, value: T) -> bool {
        let Some(at) = self.free.iter().rposition(|free| *free == number) else {
            return false;
        };
        self.free.remove(at);
        if let Some(free) = self.places.get_mut(place(number)) {
            *free = Some(value);
        }
        true
    }

    /// Takes a value out.
    #[inline]
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.places.get_mut(place(number))?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// The value at a place.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(place(number))?.as_ref()
    }

    /// The value at a place.
    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(place(number))?.as_mut()
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    /// Places, free or not.
    pub(crate) fn capacity(&self) -> u32 {
        // Made from a u32.
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// Whether no place is free.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }
}
