//! Which thread polls which receive queue.
//!
//! Pure: queues with what they cost in, threads out. A queue may be tied to a processor (`pmd-rxq-affinity`); the thread of that
//! processor then takes only such queues, unless that is switched off (`pmd-rxq-isolate=false`) or it would leave the
//! others without any thread. The others are placed the costliest first, each on the thread with the least to do so
//! far, or in turn.

use std::collections::BTreeMap;

/// Which queue: its port's index and its number there.
pub type QueueId = (u32, u16);

/// How queues are placed (`pmd-rxq-assign`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placing {
    /// The costliest first, dealt out to the threads to and fro.
    #[default]
    Cycles,
    /// One after the other, whatever they cost.
    RoundRobin,
    /// The costliest first, each to the thread with the least.
    Group,
}

/// A receive queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueInfo {
    /// Which.
    pub id: QueueId,
    /// What it cost lately, in any unit, the same for all.
    pub load: u64,
    /// The thread that has it.
    pub thread: usize,
    /// The processor it is tied to.
    pub core: Option<usize>,
}

/// Where each queue should be, and which threads have only tied ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Thread of each queue.
    pub threads: BTreeMap<QueueId, usize>,
    /// By thread.
    pub isolated: Vec<bool>,
}

/// Places queues on threads, given by their processors (at least one).
pub fn plan(queues: &[QueueInfo], cores: &[usize], placing: Placing, isolate: bool) -> Plan {
    let n = cores.len().max(1);
    let thread_of = |q: &QueueInfo| q.core.and_then(|c| cores.iter().position(|k| *k == c));
    let mut isolated = vec![false; n];
    let mut loads = vec![(0u64, 0usize); n];
    let mut threads = BTreeMap::new();
    for q in queues {
        if let Some(t) = thread_of(q) {
            isolated[t] = isolate;
            loads[t].0 += q.load;
            loads[t].1 += 1;
            threads.insert(q.id, t);
        }
    }
    let mut free: Vec<&QueueInfo> = queues.iter().filter(|q| thread_of(q).is_none()).collect();
    if isolated.iter().all(|i| *i) && !free.is_empty() {
        isolated.fill(false);
    }
    let open: Vec<usize> = (0..n).filter(|t| !isolated[*t]).collect();
    free.sort_by_key(|q| match placing {
        // Queues of the same number of different ports go to different threads.
        Placing::RoundRobin => (0, q.id),
        _ => (u64::MAX - q.load, q.id),
    });
    for (i, q) in free.into_iter().enumerate() {
        let (turn, at) = (i / open.len(), i % open.len());
        let t = match placing {
            Placing::RoundRobin => open[at],
            Placing::Cycles if turn % 2 == 1 => open[open.len() - 1 - at],
            Placing::Cycles => open[at],
            Placing::Group => open
                .iter()
                .copied()
                .min_by_key(|t| (loads[*t], *t))
                .unwrap_or(0),
        };
        loads[t].0 += q.load;
        loads[t].1 += 1;
        threads.insert(q.id, t);
    }
    Plan { threads, isolated }
}

/// Where a new queue goes, the others staying: its thread if it is tied, else the one with the least to do. `is_first`
/// queues count before others: most guests use only the first queue of their port.
pub fn place_new(new: &QueueInfo, queues: &[QueueInfo], cores: &[usize], isolate: bool) -> usize {
    if let Some(t) = new.core.and_then(|c| cores.iter().position(|k| *k == c)) {
        return t;
    }
    let n = cores.len().max(1);
    let tied = |t: usize| {
        isolate
            && queues
                .iter()
                .any(|q| q.thread == t && q.core.is_some_and(|c| cores.get(t) == Some(&c)))
    };
    let all_tied = (0..n).all(tied);
    (0..n)
        .filter(|t| all_tied || !tied(*t))
        .min_by_key(|t| {
            let mine = queues.iter().filter(|q| q.thread == *t);
            let same = mine.clone().filter(|q| q.id.1 == new.id.1).count();
            (
                same,
                mine.clone().map(|q| q.load).sum::<u64>(),
                mine.count(),
                *t,
            )
        })
        .unwrap_or(0)
}

