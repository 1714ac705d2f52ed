//! Merged tuples, as a tree.
//!
//! # The idea
//!
//! Tuple space keeps one hash table for each combination of bits that rules look at, and real rule
//! sets have thousands of these: every packet pays a probe for each. Here rules of different tuples
//! share a place as long as they agree on *some* bits they all look at. A node branches on a
//! [chunk](super::chunk), up to eight bits of the key. Rules that look at all of them go to the
//! branch of their value; rules that do not go to the *rest*. A lookup follows the branch of its own
//! value, and the rest. A dozen rules are not parted further, they are a [leaf](super::leaf).
//!
//! Each branch carries the highest priority below it. A lookup takes the higher of branch and rest first,
//! and passes over whatever cannot beat what it has found.
//!
//! For rules that differ in prefixes of one field the tree is the well known multibit trie (a byte a level; the
//! rest holds the prefixes that end within the byte); for rules that are exact in the same fields
//! it is a radix tree of the fields that differ most. So it is not told what it is for: which
//! chunk a node takes is decided by counting how many rules would be left, when a leaf overflows, and
//! again whenever the rules below a node have doubled.
//!
//! # The mask
//!
//! A lookup has looked at the chunks of the nodes it came through, at all of the winner's match, and for
//! each row of a leaf that could have won and did not at enough bits to tell: none if a bit looked at
//! already tells, else those of the differing byte and of the bytes above it in its field.
//!
//! # The bound
//!
//! Two rules in different leaves of one lookup parted at a node where one looks at the chunk and the
//! other does not: so a lookup comes to at most as many leaves as the rules have masks, and no packet
//! makes it more. Nothing is hashed, so nothing can be made to collide. A branch is at most [`DEPTH_MAX`] nodes long; rules
//! that would part only below stay in one leaf, whatever its length. A rule is in one place: memory is linear.
//!
//! # Changes
//!
//! Persistent by copying the path (`Arc::make_mut`): two or three nodes and a leaf. A doubling builds the
//! nodes below anew, which is some work per rule spread over as many insertions.

use super::changes::{Cells, Pending, cell};
use super::chunk::{Chunk, best_of, choose, step};
use super::leaf::{LEAF_MAX, Leaf};
use super::pattern::Pattern;
use super::row::{Row, rank};
use crate::cache::prefetch;
use crate::flow::{FlowKey, FlowMask};
use crate::table::rule::Rule;
use std::sync::Arc;

/// Most nodes one below the other.
pub(super) const DEPTH_MAX: usize = 32;
/// Leaves whose rows are looked at again when the winner is known; those beyond it are covered at once.
const VISITED: usize = 24;
/// Rules of a subtree whose replacement still notes cells one by one.
const SMALL: usize = 128;
/// The branch number of the rest.
const REST: u32 = 256;
/// The number that stands for the tree's root.
const ROOT: u32 = 0;

#[derive(Clone, Debug)]
enum Child {
    Leaf(Arc<Leaf>),
    Node(Arc<Node>),
}

/// A branch: what is below it, and the highest rank there.
#[derive(Clone, Debug)]
struct Edge {
    max: u32,
    child: Child,
}

#[derive(Clone, Debug)]
struct Node {
    id: u32,
    chunk: Chunk,
    /// Branches before each word of `present`.
    before: [u8; 4],
    /// Which branches there are.
    present: [u64; 4],
    /// Those, by value.
    edges: Vec<Edge>,
    /// Rules that do not look at the chunk.
    rest: Option<Edge>,
    /// Matches below.
    count: u32,
    /// How many there were when the chunk was chosen.
    chosen_at: u32,
}

/// The rules of one table whose masks have no group of their own.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Edge,
    ids: u32,
}

/// The best rule so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Best<'a> {
    pub(super) rank: u32,
    pub(super) rule: Option<&'a Arc<Rule>>,
}

/// What a change needs to know on its way down.
struct Change<'a> {
    ids: &'a mut u32,
    pending: &'a mut Pending,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree {
            root: Edge::leaf(Leaf::default()),
            ids: ROOT,
        }
    }
}

impl Edge {
    fn leaf(leaf: Leaf) -> Edge {
        Edge {
            max: leaf.max(),
            child: Child::Leaf(Arc::new(leaf)),
        }
    }

