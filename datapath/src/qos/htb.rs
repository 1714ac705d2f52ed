//! Hierarchical token bucket (`linux-htb`, tc-htb(8)): a root with a rate, and a class for each queue under it.
//!
//! A class that has not used up its min-rate sends of its own right; one that has, but is below its max-rate, borrows. Those in
//! their own right go first, by priority, then borrowers, by priority; among equals the one goes that had least so far in proportion
//! to its min-rate (tc-htb's `quantum` comes to the same, in longer turns). What is borrowed does not count against the
//! min-rate of who borrows. Every packet counts against the root, which, unlike the kernel's, is never exceeded, even if min-rates
//! add up to more than it has: then they share it in proportion.
//!
//! A class that waits for time has a timer, one that waits for its turn has a place in line; so a departure costs the logarithm
//! of the number of classes that wait, and nothing is allocated.

use super::bucket::Bucket;
use super::timers::Timers;
use super::{Item, Scheduler, Waiting};

/// A class's settings, as they are to be: bits a second, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRates {
    /// Guaranteed.
    pub min: u64,
    /// Ceiling.
    pub max: u64,
    /// What may be saved up.
    pub burst: u64,
    /// Smaller goes first.
    pub priority: u32,
}

/// Bytes by which a class may be behind the others of its line, and go first until it has them: a few frames, so that who
/// changes lines with each packet loses nothing by it, and who was long in another has no claim.
const BEHIND_MAX: u64 = 8 * 1514;

/// What a class may save up beyond its burst: two frames, or what comes in four milliseconds (a tick of the kernel's, which adds
/// as much). Else it would lose what comes while it stands in line, and with that its rate.
pub fn depth(rate: u64, burst: u64) -> u64 {
    burst + (rate / 8 / 250).max(2 * 1514)
}

struct Class {
    waiting: Waiting,
    min: Bucket,
    max: Bucket,
    level: u32,
    rate: u64,
    /// Nanoseconds that what it had so far takes at its min-rate: in its own right, and borrowed.
    had: [u64; 2],
}

/// See the module's essay.
pub struct Htb {
    root: Bucket,
    classes: Vec<Class>,
    /// Priority levels that there are.
    levels: u32,
    /// By priority those in their own right, then by priority borrowers; in each of these lines by what they had.
    turns: Timers<(u32, u64)>,
    /// What who went last had, in each line: who comes anew begins there.
    reached: Vec<u64>,
    timers: Timers,
    len: usize,
}

impl Htb {
    /// A root of `rate` bit/s and these classes.
    pub fn new(rate: u64, burst: u64, classes: &[ClassRates], now: u64) -> Htb {
        let mut levels: Vec<u32> = classes.iter().map(|c| c.priority).collect();
        levels.sort_unstable();
        levels.dedup();
        let class = |c: &ClassRates| Class {
            waiting: Waiting::default(),
            min: Bucket::new(c.min, depth(c.min, c.burst), now),
            max: Bucket::new(c.max, depth(c.max, c.burst), now),
            level: levels.partition_point(|l| *l < c.priority) as u32,
            rate: c.min.max(1),
            had: [0; 2],
        };
        Htb {
            root: Bucket::new(rate, burst, now),
            classes: classes.iter().map(class).collect(),
            turns: Timers::new(classes.len()),
            reached: vec![0; 2 * levels.len()],
            timers: Timers::new(classes.len()),
            levels: levels.len() as u32,
            len: 0,
        }
    }

    /// Puts a class where it belongs now: into a list, or aside until a time.
    fn place(&mut self, i: u32, now: u64, late: u64) {
        let c = &mut self.classes[i as usize];
        let Some(head) = c.waiting.front() else {
            self.turns.clear(i);
            self.timers.clear(i);
            return;
        };
        let bytes = head.bytes;
        c.min.fill(now, late);
        c.max.fill(now, late);
        if !c.max.has(bytes) {
            let when = c.max.when(bytes);
            self.turns.clear(i);
            return self.timers.set(i, when);
        }
        let borrows = !c.min.has(bytes);
        let line = match borrows {
            false => {
                self.timers.clear(i);
                c.level
            }
            true => {
                let when = c.min.when(bytes);
                self.timers.set(i, when);
                self.levels + c.level
            }
        };
        let had = &mut c.had[usize::from(borrows)];
        // Time in which it had nothing to send, or might not, gives no right to more. To have borrowed meanwhile, or not, does.
        let reached = self.reached[line as usize];
        let behind = match self.turns.get(i) {
            Some(_) => BEHIND_MAX * 8_000_000_000 / c.rate,
            None => 0,
        };
        *had = (*had).max(reached.saturating_sub(behind));
        self.turns.set(i, (line, *had));
    }

    /// Looks at all classes whose time has come.
    fn wake(&mut self, now: u64, late: u64) {
        while let Some((time, i)) = self.timers.first()
            && time <= now
        {
            self.timers.clear(i);
            self.place(i, now, late);
        }
    }
}

impl Scheduler for Htb {
    fn enqueue(&mut self, item: Item, now: u64, dropped: &mut Vec<Item>) {
        let c = &mut self.classes[item.queue as usize];
        if !c.waiting.push(item) {
            return dropped.push(item);
        }
        self.len += 1;
        if c.waiting.len() == 1 {
            self.place(item.queue, now, 0);
        }
    }

    fn dequeue(&mut self, now: u64, late: u64, _: &mut Vec<Item>) -> Option<Item> {
        self.wake(now, late);
        self.root.fill(now, late);
        let ((line, had), i) = self.turns.first()?;
        let c = &mut self.classes[i as usize];
        let bytes = c.waiting.front()?.bytes;
        if !self.root.has(bytes) {
            return None;
        }
        let item = c.waiting.pop()?;
        self.len -= 1;
        self.root.take(bytes);
        // What came while it stood in line does not go beyond what may be saved up.
        c.min.fill(now, late);
        c.max.fill(now, late);
        c.max.take(bytes);
        let borrowed = line >= self.levels;
        if !borrowed {
            c.min.take(bytes);
        }
        c.had[usize::from(borrowed)] = had + u64::from(bytes) * 8_000_000_000 / c.rate;
        self.reached[line as usize] = had;
        self.place(i, now, late);
        Some(item)
    }

    fn next(&self, now: u64) -> Option<u64> {
        let timer = self.timers.first().map(|t| t.0);
        let Some((_, i)) = self.turns.first() else {
            return timer;
        };
        let bytes = self.classes[i as usize].waiting.front()?.bytes;
        if self.root.has(bytes) {
            return Some(now);
        }
        // A timer may bring a shorter packet, which the root can pay for sooner.
        let root = self.root.when(bytes);
        Some(timer.map_or(root, |t| t.min(root)))
    }

    fn len(&self) -> usize {
        self.len
    }

    fn drain(&mut self, out: &mut Vec<Item>) {
        for (i, c) in self.classes.iter_mut().enumerate() {
            while let Some(item) = c.waiting.pop() {
                out.push(item);
            }
            self.turns.clear(i as u32);
            self.timers.clear(i as u32);
        }
        self.len = 0;
    }

    fn restart(&mut self) {
        self.root.empty();
        for c in &mut self.classes {
            c.min.empty();
            c.max.empty();
        }
    }
}
