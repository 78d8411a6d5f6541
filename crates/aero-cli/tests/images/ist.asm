; Interrupt stacks of 64-bit mode: IST entries, alignment of the frame, and the stack of CPL 0 from CPL 3.
%include "bare.inc"
start:  long
        mov     dword [tss + 0x24], 0x1d008     ; IST1, not aligned
        mov     dword [tss + 0x2c], 0x1c000     ; IST2
        mov     byte [IDT + 0x30 * 16 + 4], 1
        mov     byte [IDT + 0x31 * 16 + 4], 2
        mov     dword [hooks + 0x30 * 4], show
        mov     dword [hooks + 0x31 * 4], show
        mov     dword [hooks + 0x32 * 4], show
        or      byte [IDT + 0x30 * 16 + 5], 0x60
        or      byte [IDT + 0x32 * 16 + 5], 0x60
        int     0x30
        int     0x31
        sub     rsp, 7
        say     "odd stack: "
        int     0x32
        add     rsp, 7
        user    at_cpl3
        finish
at_cpl3:
        int     0x30
        int     0x32
        int     0x80
show:   say     "vector "
        put8    [frame64(F64_VECTOR)]
        say     " frame at "
        lea     rax, [frame64(F64_SS + 8)]
        put32   eax
        say     " ss "
        mov     eax, ss
        put16   ax
        say     " old rsp "
        put64   [frame64(F64_RSP)]
        say     " old ss "
        put16   [frame64(F64_SS)]
        newline
        ret
