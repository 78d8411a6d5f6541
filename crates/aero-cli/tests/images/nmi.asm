; NMIs, sent by the local APIC to itself: delivered at once, blocked until IRET, one of them kept.
%include "bare.inc"
%define ICR     0xfee00300
start:  protected
        mov     dword [0xfee000f0], 0x1ff
        mov     dword [hooks + 2 * 4], nmi
        mov     dword [hooks + 0x40 * 4], fixed
        say     "one: "
        call    send
        newline
        mov     byte [depth], 1
        say     "two more from inside: "
        call    send
        newline
        say     "in the shadow of mov ss: "
        mov     eax, ss
        mov     ecx, ICR
        mov     edx, 0x4400
        mov     [ecx], edx
        nop
        newline
        say     "self-IPI with interrupts off: "
        mov     dword [ICR], 0x44040
        nop
        say     "nothing; on: "
        sti
        nop
        cli
        newline
        finish
send:   mov     dword [ICR], 0x4400
        nop
        nop
        ret
nmi:    say     "[nmi "
        cmp     byte [depth], 0
        je      .out
        dec     byte [depth]
        call    send
        call    send
        say     "still inside"
.out:   say     "] "
        ret
fixed:  say     "[vector 40h] "
        mov     dword [0xfee000b0], 0
        ret
depth:  db      0
