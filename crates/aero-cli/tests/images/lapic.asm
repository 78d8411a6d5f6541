; The local APIC: version and reset values, priorities and EOI by self-IPI, the timer one-shot, and its spurious vector.
%include "bare.inc"
%define APIC    0xfee00000
start:  protected
        say     "lvt timer "
        put32   [APIC + 0x320]
        say     " svr "
        put32   [APIC + 0xf0]
        newline
        mov     dword [APIC + 0xf0], 0x1ff
        mov     dword [hooks + 0x41 * 4], low
        mov     dword [hooks + 0x61 * 4], high
        mov     dword [hooks + 0x71 * 4], timer
        say     "both pending: "
        mov     dword [APIC + 0x300], 0x44041
        mov     dword [APIC + 0x300], 0x44061
        say     "irr "
        put32   [APIC + 0x220]
        put32   [APIC + 0x230]
        say     " "
        sti
        nop
        cli
        newline
        say     "below the task priority: "
        mov     dword [APIC + 0x80], 0x50
        mov     dword [APIC + 0x300], 0x44041
        sti
        nop
        say     "held; "
        mov     dword [APIC + 0x80], 0
        nop
        cli
        newline
        say     "nested: "
        mov     byte [nest], 1
        mov     dword [APIC + 0x300], 0x44041
        sti
        nop
        cli
        newline
        say     "timer: "
        mov     dword [APIC + 0x3e0], 0xb
        mov     dword [APIC + 0x320], 0x71
        mov     dword [APIC + 0x380], 10000
        sti
.wait:  cmp     byte [ticked], 0
        je      .wait
        cli
        say     " count "
        put32   [APIC + 0x390]
        newline
        say     "masked timer: "
        mov     byte [ticked], 0
        mov     dword [APIC + 0x320], 0x10071
        mov     dword [APIC + 0x380], 1000
.run:   mov     eax, [APIC + 0x390]
        test    eax, eax
        jnz     .run
        sti
        nop
        cli
        put8    [ticked]
        newline
        finish
low:    say     "[41h ppr "
        put32   [APIC + 0xa0]
        cmp     byte [nest], 0
        je      .eoi
        mov     byte [nest], 0
        mov     dword [APIC + 0x300], 0x44061
        mov     dword [APIC + 0x300], 0x44041
        sti
        nop
        cli
        say     " isr "
        put32   [APIC + 0x120]
.eoi:   say     "] "
        mov     dword [APIC + 0xb0], 0
        ret
high:   say     "[61h] "
        mov     dword [APIC + 0xb0], 0
        ret
timer:  say     "[71h]"
        mov     byte [ticked], 1
        mov     dword [APIC + 0xb0], 0
        ret
nest:   db      0
ticked: db      0