    /// Matches below.
    fn count(&self) -> usize {
        match &self.child {
            Child::Leaf(l) => l.len(),
            Child::Node(n) => n.count as usize,
        }
    }

    fn collect(&self, items: &mut Vec<Row>) {
        match &self.child {
            Child::Leaf(l) => items.extend_from_slice(l.rows()),
            Child::Node(n) => n.all().for_each(|e| e.collect(items)),
        }
    }

    /// Every `every`th pattern below, in the order of `collect`; `next` are to be skipped first.
    fn sample<'a>(&'a self, every: usize, next: &mut usize, sample: &mut Vec<&'a Pattern>) {
        match &self.child {
            Child::Leaf(l) => {
                while *next < l.len() {
                    sample.push(l.rows()[*next].pattern());
                    *next += every;
                }
                *next -= l.len();
            }
            Child::Node(n) => n.all().for_each(|e| e.sample(every, next, sample)),
        }
    }

    /// Asks for the memory of what is below, which is looked at soon.
    #[inline(always)]
    fn prefetch(&self) {
        match &self.child {
            Child::Leaf(l) => prefetch(&**l),
            Child::Node(n) => prefetch(&**n),
        }
    }

    /// A subtree of these rules.
    fn build(items: Vec<Row>, depth: usize, ids: &mut u32) -> Edge {
        if items.len() <= LEAF_MAX || depth >= DEPTH_MAX {
            return Edge::leaf(Leaf::new(items));
        }
        let Some(chunk) = choose(&items) else {
            return Edge::leaf(Leaf::new(items));
        };
        *ids = ids.wrapping_add(1);
        let id = *ids;
        let count = items.len() as u32;
        let mut parts: Vec<Vec<Row>> = (0..1 << chunk.bits).map(|_| Vec::new()).collect();
        let mut rest = Vec::new();
        for i in items {
            match chunk.wanted(i.pattern()) {
                Some(v) => parts[usize::from(v)].push(i),
                None => rest.push(i),
            }
        }
        let mut node = Node {
            id,
            chunk,
            before: [0; 4],
            present: [0; 4],
            edges: Vec::new(),
            rest: (!rest.is_empty()).then(|| Edge::build(rest, depth + 1, ids)),
            count,
            chosen_at: count,
        };
        for (v, part) in parts.into_iter().enumerate() {
            if !part.is_empty() {
                node.present[v / 64] |= 1 << (v % 64);
                node.edges.push(Edge::build(part, depth + 1, ids));
            }
        }
        node.recount();
        Edge {
            max: node.max(),
            child: Child::Node(Arc::new(node)),
        }
    }

    /// Notes all cells at which a lookup may have ended below, when this is going to be replaced. `at` is its
    /// own.
    fn note(&self, at: u16, pending: &mut Pending) {
        match &self.child {
            Child::Leaf(_) => pending.note(at),
            Child::Node(n) if n.count as usize > SMALL => pending.note_all(),
            Child::Node(n) => n.note(pending),
        }
    }

    /// Puts a rule in. `at` is the cell of this branch.
    fn insert(
        &mut self,
        at: u16,
        rule: Arc<Rule>,
        depth: usize,
        change: &mut Change<'_>,
    ) -> (Option<Arc<Rule>>, bool) {
        let new = rank(rule.priority);
        if new > self.max {
            // Lookups that passed it over must look again.
            self.max = new;
            change.pending.note(at);
        }
        let result = match &mut self.child {
            Child::Leaf(l) => {
                change.pending.note(at);
                let l = Arc::make_mut(l);
                let before = l.len();
                let old = l.insert(rule);
                (old, l.len() > before)
            }
            Child::Node(n) => Arc::make_mut(n).insert(rule, depth, change),
        };
        if result.1 {
            self.grown(at, depth, change);
        }
        result
    }

    /// There is one match more below: perhaps it should be arranged in another way.
    fn grown(&mut self, at: u16, depth: usize, change: &mut Change<'_>) {
        match &mut self.child {
            Child::Leaf(l) if l.len() > LEAF_MAX && depth < DEPTH_MAX => {
                let items = l.rows().to_vec();
                *self = Edge::build(items, depth, change.ids);
            }
            Child::Node(n) if n.count >= 2 * n.chosen_at => {
                let mut sample = Vec::new();
                let mut next = 0;
                let every = step(n.count as usize);
                n.all()
                    .for_each(|e| e.sample(every, &mut next, &mut sample));
                if best_of(&sample).is_none_or(|c| c == n.chunk) {
                    let n = Arc::make_mut(n);
                    n.chosen_at = n.count;
                } else {
                    let mut items = Vec::with_capacity(n.count as usize);
                    n.all().for_each(|e| e.collect(&mut items));
                    self.note(at, change.pending);
                    *self = Edge::build(items, depth, change.ids);
                }
            }
            _ => {}
        }
    }

    fn remove(
        &mut self,
        at: u16,
        pattern: &Pattern,
        priority: u16,
        pending: &mut Pending,
    ) -> Option<Arc<Rule>> {
        match &mut self.child {
            Child::Leaf(l) => {
                pending.note(at);
                let l = Arc::make_mut(l);
                let gone = l.remove(pattern, priority);
                self.max = l.max();
                gone
            }
            Child::Node(n) => {
                let n = Arc::make_mut(n);
                let gone = n.remove(pattern, priority, pending);
                self.max = n.max();
                if n.count as usize <= LEAF_MAX / 3 {
                    n.note(pending);
                    let mut items = Vec::new();
                    n.all().for_each(|e| e.collect(&mut items));
                    *self = Edge::leaf(Leaf::new(items));
                }
                gone
            }
        }
    }

    fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        match &self.child {
            Child::Leaf(l) => l.find(pattern, priority),
            Child::Node(n) => n.find(pattern, priority),
        }
    }

    fn visit<'a>(&'a self, wanted: Wanted<'_>, visit: &mut dyn FnMut(&'a Arc<Rule>)) {
        let n = match &self.child {
            Child::Leaf(l) => return l.visit(visit),
            Child::Node(n) => n,
        };
        let (value, rest) = match wanted {
            Wanted::All => (None, true),
            Wanted::Within(p) => {
                let v = n.chunk.wanted(p);
                (v, v.is_none())
            }
            Wanted::Overlapping(p) => (n.chunk.wanted(p), true),
        };
        match value {
            Some(v) => n.edge(v).into_iter().for_each(|e| e.visit(wanted, visit)),
            None => n.edges.iter().for_each(|e| e.visit(wanted, visit)),
        }
        if let Some(e) = &n.rest
            && rest
        {
            e.visit(wanted, visit);
        }
    }
}

