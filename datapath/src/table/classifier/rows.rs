//! Rows by hash: a persistent hash table.
//!
//! A trie over the bits of the hash, four a level, with buckets of up to [`BUCKET_MAX`] rows at its ends. A clone
//! shares everything. A change copies the nodes on its way that are shared, and changes those in place that are
//! not: so the first change after a clone costs about a microsecond, and many changes between two clones cost little
//! more than in a table that is not persistent. The rows' own rules hold the keys, so that an entry costs some
//! forty bytes.
//!
//! Nodes know the highest rank below each branch, so that the highest of all is known at once.

use super::row::{Row, rank};
use crate::table::rule::Rule;
use std::sync::Arc;

/// Rows of a bucket beyond which it is parted.
const BUCKET_MAX: usize = 16;
/// Rows of a node with which it becomes a bucket again.
const NODE_MIN: u32 = 8;
/// Bits of the hash that a level looks at.
const BITS: u32 = 4;
/// Branches of a node.
const BRANCHES: usize = 1 << BITS;
/// By so many rows a bucket grows.
const GROWTH: usize = 4;

/// Rows, each under the hash of its match's values.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    root: Child,
    len: usize,
    max: u32,
}

#[derive(Clone, Debug, Default)]
enum Child {
    #[default]
    None,
    Bucket(Arc<Bucket>),
    Node(Arc<Node>),
}

/// Rows with their hashes, in one place of memory.
#[derive(Clone, Debug, Default)]
struct Bucket(Vec<(u32, Row)>);

#[derive(Clone, Debug, Default)]
struct Node {
    /// Rows below.
    count: u32,
    /// The highest rank below each branch.
    max: [u32; BRANCHES],
    children: [Child; BRANCHES],
}

/// What became of a change on its way up.
struct Done {
    /// The rule that was there.
    old: Option<Arc<Rule>>,
    /// Whether a row came, or went.
    other_len: bool,
}

impl Bucket {
    #[inline]
    fn find(&self, hash: u32, values: &[u64]) -> Option<usize> {
        // One hash is rarely of two matches.
        self.0
            .iter()
            .position(|(h, row)| *h == hash && row.pattern().values() == values)
    }

    fn push(&mut self, hash: u32, row: Row) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(GROWTH);
        }
        self.0.push((hash, row));
    }

    fn max(&self) -> u32 {
        self.0.iter().map(|(_, r)| r.rank()).max().unwrap_or(0)
    }
}

/// The branch for a hash whose bits already used were shifted out.
#[inline]
fn branch(rest: u32) -> usize {
    (rest >> (u32::BITS - BITS)) as usize
}

impl Child {
    fn max(&self) -> u32 {
        match self {
            Child::None => 0,
            Child::Bucket(b) => b.max(),
            Child::Node(n) => n.max.iter().copied().max().unwrap_or(0),
        }
    }

    /// Puts a row in, of a match that is not there. `depth` is how many bits of the hash were used.
    fn push(&mut self, hash: u32, row: Row, depth: u32) {
        match self {
            Child::None => {
                let mut b = Bucket::default();
                b.push(hash, row);
                *self = Child::Bucket(Arc::new(b));
            }
            Child::Bucket(b) if b.0.len() < BUCKET_MAX || depth >= u32::BITS => {
                Arc::make_mut(b).push(hash, row);
            }
            Child::Bucket(b) => {
                let full = std::mem::take(Arc::make_mut(b));
                let mut n = Node::default();
                for (h, r) in full.0 {
                    n.push(h, r, depth);
                }
                n.push(hash, row, depth);
                *self = Child::Node(Arc::new(n));
            }
            Child::Node(n) => Arc::make_mut(n).push(hash, row, depth),
        }
    }

