//! The virtio-mmio transport, version 2 (virtio 1.2 4.2).
//!
//! A window of registers per device. Everything here is slow path: queue notifications that the
//! device catches by eventfd never reach it, and interrupts pass through [`MmioInterrupt`]
//! without any lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::{debug, warn};
use vmm_sys_util::eventfd::EventFd;

use super::{Interrupt, QueueConfig, VirtioDevice};
use crate::memory::GuestRam;

/// Bytes of a device's window.
pub const WINDOW: u64 = 0x1000;
/// Offset of QueueNotify.
pub const QUEUE_NOTIFY: u64 = 0x50;

const MAGIC: u32 = 0x7472_6976; // "virt"
const VERSION: u32 = 2;
const VENDOR: u32 = 0x7269_6577; // "weir"

/// Device status bits (virtio 1.2 2.1).
mod status {
    pub const FEATURES_OK: u32 = 8;
    pub const DRIVER_OK: u32 = 4;
    pub const NEEDS_RESET: u32 = 0x40;
    pub const FAILED: u32 = 0x80;
}

const INT_QUEUE: u32 = 1;
const INT_CONFIG: u32 = 2;
const F_VERSION_1: u64 = 1 << 32;

/// Interrupts of one device: the bits of InterruptStatus, and the line.
pub struct MmioInterrupt {
    status: AtomicU32,
    line: EventFd,
}

impl MmioInterrupt {
    /// Interrupts that are raised by writing to `line`.
    pub fn new(line: EventFd) -> Arc<Self> {
        Arc::new(MmioInterrupt {
            status: AtomicU32::new(0),
            line,
        })
    }

    fn raise(&self, bit: u32) {
        // The bit first: the driver looks at it as soon as the line is up.
        self.status.fetch_or(bit, Ordering::SeqCst);
        if let Err(e) = self.line.write(1) {
            debug!("an interrupt is pending already: {e}");
        }
    }
}

impl Interrupt for MmioInterrupt {
    fn queue(&self, _index: u16) {
        self.raise(INT_QUEUE);
    }

    fn config(&self) {
        self.raise(INT_CONFIG);
    }
}

/// The registers of one device.
pub struct MmioTransport {
    device: Box<dyn VirtioDevice>,
    interrupt: Arc<MmioInterrupt>,
    ram: GuestRam,
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueConfig>,
    max_sizes: Vec<u16>,
    active: bool,
}

