//! The first serial port: a 16550 of vm-superio between guest and console.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::console::Console;

struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

struct Output(Arc<Console>);

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.output(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The port.
pub struct Com1 {
    serial: Mutex<Serial<Line, NoEvents, Output>>,
    console: Arc<Console>,
}

impl Com1 {
    /// A port that raises `line` and is connected to `console`.
    pub fn new(line: EventFd, console: Arc<Console>) -> Arc<Self> {
        Arc::new(Com1 {
            serial: Mutex::new(Serial::new(Line(line), Output(console.clone()))),
            console,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Serial<Line, NoEvents, Output>> {
        self.serial.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The guest reads register `offset`.
    pub fn read(&self, offset: u8) -> u8 {
        let mut serial = self.lock();
        let value = serial.read(offset);
        if offset == 0 {
            self.fill(&mut serial);
        }
        value
    }

    /// The guest writes register `offset`.
    pub fn write(&self, offset: u8, value: u8) {
        // An interrupt that cannot be raised is pending already.
        let _ = self.lock().write(offset, value);
    }

    /// Moves console input to the guest, as much as the port takes.
    pub fn typed(&self) {
        self.fill(&mut self.lock());
    }

    fn fill(&self, serial: &mut Serial<Line, NoEvents, Output>) {
        let room = serial.fifo_capacity();
        if room > 0 {
            let input = self.console.take_input(room);
            if !input.is_empty() {
                let _ = serial.enqueue_raw_bytes(&input);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_longer_than_the_fifo_arrives_whole() {
        let console = Console::new();
        let com1 = Com1::new(crate::poll::eventfd().unwrap(), console.clone());
        let text: Vec<u8> = (0..200u8).map(|i| b'a' + i % 26).collect();
        console.write_input(&text).unwrap();
        com1.typed();
        let mut got = Vec::new();
        while com1.read(5) & 1 != 0 {
            got.push(com1.read(0));
        }
        assert_eq!(got, text);
        com1.write(0, b'x');
        console.close();
        let mut out = Vec::new();
        io::Read::read_to_end(&mut console.reader(), &mut out).unwrap();
        assert_eq!(out, b"x");
    }
}