    fn insert(&mut self, hash: u32, rule: Arc<Rule>, depth: u32) -> Done {
        match self {
            Child::Node(n) => {
                let n = Arc::make_mut(n);
                let i = branch(hash << depth);
                n.max[i] = n.max[i].max(rank(rule.priority));
                let done = n.children[i].insert(hash, rule, depth + BITS);
                n.count += u32::from(done.other_len);
                done
            }
            Child::Bucket(b) => match b.find(hash, rule.pattern.values()) {
                Some(at) => Done {
                    old: Arc::make_mut(b).0[at].1.insert(rule),
                    other_len: false,
                },
                None => {
                    self.push(hash, Row::new(rule), depth);
                    Done {
                        old: None,
                        other_len: true,
                    }
                }
            },
            Child::None => {
                self.push(hash, Row::new(rule), depth);
                Done {
                    old: None,
                    other_len: true,
                }
            }
        }
    }

    /// Takes out a rule that is there.
    fn remove(&mut self, hash: u32, values: &[u64], priority: u16, depth: u32) -> Done {
        let mut done = Done {
            old: None,
            other_len: false,
        };
        match self {
            Child::None => {}
            Child::Bucket(b) => {
                let Some(at) = b.find(hash, values) else {
                    return done;
                };
                let b = Arc::make_mut(b);
                let (hash, row) = b.0.swap_remove(at);
                let (left, gone) = row.remove(priority);
                done.old = gone;
                match left {
                    Some(row) => b.push(hash, row),
                    None => done.other_len = true,
                }
                if b.0.is_empty() {
                    *self = Child::None;
                }
            }
            Child::Node(n) => {
                let n = Arc::make_mut(n);
                let i = branch(hash << depth);
                done = n.children[i].remove(hash, values, priority, depth + BITS);
                if n.max[i] == rank(priority) {
                    n.max[i] = n.children[i].max();
                }
                n.count -= u32::from(done.other_len);
                if n.count <= NODE_MIN {
                    let mut b = Bucket::default();
                    self.visit(&mut |hash, row| b.push(hash, row.clone()));
                    *self = Child::Bucket(Arc::new(b));
                }
            }
        }
        done
    }

    fn visit<'a>(&'a self, visit: &mut dyn FnMut(u32, &'a Row)) {
        match self {
            Child::None => {}
            Child::Bucket(b) => {
                b.0.iter().for_each(|(h, r)| visit(*h, r));
            }
            Child::Node(n) => n.children.iter().for_each(|c| c.visit(visit)),
        }
    }
}

impl Node {
    fn push(&mut self, hash: u32, row: Row, depth: u32) {
        let i = branch(hash << depth);
        self.max[i] = self.max[i].max(row.rank());
        self.count += 1;
        self.children[i].push(hash, row, depth + BITS);
    }
}

impl Rows {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The highest rank.
    #[inline]
    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// The row of these values.
    #[inline]
    pub(super) fn get(&self, hash: u32, values: &[u64]) -> Option<&Row> {
        let mut child = &self.root;
        let mut rest = hash;
        loop {
            match child {
                Child::None => return None,
                Child::Bucket(b) => return b.find(hash, values).map(|at| &b.0[at].1),
                Child::Node(n) => {
                    child = &n.children[branch(rest)];
                    rest <<= BITS;
                }
            }
        }
    }

    /// Puts a row in whose match is not there.
    pub(super) fn push(&mut self, hash: u32, row: Row) {
        self.len += 1;
        self.max = self.max.max(row.rank());
        self.root.push(hash, row, 0);
    }

    /// Puts a rule in; the one of its match and priority that was there, and whether there is a row more.
    pub(super) fn insert(&mut self, hash: u32, rule: Arc<Rule>) -> (Option<Arc<Rule>>, bool) {
        self.max = self.max.max(rank(rule.priority));
        let done = self.root.insert(hash, rule, 0);
        self.len += usize::from(done.other_len);
        (done.old, done.other_len)
    }

    /// Takes out a rule that is there.
    pub(super) fn remove(&mut self, hash: u32, values: &[u64], priority: u16) -> Option<Arc<Rule>> {
        let done = self.root.remove(hash, values, priority, 0);
        self.len -= usize::from(done.other_len);
        if self.max == rank(priority) {
            self.max = self.root.max();
        }
        done.old
    }

    /// All rows, in no order.
    pub(super) fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Row)) {
        self.root.visit(&mut |_, row| visit(row));
    }
}
