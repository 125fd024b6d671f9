//! A stack of free ranges that never moves what is on it: it grows and shrinks by
//! chunks, so that no push costs more than the others because many were before it.

use alloc::boxed::Box;

use super::Slot;

/// Slots of a chunk: with what else it has, half a KiB.
const SLOTS: usize = 31;

#[derive(Default)]
pub(super) struct Stack {
    top: Option<Box<Chunk>>,
    // A chunk that ran empty: the next push may need one again.
    spare: Option<Box<Chunk>>,
    // Slots in the top chunk; those below it are full.
    in_top: usize,
    len: usize,
}

struct Chunk {
    slots: [Slot; SLOTS],
    below: Option<Box<Chunk>>,
}

impl Stack {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, slot: Slot) {
        if self.top.is_none() || self.in_top == SLOTS {
            let mut chunk = self.spare.take().unwrap_or_else(|| {
                Box::new(Chunk {
                    slots: [Slot::new(0); SLOTS],
                    below: None,
                })
            });
            chunk.below = self.top.take();
            self.top = Some(chunk);
            self.in_top = 0;
        }
        if let Some(top) = &mut self.top {
            top.slots[self.in_top] = slot;
            self.in_top += 1;
            self.len += 1;
        }
    }

    pub fn pop(&mut self) -> Option<Slot> {
        let top = self.top.as_mut()?;
        self.in_top -= 1;
        self.len -= 1;
        let slot = top.slots[self.in_top];
        if self.in_top == 0 {
            let below = top.below.take();
            self.in_top = if below.is_some() { SLOTS } else { 0 };
            self.spare = core::mem::replace(&mut self.top, below);
        }
        Some(slot)
    }
}

/// One after the other: as a chain of drops it could be deeper than a kernel's stack.
impl Drop for Stack {
    fn drop(&mut self) {
        while let Some(mut chunk) = self.top.take() {
            self.top = chunk.below.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_stack(steps in prop::collection::vec(prop::option::weighted(0.6, 0u64..1 << 40), 0..400)) {
            let (mut stack, mut model) = (Stack::default(), Vec::new());
            for step in steps {
                match step {
                    Some(start) => {
                        stack.push(Slot::new(start));
                        model.push(Slot::new(start));
                    }
                    None => prop_assert_eq!(stack.pop(), model.pop()),
                }
                prop_assert_eq!(stack.len(), model.len());
            }
            while let Some(slot) = model.pop() {
                prop_assert_eq!(stack.pop(), Some(slot));
            }
            prop_assert_eq!(stack.pop(), None);
        }
    }

    #[test]
    fn a_million_end_without_recursion() {
        let mut stack = Stack::default();
        (0..1 << 20).for_each(|page| stack.push(Slot::new(page)));
        drop(stack);
    }
}
