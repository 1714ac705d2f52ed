// Ring 0 of the built-in guest: enter by the 64-bit Linux boot protocol, set up paging,
// descriptor tables and interrupts, and go to ring 3. Everything else happens there.
//
// Ring 3 asks for something by `ud2`, with the operation in rsi:
//   1  write rdx bytes at rdi to the serial port
//   2  halt, unless irq_total differs from rdi
//   3  read a byte from I/O port dx into rax
//   4  write byte al to I/O port dx
// Only instructions that every x86 emulator knows are used here.

.section .boot, "ax"
.global _start
_start:
    cli
    cld
    mov rsp, offset kstack_top
    mov [boot_params], rsi

    mov rdi, offset page_dirs          // 2048 entries of 2 MiB: present, writable, user, large
    mov rax, 0x87
    mov rcx, 2048
1:  mov [rdi], rax
    add rax, 0x200000
    add rdi, 8
    dec rcx
    jnz 1b
    mov rdi, offset page_ptrs
    mov rax, offset page_dirs
    or rax, 7
    mov rcx, 4
2:  mov [rdi], rax
    add rax, 4096
    add rdi, 8
    dec rcx
    jnz 2b
    mov rax, offset page_ptrs
    or rax, 7
    mov [page_root], rax
    mov rax, offset page_root
    mov cr3, rax
    mov rax, cr4
    or rax, 0x600                      // OSFXSR, OSXMMEXCPT: SSE in ring 3
    mov cr4, rax
    mov rax, cr0
    and rax, -13                       // EM and TS off
    or rax, 2                          // MP on
    mov cr0, rax

    mov rax, offset kstack_top         // task state: the stack for traps from ring 3
    mov [tss + 4], rax
    mov rax, offset tss
    mov rbx, rax
    and rax, 0xffffff
    shl rax, 16
    shr rbx, 24
    shl rbx, 56
    or rax, rbx
    mov rbx, 0x0000890000000067
    or rax, rbx
    mov [gdt_tss], rax
    lgdt [gdt_desc]
    mov eax, 0x18
    mov ss, eax
    mov ds, eax
    mov es, eax
    push 0x10
    mov rax, offset new_cs
    push rax
    retfq
new_cs:
    mov eax, 0x40
    ltr ax

    mov rdi, offset idt                // exceptions
    mov rax, offset exc_stubs
    mov rcx, 32
4:  call set_gate
    add rax, 16
    dec rcx
    jnz 4b
    mov rdi, offset idt + 6 * 16
    mov rax, offset ud_stub
    call set_gate
    mov rdi, offset idt + 0x41 * 16
    mov rax, offset irq_nic
    call set_gate
    mov rax, offset irq_timer
    call set_gate
    mov rdi, offset idt + 0x44 * 16
    mov rax, offset irq_serial
    call set_gate
    mov rdi, offset idt + 0xff * 16
    mov rax, offset irq_spurious
    call set_gate
    lidt [idt_desc]
    mov al, 0xff                       // the two PICs are not used
    out 0x21, al
    out 0xa1, al

    push 0x2b
    mov rax, offset ustack_top - 8
    push rax
    push 0x202
    push 0x33
    mov rax, offset umain
    push rax
    mov rdi, [boot_params]
    iretq

// Writes an interrupt gate to rax at [rdi]; rdi moves on to the next. Uses rbx.
set_gate:
    mov rbx, rax
    mov [rdi], bx
    mov word ptr [rdi + 2], 0x10
    mov word ptr [rdi + 4], 0x8e00
    shr rbx, 16
    mov [rdi + 6], bx
    shr rbx, 16
    mov [rdi + 8], rbx
    add rdi, 16
    ret

irq_nic:
    lock inc qword ptr [irq_total]
    lock inc qword ptr [irq_count_nic]
    jmp irq_done
irq_timer:
    lock inc qword ptr [irq_total]
    jmp irq_done
irq_serial:
    lock inc qword ptr [irq_total]
    lock inc qword ptr [irq_count_serial]
irq_done:
    push rax
    mov eax, 0xfee000b0
    mov dword ptr [rax], 0
    pop rax
irq_spurious:
    iretq

ud_stub:
    cmp rsi, 1
    je 1f
    cmp rsi, 2
    je 2f
    cmp rsi, 3
    je 3f
    cmp rsi, 4
    je 4f
    push 0
    push 6
    jmp exc_common
1:  mov rcx, rdx
    mov edx, 0x3f8
    test rcx, rcx
    jz 9f
5:  mov al, [rdi]
    out dx, al
    inc rdi
    dec rcx
    jnz 5b
    jmp 9f
2:  cmp rdi, [irq_total]
    jne 9f
    sti
    hlt
    cli
    jmp 9f
3:  xor eax, eax
    in al, dx
    jmp 9f
4:  out dx, al
9:  add qword ptr [rsp], 2
    iretq

// One entry of 16 bytes per exception: vector and error code on the stack.
.balign 16
exc_stubs:
.set vector, 0
.rept 32
    .balign 16
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || vector == 14 || vector == 17 || vector == 21
    .else
    push 0
    .endif
    push vector
    jmp exc_common
    .set vector, vector + 1
.endr

// An exception is a bug: say so on the serial port and power off.
exc_common:
    mov rdi, offset exc_text
    call put_text
    mov rbx, [rsp]
    call put_hex
    mov rdi, offset exc_rip
    call put_text
    mov rbx, [rsp + 16]
    call put_hex
    mov rdi, offset exc_addr
    call put_text
    mov rbx, cr2
    call put_hex
    mov edx, 0x3f8
    mov al, 10
    out dx, al
    mov edx, 0x600
    mov al, 0x34
    out dx, al
6:  hlt
    jmp 6b
put_text:
    mov edx, 0x3f8
1:  mov al, [rdi]
    test al, al
    jz 2f
    out dx, al
    inc rdi
    jmp 1b
2:  ret
put_hex:
    mov edx, 0x3f8
    mov rcx, 16
1:  rol rbx, 4
    mov eax, ebx
    and eax, 15
    cmp eax, 10
    jb 2f
    add eax, 39
2:  add eax, 48
    out dx, al
    dec rcx
    jnz 1b
    ret

.section .rodata
exc_text: .asciz "weir-guest: exception 0x"
exc_rip:  .asciz " at 0x"
exc_addr: .asciz " address 0x"

.section .data
.balign 16
gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff           // 0x10 ring 0 code
    .quad 0x00cf93000000ffff           // 0x18 ring 0 data
    .quad 0x00cffb000000ffff           // 0x23 ring 3 code, 32 bit
    .quad 0x00cff3000000ffff           // 0x2b ring 3 data
    .quad 0x00affb000000ffff           // 0x33 ring 3 code
    .quad 0
gdt_tss: .quad 0, 0                    // 0x40 task state
gdt_desc:
    .word gdt_desc - gdt - 1
    .quad gdt
idt_desc:
    .word 4095
    .quad idt
.balign 8
.global irq_total, irq_count_nic, irq_count_serial
irq_total: .quad 0
irq_count_nic: .quad 0
irq_count_serial: .quad 0
boot_params: .quad 0
.balign 16
tss: .skip 0x68

.section .bss
.balign 4096
page_root: .skip 4096
page_ptrs: .skip 4096
page_dirs: .skip 4 * 4096
idt: .skip 4096
kstack: .skip 8192
kstack_top:
.skip 131072
ustack_top:
