//! What the machine is doing while something is measured.

use datapath::engine::wake::cycles;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The processor that the switch's forwarding thread has to itself.
pub const SWITCH_CPU: usize = 1;
/// The processor of the traffic, and of everything slow.
pub const TRAFFIC_CPU: usize = 0;

/// The machine in words.
pub fn describe() -> String {
    let read = |p: &str| std::fs::read_to_string(p).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches([' ', '\t', ':'])
        .to_owned();
    let cpus = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cpus} processors of {model}, time stamp {:.2} GHz, Linux {}",
        tsc_hz() / 1e9,
        kernel.trim()
    )
}

/// What a thread has had of processors so far, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// The thread.
    pub thread: u32,
    /// Time on a processor.
    pub ran: u64,
    /// Time it was ready to run and another had the processor.
    pub waited: u64,
}

/// Of every thread of a process.
pub fn thread_times(pid: u32) -> Vec<Used> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return vec![];
    };
    tasks
        .filter_map(|t| {
            let thread: u32 = t.ok()?.file_name().to_str()?.parse().ok()?;
            let s = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
            let mut numbers = s.split_whitespace().map(str::parse);
            Some(Used {
                thread,
                ran: numbers.next()?.ok()?,
                waited: numbers.next()?.ok()?,
            })
        })
        .collect()
}

/// Shares of one processor over a window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shares {
    /// What the busiest thread had.
    pub busiest: f64,
    /// How long the busiest thread had to wait for it.
    pub waited: f64,
    /// What all threads had.
    pub all: f64,
}

/// From what threads had before and after a window.
pub fn shares(before: &[Used], after: &[Used], window: Duration) -> Shares {
    let window = window.as_nanos() as f64;
    let mut s = Shares::default();
    for a in after {
        let b = before.iter().find(|b| b.thread == a.thread);
        let ran = (a.ran - b.map_or(0, |b| b.ran.min(a.ran))) as f64 / window;
        s.all += ran;
        if ran > s.busiest {
            s.busiest = ran;
            s.waited = (a.waited - b.map_or(0, |b| b.waited.min(a.waited))) as f64 / window;
        }
    }
    s
}

/// How long a cache line takes from one processor to the other, in nanoseconds: the hypervisor moves the
/// processors about, and only samples taken at the same distance can be compared. The middle one of many short games, so that an
/// interruption does not look like a distance.
pub fn cpu_distance() -> f64 {
    const GAMES: u32 = 40;
    const ROUNDS: u32 = 500;
    static BALL: AtomicU32 = AtomicU32::new(0);
    BALL.store(0, Ordering::SeqCst);
    let play = |cpu: usize, odd: u32| -> Vec<f64> {
        pin(cpu);
        let mut games = vec![];
        for game in 0..GAMES {
            let start = Instant::now();
            for round in 0..ROUNDS {
                let mine = 2 * (game * ROUNDS + round) + odd;
                let mut spins = 0u32;
                while BALL.load(Ordering::Acquire) != mine {
                    std::hint::spin_loop();
                    spins += 1;
                    if spins > 100_000 {
                        std::thread::yield_now();
                        spins = 0;
                    }
                }
                BALL.store(mine + 1, Ordering::Release);
            }
            games.push(start.elapsed().as_nanos() as f64 / f64::from(2 * ROUNDS));
        }
        games
    };
    let games = std::thread::scope(|s| {
        let first = s.spawn(|| play(SWITCH_CPU, 0));
        s.spawn(|| play(TRAFFIC_CPU, 1));
        first.join().expect("does not panic")
    });
    crate::metric::median(&games)
}

/// Keeps the calling thread on one processor.
pub fn pin(cpu: usize) {
    // SAFETY: the set is a plain bit mask on the stack, sized for the call; 0 means the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Nanoseconds that the calling thread has been on a processor.
pub fn own_time() -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Ticks of the time stamp counter per second, measured once.
pub fn tsc_hz() -> f64 {
    static HZ: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *HZ.get_or_init(|| {
        let (start, from) = (Instant::now(), cycles());
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        (cycles() - from) as f64 / start.elapsed().as_secs_f64()
    })
}

/// Keeps a thread of another process on one processor; one that has ended needs none.
pub fn place(thread: u32, cpu: usize) {
    // SAFETY: as in `pin`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(thread as i32, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Puts this program and all it starts before others on the machine, where that is allowed.
pub fn raise_priority() {
    const NICE: i32 = -15;
    // SAFETY: a plain system call about ourselves; children inherit it.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Whether the kernel shares processors out between sessions first, so that [`raise_priority`] does nothing against other sessions.
pub fn priority_is_local() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled")
        .is_ok_and(|s| s.trim() == "1")
}