impl MmioTransport {
    /// The transport of `device`.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        interrupt: Arc<MmioInterrupt>,
        ram: GuestRam,
    ) -> Self {
        let max_sizes = device.queue_max_sizes();
        MmioTransport {
            device,
            interrupt,
            ram,
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            queues: vec![QueueConfig::default(); max_sizes.len()],
            max_sizes,
            active: false,
        }
    }

    /// A read of the guest at `offset` of the window. Registers are read whole (32 bits);
    /// anything else reads as zero, except configuration space, which takes any width.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(at) = offset.checked_sub(0x100) {
            self.device.read_config(at, data);
        } else if data.len() == 4 {
            data.copy_from_slice(&self.register(offset).to_le_bytes());
        } else {
            debug!("read of {} bytes at register {offset:#x}", data.len());
        }
    }

    fn register(&self, offset: u64) -> u32 {
        let queue = self.queues.get(self.queue_sel as usize);
        match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => self.device.device_type(),
            0x0c => VENDOR,
            0x10 => match self.device_features_sel {
                0 => self.device.features() as u32,
                1 => (self.device.features() >> 32) as u32,
                _ => 0,
            },
            0x34 => self
                .max_sizes
                .get(self.queue_sel as usize)
                .map_or(0, |&s| u32::from(s)),
            0x44 => queue.map_or(0, |q| u32::from(q.ready)),
            0x60 => self.interrupt.status.load(Ordering::SeqCst),
            0x70 => self.status,
            // No shared memory: length and base are all ones (4.2.2).
            0xb0 | 0xb4 | 0xb8 | 0xbc => u32::MAX,
            0xfc => self.device.config_generation(),
            _ => {
                debug!("read of register {offset:#x}, which cannot be read");
                0
            }
        }
    }

    /// A write of the guest at `offset` of the window.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(value) = data.try_into().map(u32::from_le_bytes) else {
            debug!("write of {} bytes at {offset:#x} ignored", data.len());
            return;
        };
        match offset {
            0x14 => self.device_features_sel = value,
            0x20 => self.accept_features(value),
            0x24 => self.driver_features_sel = value,
            0x30 => self.queue_sel = value,
            0x38 => self.queue(|q| q.size = value as u16),
            0x44 => self.queue(|q| q.ready = value == 1),
            QUEUE_NOTIFY => {
                if self.active
                    && let Ok(index) = u16::try_from(value)
                {
                    self.device.notify(index);
                }
            }
            0x64 => {
                self.interrupt.status.fetch_and(!value, Ordering::SeqCst);
            }
            0x70 => self.set_status(value),
            0x80 => self.queue(|q| set_low(&mut q.desc, value)),
            0x84 => self.queue(|q| set_high(&mut q.desc, value)),
            0x90 => self.queue(|q| set_low(&mut q.avail, value)),
            0x94 => self.queue(|q| set_high(&mut q.avail, value)),
            0xa0 => self.queue(|q| set_low(&mut q.used, value)),
            0xa4 => self.queue(|q| set_high(&mut q.used, value)),
            0xac => {} // shared memory selector: there is none
            _ => debug!("write of {value:#x} to register {offset:#x} ignored"),
        }
    }

    fn accept_features(&mut self, value: u32) {
        if self.status & status::FEATURES_OK != 0 {
            warn!("the driver changes features after FEATURES_OK: ignored");
            return;
        }
        match self.driver_features_sel {
            0 => set_low(&mut self.driver_features, value),
            1 => set_high(&mut self.driver_features, value),
            _ => {}
        }
    }

    /// Changes the selected queue, which is possible until the device works.
    fn queue(&mut self, change: impl FnOnce(&mut QueueConfig)) {
        if self.active {
            warn!(
                "the driver changes queue {} of a working device: ignored",
                self.queue_sel
            );
            return;
        }
        if let Some(queue) = self.queues.get_mut(self.queue_sel as usize) {
            change(queue);
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            if self.active {
                self.device.reset();
            }
            self.active = false;
            self.status = 0;
            self.device_features_sel = 0;
            self.driver_features_sel = 0;
            self.driver_features = 0;
            self.queue_sel = 0;
            self.queues.fill(QueueConfig::default());
            self.interrupt.status.store(0, Ordering::SeqCst);
            return;
        }
        let new = value & !self.status;
        self.status |= value & 0xff & !status::NEEDS_RESET;
        if new & status::FEATURES_OK != 0 {
            let alien = self.driver_features & !self.device.features();
            if alien != 0 || self.driver_features & F_VERSION_1 == 0 {
                warn!(
                    "the driver accepts features {:#x} of {:#x}: refused",
                    self.driver_features,
                    self.device.features()
                );
                self.status &= !status::FEATURES_OK;
            }
        }
        if new & status::FAILED != 0 {
            warn!("the driver gave the device up");
        }
        if new & status::DRIVER_OK != 0
            && !self.active
            && let Err(e) = self.activate()
        {
            warn!("the device cannot start: {e}");
            self.status |= status::NEEDS_RESET;
            self.interrupt.config();
        }
    }

    fn activate(&mut self) -> Result<(), String> {
        if self.status & status::FEATURES_OK == 0 {
            return Err("the driver agreed on no features".into());
        }
        for (i, queue) in self.queues.iter().enumerate() {
            if queue.ready {
                self.check_queue(queue, self.max_sizes[i])
                    .map_err(|e| format!("queue {i}: {e}"))?;
            }
        }
        self.device
            .activate(self.driver_features, &self.queues, self.interrupt.clone())
            .map_err(|e| e.to_string())?;
        self.active = true;
        Ok(())
    }

    /// Checks what the driver said: size, alignment (2.7), and that all of it is memory.
    fn check_queue(&self, queue: &QueueConfig, max: u16) -> Result<(), String> {
        let size = u64::from(queue.size);
        if !queue.size.is_power_of_two() || queue.size > max {
            return Err(format!(
                "{size} entries: a power of two up to {max} is possible"
            ));
        }
        for (what, addr, align, len) in [
            ("descriptor table", queue.desc, 16, 16 * size),
            ("available ring", queue.avail, 2, 6 + 2 * size),
            ("used ring", queue.used, 4, 6 + 8 * size),
        ] {
            if addr % align != 0 {
                return Err(format!("{what} at {addr:#x} is not aligned to {align}"));
            }
            if self.ram.host_address(addr, len).is_none() {
                return Err(format!("{what} at {addr:#x} is not in memory"));
            }
        }
        Ok(())
    }
}

