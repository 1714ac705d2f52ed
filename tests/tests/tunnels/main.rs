//! Tunnels between switches: the walkthroughs W7, W8 and W15, on namespaces and on guests, by both ways out; tunnels with the kernel's
//! vxlan device and with Open vSwitch; and the commands that show what tunnels go by, beside Open vSwitch's.

mod commands;
mod guests;
mod hosts;
mod interfaces;
mod kernel;
mod open_vswitch;
mod w07_vxlan;
mod w08_gre;
mod w15_mac_move;