/// Which rules to visit (and perhaps some more).
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// All.
    All,
    /// Those at least as narrow as this.
    Within(&'a Pattern),
    /// Those that some packet matches together with this.
    Overlapping(&'a Pattern),
}

impl Node {
    /// The place of a branch among those there are, and whether it is there.
    #[inline]
    fn place(&self, v: u8) -> (usize, bool) {
        let w = usize::from(v / 64);
        let bit = 1u64 << (v % 64);
        let below = (self.present[w] & (bit - 1)).count_ones();
        (
            usize::from(self.before[w]) + below as usize,
            self.present[w] & bit != 0,
        )
    }

    #[inline]
    fn edge(&self, v: u8) -> Option<&Edge> {
        match self.place(v) {
            (at, true) => self.edges.get(at),
            _ => None,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Edge> {
        self.edges.iter().chain(&self.rest)
    }

    fn max(&self) -> u32 {
        self.all().map(|e| e.max).max().unwrap_or(0)
    }

    fn recount(&mut self) {
        let mut n = 0;
        for (before, word) in self.before.iter_mut().zip(&self.present) {
            *before = n;
            n = n.wrapping_add(word.count_ones() as u8);
        }
    }

    fn note(&self, pending: &mut Pending) {
        for v in 0..1u32 << self.chunk.bits {
            let at = cell(self.id, v);
            match self.edge(v as u8) {
                Some(e) => {
                    pending.note(at);
                    e.note(at, pending);
                }
                None => pending.note(at),
            }
        }
        let at = cell(self.id, REST);
        pending.note(at);
        if let Some(e) = &self.rest {
            e.note(at, pending);
        }
    }

    fn insert(
        &mut self,
        rule: Arc<Rule>,
        depth: usize,
        change: &mut Change<'_>,
    ) -> (Option<Arc<Rule>>, bool) {
        let (at, edge) = match self.chunk.wanted(&rule.pattern) {
            Some(v) => {
                let at = cell(self.id, v.into());
                let place = match self.place(v) {
                    (place, true) => place,
                    (place, false) => {
                        self.edges.insert(place, Edge::leaf(Leaf::default()));
                        self.present[usize::from(v / 64)] |= 1 << (v % 64);
                        self.recount();
                        place
                    }
                };
                (at, &mut self.edges[place])
            }
            None => {
                if self.rest.is_none() {
                    // Lookups note nothing for a rest that is not there: those that came by here must
                    // look again.
                    if self.count as usize > SMALL {
                        change.pending.note_all();
                    } else {
                        self.note(change.pending);
                    }
                }
                let rest = self.rest.get_or_insert_with(|| Edge::leaf(Leaf::default()));
                (cell(self.id, REST), rest)
            }
        };
        let result = edge.insert(at, rule, depth + 1, change);
        self.count += u32::from(result.1);
        result
    }

    fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        match self.chunk.wanted(pattern) {
            Some(v) => self.edge(v)?.find(pattern, priority),
            None => self.rest.as_ref()?.find(pattern, priority),
        }
    }

    /// Takes out a rule that is there.
    fn remove(
        &mut self,
        pattern: &Pattern,
        priority: u16,
        pending: &mut Pending,
    ) -> Option<Arc<Rule>> {
        let wanted = self.chunk.wanted(pattern);
        let before;
        let after;
        let gone;
        match wanted {
            Some(v) => {
                let (place, _) = self.place(v);
                let e = &mut self.edges[place];
                before = e.count();
                gone = e.remove(cell(self.id, v.into()), pattern, priority, pending);
                after = e.count();
                if after == 0 {
                    self.edges.remove(place);
                    self.present[usize::from(v / 64)] &= !(1 << (v % 64));
                    self.recount();
                }
            }
            None => {
                // An empty rest stays: see `insert`.
                let e = self.rest.as_mut()?;
                before = e.count();
                gone = e.remove(cell(self.id, REST), pattern, priority, pending);
                after = e.count();
            }
        }
        self.count -= (before - after) as u32;
        gone
    }
}

impl Tree {
    /// The highest rank.
    pub(super) fn max(&self) -> u32 {
        self.root.max
    }

    pub(super) fn build(items: Vec<Row>) -> Tree {
        let mut ids = ROOT;
        Tree {
            root: Edge::build(items, 0, &mut ids),
            ids,
        }
    }

    pub(super) fn items(&self) -> Vec<Row> {
        let mut items = Vec::with_capacity(self.root.count());
        self.root.collect(&mut items);
        items
    }

    /// Notes what lookups note that do not come here, because all of it is of too low a priority.
    #[inline]
    pub(super) fn passed(&self, cells: &mut Cells) {
        cells.note(cell(ROOT, REST));
    }

    /// Finds what beats `best`; what was looked at is added to `mask`, where it ended to `cells`.
    pub(super) fn lookup<'a>(
        &'a self,
        key: &FlowKey,
        mask: &mut FlowMask,
        cells: &mut Cells,
        best: &mut Best<'a>,
    ) {
        // Branches to follow yet: at most one a level.
        let mut stack: [Option<(&Edge, u16)>; DEPTH_MAX + 1] = [None; DEPTH_MAX + 1];
        let mut depth = 0;
        let mut visited: [Option<&Leaf>; VISITED] = [None; VISITED];
        let mut leaves = 0;
        // Leaf and row of the winner, if it is here.
        let mut won: Option<(&Leaf, usize)> = None;
        let mut edge = &self.root;
        let mut at = cell(ROOT, REST);
        loop {
            if edge.max <= best.rank {
                cells.note(at);
            } else {
                match &edge.child {
                    Child::Leaf(leaf) => {
                        cells.note(at);
                        let found = leaf.scan(key);
                        if let Some(row) = found
                            && leaf.rows()[row].rank() > best.rank
                        {
                            let r = &leaf.rows()[row];
                            *best = Best {
                                rank: r.rank(),
                                rule: Some(&r.rule),
                            };
                            won = Some((leaf, row));
                        }
                        match visited.get_mut(leaves) {
                            Some(place) => {
                                *place = Some(leaf);
                                leaves += 1;
                            }
                            None => leaf.cover(key, found.unwrap_or(usize::MAX), best.rank, mask),
                        }
                    }
                    Child::Node(node) => {
                        let v = node.chunk.of(key);
                        mask.0[usize::from(node.chunk.word)] |=
                            node.chunk.ones() << node.chunk.shift;
                        let branch_at = cell(node.id, v.into());
                        let branch = match node.place(v) {
                            (place, true) => Some(&node.edges[place]),
                            _ => {
                                cells.note(branch_at);
                                None
                            }
                        };
                        match (branch, &node.rest) {
                            (Some(b), Some(r)) => {
                                let rest_at = cell(node.id, REST);
                                let (first, second) = if b.max >= r.max {
                                    ((b, branch_at), (r, rest_at))
                                } else {
                                    ((r, rest_at), (b, branch_at))
                                };
                                second.0.prefetch();
                                stack[depth] = Some(second);
                                depth += 1;
                                (edge, at) = first;
                                continue;
                            }
                            (Some(b), None) => {
                                (edge, at) = (b, branch_at);
                                continue;
                            }
                            (None, Some(r)) => {
                                (edge, at) = (r, cell(node.id, REST));
                                continue;
                            }
                            (None, None) => {}
                        }
                    }
                }
            }
            if depth == 0 {
                break;
            }
            depth -= 1;
            match stack[depth] {
                Some(next) => (edge, at) = next,
                None => break,
            }
        }
        if let Some((leaf, row)) = won {
            leaf.look(row, mask);
        }
        for leaf in visited[..leaves].iter().flatten() {
            let end = match won {
                Some((l, row)) if std::ptr::eq(l, *leaf) => row,
                _ => usize::MAX,
            };
            leaf.cover(key, end, best.rank, mask);
        }
    }

    /// Puts a rule in; the one of its match and priority that was there, and whether there is a match more.
    pub(super) fn insert(
        &mut self,
        rule: Arc<Rule>,
        pending: &mut Pending,
    ) -> (Option<Arc<Rule>>, bool) {
        let mut change = Change {
            ids: &mut self.ids,
            pending,
        };
        self.root.insert(cell(ROOT, REST), rule, 0, &mut change)
    }

    pub(super) fn remove(
        &mut self,
        pattern: &Pattern,
        priority: u16,
        pending: &mut Pending,
    ) -> Option<Arc<Rule>> {
        self.root
            .remove(cell(ROOT, REST), pattern, priority, pending)
    }

    pub(super) fn find(&self, pattern: &Pattern, priority: u16) -> Option<&Arc<Rule>> {
        self.root.find(pattern, priority)
    }

    /// Whether there is a rule of this match.
    pub(super) fn has(&self, pattern: &Pattern) -> bool {
        let mut edge = &self.root;
        loop {
            match &edge.child {
                Child::Leaf(l) => return l.row(pattern).is_some(),
                Child::Node(n) => {
                    let next = match n.chunk.wanted(pattern) {
                        Some(v) => n.edge(v),
                        None => n.rest.as_ref(),
                    };
                    match next {
                        Some(e) => edge = e,
                        None => return false,
                    }
                }
            }
        }
    }

    pub(super) fn visit<'a>(&'a self, wanted: Wanted<'_>, visit: &mut dyn FnMut(&'a Arc<Rule>)) {
        self.root.visit(wanted, visit);
    }

    /// Nodes and leaves on the longest way, and the longest leaf: for tests and benches.
    pub(super) fn shape(&self) -> (usize, usize) {
        fn walk(e: &Edge) -> (usize, usize) {
            match &e.child {
                Child::Leaf(l) => (1, l.len()),
                Child::Node(n) => {
                    let (d, l) = n
                        .all()
                        .map(walk)
                        .fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
                    (d + 1, l)
                }
            }
        }
        walk(&self.root)
    }
}
