; A 16-bit task called from a 32-bit one and back.
%include "bare.inc"
start:  protected
        mov     byte [gdt + TSS2 + 5], 0x81
        mov     word [gdt + TSS2], 43
        mov     edi, tss2
        xor     eax, eax
        mov     ecx, 11
        rep     stosd
        mov     word [tss2 + 14], task
        mov     word [tss2 + 16], 2
        mov     word [tss2 + 18], 0x1111
        mov     word [tss2 + 26], 0xd000
        mov     word [tss2 + 34], DATA16
        mov     word [tss2 + 36], CODE16
        mov     word [tss2 + 38], DATA16
        mov     word [tss2 + 40], DATA16
        mov     eax, 0x12345678
        mov     ebx, 0x9abcdef0
        call    TSS2:0
        say     ", back with ebx "
        put32   ebx
        say     ", saved ax "
        put16   [tss2 + 18]
        say     " ip "
        mov     ax, [tss2 + 14]
        sub     ax, task_end
        put16   ax
        newline
        mov     word [gdt + TSS2], 42
        fault   "too short", {call TSS2:0}
        finish
        bits    16
task:   say     "16-bit task, ax "
        put16   ax
        mov     ax, 0x7777
        say     " link "
        put16   [tss2]
        say     " busy "
        put8    [gdt + TSS2 + 5]
        iret
task_end:
