//! Who is first: a heap that knows where each of its members is, so that a member's time, or turn, can be changed.

/// Times of members 0 to n. Setting and clearing one costs the logarithm of how many there are, and allocates nothing.
#[derive(Debug)]
pub struct Timers<T = u64> {
    heap: Vec<u32>,
    /// Each member's place in the heap.
    place: Vec<u32>,
    time: Vec<T>,
}

const NOWHERE: u32 = u32::MAX;

impl<T: Copy + Default + Ord> Timers<T> {
    /// For so many members, none of them set.
    pub fn new(members: usize) -> Timers<T> {
        Timers {
            heap: Vec::with_capacity(members),
            place: vec![NOWHERE; members],
            time: vec![T::default(); members],
        }
    }

    /// The earliest time and whose it is.
    pub fn first(&self) -> Option<(T, u32)> {
        let m = *self.heap.first()?;
        Some((self.time[m as usize], m))
    }

    /// Sets a member's time, or changes it.
    pub fn set(&mut self, member: u32, time: T) {
        self.time[member as usize] = time;
        let mut at = self.place[member as usize] as usize;
        if at == NOWHERE as usize {
            at = self.heap.len();
            self.heap.push(member);
            self.place[member as usize] = at as u32;
        }
        self.settle(at);
    }

    /// A member's time, if it has one.
    pub fn get(&self, member: u32) -> Option<T> {
        let set = self.place[member as usize] != NOWHERE;
        set.then(|| self.time[member as usize])
    }

    /// A member has no time any more.
    pub fn clear(&mut self, member: u32) {
        let at = std::mem::replace(&mut self.place[member as usize], NOWHERE) as usize;
        if at == NOWHERE as usize {
            return;
        }
        self.heap.swap_remove(at);
        if let Some(moved) = self.heap.get(at) {
            self.place[*moved as usize] = at as u32;
            self.settle(at);
        }
    }

    fn at(&self, place: usize) -> T {
        self.time[self.heap[place] as usize]
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a] as usize] = a as u32;
        self.place[self.heap[b] as usize] = b as u32;
    }

    /// Moves what is at a place to where it belongs.
    fn settle(&mut self, mut at: usize) {
        while at > 0 && self.at(at) < self.at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        loop {
            let children = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(least) = children.min_by_key(|c| self.at(*c)) else {
                return;
            };
            if self.at(least) >= self.at(at) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_first_whatever_is_changed() {
        let mut timers = Timers::new(50);
        let mut model: Vec<Option<u64>> = vec![None; 50];
        let mut x = 1u64;
        for _ in 0..20_000 {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (member, time) = ((x >> 33) as usize % 50, x >> 50);
            if x >> 60 < 5 {
                timers.clear(member as u32);
                model[member] = None;
            } else {
                timers.set(member as u32, time);
                model[member] = Some(time);
            }
            assert_eq!(
                timers.first().map(|(t, _)| t),
                model.iter().flatten().min().copied()
            );
            if let Some((t, m)) = timers.first() {
                assert_eq!(model[m as usize], Some(t));
            }
        }
    }
}
