//! Whole machines: guests under KVM, under QEMU's emulation, and under our monitor inside an emulated AMD machine.

mod demo;
mod guests;
mod nested;
mod qemu;
