//! Each wall of weir, with a foreign program on the other side.

mod open_vswitch;
mod os_ken;
mod restart;
mod system_calls;
mod testpmd;