fn set_low(to: &mut u64, value: u32) {
    *to = *to & !0xffff_ffff | u64::from(value);
}

fn set_high(to: &mut u64, value: u32) {
    *to = *to & 0xffff_ffff | u64::from(value) << 32;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::Error;

    #[derive(Default)]
    struct Seen {
        activated: Vec<(u64, Vec<QueueConfig>)>,
        resets: u32,
        notified: Vec<u16>,
        fail: bool,
    }

    struct Fake(Arc<Mutex<Seen>>);

    impl VirtioDevice for Fake {
        fn device_type(&self) -> u32 {
            1
        }
        fn queue_max_sizes(&self) -> Vec<u16> {
            vec![256, 256]
        }
        fn features(&self) -> u64 {
            F_VERSION_1 | 0x20
        }
        fn read_config(&self, offset: u64, data: &mut [u8]) {
            for (i, byte) in data.iter_mut().enumerate() {
                *byte = offset as u8 + i as u8;
            }
        }
        fn config_generation(&self) -> u32 {
            9
        }
        fn activate(
            &mut self,
            features: u64,
            queues: &[QueueConfig],
            _: Arc<dyn Interrupt>,
        ) -> crate::Result<()> {
            let mut seen = self.0.lock().unwrap();
            if seen.fail {
                return Err(Error::VhostUser("no".into()));
            }
            seen.activated.push((features, queues.to_vec()));
            Ok(())
        }
        fn notify(&mut self, index: u16) {
            self.0.lock().unwrap().notified.push(index);
        }
        fn reset(&mut self) {
            self.0.lock().unwrap().resets += 1;
        }
    }

    fn transport() -> (MmioTransport, Arc<Mutex<Seen>>, Arc<MmioInterrupt>) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let line = crate::poll::eventfd().unwrap();
        let interrupt = MmioInterrupt::new(line);
        let ram = GuestRam::new(crate::config::MIN_MEMORY, false).unwrap();
        let t = MmioTransport::new(Box::new(Fake(seen.clone())), interrupt.clone(), ram);
        (t, seen, interrupt)
    }

    fn get(t: &MmioTransport, offset: u64) -> u32 {
        let mut data = [0; 4];
        t.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put(t: &mut MmioTransport, offset: u64, value: u32) {
        t.write(offset, &value.to_le_bytes());
    }

    fn negotiate(t: &mut MmioTransport, features: u64) -> u32 {
        put(t, 0x70, 1);
        put(t, 0x70, 3);
        for word in 0..2 {
            put(t, 0x24, word);
            put(t, 0x20, (features >> (32 * word)) as u32);
        }
        put(t, 0x70, 0xb);
        get(t, 0x70)
    }

    fn set_queue(t: &mut MmioTransport, index: u32, size: u32, at: u32) {
        put(t, 0x30, index);
        put(t, 0x38, size);
        for (register, addr) in [(0x80, at), (0x90, at + 0x2000), (0xa0, at + 0x4000)] {
            put(t, register, addr);
            put(t, register + 4, 0);
        }
        put(t, 0x44, 1);
    }

    #[test]
    fn identifies_itself() {
        let (mut t, ..) = transport();
        assert_eq!(get(&t, 0), MAGIC);
        assert_eq!(get(&t, 4), 2);
        assert_eq!(get(&t, 8), 1);
        assert_eq!(get(&t, 0xfc), 9);
        put(&mut t, 0x30, 1);
        assert_eq!(get(&t, 0x34), 256);
        put(&mut t, 0x30, 2);
        assert_eq!(get(&t, 0x34), 0);
        put(&mut t, 0x14, 1);
        assert_eq!(get(&t, 0x10), 1);
        put(&mut t, 0x14, 2);
        assert_eq!(get(&t, 0x10), 0);
        let mut data = [0; 2];
        t.read(0x102, &mut data);
        assert_eq!(data, [2, 3]);
        t.read(2, &mut data);
        assert_eq!(data, [0, 0]);
    }

    #[test]
    fn a_good_driver_starts_and_resets_it() {
        let (mut t, seen, interrupt) = transport();
        assert_eq!(negotiate(&mut t, F_VERSION_1 | 0x20), 0xb);
        set_queue(&mut t, 0, 128, 0x10_0000);
        put(&mut t, QUEUE_NOTIFY, 0);
        put(&mut t, 0x70, 0xf);
        put(&mut t, QUEUE_NOTIFY, 1);
        {
            let seen = seen.lock().unwrap();
            let (features, queues) = &seen.activated[0];
            assert_eq!(*features, F_VERSION_1 | 0x20);
            assert_eq!((queues[0].size, queues[0].avail), (128, 0x10_2000));
            assert!(!queues[1].ready);
            assert_eq!(seen.notified, [1], "the one before DRIVER_OK is ignored");
        }
        interrupt.queue(0);
        interrupt.config();
        assert_eq!(get(&t, 0x60), 3);
        put(&mut t, 0x64, 1);
        assert_eq!(get(&t, 0x60), 2);
        put(&mut t, 0x70, 0);
        assert_eq!((get(&t, 0x70), get(&t, 0x60)), (0, 0));
        assert_eq!(seen.lock().unwrap().resets, 1);
    }

    #[test]
    fn alien_features_are_refused() {
        let (mut t, ..) = transport();
        assert_eq!(negotiate(&mut t, F_VERSION_1 | 0x40), 3);
        put(&mut t, 0x70, 0);
        assert_eq!(negotiate(&mut t, 0x20), 3, "VERSION_1 is needed");
    }

    #[test]
    fn bad_queues_do_not_start() {
        for (size, at) in [
            (100, 0x10_0000),
            (512, 0x10_0000),
            (0, 0x10_0000),
            (128, 0x10_0001),
            (128, 0xfff0_0000),
        ] {
            let (mut t, seen, _) = transport();
            negotiate(&mut t, F_VERSION_1);
            set_queue(&mut t, 0, size, at);
            put(&mut t, 0x70, 0xf);
            assert_eq!(get(&t, 0x70) & 0x40, 0x40, "size {size} at {at:#x}");
            assert!(seen.lock().unwrap().activated.is_empty());
        }
        let (mut t, seen, _) = transport();
        seen.lock().unwrap().fail = true;
        negotiate(&mut t, F_VERSION_1);
        put(&mut t, 0x70, 0xf);
        assert_eq!(get(&t, 0x70) & 0x40, 0x40);
        assert_eq!(get(&t, 0x60), 2);
    }

    proptest::proptest! {
        /// Whatever a driver writes, the device only ever starts with queues that are memory.
        #[test]
        fn any_writes_are_survived(writes in proptest::collection::vec((0u64..0x110, 0u32..0x40), 0..200)) {
            let (mut t, seen, _) = transport();
            for (offset, value) in writes {
                put(&mut t, offset & !3, value);
                get(&t, offset);
            }
            for (_, queues) in &seen.lock().unwrap().activated {
                for q in queues.iter().filter(|q| q.ready) {
                    assert!(q.size.is_power_of_two() && q.size <= 256);
                }
            }
        }
    }
}
