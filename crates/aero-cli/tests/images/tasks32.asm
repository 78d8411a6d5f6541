; Hardware task switches between 32-bit tasks: JMP, CALL and IRET, a task gate, the registers that they carry, busy
; bits, NT, back links, TS, and the trap bit.
%include "bare.inc"
%define TGATE   SPARE
start:  protected
        mov     byte [spare + 5], 0x85
        mov     word [spare + 2], TSS2
        say     "call: "
        call    prepare
        mov     dword [tss2 + 0x20], task
        mov     eax, 0xaaaa0001
        call    TSS2:0x1234
        call    after
        say     "task gate: "
        call    prepare
        mov     dword [tss2 + 0x20], task
        call    TGATE:0
        call    after
        say     "jmp: "
        call    prepare
        mov     dword [tss2 + 0x20], jumped
        jmp     TSS2:0
        call    after
        say     "interrupt: "
        call    prepare
        mov     dword [tss2 + 0x20], interrupted
        mov     dword [IDT + 0x50 * 8], TSS2 << 16
        mov     dword [IDT + 0x50 * 8 + 4], 0x8500
        int     0x50
        call    after
        fault   "to a busy task", {jmp TSS:0}
        mov     word [gdt + TSS2], 0x66
        fault   "TSS too short", {call TSS2:0}
        mov     word [gdt + TSS2], 0x67
        call    prepare
        mov     byte [gdt + TSS2 + 5], 9
        fault   "TSS not present", {call TSS2:0}
        mov     byte [gdt + TSS2 + 5], 0x89
        pushfd
        or      dword [esp], 0x4000
        popfd
        mov     word [tss], 0
        fault   "iret with NT and no link", {iretd}
        pushfd
        and     dword [esp], ~0x4000
        popfd
        finish

prepare:
        mov     edi, tss2
        xor     eax, eax
        mov     ecx, 0x66 / 2
        push    ecx
        rep     stosw
        pop     ecx
        mov     word [tss2 + 0x66], 0x68
        mov     dword [tss2 + 0x24], 0x2     ; EFLAGS
        mov     dword [tss2 + 0x28], 0xe0e0e0e0
        mov     dword [tss2 + 0x38], 0x1d000
        mov     byte [tss2 + 0x48], DATA
        mov     byte [tss2 + 0x4c], CODE32
        mov     byte [tss2 + 0x50], DATA
        mov     byte [tss2 + 0x54], DATA
        mov     byte [gdt + TSS2 + 5], 0x89
        ret

after:  say     ", back, busy "
        put8    [gdt + TSS + 5]
        put8    [gdt + TSS2 + 5]
        say     " TS "
        mov     eax, cr0
        shr     eax, 3
        and     al, 1
        put8    al
        clts
        say     " link "
        put16   [tss2]
        newline
        ret

describe:
        say     "tr "
        str     ax
        put16   ax
        say     " eax "
        put32   [tss2 + 0x28]
        say     " nt "
        pushfd
        pop     eax
        shr     eax, 14
        and     al, 1
        put8    al
        say     " busy "
        put8    [gdt + TSS + 5]
        put8    [gdt + TSS2 + 5]
        say     " saved eax "
        put32   [tss + 0x28]
        ret
task:   call    describe
        iretd
jumped: call    describe
        jmp     TSS:0
interrupted:
        call    describe
        iretd