/// By how many percent a plan makes threads' loads more alike: of the variance of what they have now.
pub fn improvement(queues: &[QueueInfo], cores: &[usize], plan: &Plan) -> u64 {
    let variance = |thread: &dyn Fn(&QueueInfo) -> usize| {
        let mut loads = vec![0u128; cores.len().max(1)];
        for q in queues {
            if let Some(l) = loads.get_mut(thread(q)) {
                *l += u128::from(q.load);
            }
        }
        let n = loads.len() as u128;
        let mean = loads.iter().sum::<u128>() / n;
        loads.iter().map(|l| l.abs_diff(mean).pow(2)).sum::<u128>() / n
    };
    let now = variance(&|q| q.thread);
    let then = variance(&|q| plan.threads.get(&q.id).copied().unwrap_or(q.thread));
    if then >= now {
        return 0;
    }
    ((now - then) * 100 / now) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queues(loads: &[u64]) -> Vec<QueueInfo> {
        let queue = |(i, load): (usize, &u64)| QueueInfo {
            id: (i as u32, 0),
            load: *load,
            ..QueueInfo::default()
        };
        loads.iter().enumerate().map(queue).collect()
    }

    fn sums(plan: &Plan, queues: &[QueueInfo], n: usize) -> Vec<u64> {
        let mut sums = vec![0; n];
        for q in queues {
            sums[plan.threads[&q.id]] += q.load;
        }
        sums
    }

    #[test]
    fn each_way_of_placing_does_as_it_says() {
        let q = queues(&[10, 50, 40, 30, 5, 0]);
        let cores = [4, 9];
        let group = plan(&q, &cores, Placing::Group, true);
        assert_eq!(sums(&group, &q, 2), [65, 70]);
        let cycles = plan(&q, &cores, Placing::Cycles, true);
        assert_eq!(sums(&cycles, &q, 2), [50 + 10 + 5, 40 + 30]);
        let turn = plan(&q, &cores, Placing::RoundRobin, true);
        assert_eq!(sums(&turn, &q, 2), [10 + 40 + 5, 50 + 30]);
    }

    #[test]
    fn tied_queues_have_their_thread_for_themselves_if_there_are_others() {
        let mut q = queues(&[10, 20, 30]);
        q[0].core = Some(9);
        let p = plan(&q, &[4, 9], Placing::Group, true);
        assert_eq!(p.isolated, [false, true]);
        assert_eq!(sums(&p, &q, 2), [50, 10]);
        let p = plan(&q, &[4, 9], Placing::Group, false);
        assert_eq!(p.isolated, [false, false]);
        assert_eq!(sums(&p, &q, 2), [30, 30]);
        // The only thread, or a processor without one: no isolation.
        let p = plan(&q, &[9], Placing::Group, true);
        assert_eq!((p.isolated, p.threads.len()), (vec![false], 3));
        let p = plan(&q, &[1, 2], Placing::Group, true);
        assert_eq!(p.isolated, [false, false]);
    }

    #[test]
    fn new_queues_spread_by_their_number_within_the_port() {
        let cores = [0, 1, 2];
        let mut have: Vec<QueueInfo> = Vec::new();
        for port in 0..6u32 {
            for number in 0..2u16 {
                let mut new = QueueInfo {
                    id: (port, number),
                    ..QueueInfo::default()
                };
                new.thread = place_new(&new, &have, &cores, true);
                have.push(new);
            }
        }
        for t in 0..3 {
            let firsts = have.iter().filter(|q| q.thread == t && q.id.1 == 0);
            assert_eq!(firsts.count(), 2);
        }
        have[0].core = Some(have[0].thread);
        let new = QueueInfo::default();
        assert_ne!(place_new(&new, &have, &cores, true), have[0].thread);
        let tied = QueueInfo {
            core: Some(2),
            ..new
        };
        assert_eq!(place_new(&tied, &have, &cores, true), 2);
    }

    #[test]
    fn improvement_is_told_in_percent_of_variance() {
        let mut q = queues(&[40, 40]);
        let p = plan(&q, &[0, 1], Placing::Group, true);
        assert_eq!(improvement(&q, &[0, 1], &p), 100);
        q[1].thread = 1;
        assert_eq!(improvement(&q, &[0, 1], &p), 0);
    }

    proptest! {
        #[test]
        fn every_queue_gets_a_thread_and_the_greedy_one_is_within_a_third_of_even(
            loads in proptest::collection::vec(0u64..1000, 0..40),
            tied in proptest::collection::vec(proptest::option::of(0usize..5), 40),
            n in 1usize..5,
            isolate: bool,
        ) {
            let mut q = queues(&loads);
            for (q, core) in q.iter_mut().zip(&tied) {
                q.core = *core;
            }
            let cores: Vec<usize> = (0..n).collect();
            for placing in [Placing::Cycles, Placing::RoundRobin, Placing::Group] {
                let p = plan(&q, &cores, placing, isolate);
                prop_assert_eq!(p.threads.len(), q.len());
                for q in &q {
                    let t = p.threads[&q.id];
                    prop_assert!(t < n);
                    match q.core.filter(|c| *c < n) {
                        Some(c) => prop_assert_eq!(t, c),
                        None => prop_assert!(!p.isolated[t]),
                    }
                }
            }
            let free = queues(&loads);
            let p = plan(&free, &cores, Placing::Group, isolate);
            let most = sums(&p, &free, n).into_iter().max().unwrap_or(0);
            let even = loads.iter().sum::<u64>().div_ceil(n as u64);
            let longest = loads.iter().copied().max().unwrap_or(0);
            prop_assert!(most <= even.max(longest) + longest / 3 + even / 3 + 1);
        }
    }
}
